/*
 * Convolution with channels last: x [B][H][W][C], y [B][Ho][Wo][O].
 *
 * K = 1 and stride 1 need no column matrix at all: x itself is one, [B·H·W][C], and the whole
 * minibatch is one product with W [O][C]. Otherwise the patches of a tile of output places are
 * copied into rows, taps first and channels innermost, so that a copy is one run per tap; the
 * weights are brought into the same order once per pass. A tile is small enough to stay in the L2
 * cache until the product reads it. Groups are products of their own.
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/gemm.h"
#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/layer.h"

#define TILE_FLOATS 32768 /* 128 KiB */
#define TILE_MIN    16    /* places: fewer make no product worth its name */

static bool is_plain(const struct dml_layer *l)
{
    return l->args.kernel == 1 && l->args.stride == 1 && l->args.groups == 1;
}

static size_t tile_places(const struct dml_layer *l)
{
    size_t n = TILE_FLOATS / l->fan_in, places = (size_t)l->out.h * l->out.w;
    n = n < TILE_MIN ? TILE_MIN : n;
    return n < places ? n : places;
}

uint64_t dml_conv_last_scratch(const struct dml_layer *l)
{
    if (is_plain(l))
        return 0;
    if (dml_conv_is_depthwise(l))
        return dml_conv_depthwise_scratch(l);
    return 2 * dml_kernel_round(l->n_weights) + (uint64_t)tile_places(l) * l->fan_in;
}

/* w [O][Cg][T] and its copy with taps first, [O][T][Cg]. */
static void pack(const struct dml_layer *l, const float *w, float *packed)
{
    size_t taps = (size_t)(l->args.kernel * l->args.kernel), c = l->fan_in / taps;
    for (size_t o = 0; o < l->out.c; o++, w += l->fan_in, packed += l->fan_in)
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < c; i++)
                packed[t * c + i] = w[i * taps + t];
}

static void unpack_add(const struct dml_layer *l, const float *packed, float *io_w)
{
    size_t taps = (size_t)(l->args.kernel * l->args.kernel), c = l->fan_in / taps;
    for (size_t o = 0; o < l->out.c; o++, io_w += l->fan_in, packed += l->fan_in)
        for (size_t i = 0; i < c; i++)
            for (size_t t = 0; t < taps; t++)
                io_w[i * taps + t] += packed[t * c + i];
}

/* Places [from, to) of one sample for group g: col rows are filled from x, or added back to dx. */
static void patches(const struct dml_layer *l, const float *x, float *dx, size_t g, size_t from,
                    size_t to, float *col)
{
    size_t k = (size_t)l->args.kernel, stride = (size_t)l->args.stride;
    size_t pad = (size_t)l->args.padding, all = l->in.c, c = l->fan_in / (k * k);
    for (size_t i = from; i < to; i++) {
        size_t top = i / l->out.w * stride, left = i % l->out.w * stride;
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw++, col += c) {
                bool inside = top + kh >= pad && top + kh - pad < l->in.h && left + kw >= pad &&
                              left + kw - pad < l->in.w;
                size_t at =
                    inside ? ((top + kh - pad) * l->in.w + left + kw - pad) * all + g * c : 0;
                if (!inside && x)
                    memset(col, 0, c * sizeof(float));
                else if (x)
                    memcpy(col, x + at, c * sizeof(float));
                else if (inside)
                    l->kernel->channels->add(dx + at, col, dx + at, c);
            }
    }
}

static void spread_bias(const struct dml_layer *l, const struct dml_layer_pass *p, size_t rows,
                        float *y)
{
    const float *bias = p->params + l->n_weights;
    for (size_t r = 0; l->n_biases && r < rows; r++)
        memcpy(y + r * l->out.c, bias, l->out.c * sizeof(float));
}

void dml_conv_last_begin(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (is_plain(l))
        return;
    if (dml_conv_is_depthwise(l)) {
        dml_conv_depthwise_begin(l, p);
        return;
    }
    pack(l, p->params, p->scratch);
    if (p->dparams)
        memset(p->scratch + dml_kernel_round(l->n_weights), 0, l->n_weights * sizeof(float));
}

void dml_conv_last_some(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                        const float *x, float *y)
{
    size_t o = l->out.c, d = l->fan_in, places = (size_t)l->out.h * l->out.w;
    float beta = l->n_biases ? 1.0f : 0.0f;
    if (dml_conv_is_depthwise(l)) {
        dml_conv_depthwise_some(l, p, n, x, y);
        return;
    }
    spread_bias(l, p, n * places, y);
    if (is_plain(l)) {
        dml_gemm(false, true, n * places, o, d, x, d, p->params, d, beta, y, o);
        return;
    }
    size_t groups = (size_t)l->args.groups, og = o / groups, tile = tile_places(l);
    const float *w = p->scratch;
    float *col = p->scratch + 2 * dml_kernel_round(l->n_weights);
    for (size_t b = 0; b < n; b++)
        for (size_t g = 0; g < groups; g++)
            for (size_t at = 0; at < places; at += tile) {
                size_t end = at + tile < places ? at + tile : places;
                patches(l, x + b * dml_layer_size(l->in), NULL, g, at, end, col);
                dml_gemm(false, true, end - at, og, d, col, d, w + g * og * d, d, beta,
                         y + (b * places + at) * o + g * og, o);
            }
}

void dml_conv_last_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                        const float *x, const float *dy, float *dx)
{
    size_t o = l->out.c, d = l->fan_in, places = (size_t)l->out.h * l->out.w;
    size_t rows = n * places, n_in = dml_layer_size(l->in);
    if (l->n_biases)
        l->kernel->channels->add_rows(dy, rows, o, p->dparams + l->n_weights);
    if (dml_conv_is_depthwise(l)) {
        dml_conv_depthwise_back(l, p, n, x, dy, dx);
        return;
    }
    if (is_plain(l)) {
        dml_gemm(true, false, o, d, rows, dy, o, x, d, 1.0f, p->dparams, d);
        if (dx)
            dml_gemm(false, false, rows, d, o, dy, o, p->params, d, 0.0f, dx, d);
        return;
    }
    size_t groups = (size_t)l->args.groups, og = o / groups, tile = tile_places(l);
    float *w = p->scratch, *dw = w + dml_kernel_round(l->n_weights);
    float *col = dw + dml_kernel_round(l->n_weights);
    if (dx)
        memset(dx, 0, n * n_in * sizeof(float));
    for (size_t b = 0; b < n; b++)
        for (size_t g = 0; g < groups; g++)
            for (size_t at = 0; at < places; at += tile) {
                size_t end = at + tile < places ? at + tile : places;
                const float *from = dy + (b * places + at) * o + g * og;
                patches(l, x + b * n_in, NULL, g, at, end, col);
                dml_gemm(true, false, og, d, end - at, from, o, col, d, 1.0f, dw + g * og * d, d);
                if (!dx)
                    continue;
                dml_gemm(false, false, end - at, d, og, from, o, w + g * og * d, d, 0.0f, col, d);
                patches(l, NULL, dx + b * n_in, g, at, end, col);
            }
}

void dml_conv_last_end(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (dml_conv_is_depthwise(l))
        dml_conv_depthwise_end(l, p);
    else if (!is_plain(l))
        unpack_add(l, p->scratch + dml_kernel_round(l->n_weights), p->dparams);
}

void dml_conv_last_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    dml_conv_last_begin(l, p);
    dml_conv_last_some(l, p, p->batch, p->x, p->y);
}

void dml_conv_last_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    dml_conv_last_begin(l, p);
    dml_conv_last_back(l, p, p->batch, p->x, p->dy, p->dx);
    dml_conv_last_end(l, p);
}
