/*
 * linear: y = x W^T + b with W [O][D], as PyTorch stores it. Takes a picture as the row of numbers
 * it is in memory. Shapes: x [B][D], y [B][O].
 *
 * A relu behind it is part of the same step where model_steps.c finds one: forward it costs nothing
 * inside the product, and backward goes through some rows at a time, which are cut off by y, summed
 * for the bias and multiplied while they are in the cache.
 */
#include "nn/layer.h"

#include <stdio.h>
#include <errno.h>
#include <string.h>

#include "nn/gemm.h"
#include "nn/kernel.h"
#include "nn/kernel_gemm.h"
#include "nn/linear.h"
#include "nn/model.h"

/* Rows of dy at a time, when cut off. */
#define ROWS 64

/* Weights for which the own product is known to be faster than OpenBLAS; see bench/bench_gemm.c. */
#define OWN_MAX 524288

#define STRIP_FLOATS 4096 /* of a gradient that is handed over: half of an L1 cache */
#define STRIP_MIN    6    /* rows of it: one tile */

static const struct dml_opt opts[] = {
    {"linear", "outputs", DML_OPT_UINT, offsetof(struct dml_layer_args, size), .min = 1,
     .max = 1 << 24, .help = "Numbers it gives"},
    {0},
};

static bool is_own(const struct dml_layer *l)
{
    return l->n_weights <= OWN_MAX;
}

/* Rows of W whose gradient is handed over at a time. */
static size_t strip_height(const struct dml_layer *l)
{
    size_t high = STRIP_FLOATS / l->fan_in;
    return high < STRIP_MIN ? STRIP_MIN : high < l->args.size ? high : (size_t)l->args.size;
}

/* dy, cut off, behind a strip of the gradient. */
static float *dz_of(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    return p->scratch + (is_own(l) ? dml_kernel_round(strip_height(l) * l->fan_in) : 0);
}

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    size_t d = dml_layer_size(l->in), o = (size_t)l->args.size;
    uint64_t n = (uint64_t)d * o + o; /* both below 2^29 */
    if (n > DML_MODEL_PARAMS_MAX) {
        snprintf(why, why_len, "it would have %llu parameters, at most %u are allowed",
                 (unsigned long long)n, DML_MODEL_PARAMS_MAX);
        return -EINVAL;
    }
    l->out = (struct dml_layer_shape){.c = (uint32_t)o, .h = 1, .w = 1};
    l->n_weights = d * o;
    l->n_biases = o;
    l->fan_in = d;
    l->fan_out = o;
    l->n_scratch = is_own(l) ? strip_height(l) * d : 0;
    l->macs = (uint64_t)d * o;
    return 0;
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t d = l->fan_in, o = l->out.c;
    const float *w = p->params, *bias = w + l->n_weights;
    bool relu = l->type == &dml_linear_relu;
    if (is_own(l)) {
        const struct dml_kernel_product y = {.m = p->batch,
                                             .n = o,
                                             .k = d,
                                             .a = p->x,
                                             .lda = d,
                                             .b = w,
                                             .ldb = d,
                                             .c = p->y,
                                             .ldc = o,
                                             .bias = bias,
                                             .relu = relu};
        l->kernel->gemm->nt(&y);
        return;
    }
    for (size_t b = 0; b < p->batch; b++)
        memcpy(p->y + b * o, bias, o * sizeof(float));
    dml_gemm(false, true, p->batch, o, d, p->x, d, w, d, 1.0f, p->y, o);
    if (relu)
        l->kernel->relu(p->y, p->y, p->batch * o);
}

/* The gradient of W from all rows of a step, and what takes it: some of W's rows at a time, which
 * do not leave the L1 cache in between. */
static void hand_over(const struct dml_layer *l, const struct dml_layer_pass *p, const float *x,
                      const float *dy, size_t rows, bool is_fresh)
{
    const struct dml_model_training *t = p->training;
    size_t d = l->fan_in, o = l->out.c, high = strip_height(l);
    struct dml_kernel_product dw = {
        .m = o, .n = d, .k = rows, .a = dy, .lda = o, .b = x, .ldb = d, .ldc = d, .add = !is_fresh};
    *p->ret_taken = l->n_weights;
    if (is_fresh && t->take_product && t->take_product(t->take_arg, &dw, l->params_at))
        return;
    for (size_t i = 0; i < o; i += high) {
        dw.m = o - i < high ? o - i : high;
        dw.a = dy + i;
        dw.c = is_fresh ? p->scratch : p->dparams + i * d;
        l->kernel->gemm->tn(&dw);
        t->take(t->take_arg, dw.c, l->params_at + i * d, dw.m * d);
        if (!is_fresh)
            memset(dw.c, 0, dw.m * d * sizeof(float));
    }
}

/* What rows [at, at + rows) of the batch give back; dy is the first of them. */
static void back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t at,
                 const float *dy, size_t rows)
{
    size_t d = l->fan_in, o = l->out.c;
    const float *x = p->x + at * d;
    float *dx = p->dx ? p->dx + at * d : NULL;
    bool is_last = at + rows == p->batch;
    if (!is_own(l)) {
        dml_gemm(true, false, o, d, rows, dy, o, x, d, 1.0f, p->dparams, d);
        if (dx)
            dml_gemm(false, false, rows, d, o, dy, o, p->params, d, 0.0f, dx, d);
        return;
    }
    const struct dml_kernel_product to_x = {.m = rows,
                                            .n = d,
                                            .k = o,
                                            .a = dy,
                                            .lda = o,
                                            .b = p->params,
                                            .ldb = d,
                                            .c = dx,
                                            .ldc = d};
    if (dx)
        l->kernel->gemm->nn(&to_x);
    if (is_last && p->training->take) { /* W changes */
        hand_over(l, p, x, dy, rows, p->training->is_fresh && at == 0);
        return;
    }
    const struct dml_kernel_product dw = {.m = o,
                                          .n = d,
                                          .k = rows,
                                          .a = dy,
                                          .lda = o,
                                          .b = x,
                                          .ldb = d,
                                          .c = p->dparams,
                                          .ldc = d,
                                          .add = true};
    l->kernel->gemm->tn(&dw);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t o = l->out.c;
    float *db = p->dparams + l->n_weights;
    if (l->type == &dml_linear) {
        l->kernel->sum_rows(NULL, p->dy, p->batch, o, NULL, db);
        back(l, p, 0, p->dy, p->batch);
        return;
    }
    for (size_t b = 0; b < p->batch;) {
        size_t rows = p->batch - b < ROWS ? p->batch - b : ROWS;
        l->kernel->sum_rows(p->y + b * o, p->dy + b * o, rows, o, dz_of(l, p), db);
        back(l, p, b, dz_of(l, p), rows);
        b += rows;
    }
}

/* Whether the output of the first is read by the next alone is for the caller to know. */
bool dml_linear_join(const struct dml_layer *l, struct dml_layer *ret)
{
    if (l[0].type != &dml_linear || l[1].type != &dml_relu)
        return false;
    struct dml_layer step = l[0];
    step.type = &dml_linear_relu;
    step.out_order = l[1].out_order;
    step.n_scratch = dml_kernel_round(step.n_scratch) + ROWS * dml_layer_size(step.out);
    (void)snprintf(step.words, sizeof(step.words), "%.80s, %.40s", l[0].words, l[1].words);
    *ret = step;
    return true;
}

const struct dml_layer_type dml_linear = {
    .name = "linear",
    .usage = "linear OUTPUTS",
    .opts = opts,
    .n_bare = 1,
    .n_required = 1,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};

const struct dml_layer_type dml_linear_relu = {
    .name = "linear-relu",
    .usage = "linear, relu",
    .is_internal = true,
    .needs_y = true,
    .forward = forward,
    .backward = backward,
};
