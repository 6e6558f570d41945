/*
 * What is settled once the last line of a model file is read: places in the flat block, which layer
 * may overwrite its input, and which buffers hold what while the passes run.
 *
 * Layers are computed in the order of the list; a residual block makes one value be read twice. An
 * output may be overwritten by its only reader when nobody's backward pass needs it. In inference
 * an output's buffer is free again after its last reader. Backward goes through the list from the
 * end: a sum hands its gradient to both sides without copying it (so a buffer counts its owners,
 * and only a sole owner's may be overwritten), and where a value was read twice, the second
 * gradient that arrives is added to the first.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "nn/model_priv.h"

#define NOWHERE (-1)

/* Buffers and how many own each. */
struct pool {
    unsigned owners[DML_MODEL_BUFFERS_MAX];
    int first, n; /* lowest number given out; how many were ever needed */
};

static int take(struct pool *p)
{
    int i = p->first;
    while (i < DML_MODEL_BUFFERS_MAX && p->owners[i])
        i++;
    assert(i < DML_MODEL_BUFFERS_MAX);
    p->owners[i] = 1;
    p->n = i - p->first + 1 > p->n ? i - p->first + 1 : p->n;
    return i;
}

static void plan_inference(struct dml_model *m)
{
    struct pool pool = {.first = 0};
    unsigned left[DML_MODEL_LAYERS_MAX];
    for (size_t i = 0; i < m->n_steps; i++) {
        struct dml_layer *l = &m->steps[i];
        const int sources[2] = {l->from, l->also};
        left[i] = l->n_readers;
        l->y_buffer = l->in_place ? m->steps[l->from].y_buffer : take(&pool);
        for (size_t k = 0; k < 2; k++)
            if (sources[k] >= 0 && --left[sources[k]] == 0 && !(k == 0 && l->in_place))
                pool.owners[m->steps[sources[k]].y_buffer] = 0;
    }
    m->n_y_buffers = pool.n;
}

/* The gradient `dy` of a sum becomes one of what the sum read. */
static void hand_on(struct pool *pool, int dy, int *io_grad, struct dml_layer *l, size_t k)
{
    int old = *io_grad;
    l->sum[k].to = l->sum[k].plus = NOWHERE;
    if (old == NOWHERE) {
        pool->owners[dy]++;
        *io_grad = dy;
        return;
    }
    l->sum[k].plus = old;
    if (pool->owners[old] > 1) {
        pool->owners[old]--;
        *io_grad = take(pool);
    }
    l->sum[k].to = *io_grad;
}

static void plan_backward(struct dml_model *m)
{
    struct pool pool = {.first = 1, .owners = {1}}; /* 0 is the caller's dy */
    int grads[1 + DML_MODEL_LAYERS_MAX], *grad = grads + 1;
    for (size_t i = 0; i <= m->n_steps; i++)
        grads[i] = NOWHERE;
    grad[m->n_steps - 1] = 0;
    for (size_t i = m->n_steps; i-- > 0;) {
        struct dml_layer *l = &m->steps[i];
        int dy = grad[i];
        assert(dy != NOWHERE);
        l->dy_buffer = dy;
        if (l->also != DML_LAYER_NONE) {
            hand_on(&pool, dy, &grad[l->from], l, 0);
            hand_on(&pool, dy, &grad[l->also], l, 1);
            pool.owners[dy]--;
            continue;
        }
        bool over = l->type->may_work_in_place && pool.owners[dy] == 1;
        l->dx_buffer = over ? dy : take(&pool);
        l->dx_plus = grad[l->from];
        if (l->dx_plus != NOWHERE)
            pool.owners[l->dx_plus]--;
        grad[l->from] = l->dx_buffer;
        if (!over)
            pool.owners[dy]--;
    }
    m->dx_buffer = grads[0];
    m->n_dx_buffers = pool.n;
}

static void plan_places(struct dml_model *m)
{
    bool kept[DML_MODEL_LAYERS_MAX]; /* a backward pass reads the layer's output */
    for (size_t i = 0; i < m->n_steps; i++) {
        struct dml_layer *l = &m->steps[i];
        bool free_to = l->from >= 0 && m->steps[l->from].n_readers == 1;
        l->in_place = free_to && l->type->may_work_in_place && (l->type->is_copy || !kept[l->from]);
        kept[i] = l->type->needs_y || (l->in_place && l->type->is_copy && kept[l->from]);
        l->learns = dml_layer_n_params(l) || (l->from >= 0 && m->steps[l->from].learns) ||
                    (l->also >= 0 && m->steps[l->also].learns);
    }
}

static int check_loss(struct dml_model *m, const char *file, struct dml_err *err)
{
    const struct dml_layer *last = &m->steps[m->n_steps - 1];
    size_t n_outputs = dml_layer_size(last->out);
    m->n_codes = m->loss == DML_LOSS_NEXT_TOKEN ? dml_layer_size(m->input) : 0;
    if (m->loss == DML_LOSS_MSE && n_outputs != 1)
        return dml_err_at(err, -EINVAL, file, last->line,
                          "loss mse needs one output, the last layer (%s) gives %zu", last->words,
                          n_outputs);
    if (m->loss == DML_LOSS_CROSS_ENTROPY && n_outputs < 2)
        return dml_err_at(err, -EINVAL, file, last->line,
                          "loss cross-entropy needs an output for each of at least two classes, "
                          "the last layer (%s) gives one; for regression write \"loss mse\"",
                          last->words);
    if (m->loss == DML_LOSS_NEXT_TOKEN &&
        (n_outputs / last->out.c != dml_layer_size(m->input) || last->out.c < 2))
        return dml_err_at(err, -EINVAL, file, last->line,
                          "loss next-token needs at least two outputs for each of the %zu codes of "
                          "the input, the last layer (%s) gives %u for each of %zu",
                          dml_layer_size(m->input), last->words, last->out.c,
                          n_outputs / last->out.c);
    return 0;
}

/* Places in the flat block. */
static int plan_params(struct dml_model *m, const char *file, struct dml_err *err)
{
    uint64_t n_params = 0, n_state = 0;
    for (size_t i = 0; i < m->n_layers; i++) {
        struct dml_layer *l = &m->layers[i];
        l->params_at = (size_t)n_params;
        l->state_at = (size_t)n_state;
        n_params += dml_layer_n_params(l);
        n_state += l->n_state;
        m->macs += l->macs;
        if (n_params + n_state > DML_MODEL_PARAMS_MAX)
            return dml_err_at(err, -EINVAL, file, l->line, "%s: more than %u parameters up to here",
                              l->words, DML_MODEL_PARAMS_MAX);
    }
    m->n_params = (size_t)n_params;
    m->n_state = (size_t)n_state;
    return 0;
}

/* Sizes of the workspace. */
static int plan_sizes(struct dml_model *m, const char *file, struct dml_err *err)
{
    uint64_t floats = dml_layer_size(m->input), scratch = 0;
    m->widest = dml_layer_size(m->input);
    for (size_t i = 0; i < m->n_steps; i++) {
        const struct dml_layer *l = &m->steps[i];
        uint64_t size = (uint64_t)l->out.c * l->out.h * l->out.w;
        floats += (l->in_place ? 0 : size) + l->n_saved + l->n_kept;
        scratch = l->n_scratch > scratch ? l->n_scratch : scratch;
        if (size > DML_MODEL_FLOATS_MAX || floats > DML_MODEL_FLOATS_MAX ||
            scratch > DML_MODEL_FLOATS_MAX)
            return dml_err_at(err, -EINVAL, file, l->line,
                              "%s: needs more than 1 GiB of memory for one sample", l->words);
        m->widest = size > m->widest ? (size_t)size : m->widest;
        m->meeting_room = l->n_meeting > m->meeting_room ? l->n_meeting : m->meeting_room;
    }
    m->scratch = (size_t)scratch;
    return 0;
}

/* Buffers that take turns are as wide as the widest value, even those that hold a small one. */
static int check_buffers(const struct dml_model *m, const char *file, struct dml_err *err)
{
    const struct dml_layer *last = &m->steps[m->n_steps - 1];
    int n = m->n_y_buffers > m->n_dx_buffers ? m->n_y_buffers : m->n_dx_buffers;
    if ((uint64_t)n * m->widest > DML_MODEL_FLOATS_MAX)
        return dml_err_at(err, -EINVAL, file, last->line,
                          "%s: up to here %d values wait at a time, with room for %zu numbers each: "
                          "more than 1 GiB of memory for one sample",
                          last->words, n, m->widest);
    return 0;
}

int dml_model_plan_passes(struct dml_model *m, const char *file, struct dml_err *err)
{
    int r = plan_params(m, file, err);
    if (r >= 0)
        r = dml_model_make_steps(m);
    if (r < 0)
        return r;
    plan_places(m);
    r = plan_sizes(m, file, err);
    if (r < 0)
        return r;
    plan_inference(m);
    plan_backward(m);
    dml_model_plan_spans(m);
    return check_buffers(m, file, err);
}

int dml_model_plan(struct dml_model *m, const char *file, struct dml_err *err)
{
    int r = dml_model_plan_passes(m, file, err);
    return r < 0 ? r : check_loss(m, file, err);
}
