/*
 * dropout: in training each number is kept with probability 1 - rate and multiplied by
 * 1 / (1 - rate), so that nothing has to be scaled afterwards.
 *
 * The mask of a sample is drawn from a stream of its own, named by run seed, rank, step, place in
 * the minibatch and layer: it is the same however the minibatch is split over threads. The stream
 * gives one word, and a hash of that and the place all the rest: a draw that must wait for the last
 * one cost MobileNetV2 more than its linear layer does.
 *
 * Source: Srivastava et al. 2014; the inverted form is everybody's.
 */
#include "nn/layer.h"

#include <string.h>

#include "base/rng.h"
#include "nn/kernel.h"
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

/* What the masks of sample b are drawn with. */
static uint64_t key_of(const struct dml_layer_pass *p, size_t b)
{
    const struct dml_model_training *t = p->training;
    uint64_t place = t->step * DML_MODEL_BATCH_MAX + t->first + b;
    struct dml_rng rng;
    dml_rng_init(&rng, t->seed, t->rank, DML_RNG_DROPOUT,
                 place * DML_MODEL_LAYERS_MAX + p->i_layer);
    return dml_rng_u64(&rng);
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t d = dml_layer_size(l->in);
    if (!p->training) {
        if (p->y != p->x)
            memcpy(p->y, p->x, p->batch * d * sizeof(float));
        return;
    }
    double rate = l->args.rate;
    for (size_t b = 0; b < p->batch; b++)
        l->kernel->drop(key_of(p, b), (uint32_t)(rate * 0x1p32), (float)(1.0 / (1.0 - rate)),
                        p->x + b * d, d, p->saved + b * d, p->y + b * d);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->dx)
        l->kernel->times(p->dy, p->saved, p->dx, p->batch * dml_layer_size(l->in));
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
