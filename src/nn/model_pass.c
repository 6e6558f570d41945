/*
 * Forward and backward through the list of layers, as model_plan.c has planned it.
 *
 * The workspace of a training pass:
 *   for each layer: y [B][out] unless it is in place, saved [B][n_saved], kept [n_kept];
 *   gradients [B][widest], numbered from 1 (0 is the caller's dy); scratch of the neediest layer.
 * Inference keeps nothing: buffers [B][widest] take turns, then scratch.
 * Every part starts on a boundary of DML_MEM_ALIGN bytes.
 */
#include "nn/model.h"

#include <assert.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/model_priv.h"

/* Where layer i's output, its saved and its kept numbers lie. */
struct place {
    size_t y, saved, kept;
};

static uint64_t part(uint64_t floats)
{
    return (floats + DML_KERNEL_ROW - 1) / DML_KERNEL_ROW * DML_KERNEL_ROW;
}

/* The end of the layers' parts; places [n_layers] or NULL. In 64 bits: a large batch of a large
 * model is more than 32 can count. */
static uint64_t lay_out(const struct dml_model *m, uint64_t batch, struct place *places)
{
    uint64_t at = 0;
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct dml_layer *l = &m->steps[i];
        uint64_t y = l->in_place ? 0 : part(batch * dml_layer_size(l->out));
        uint64_t saved = part(batch * l->n_saved);
        if (places)
            places[i] = (struct place){.y = l->in_place ? places[l->from].y : (size_t)at,
                                       .saved = (size_t)(at + y),
                                       .kept = (size_t)(at + y + saved)};
        at += y + saved + part(l->n_kept);
    }
    return at;
}

size_t dml_model_workspace(const struct dml_model *m, size_t batch, bool training)
{
    uint64_t layers = training ? lay_out(m, batch, NULL) : 0;
    uint64_t n = (uint64_t)(training ? m->n_dx_buffers : m->n_y_buffers);
    uint64_t floats = layers + n * part((uint64_t)batch * m->widest) + part(m->scratch);
    return floats > SIZE_MAX / sizeof(float) ? SIZE_MAX : (size_t)floats;
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

static struct dml_layer_pass pass_of(const struct dml_model *m, const float *vec, size_t batch,
                                     size_t i, const struct dml_model_training *training)
{
    const struct dml_layer *l = &m->steps[i];
    return (struct dml_layer_pass){
        .batch = batch,
        .training = training,
        .i_layer = m->steps[i].i_layer,
        .params = dml_layer_n_params(l) ? vec + l->params_at : NULL,
        .state = l->n_state ? vec + m->n_params + l->state_at : NULL,
    };
}

void dml_model_forward(const struct dml_model *m, const float *vec, float *io_state, const float *x,
                       size_t batch, const struct dml_model_training *training, float *workspace,
                       float *y)
{
    assert(batch <= DML_MODEL_BATCH_MAX && (batch > 0 || (training && training->meeting)));
    assert(m->n_state == 0 || io_state || !training);
    struct place places[DML_MODEL_LAYERS_MAX];
    size_t turn = (size_t)part(batch * m->widest);
    float *buffers = workspace + (training ? (size_t)lay_out(m, batch, places) : 0);
    float *scratch = buffers + (size_t)(training ? m->n_dx_buffers : m->n_y_buffers) * turn;
    const float *outputs[1 + DML_MODEL_LAYERS_MAX], **output = outputs + 1;
    outputs[0] = x;
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct dml_layer *l = &m->steps[i];
        struct dml_layer_pass p = pass_of(m, vec, batch, i, training);
        p.scratch = scratch;
        p.x = output[l->from];
        p.also = l->also == DML_LAYER_NONE ? NULL : output[l->also];
        if (training) {
            p.y = workspace + places[i].y;
            p.saved = l->n_saved ? workspace + places[i].saved : NULL;
            p.kept = l->n_kept ? workspace + places[i].kept : NULL;
            p.from_kept = l->from >= 0 ? workspace + places[l->from].kept : NULL;
            p.io_state = l->n_state ? io_state + l->state_at : NULL;
        } else {
            p.y = buffers + (size_t)l->y_buffer * turn;
        }
        output[i] = p.y;
        if (batch > 0 || l->type->meets)
            l->type->forward(l, &p);
    }
    memcpy(y, output[m->n_steps - 1], batch * dml_model_n_outputs(m) * sizeof(float));
}

/* One pass backward: what all its layers share. */
struct backward {
    const struct dml_model *m;
    size_t batch, turn;
    float *dy, *buffers, *dx;
};

static float *buffer(const struct backward *b, int i)
{
    return i == 0 ? b->dy : b->buffers + (size_t)(i - 1) * b->turn;
}

/* Whether somebody wants the gradient of what layer i gives. */
static bool is_wanted(const struct backward *b, int i)
{
    return b->dx || (i >= 0 && b->m->steps[i].learns);
}

static void back_sum(const struct backward *b, const struct dml_layer *l)
{
    const int sources[2] = {l->from, l->also};
    for (size_t k = 0; k < 2; k++)
        if (is_wanted(b, sources[k]) && l->sum[k].to >= 0)
            l->kernel->channels->add(buffer(b, l->sum[k].plus), buffer(b, l->dy_buffer),
                                     buffer(b, l->sum[k].to), b->batch * dml_layer_size(l->out));
}

void dml_model_backward(const struct dml_model *m, const float *vec, const float *x, float *dy,
                        size_t batch, const struct dml_model_training *training, float *workspace,
                        float *io_grad, float *dx)
{
    struct place places[DML_MODEL_LAYERS_MAX];
    struct backward b = {.m = m,
                         .batch = batch,
                         .turn = (size_t)part(batch * m->widest),
                         .dy = dy,
                         .buffers = workspace + (size_t)lay_out(m, batch, places),
                         .dx = dx};
    for (size_t i = m->n_steps; i-- > 0;) {
        const struct dml_layer *l = &m->steps[i];
        if (!is_wanted(&b, (int)i) || (batch == 0 && !l->type->meets))
            continue;
        if (l->also != DML_LAYER_NONE) {
            back_sum(&b, l);
            continue;
        }
        struct dml_layer_pass p = pass_of(m, vec, batch, i, training);
        p.x = l->from < 0 ? x : workspace + places[l->from].y;
        p.y = workspace + places[i].y;
        p.saved = workspace + places[i].saved;
        p.kept = workspace + places[i].kept;
        p.from_kept = l->from >= 0 ? workspace + places[l->from].kept : NULL;
        p.scratch = b.buffers + (size_t)m->n_dx_buffers * b.turn;
        p.dy = buffer(&b, l->dy_buffer);
        p.dx = is_wanted(&b, l->from) ? buffer(&b, l->dx_buffer) : NULL;
        p.dparams = dml_layer_n_params(l) ? io_grad + l->params_at : NULL;
        l->type->backward(l, &p);
        if (p.dx && l->dx_plus >= 0)
            l->kernel->channels->add(p.dx, buffer(&b, l->dx_plus), p.dx,
                                     batch * dml_layer_size(l->in));
        if (p.dparams && l->params_at > 0 && training->settled)
            training->settled(training->settled_arg, l->params_at);
    }
    if (training->settled)
        training->settled(training->settled_arg, 0);
    if (dx)
        memcpy(dx, buffer(&b, m->dx_buffer), batch * dml_model_n_inputs(m) * sizeof(float));
}
