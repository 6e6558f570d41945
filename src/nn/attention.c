/*
 * attention: causal self-attention with several heads. A sequence of T positions with C numbers,
 * channels last, x [T][C]:
 *
 *   q, k, v = x W + b, C numbers each, one product with W [3C][C]
 *   per head h of size D = C / heads:   a = softmax(q k^T / sqrt(D)) [T][T], no position looks
 * ahead y = (a v of all heads side by side) W2 + b2, W2 [C][C]
 *
 * Parameters in the order of PyTorch's MultiheadAttention: W, b, W2, b2, except that both matrices
 * count as weights and come first: W, W2, b, b2.
 *
 * Kept from forward to backward per sample: q, k, v [T][3C], a [heads][T][T], and what goes into
 * the second product [T][C].
 *
 * Source: Vaswani et al. 2017.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/gemm.h"
#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/kernel_smooth.h"
#include "nn/layer.h"
#include "nn/model.h"

#define POSITIONS_MAX 4096 /* the matrices of weights grow with the square */

static const struct dml_opt opts[] = {
    {"attention", "heads", DML_OPT_UINT, offsetof(struct dml_layer_args, size), .min = 1,
     .max = 1024, .help = "Heads, each with its share of the channels"},
    {0},
};

/* What one sample keeps. */
struct parts {
    size_t t, c, heads, d;
    float *qkv, *a, *mixed;
};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    uint64_t t = (uint64_t)l->in.h * l->in.w, c = l->in.c, heads = l->args.size;
    if (c % heads) {
        snprintf(why, why_len, "%llu heads must divide the %u channels", (unsigned long long)heads,
                 l->in.c);
        return -EINVAL;
    }
    if (t > POSITIONS_MAX || 4 * c * c + 4 * c > DML_MODEL_PARAMS_MAX) {
        snprintf(why, why_len, "at most %d positions and %u parameters are allowed", POSITIONS_MAX,
                 DML_MODEL_PARAMS_MAX);
        return -EINVAL;
    }
    l->out = l->in;
    l->n_weights = (size_t)(4 * c * c);
    l->n_biases = (size_t)(4 * c);
    l->fan_in = l->fan_out = (size_t)c;
    l->n_saved = t * 3 * c + heads * t * t + t * c;
    l->n_scratch = l->n_saved; /* the same in inference, and its gradients in backward */
    l->macs = 4 * t * c * c + 2 * t * t * c;
    return 0;
}

static struct parts split(const struct dml_layer *l, float *at)
{
    struct parts s = {.t = (size_t)l->in.h * l->in.w, .c = l->in.c, .heads = (size_t)l->args.size};
    s.d = s.c / s.heads;
    s.qkv = at;
    s.a = s.qkv + s.t * 3 * s.c;
    s.mixed = s.a + s.heads * s.t * s.t;
    return s;
}

/* Row i of a [T][T]: softmax over what lies at or before i, zeros behind. */
static void soften(const struct dml_layer *l, float *a, size_t t, float scale)
{
    for (size_t i = 0; i < t; i++, a += t) {
        l->kernel->smooth->softmax(a, i + 1, scale);
        memset(a + i + 1, 0, (t - i - 1) * sizeof(float));
    }
}

static void spread(const float *bias, size_t n, size_t rows, float *y)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(y + r * n, bias, n * sizeof(float));
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    for (size_t b = 0; b < p->batch; b++) {
        struct parts s = split(l, p->saved ? p->saved + b * l->n_saved : p->scratch);
        size_t t = s.t, c = s.c, d = s.d, n = t * c;
        const float *w = p->params, *w2 = w + 3 * c * c, *bias = p->params + l->n_weights;
        float scale = 1.0f / sqrtf((float)d), *y = p->y + b * n;
        spread(bias, 3 * c, t, s.qkv);
        dml_gemm(false, true, t, 3 * c, c, p->x + b * n, c, w, c, 1.0f, s.qkv, 3 * c);
        for (size_t h = 0; h < s.heads; h++) {
            const float *q = s.qkv + h * d, *k = q + c, *v = k + c;
            float *a = s.a + h * t * t;
            dml_gemm(false, true, t, t, d, q, 3 * c, k, 3 * c, 0.0f, a, t);
            soften(l, a, t, scale);
            dml_gemm(false, false, t, d, t, a, t, v, 3 * c, 0.0f, s.mixed + h * d, c);
        }
        spread(bias + 3 * c, c, t, y);
        dml_gemm(false, true, t, c, c, s.mixed, c, w2, c, 1.0f, y, c);
    }
}

/* da becomes the gradient of the products q k^T: through the softmax and the scale. */
static void soften_back(const struct dml_layer *l, const float *a, float *da, size_t t, float scale)
{
    for (size_t i = 0; i < t; i++, a += t, da += t) {
        l->kernel->smooth->softmax_back(a, da, i + 1, scale);
        memset(da + i + 1, 0, (t - i - 1) * sizeof(float));
    }
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    for (size_t b = 0; b < p->batch; b++) {
        struct parts s = split(l, p->saved + b * l->n_saved), g = split(l, p->scratch);
        size_t t = s.t, c = s.c, d = s.d, n = t * c;
        const float *w = p->params, *w2 = w + 3 * c * c, *dy = p->dy + b * n;
        float *dw = p->dparams, *dw2 = dw + 3 * c * c, *dbias = dw + l->n_weights;
        float scale = 1.0f / sqrtf((float)d);
        l->kernel->channels->add_rows(dy, t, c, dbias + 3 * c);
        dml_gemm(true, false, c, c, t, dy, c, s.mixed, c, 1.0f, dw2, c);
        dml_gemm(false, false, t, c, c, dy, c, w2, c, 0.0f, g.mixed, c);
        for (size_t h = 0; h < s.heads; h++) {
            const float *q = s.qkv + h * d, *k = q + c, *v = k + c, *a = s.a + h * t * t;
            float *dq = g.qkv + h * d, *dk = dq + c, *dv = dk + c, *da = g.a + h * t * t;
            const float *dm = g.mixed + h * d;
            dml_gemm(true, false, t, d, t, a, t, dm, c, 0.0f, dv, 3 * c);
            dml_gemm(false, true, t, t, d, dm, c, v, 3 * c, 0.0f, da, t);
            soften_back(l, a, da, t, scale);
            dml_gemm(false, false, t, d, t, da, t, k, 3 * c, 0.0f, dq, 3 * c);
            dml_gemm(true, false, t, d, t, da, t, q, 3 * c, 0.0f, dk, 3 * c);
        }
        l->kernel->channels->add_rows(g.qkv, t, 3 * c, dbias);
        dml_gemm(true, false, 3 * c, c, t, g.qkv, 3 * c, p->x + b * n, c, 1.0f, dw, c);
        if (p->dx)
            dml_gemm(false, false, t, c, 3 * c, g.qkv, 3 * c, w, c, 0.0f, p->dx + b * n, c);
    }
}

const struct dml_layer_type dml_attention = {
    .name = "attention",
    .usage = "attention HEADS",
    .opts = opts,
    .n_bare = 1,
    .n_required = 1,
    .order = dml_layer_hwc,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
