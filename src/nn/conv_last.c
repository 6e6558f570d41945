/*
 * Convolution with channels last: x [B][H][W][C], y [B][Ho][Wo][O].
 *
 * K = 1 and stride 1 need no column matrix at all: x itself is one, [B·H·W][C], and the whole
 * minibatch is one product with W [O][C]. Otherwise the patches of a tile of output places are
 * copied into rows, taps first and channels innermost, so that a copy is one run per tap; the
 * weights are brought into the same order once per pass. A tile is small enough to stay in the L2
 * cache until the product reads it. Groups are products of their own. Filters of 3×3 with many
 * channels go by Winograd (conv_winograd_3.c).
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/kernel_gemm.h"
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
    if (dml_conv_is_winograd_3(l))
        return dml_conv_winograd_3_scratch(l);
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
    bool one = l->args.groups == 1; /* a row of the patch is one run */
    for (size_t i = from; i < to; i++) {
        size_t top = i / l->out.w * stride, left = i % l->out.w * stride;
        bool whole = one && left >= pad && left + k <= l->in.w + pad;
        size_t step = whole ? k : 1;
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw += step, col += step * c) {
                bool inside = top + kh >= pad && top + kh - pad < l->in.h && left + kw >= pad &&
                              left + kw - pad < l->in.w;
                size_t at =
                    inside ? ((top + kh - pad) * l->in.w + left + kw - pad) * all + g * c : 0;
                if (!inside && x)
                    memset(col, 0, step * c * sizeof(float));
                else if (x)
                    memcpy(col, x + at, step * c * sizeof(float));
                else if (inside)
                    l->kernel->channels->add(dx + at, col, dx + at, step * c);
            }
    }
}

void dml_conv_last_begin(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (is_plain(l))
        return;
    if (dml_conv_is_depthwise(l)) {
        dml_conv_depthwise_begin(l, p);
        return;
    }
    if (dml_conv_is_winograd_3(l)) {
        dml_conv_winograd_3_begin(l, p);
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
    const float *bias = l->n_biases ? p->params + l->n_weights : NULL;
    if (dml_conv_is_depthwise(l)) {
        dml_conv_depthwise_some(l, p, n, x, y);
        return;
    }
    if (dml_conv_is_winograd_3(l)) {
        dml_conv_winograd_3_some(l, p, n, x, y);
        return;
    }
    struct dml_kernel_product q = {.m = n * places,
                                   .n = o,
                                   .k = d,
                                   .a = x,
                                   .lda = d,
                                   .b = p->params,
                                   .ldb = d,
                                   .c = y,
                                   .ldc = o,
                                   .bias = bias};
    if (is_plain(l)) {
        l->kernel->gemm->nt(&q);
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
                q.m = end - at;
                q.n = og;
                q.a = col;
                q.b = w + g * og * d;
                q.c = y + (b * places + at) * o + g * og;
                q.bias = bias ? bias + g * og : NULL;
                l->kernel->gemm->nt(&q);
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
    if (dml_conv_is_winograd_3(l)) {
        dml_conv_winograd_3_back(l, p, n, x, dy, dx);
        return;
    }
    struct dml_kernel_product for_w = {
        .m = o, .n = d, .k = rows, .a = dy, .lda = o, .b = x, .ldb = d, .ldc = d, .add = true};
    struct dml_kernel_product for_x = {
        .m = rows, .n = d, .k = o, .a = dy, .lda = o, .b = p->params, .ldb = d, .c = dx, .ldc = d};
    if (is_plain(l)) {
        for_w.c = p->dparams;
        l->kernel->gemm->tn(&for_w);
        if (dx)
            l->kernel->gemm->nn(&for_x);
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
                for_w.m = for_x.k = og;
                for_w.k = for_x.m = end - at;
                for_w.a = for_x.a = from;
                for_w.b = for_x.c = col;
                for_w.c = dw + g * og * d;
                for_x.b = w + g * og * d;
                l->kernel->gemm->tn(&for_w);
                if (!dx)
                    continue;
                l->kernel->gemm->nn(&for_x);
                patches(l, NULL, dx + b * n_in, g, at, end, col);
            }
}

void dml_conv_last_end(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (dml_conv_is_depthwise(l))
        dml_conv_depthwise_end(l, p);
    else if (dml_conv_is_winograd_3(l))
        dml_conv_winograd_3_end(l, p);
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
