/* Optimisers and learning-rate schedules: one loop over the flat block of parameters. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/opt.h"

enum dml_optim_kind { DML_OPTIM_SGD, DML_OPTIM_ADAM, DML_OPTIM_ADAMW };
enum dml_optim_schedule { DML_SCHEDULE_CONSTANT, DML_SCHEDULE_STEP, DML_SCHEDULE_COSINE };

enum dml_optim_deterministic {
    DML_DETERMINISTIC_CORES,  /* same seed, same number of cores: same bits */
    DML_DETERMINISTIC_STRICT, /* whatever the number of cores */
};

enum dml_optim_recompute {
    DML_RECOMPUTE_OFF,    /* what forward computes is kept for backward */
    DML_RECOMPUTE_BLOCKS, /* only what passes from block to block: struct dml_model_training */
};

/* Section [train] of a test case. Epochs are counted over the whole run. */
struct dml_train_options {
    uint64_t rounds, local_epochs, batch_size;
    int optimizer; /* enum dml_optim_kind */
    double learning_rate, momentum, weight_decay;
    double beta1, beta2, epsilon;
    int schedule;         /* enum dml_optim_schedule */
    uint64_t step_epochs; /* step: every so many epochs … */
    double step_factor;   /* … the rate is multiplied by this */
    double final_rate;    /* cosine: rate at the end, as a fraction of learning_rate */
    uint64_t seed;
    int deterministic;   /* enum dml_optim_deterministic */
    int recompute;       /* enum dml_optim_recompute */
    uint64_t eval_every; /* evaluate the global model every so many rounds; the last one always */
};

extern const struct dml_opt dml_train_opts[];

/* Learning rate at `epoch` (fractional, from 0) of `n_epochs`. */
double dml_optim_rate(const struct dml_train_options *o, double epoch, double n_epochs);

struct dml_optim;

/* n: P. Owner: caller, dml_optim_free(). NULL when out of memory. */
struct dml_optim *dml_optim_new(const struct dml_train_options *o, size_t n);
struct dml_optim *dml_optim_free(struct dml_optim *optim);

/* Forgets momentum and moments. */
void dml_optim_reset(struct dml_optim *optim);

/* Vectors of P floats that it remembers from step to step: 0, 1 (velocity) or 2 (m, v). */
size_t dml_optim_n_moments(const struct dml_optim *optim);
size_t dml_optim_n_moments_of(const struct dml_train_options *o);

/* They as one vector [n_moments][P], and the number of steps taken: all there is to go on from. */
void dml_optim_get(const struct dml_optim *optim, float *ret, uint64_t *ret_step);
void dml_optim_set(struct dml_optim *optim, const float *moments, uint64_t step);

/*
 * One step: io_params [n] changed by the gradient grad [n] of the mean loss.
 * Source: SGD with momentum as in Sutskever et al. 2013 in PyTorch's form (v = m v + g; w -= lr v);
 * Adam, Kingma & Ba 2015; AdamW, Loshchilov & Hutter 2019.
 */
void dml_optim_step(struct dml_optim *optim, double rate, float *io_params, const float *grad);

/*
 * The same in two halves, for threads that share a step: one begins it, then each applies it to a
 * part of its own. grad [n] belongs to io_params[first … first + n).
 */
void dml_optim_begin(struct dml_optim *optim, double rate);
void dml_optim_apply(struct dml_optim *optim, float *io_params, const float *grad, size_t first,
                     size_t n);

/* The same with a gradient that is yet to be computed, by nn/kernel_gemm.h's tn: same bits. false:
 * nothing is done, since it would not be faster. */
struct dml_kernel_product;
bool dml_optim_apply_product(struct dml_optim *optim, float *io_params,
                             const struct dml_kernel_product *p, size_t first);
