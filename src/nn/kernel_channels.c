/*
 * Loops over samples with channels last, once per level of vector instructions like kernel_loops.c.
 *
 * Depthwise: one vector of channels walks over the whole picture with its K·K weights in registers,
 * one load per multiply-add; the samples are small enough to stay in the L2 cache meanwhile. Where
 * the channels do not fill the last vector, that vector starts earlier and overlaps the one before:
 * results are written twice, and sums get a mask so that nothing is counted twice.
 *
 * Sums over many rows are taken in float over RUN rows at a time and in double beyond that.
 */
#include "nn/kernel_channels.h"

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define RUN 64

#ifndef DML_KERNEL_CHANNELS
#define DML_KERNEL_CHANNELS dml_kernel_channels_base
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t bits __attribute__((vector_size(4 * LANES)));
typedef float vec_anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 9")
#endif

INLINE vec load(const float *p)
{
    return *(const vec_anywhere *)(const void *)p;
}

INLINE void store(float *p, vec v)
{
    *(vec_anywhere *)(void *)p = v;
}

/* f - 0 is f. 0 + f would be an addition each time, since -0 + 0 is 0. */
INLINE vec splat(float f)
{
    return f - (vec){0};
}

/* ---- depthwise ---------------------------------------------------------------------------- */

/* Taps [lo, hi) of output place o that lie inside an edge of n_in. */
struct range {
    size_t lo, hi;
};

INLINE struct range taps(const struct dml_kernel_depthwise *d, size_t o, size_t n_in)
{
    size_t at = o * d->stride;
    struct range r = {at < d->pad ? d->pad - at : 0, n_in + d->pad - at};
    r.hi = r.hi < d->k ? r.hi : d->k;
    return r;
}

/* Whether all of a 3×3 window lies inside: then its taps are constants. */
INLINE int is_whole(struct range a, struct range b)
{
    return a.lo == 0 && b.lo == 0 && a.hi == 3 && b.hi == 3;
}

/* Lanes [skip, LANES) are all ones. */
INLINE bits mask_of(size_t skip)
{
    bits m;
    for (size_t i = 0; i < LANES; i++)
        m[i] = i < skip ? 0 : -1;
    return m;
}

INLINE void forward_block(const struct dml_kernel_depthwise *d, const float *x, const float *wt,
                          const float *bias, float *y, const int three)
{
    size_t c = d->c, row = d->w * c;
    vec first = bias ? load(bias) : splat(0.0f), w[9];
    UNROLL
    for (unsigned t = 0; three && t < 9; t++)
        w[t] = load(wt + t * c);
    for (size_t oh = 0; oh < d->ho; oh++) {
        struct range rh = taps(d, oh, d->h);
        for (size_t ow = 0; ow < d->wo; ow++) {
            struct range rw = taps(d, ow, d->w);
            const float *at =
                x + (oh * d->stride + rh.lo - d->pad) * row + (ow * d->stride + rw.lo - d->pad) * c;
            vec sum = first;
            if (three && is_whole(rh, rw)) {
                UNROLL
                for (unsigned t = 0; t < 9; t++)
                    sum += w[t] * load(at + t / 3 * row + t % 3 * c);
            } else {
                for (size_t kh = rh.lo; kh < rh.hi; kh++, at += row)
                    for (size_t kw = rw.lo; kw < rw.hi; kw++)
                        sum += load(wt + (kh * d->k + kw) * c) * load(at + (kw - rw.lo) * c);
            }
            store(y + (oh * d->wo + ow) * c, sum);
        }
    }
}

INLINE void dx_block(const struct dml_kernel_depthwise *d, const float *dy, const float *wt,
                     float *dx, bits mask)
{
    size_t c = d->c, row = d->w * c;
    for (size_t oh = 0; oh < d->ho; oh++) {
        struct range rh = taps(d, oh, d->h);
        for (size_t ow = 0; ow < d->wo; ow++) {
            struct range rw = taps(d, ow, d->w);
            float *at = dx + (oh * d->stride + rh.lo - d->pad) * row +
                        (ow * d->stride + rw.lo - d->pad) * c;
            vec g = (vec)((bits)load(dy + (oh * d->wo + ow) * c) & mask);
            for (size_t kh = rh.lo; kh < rh.hi; kh++, at += row)
                for (size_t kw = rw.lo; kw < rw.hi; kw++) {
                    float *to = at + (kw - rw.lo) * c;
                    store(to, load(to) + g * load(wt + (kh * d->k + kw) * c));
                }
        }
    }
}

INLINE void dw_block(const struct dml_kernel_depthwise *d, const float *x, const float *dy,
                     float *dwt, bits mask, const int three)
{
    size_t c = d->c, row = d->w * c;
    vec sum[9];
    UNROLL
    for (unsigned t = 0; t < 9; t++)
        sum[t] = splat(0.0f);
    for (size_t oh = 0; oh < d->ho; oh++) {
        struct range rh = taps(d, oh, d->h);
        for (size_t ow = 0; ow < d->wo; ow++) {
            struct range rw = taps(d, ow, d->w);
            const float *at =
                x + (oh * d->stride + rh.lo - d->pad) * row + (ow * d->stride + rw.lo - d->pad) * c;
            vec g = (vec)((bits)load(dy + (oh * d->wo + ow) * c) & mask);
            if (three && is_whole(rh, rw)) {
                UNROLL
                for (unsigned t = 0; t < 9; t++)
                    sum[t] += g * load(at + t / 3 * row + t % 3 * c);
                continue;
            }
            for (size_t kh = rh.lo; kh < rh.hi; kh++, at += row)
                for (size_t kw = rw.lo; kw < rw.hi; kw++) {
                    float *to = dwt + (kh * d->k + kw) * c;
                    store(to, load(to) + g * load(at + (kw - rw.lo) * c));
                }
        }
    }
    if (!three)
        return;
    UNROLL
    for (unsigned t = 0; t < 9; t++)
        store(dwt + t * c, load(dwt + t * c) + sum[t]);
}

/* The same for channels [from, C), one number at a time: fewer of them than a vector has. */
static void forward_few(const struct dml_kernel_depthwise *d, const float *x, const float *wt,
                        const float *bias, float *y)
{
    for (size_t oh = 0; oh < d->ho; oh++)
        for (size_t ow = 0; ow < d->wo; ow++) {
            struct range rh = taps(d, oh, d->h), rw = taps(d, ow, d->w);
            for (size_t c = 0; c < d->c; c++) {
                float sum = bias ? bias[c] : 0.0f;
                for (size_t kh = rh.lo; kh < rh.hi; kh++)
                    for (size_t kw = rw.lo; kw < rw.hi; kw++)
                        sum += wt[(kh * d->k + kw) * d->c + c] *
                               x[((oh * d->stride + kh - d->pad) * d->w + ow * d->stride + kw -
                                  d->pad) *
                                     d->c +
                                 c];
                y[(oh * d->wo + ow) * d->c + c] = sum;
            }
        }
}

/* x: what is read (dw) or added to (dx); the one that is NULL is not wanted. */
static void backward_few(const struct dml_kernel_depthwise *d, const float *dy, const float *wt,
                         float *dx, const float *x, float *dwt)
{
    for (size_t oh = 0; oh < d->ho; oh++)
        for (size_t ow = 0; ow < d->wo; ow++) {
            struct range rh = taps(d, oh, d->h), rw = taps(d, ow, d->w);
            for (size_t kh = rh.lo; kh < rh.hi; kh++)
                for (size_t kw = rw.lo; kw < rw.hi; kw++)
                    for (size_t c = 0; c < d->c; c++) {
                        size_t tap = (kh * d->k + kw) * d->c + c;
                        size_t at =
                            ((oh * d->stride + kh - d->pad) * d->w + ow * d->stride + kw - d->pad) *
                                d->c +
                            c;
                        float g = dy[(oh * d->wo + ow) * d->c + c];
                        if (dx)
                            dx[at] += g * wt[tap];
                        else
                            dwt[tap] += g * x[at];
                    }
        }
}

static void depthwise(const struct dml_kernel_depthwise *d, const float *x, const float *wt,
                      const float *bias, float *y)
{
    if (d->c < LANES) {
        forward_few(d, x, wt, bias, y);
        return;
    }
    for (size_t c = 0; c < d->c; c += LANES) {
        size_t at = c + LANES <= d->c ? c : d->c - LANES;
        if (d->k == 3)
            forward_block(d, x + at, wt + at, bias ? bias + at : NULL, y + at, 1);
        else
            forward_block(d, x + at, wt + at, bias ? bias + at : NULL, y + at, 0);
    }
}

static void depthwise_dx(const struct dml_kernel_depthwise *d, const float *dy, const float *wt,
                         float *io_dx)
{
    if (d->c < LANES) {
        backward_few(d, dy, wt, io_dx, NULL, NULL);
        return;
    }
    for (size_t c = 0; c < d->c; c += LANES) {
        size_t at = c + LANES <= d->c ? c : d->c - LANES;
        dx_block(d, dy + at, wt + at, io_dx + at, mask_of(c - at));
    }
}

static void depthwise_dw(const struct dml_kernel_depthwise *d, const float *x, const float *dy,
                         float *io_dwt)
{
    if (d->c < LANES) {
        backward_few(d, dy, NULL, NULL, x, io_dwt);
        return;
    }
    for (size_t c = 0; c < d->c; c += LANES) {
        size_t at = c + LANES <= d->c ? c : d->c - LANES;
        bits mask = mask_of(c - at);
        if (d->k == 3)
            dw_block(d, x + at, dy + at, io_dwt + at, mask, 1);
        else
            dw_block(d, x + at, dy + at, io_dwt + at, mask, 0);
    }
}

/* ---- rows --------------------------------------------------------------------------------- */

static void sums(const float *x, size_t rows, size_t c, const float *shift, float *tmp,
                 double *io_s1, double *io_s2)
{
    float *restrict t1 = tmp, *restrict t2 = tmp + c;
    for (size_t from = 0; from < rows; from += RUN) {
        size_t to = from + RUN < rows ? from + RUN : rows;
        memset(tmp, 0, 2 * c * sizeof(float));
        for (size_t r = from; r < to; r++) {
            const float *restrict row = x + r * c;
            for (size_t i = 0; i < c; i++) {
                float v = row[i] - shift[i];
                t1[i] += v;
                t2[i] += v * v;
            }
        }
        for (size_t i = 0; i < c; i++) {
            io_s1[i] += (double)t1[i];
            io_s2[i] += (double)t2[i];
        }
    }
}

static void sums_back(const float *x, const float *dy, size_t rows, size_t c, const float *mean,
                      float *tmp, double *io_s1, double *io_s2)
{
    float *restrict t1 = tmp, *restrict t2 = tmp + c;
    for (size_t from = 0; from < rows; from += RUN) {
        size_t to = from + RUN < rows ? from + RUN : rows;
        memset(tmp, 0, 2 * c * sizeof(float));
        for (size_t r = from; r < to; r++) {
            const float *restrict row = x + r * c, *restrict g = dy + r * c;
            for (size_t i = 0; i < c; i++) {
                t1[i] += g[i];
                t2[i] += g[i] * (row[i] - mean[i]);
            }
        }
        for (size_t i = 0; i < c; i++) {
            io_s1[i] += (double)t1[i];
            io_s2[i] += (double)t2[i];
        }
    }
}

static void scale(const float *x, size_t rows, size_t c, const float *restrict a,
                  const float *restrict b, float *y)
{
    for (size_t r = 0; r < rows; r++) {
        const float *restrict from = x + r * c;
        float *restrict to = y + r * c;
        for (size_t i = 0; i < c; i++)
            to[i] = a[i] * from[i] + b[i];
    }
}

static void mix(const float *x, const float *dy, size_t rows, size_t c, const float *a,
                const float *b, const float *d, float *dx)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * c, *g = dy + r * c;
        float *to = dx + r * c;
        size_t i = 0;
        for (; i + LANES <= c; i += LANES)
            store(to + i, load(a + i) * load(g + i) + (load(b + i) * load(from + i) + load(d + i)));
        for (; i < c; i++)
            to[i] = a[i] * g[i] + (b[i] * from[i] + d[i]);
    }
}

static void add_rows(const float *x, size_t rows, size_t c, float *io_sum)
{
    for (size_t r = 0; r < rows; r++) {
        const float *restrict row = x + r * c;
        float *restrict to = io_sum;
        for (size_t i = 0; i < c; i++)
            to[i] += row[i];
    }
}

static void add(const float *a, const float *b, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, load(a + i) + load(b + i));
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

/* Not a number goes through, so that a run that diverged says so. */
static void relu6(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(x + i), six = splat(6.0f);
        bits high = v > six;
        v = (vec)(((bits)six & high) | ((bits)v & ~high));
        store(y + i, (vec)((bits)v & ~(v < splat(0.0f))));
    }
    for (; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i] > 6.0f ? 6.0f : x[i];
}

static void relu6_back(const float *y, const float *dy, float *dx, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(y + i);
        store(dx + i, (vec)((bits)load(dy + i) & (v > splat(0.0f)) & (v < splat(6.0f))));
    }
    for (; i < n; i++)
        dx[i] = y[i] > 0.0f && y[i] < 6.0f ? dy[i] : 0.0f;
}

extern const struct dml_kernel_channels DML_KERNEL_CHANNELS;
const struct dml_kernel_channels DML_KERNEL_CHANNELS = {
    .depthwise = depthwise,
    .depthwise_dx = depthwise_dx,
    .depthwise_dw = depthwise_dw,
    .sums = sums,
    .sums_back = sums_back,
    .scale = scale,
    .mix = mix,
    .add_rows = add_rows,
    .add = add,
    .relu6 = relu6,
    .relu6_back = relu6_back,
};
