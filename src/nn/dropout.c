/*
 * dropout: in training each number is kept with probability 1 - rate and multiplied by
 * 1 / (1 - rate), so that nothing has to be scaled afterwards.
 *
 * The mask of a sample is drawn from a stream of its own, named by run seed, rank, step, place in
 * the minibatch and layer: it is the same however the minibatch is split over threads.
 *
 * Source: Srivastava et al. 2014; the inverted form is everybody's.
 */
#include "nn/layer.h"

#include <string.h>

#include "base/rng.h"
#include "nn/model.h"

static const struct dml_opt opts[] = {
    {"dropout", "rate", DML_OPT_REAL, offsetof(struct dml_layer_args, rate), .min = 0, .max = 0.99,
     .help = "Share of the numbers set to zero in training"},
    {0},
};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = l->in;
    l->n_saved = dml_layer_size(l->in);
    return 0;
}

static void draw(const struct dml_layer *l, const struct dml_layer_pass *p, size_t b, float *mask)
{
    const struct dml_model_training *t = p->training;
    uint64_t place = t->step * DML_MODEL_BATCH_MAX + t->first + b;
    struct dml_rng rng;
    dml_rng_init(&rng, t->seed, t->rank, DML_RNG_DROPOUT,
                 place * DML_MODEL_LAYERS_MAX + p->i_layer);
    double rate = l->args.rate;
    float kept = (float)(1.0 / (1.0 - rate));
    for (size_t i = 0; i < l->n_saved; i++)
        mask[i] = dml_rng_uniform(&rng) < rate ? 0.0f : kept;
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t d = dml_layer_size(l->in);
    if (!p->training) {
        if (p->y != p->x)
            memcpy(p->y, p->x, p->batch * d * sizeof(float));
        return;
    }
    for (size_t b = 0; b < p->batch; b++)
        draw(l, p, b, p->saved + b * d);
    for (size_t i = 0; i < p->batch * d; i++)
        p->y[i] = p->x[i] * p->saved[i];
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (!p->dx)
        return;
    for (size_t i = 0, n = p->batch * dml_layer_size(l->in); i < n; i++)
        p->dx[i] = p->dy[i] * p->saved[i];
}

const struct dml_layer_type dml_dropout = {
    .name = "dropout",
    .usage = "dropout RATE",
    .opts = opts,
    .n_bare = 1,
    .n_required = 1,
    .may_work_in_place = true,
    .order = dml_layer_any_order,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
