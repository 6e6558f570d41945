/*
 * Forward and backward through the list of layers, as model_plan.c has planned it.
 *
 * The workspace of a training pass:
 *   for each layer: kept [n_kept]; y [B][out] unless it is in place, saved [B][n_saved];
 *   gradients [B][widest], numbered from 1 (0 is the caller's dy); scratch of the neediest layer:
 *   these two elsewhere if the caller says so.
 * With recompute only the y that pass from one span to the next have a place of their own; the
 * inside of all spans lies in one place, as large as the largest, before the gradients. What is
 * kept, by contrast, always stays: it is little, and says what all threads' samples have in common
 * (batch-norm), so that nobody has to meet when he computes again.
 * Inference keeps nothing: buffers [B][widest] take turns, then scratch.
 * Every part starts on a boundary of DML_MEM_ALIGN bytes.
 */
#include "nn/model.h"

#include <assert.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/model_priv.h"

#define TAKE_FLOATS 1024 /* handed over at a time: they meet their moments in the L1 cache */

/* Where layer i's output, its saved and its kept numbers lie. */
struct place {
    size_t y, saved, kept;
};

static uint64_t part(uint64_t floats)
{
    return (floats + DML_KERNEL_ROW - 1) / DML_KERNEL_ROW * DML_KERNEL_ROW;
}

/* The end of the layers' parts; places [n_steps] or NULL. In 64 bits: a large batch of a large
 * model is more than 32 can count. */
static uint64_t lay_out(const struct dml_model *m, uint64_t batch, bool recompute,
                        struct place *places)
{
    uint64_t at = 0, here, end;
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct dml_layer *l = &m->steps[i];
        bool stays = recompute && l->stays;
        if (places)
            places[i] = (struct place){.kept = (size_t)at, .y = (size_t)(at + part(l->n_kept))};
        at += part(l->n_kept) + (stays ? part(batch * dml_layer_size(l->out)) : 0);
    }
    here = end = at;
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct dml_layer *l = &m->steps[i];
        bool stays = recompute && l->stays;
        if (recompute && l->span == i)
            here = at;
        uint64_t y = l->in_place || stays ? 0 : part(batch * dml_layer_size(l->out));
        if (places) {
            if (l->in_place)
                places[i].y = places[l->from].y;
            else if (!stays)
                places[i].y = (size_t)here;
            places[i].saved = (size_t)(here + y);
        }
        here += y + part(batch * l->n_saved);
        end = here > end ? here : end;
    }
    return end;
}

static size_t addressable(uint64_t floats)
{
    return floats > SIZE_MAX / sizeof(float) ? SIZE_MAX : (size_t)floats;
}

static uint64_t turns(const struct dml_model *m, uint64_t batch, int n_buffers)
{
    return (uint64_t)n_buffers * part(batch * m->widest) + part(m->scratch);
}

size_t dml_model_workspace(const struct dml_model *m, size_t batch, bool training)
{
    return addressable(training ? lay_out(m, batch, false, NULL) + turns(m, batch, m->n_dx_buffers)
                                : turns(m, batch, m->n_y_buffers));
}

size_t dml_model_workspace_recompute(const struct dml_model *m, size_t batch)
{
    return addressable(lay_out(m, batch, true, NULL) + turns(m, batch, m->n_dx_buffers));
}

uint64_t dml_model_per_sample(const struct dml_model *m)
{
    uint64_t some = lay_out(m, 32, false, NULL) + turns(m, 32, m->n_dx_buffers);
    uint64_t more = lay_out(m, 64, false, NULL) + turns(m, 64, m->n_dx_buffers);
    return (more - some) / 32 + 1;
}

size_t dml_model_kept(const struct dml_model *m, size_t batch, bool recompute)
{
    return addressable(lay_out(m, batch, recompute, NULL));
}

size_t dml_model_turns(const struct dml_model *m, size_t batch)
{
    return addressable(turns(m, batch, m->n_dx_buffers));
}

double *dml_model_meeting_row(struct dml_model_meeting *meeting)
{
    return meeting->board + ((meeting->n_met % 2) * meeting->n + meeting->i) * meeting->room;
}

const double *dml_model_meet(struct dml_model_meeting *meeting)
{
    const double *all = meeting->board + (meeting->n_met % 2) * meeting->n * meeting->room;
    meeting->wait(meeting->arg);
    meeting->n_met++;
    return all;
}

/* A pass over all layers, forward or backward: what its steps share. */
struct run {
    const struct dml_model *m;
    const float *vec, *x;
    float *io_state; /* NULL: statistics are there already */
    size_t batch, turn;
    const struct dml_model_training *training;
    float *workspace, *buffers, *scratch;
    struct place places[DML_MODEL_LAYERS_MAX];
    float *dy, *dx; /* backward */
};

static void run_init(struct run *r, const struct dml_model *m, const float *vec, const float *x,
                     size_t batch, const struct dml_model_training *training, float *workspace)
{
    r->m = m;
    r->vec = vec;
    r->x = x;
    r->io_state = NULL;
    r->batch = batch;
    r->turn = (size_t)part(batch * m->widest);
    r->training = training;
    r->workspace = workspace;
    r->buffers = workspace;
    if (training)
        r->buffers += (size_t)lay_out(m, batch, training->recompute, r->places);
    else
        for (size_t i = 0; i < m->n_steps; i++)
            r->places[i].y = (size_t)m->steps[i].y_buffer * r->turn;
    if (training && training->turns)
        r->buffers = training->turns;
    r->scratch = r->buffers + (size_t)(training ? m->n_dx_buffers : m->n_y_buffers) * r->turn;
}

static float *output(const struct run *r, int i)
{
    return r->workspace + r->places[i].y;
}

/* What forward and backward of step i have in common. */
static struct dml_layer_pass pass_of(const struct run *r, size_t i)
{
    const struct dml_model *m = r->m;
    const struct dml_layer *l = &m->steps[i];
    const struct place *place = &r->places[i];
    struct dml_layer_pass p = {
        .batch = r->batch,
        .training = r->training,
        .i_layer = l->i_layer,
        .params = dml_layer_n_params(l) ? r->vec + l->params_at : NULL,
        .state = l->n_state ? r->vec + m->n_params + l->state_at : NULL,
        .x = l->from < 0 ? r->x : output(r, l->from),
        .y = output(r, (int)i),
        .scratch = r->scratch,
    };
    if (r->training) {
        p.saved = l->n_saved ? r->workspace + place->saved : NULL;
        p.kept = l->n_kept ? r->workspace + place->kept : NULL;
        p.from_kept = l->from >= 0 ? r->workspace + r->places[l->from].kept : NULL;
    }
    return p;
}

static void step_forward(const struct run *r, size_t i, bool recomputes)
{
    const struct dml_layer *l = &r->m->steps[i];
    struct dml_layer_pass p = pass_of(r, i);
    p.also = l->also == DML_LAYER_NONE ? NULL : l->also < 0 ? r->x : output(r, l->also);
    p.recomputes = recomputes;
    if (r->training && !recomputes)
        p.io_state = l->n_state ? r->io_state + l->state_at : NULL;
    if (r->batch > 0 || (l->type->meets && !recomputes))
        l->type->forward(l, &p);
}

void dml_model_forward(const struct dml_model *m, const float *vec, float *io_state, const float *x,
                       size_t batch, const struct dml_model_training *training, float *workspace,
                       float *y)
{
    assert(batch <= DML_MODEL_BATCH_MAX && (batch > 0 || (training && training->meeting)));
    assert(m->n_state == 0 || io_state || !training);
    struct run r;
    run_init(&r, m, vec, x, batch, training, workspace);
    r.io_state = io_state;
    for (size_t i = 0; i < m->n_steps; i++)
        step_forward(&r, i, false);
    memcpy(y, output(&r, (int)m->n_steps - 1), batch * dml_model_n_outputs(m) * sizeof(float));
}

static float *buffer(const struct run *r, int i)
{
    return i == 0 ? r->dy : r->buffers + (size_t)(i - 1) * r->turn;
}

/* Whether somebody wants the gradient of what step i gives. */
static bool is_wanted(const struct run *r, int i)
{
    return r->dx || (i >= 0 && r->m->steps[i].learns);
}

/* The inside of the span that ends with step `last`. Its y is there, unless it has to be made in
 * place: left out when there is nothing else to make of it. */
static void recompute(const struct run *r, size_t last)
{
    const struct dml_layer *l = &r->m->steps[last];
    size_t end = l->in_place || l->n_saved ? last + 1 : last;
    for (size_t i = l->span; i < end; i++)
        step_forward(r, i, true);
}

static void back_sum(const struct run *r, const struct dml_layer *l)
{
    const int sources[2] = {l->from, l->also};
    for (size_t k = 0; k < 2; k++)
        if (is_wanted(r, sources[k]) && l->sum[k].to >= 0)
            l->kernel->channels->add(buffer(r, l->sum[k].plus), buffer(r, l->dy_buffer),
                                     buffer(r, l->sum[k].to), r->batch * dml_layer_size(l->out));
}

/* Parameters [at, end): their gradient is complete, and their step done with them. */
static void hand_over(const struct dml_model_training *t, float *io_grad, size_t at, size_t end)
{
    for (size_t n; at < end; at += n) {
        n = end - at < TAKE_FLOATS ? end - at : TAKE_FLOATS;
        t->take(t->take_arg, io_grad + at, at, n);
        memset(io_grad + at, 0, n * sizeof(float));
    }
}

static void step_backward(const struct run *r, size_t i, float *io_grad)
{
    const struct dml_layer *l = &r->m->steps[i];
    struct dml_layer_pass p = pass_of(r, i);
    size_t n_taken = 0;
    p.ret_taken = &n_taken;
    p.dy = buffer(r, l->dy_buffer);
    p.dx = is_wanted(r, l->from) ? buffer(r, l->dx_buffer) : NULL;
    p.dparams = dml_layer_n_params(l) ? io_grad + l->params_at : NULL;
    l->type->backward(l, &p);
    if (p.dx && l->dx_plus >= 0)
        l->kernel->channels->add(p.dx, buffer(r, l->dx_plus), p.dx,
                                 r->batch * dml_layer_size(l->in));
    if (p.dparams && r->training->take)
        hand_over(r->training, io_grad, l->params_at + n_taken,
                  l->params_at + dml_layer_n_params(l));
    if (p.dparams && l->params_at > 0 && r->training->settled)
        r->training->settled(r->training->settled_arg, l->params_at);
}

void dml_model_backward(const struct dml_model *m, const float *vec, const float *x, float *dy,
                        size_t batch, const struct dml_model_training *training, float *workspace,
                        float *io_grad, float *dx)
{
    struct run r;
    run_init(&r, m, vec, x, batch, training, workspace);
    r.dy = dy;
    r.dx = dx;
    for (size_t i = m->n_steps; i-- > 0;) {
        const struct dml_layer *l = &m->steps[i];
        if (!is_wanted(&r, (int)i))
            continue;
        if (training->recompute && i + 1 < m->n_steps && m->steps[i + 1].span == i + 1)
            recompute(&r, i);
        if (batch == 0 && !l->type->meets)
            continue;
        if (l->also != DML_LAYER_NONE)
            back_sum(&r, l);
        else
            step_backward(&r, i, io_grad);
    }
    if (training->settled)
        training->settled(training->settled_arg, 0);
    if (dx)
        memcpy(dx, buffer(&r, m->dx_buffer), batch * dml_model_n_inputs(m) * sizeof(float));
}
