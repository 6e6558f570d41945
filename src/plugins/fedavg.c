/*
 * FedAvg: the new global vector is the mean of the clients' vectors, weighted by their samples.
 *
 * Source: McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized
 * Data, AISTATS 2017, Algorithm 1.
 *
 * Updates are folded into one accumulator as they come, in double: memory does not grow with the
 * number of clients, and a mean of equal vectors is that vector to the last bit.
 */
#include "strategy/strategy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nn/vec.h"

struct fedavg {
    size_t n_vec;
    double weight; /* sum of n_k so far this round */
    double *sum;   /* [n_vec] of n_k w_k */
};

static int fedavg_init(const void *options, size_t n_params, size_t n_vec, const float *vec,
                       void **ret_state)
{
    (void)options, (void)n_params, (void)vec;
    struct fedavg *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->n_vec = n_vec;
    f->sum = calloc(n_vec ? n_vec : 1, sizeof(*f->sum));
    if (!f->sum) {
        free(f);
        return -ENOMEM;
    }
    *ret_state = f;
    return 0;
}

static void fedavg_done(void *state)
{
    struct fedavg *f = state;
    if (f)
        free(f->sum);
    free(f);
}

static int fedavg_begin(void *state, uint64_t round, const float *global)
{
    (void)round, (void)global;
    struct fedavg *f = state;
    f->weight = 0.0;
    memset(f->sum, 0, f->n_vec * sizeof(*f->sum));
    return 0;
}

static int fedavg_add(void *state, const struct dml_strategy_update *update)
{
    struct fedavg *f = state;
    f->weight += (double)update->n_samples;
    dml_vec_axpy_f64(f->sum, (double)update->n_samples, update->vec, f->n_vec);
    return 0;
}

static int fedavg_end(void *state, float *io_global)
{
    struct fedavg *f = state;
    if (f->weight <= 0.0)
        return -EDOM;
    for (size_t i = 0; i < f->n_vec; i++)
        io_global[i] = (float)(f->sum[i] / f->weight);
    return 0;
}

const struct dml_strategy dml_strategy_plugin = {
    .abi = DML_STRATEGY_ABI,
    .size = sizeof(struct dml_strategy),
    .name = "fedavg",
    .summary = "mean of the clients' parameters, weighted by their number of samples",
    .source = "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks",
    .flags = DML_STRATEGY_MEAN,
    .init = fedavg_init,
    .done = fedavg_done,
    .begin = fedavg_begin,
    .add = fedavg_add,
    .end = fedavg_end,
};
