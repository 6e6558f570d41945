/*
 * Optimisers in PyTorch's form, so that settings found elsewhere mean the same here.
 *
 *   SGD    g += decay w;  v = momentum v + g;  w -= rate v
 *   Adam   g += decay w;  m, v: running means of g and g²;  w -= rate m̂ / (sqrt(v̂) + epsilon)
 *   AdamW  w -= rate decay w, then Adam without decay
 *
 * m̂ and v̂ undo the start from zero: m / (1 - beta1^t), v / (1 - beta2^t). Everything is
 * elementwise, so any split of the block over threads gives the same bits.
 *
 * Sources: Sutskever et al. 2013; Kingma, Ba 2015; Loshchilov, Hutter 2019; the cosine schedule
 * without restarts: Loshchilov, Hutter 2017.
 */
#include "nn/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_gemm.h"
#include "nn/model.h"

#define ROW(field, type_, ...)                                                                     \
    {                                                                                              \
        .section = "train", .type = type_, .offset = offsetof(struct dml_train_options, field),    \
        __VA_ARGS__                                                                                \
    }

const struct dml_opt dml_train_opts[] = {
    ROW(rounds, DML_OPT_UINT, .name = "rounds", .min = 1, .max = 1e9, .dflt = "10",
        .help = "Rounds of the run: local training, then aggregation"),
    ROW(local_epochs, DML_OPT_UINT, .name = "local-epochs", .min = 1, .max = 1e6, .dflt = "1",
        .help = "Epochs a worker trains on its own samples in each round"),
    ROW(batch_size, DML_OPT_UINT, .name = "batch-size", .min = 1, .max = DML_MODEL_BATCH_MAX,
        .dflt = "32", .unit = "samples", .help = "Samples per step"),
    ROW(optimizer, DML_OPT_CHOICE, .name = "optimizer", .dflt = "sgd", .choices = "sgd adam adamw",
        .help = "How a gradient changes the parameters"),
    ROW(learning_rate, DML_OPT_REAL, .name = "learning-rate", .min = 1e-12, .max = 1e3,
        .dflt = "0.01", .help = "Size of a step, at the start"),
    ROW(momentum, DML_OPT_REAL, .name = "momentum", .min = 0, .max = 0.9999, .dflt = "0.9",
        .help = "sgd: share of the last step that is taken again"),
    ROW(weight_decay, DML_OPT_REAL, .name = "weight-decay", .min = 0, .max = 1e3, .dflt = "0",
        .help = "Pull of the parameters towards zero"),
    ROW(beta1, DML_OPT_REAL, .name = "beta1", .min = 0, .max = 0.999999, .dflt = "0.9",
        .help = "adam, adamw: memory of the gradient's mean"),
    ROW(beta2, DML_OPT_REAL, .name = "beta2", .min = 0, .max = 0.9999999, .dflt = "0.999",
        .help = "adam, adamw: memory of the gradient's square"),
    ROW(epsilon, DML_OPT_REAL, .name = "epsilon", .min = 1e-30, .max = 1, .dflt = "1e-8",
        .help = "adam, adamw: keeps the division finite"),
    ROW(schedule, DML_OPT_CHOICE, .name = "schedule", .dflt = "constant",
        .choices = "constant step cosine", .help = "How the learning rate changes over the run"),
    ROW(step_epochs, DML_OPT_UINT, .name = "step-epochs", .min = 1, .max = 1e9, .dflt = "10",
        .unit = "epochs", .help = "step: epochs between two changes of the rate"),
    ROW(step_factor, DML_OPT_REAL, .name = "step-factor", .min = 1e-6, .max = 1, .dflt = "0.1",
        .help = "step: what the rate is multiplied by"),
    ROW(final_rate, DML_OPT_REAL, .name = "final-rate", .min = 0, .max = 1, .dflt = "0",
        .help = "cosine: rate at the end, as a share of learning-rate"),
    ROW(seed, DML_OPT_UINT, .name = "seed", .min = 0, .max = 9007199254740992.0, .dflt = "1",
        .help = "Fixes first weights, order of samples and every other random choice"),
    ROW(deterministic, DML_OPT_CHOICE, .name = "deterministic", .dflt = "cores",
        .choices = "cores strict",
        .help = "What must be equal for the same bits, besides the seed: the cores of a worker; "
                "strict: nothing"),
    ROW(recompute, DML_OPT_CHOICE, .name = "recompute", .dflt = "off", .choices = "off blocks",
        .help = "What is computed again instead of kept for the way back: needs less memory and "
                "more time, the result is the same"),
    ROW(eval_every, DML_OPT_UINT, .name = "eval-every", .min = 1, .max = 1e9, .dflt = "1",
        .unit = "rounds", .help = "Rounds between two evaluations; the last is always evaluated"),
    {0},
};

double dml_optim_rate(const struct dml_train_options *o, double epoch, double n_epochs)
{
    switch ((enum dml_optim_schedule)o->schedule) {
    case DML_SCHEDULE_STEP:
        return o->learning_rate * pow(o->step_factor, floor(epoch / (double)o->step_epochs));
    case DML_SCHEDULE_COSINE: {
        double done = n_epochs > 0.0 ? fmin(epoch / n_epochs, 1.0) : 1.0;
        double wave = 0.5 * (1.0 + cos(M_PI * done));
        return o->learning_rate * (o->final_rate + (1.0 - o->final_rate) * wave);
    }
    case DML_SCHEDULE_CONSTANT:
        break;
    }
    return o->learning_rate;
}

struct dml_optim {
    const struct dml_kernel *kernel;
    enum dml_optim_kind kind;
    double beta1, beta2, epsilon, momentum, decay;
    size_t n;
    uint64_t step;
    float *m, *v; /* [P] or NULL */
    float rate;
    struct dml_kernel_adam adam;
};

size_t dml_optim_n_moments_of(const struct dml_train_options *o)
{
    return o->optimizer != DML_OPTIM_SGD ? 2 : o->momentum > 0.0 ? 1 : 0;
}

size_t dml_optim_n_moments(const struct dml_optim *optim)
{
    return optim->v ? 2 : optim->m ? 1 : 0;
}

struct dml_optim *dml_optim_new(const struct dml_train_options *o, size_t n)
{
    struct dml_optim *optim = calloc(1, sizeof(*optim));
    if (!optim)
        return NULL;
    optim->kernel = dml_kernel_get();
    optim->kind = (enum dml_optim_kind)o->optimizer;
    optim->beta1 = o->beta1;
    optim->beta2 = o->beta2;
    optim->epsilon = o->epsilon;
    optim->momentum = o->momentum;
    optim->decay = o->weight_decay;
    optim->n = n;
    size_t n_moments = dml_optim_n_moments_of(o);
    if (n_moments > 0 && !(optim->m = dml_mem_floats(n)))
        return dml_optim_free(optim);
    if (n_moments > 1 && !(optim->v = dml_mem_floats(n)))
        return dml_optim_free(optim);
    return optim;
}

struct dml_optim *dml_optim_free(struct dml_optim *optim)
{
    if (!optim)
        return NULL;
    free(optim->m);
    free(optim->v);
    free(optim);
    return NULL;
}

void dml_optim_reset(struct dml_optim *optim)
{
    optim->step = 0;
    if (optim->m)
        memset(optim->m, 0, optim->n * sizeof(float));
    if (optim->v)
        memset(optim->v, 0, optim->n * sizeof(float));
}

void dml_optim_get(const struct dml_optim *optim, float *ret, uint64_t *ret_step)
{
    if (optim->m)
        memcpy(ret, optim->m, optim->n * sizeof(float));
    if (optim->v)
        memcpy(ret + optim->n, optim->v, optim->n * sizeof(float));
    *ret_step = optim->step;
}

void dml_optim_set(struct dml_optim *optim, const float *moments, uint64_t step)
{
    if (optim->m)
        memcpy(optim->m, moments, optim->n * sizeof(float));
    if (optim->v)
        memcpy(optim->v, moments + optim->n, optim->n * sizeof(float));
    optim->step = step;
}

void dml_optim_begin(struct dml_optim *optim, double rate)
{
    optim->step++;
    optim->rate = (float)rate;
    if (optim->kind == DML_OPTIM_SGD)
        return;
    double t = (double)optim->step;
    optim->adam = (struct dml_kernel_adam){
        .beta1 = (float)optim->beta1,
        .beta2 = (float)optim->beta2,
        .epsilon = (float)optim->epsilon,
        .gain1 = (float)(1.0 - optim->beta1),
        .gain2 = (float)(1.0 - optim->beta2),
        .rate = (float)(rate / (1.0 - pow(optim->beta1, t))),
        .root = (float)(1.0 / sqrt(1.0 - pow(optim->beta2, t))),
        .l2 = optim->kind == DML_OPTIM_ADAM ? (float)optim->decay : 0.0f,
        .shrink = optim->kind == DML_OPTIM_ADAMW ? (float)(1.0 - rate * optim->decay) : 1.0f,
    };
}

void dml_optim_apply(struct dml_optim *optim, float *io_params, const float *grad, size_t first,
                     size_t n)
{
    float *w = io_params + first, *m = optim->m ? optim->m + first : NULL;
    if (optim->kind == DML_OPTIM_SGD)
        optim->kernel->sgd(w, grad, m, n, optim->rate, (float)optim->momentum, (float)optim->decay);
    else
        optim->kernel->adam(w, grad, m, optim->v + first, n, &optim->adam);
}

bool dml_optim_apply_product(struct dml_optim *optim, float *io_params,
                             const struct dml_kernel_product *p, size_t first)
{
    if (optim->kind != DML_OPTIM_SGD || !optim->m)
        return false;
    const struct dml_kernel_sgd sgd = {.w = io_params + first,
                                       .m = optim->m + first,
                                       .rate = optim->rate,
                                       .momentum = (float)optim->momentum,
                                       .decay = (float)optim->decay};
    return optim->kernel->gemm->tn_sgd(p, &sgd);
}

void dml_optim_step(struct dml_optim *optim, double rate, float *io_params, const float *grad)
{
    dml_optim_begin(optim, rate);
    dml_optim_apply(optim, io_params, grad, 0, optim->n);
}
