/*
 * damped: the global vector moves only part of the way towards the mean of the clients' vectors,
 * w += rate (mean - w). With rate = 1 it is FedAvg.
 *
 * Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, Algorithm 1 with plain SGD as
 * the server's optimiser.
 *
 * An example of a strategy that is built outside the tree; it shows a key of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nn/vec.h"
#include "strategy/strategy.h"

struct options {
    double rate;
};

struct damped {
    double rate;
    size_t n_vec;
    double weight; /* sum of n_k so far this round */
    double sum[];  /* [n_vec] of n_k w_k */
};

static int init(const void *options, size_t n_params, size_t n_vec, const float *vec,
                void **ret_state)
{
    (void)n_params, (void)vec;
    struct damped *d = calloc(1, sizeof(*d) + n_vec * sizeof(d->sum[0]));
    if (!d)
        return -ENOMEM;
    d->rate = ((const struct options *)options)->rate;
    d->n_vec = n_vec;
    *ret_state = d;
    return 0;
}

static int begin(void *state, uint64_t round, const float *global)
{
    (void)round, (void)global;
    struct damped *d = state;
    d->weight = 0.0;
    memset(d->sum, 0, d->n_vec * sizeof(d->sum[0]));
    return 0;
}

static int add(void *state, const struct dml_strategy_update *update)
{
    struct damped *d = state;
    d->weight += (double)update->n_samples;
    dml_vec_axpy_f64(d->sum, (double)update->n_samples, update->vec, d->n_vec);
    return 0;
}

static int end(void *state, float *io_global)
{
    struct damped *d = state;
    if (d->weight <= 0.0)
        return -EDOM;
    for (size_t i = 0; i < d->n_vec; i++)
        io_global[i] += (float)(d->rate * (d->sum[i] / d->weight - (double)io_global[i]));
    return 0;
}

static const struct dml_opt opts[] = {
    {.section = "strategy", .name = "rate", .type = DML_OPT_REAL,
     .offset = offsetof(struct options, rate), .min = 0.001, .max = 1, .dflt = "0.5",
     .help = "How far towards the mean: 1 is all the way"},
    {0},
};

__attribute__((visibility("default"))) const struct dml_strategy dml_strategy_plugin = {
    .abi = DML_STRATEGY_ABI,
    .size = sizeof(struct dml_strategy),
    .name = "damped",
    .summary = "part of the way towards the clients' mean",
    .source = "Reddi et al. 2021, Adaptive Federated Optimization",
    .flags = DML_STRATEGY_MEAN,
    .opts = opts,
    .opts_size = sizeof(struct options),
    .init = init,
    .done = free,
    .begin = begin,
    .add = add,
    .end = end,
};
