/*
 * Depthwise convolutions, once per level of vector instructions like kernel_loops.c.
 *
 * One vector of channels walks over some pictures with its K·K weights (or their gradients) in
 * registers, so what is left is one load per multiply-add; the pictures should be few enough to
 * stay in the L2 cache meanwhile. For 3×3 with padding 0 or 1 a place at the edge sees a window
 * that starts at tap 0 or 1 and ends behind tap 1 or 2: each of these sixteen windows is code of
 * its own without a condition in it. Small pictures are nearly all edge, so that is what counts.
 *
 * Where the channels do not fill the last vector, that vector starts earlier and overlaps the one
 * before: results are written twice, and sums get a mask so that nothing is counted twice.
 */
#include "nn/kernel_depthwise.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#include "nn/kernel_vec.h"

#ifndef DML_KERNEL_DEPTHWISE
#define DML_KERNEL_DEPTHWISE dml_kernel_depthwise_base
#endif

/* Taps [lo, hi) of output place o that lie inside an edge of n_in. */
struct range {
    size_t lo, hi;
};

INLINE struct range taps(const struct dml_kernel_filter *f, size_t o, size_t n_in)
{
    size_t at = o * f->stride;
    struct range r = {at < f->pad ? f->pad - at : 0, n_in + f->pad - at};
    r.hi = r.hi < f->k ? r.hi : f->k;
    return r;
}

/* Where place (oh, ow) of the output sees its first tap. */
INLINE size_t first_tap(const struct dml_kernel_filter *f, size_t oh, size_t ow, struct range rh,
                        struct range rw)
{
    return ((oh * f->stride + rh.lo - f->pad) * f->w + ow * f->stride + rw.lo - f->pad) * f->c;
}

/* Whether every window is one of the sixteen. */
static int is_three(const struct dml_kernel_filter *f)
{
    return f->k == 3 && f->pad <= 1;
}

/* Places [0, from) of a row lack their first tap, [to, n) their last. */
INLINE struct range whole(const struct dml_kernel_filter *f, size_t n_in)
{
    struct range r = {f->pad, n_in + f->pad < 3 ? 0 : (n_in + f->pad - 3) / f->stride + 1};
    return r;
}

/* ---- a window ----------------------------------------------------------------------------- */

/* x: its first tap */
INLINE vec see(const float *x, size_t row, size_t c, const vec *w, vec sum, const unsigned h0,
               const unsigned h1, const unsigned w0, const unsigned w1)
{
    UNROLL
    for (unsigned kh = h0; kh < h1; kh++)
        UNROLL
    for (unsigned kw = w0; kw < w1; kw++)
        sum += w[kh * 3 + kw] * load(x + (kh - h0) * row + (kw - w0) * c);
    return sum;
}

INLINE void learn(const float *x, size_t row, size_t c, vec g, vec *io_sum, const unsigned h0,
                  const unsigned h1, const unsigned w0, const unsigned w1)
{
    UNROLL
    for (unsigned kh = h0; kh < h1; kh++)
        UNROLL
    for (unsigned kw = w0; kw < w1; kw++)
        io_sum[kh * 3 + kw] += g * load(x + (kh - h0) * row + (kw - w0) * c);
}

/* One row of the output: to y from w, or, where it learns, from dy into io_sum. x: its first tap. */
INLINE void walk_row(const struct dml_kernel_filter *f, struct range inner, const float *x,
                     const vec *w, vec first, float *y, const float *dy, bits mask, vec *io_sum,
                     const int learns, const unsigned h0, const unsigned h1)
{
    size_t c = f->c, row = f->w * c, step = f->stride * c, ow = 0;
#define PLACE(w0, w1)                                                                              \
    if (learns)                                                                                    \
        learn(x, row, c, (vec)((bits)load(dy + ow * c) & mask), io_sum, h0, h1, w0, w1);           \
    else                                                                                           \
        store(y + ow * c, see(x, row, c, w, first, h0, h1, w0, w1))
    if (f->pad) {
        if (inner.hi)
            PLACE(1, 3);
        else
            PLACE(1, 2);
        x += step - c;
        ow++;
    }
    for (; ow < inner.hi; ow++, x += step)
        PLACE(0, 3);
    for (; ow < f->wo; ow++, x += step)
        PLACE(0, 2);
#undef PLACE
}

INLINE void walk(const struct dml_kernel_filter *f, const float *x, const vec *w, vec first,
                 float *y, const float *dy, bits mask, vec *io_sum, const int learns)
{
    size_t row = f->w * f->c, out_row = f->wo * f->c;
    struct range inner = whole(f, f->w);
    for (size_t oh = 0; oh < f->ho; oh++) {
        struct range r = taps(f, oh, f->h);
        const float *at = x + (oh * f->stride + r.lo - f->pad) * row;
        float *to = learns ? NULL : y + oh * out_row;
        const float *from = learns ? dy + oh * out_row : NULL;
        if (r.lo == 0 && r.hi == 3)
            walk_row(f, inner, at, w, first, to, from, mask, io_sum, learns, 0, 3);
        else if (r.lo == 0)
            walk_row(f, inner, at, w, first, to, from, mask, io_sum, learns, 0, 2);
        else if (r.hi == 3)
            walk_row(f, inner, at, w, first, to, from, mask, io_sum, learns, 1, 3);
        else
            walk_row(f, inner, at, w, first, to, from, mask, io_sum, learns, 1, 2);
    }
}

/* ---- any filter --------------------------------------------------------------------------- */

INLINE void forward_any(const struct dml_kernel_filter *f, const float *x, const float *wt,
                        const float *bias, float *y)
{
    size_t c = f->c;
    for (size_t oh = 0; oh < f->ho; oh++)
        for (size_t ow = 0; ow < f->wo; ow++, y += c) {
            struct range rh = taps(f, oh, f->h), rw = taps(f, ow, f->w);
            const float *at = x + first_tap(f, oh, ow, rh, rw);
            vec sum = bias ? load(bias) : splat(0.0f);
            for (size_t kh = rh.lo; kh < rh.hi; kh++, at += f->w * c)
                for (size_t kw = rw.lo; kw < rw.hi; kw++)
                    sum += load(wt + (kh * f->k + kw) * c) * load(at + (kw - rw.lo) * c);
            store(y, sum);
        }
}

/* x: what is read (dw) or added to (dx); the one that is NULL is not wanted. */
INLINE void backward_any(const struct dml_kernel_filter *f, const float *dy, const float *wt,
                         float *dx, const float *x, float *dwt, bits mask)
{
    size_t c = f->c;
    for (size_t oh = 0; oh < f->ho; oh++)
        for (size_t ow = 0; ow < f->wo; ow++, dy += c) {
            struct range rh = taps(f, oh, f->h), rw = taps(f, ow, f->w);
            size_t at = first_tap(f, oh, ow, rh, rw);
            vec g = (vec)((bits)load(dy) & mask);
            for (size_t kh = rh.lo; kh < rh.hi; kh++, at += f->w * c)
                for (size_t kw = rw.lo; kw < rw.hi; kw++) {
                    size_t tap = (kh * f->k + kw) * c, in = at + (kw - rw.lo) * c;
                    if (dx)
                        store(dx + in, load(dx + in) + g * load(wt + tap));
                    else
                        store(dwt + tap, load(dwt + tap) + g * load(x + in));
                }
        }
}

/* Fewer channels than a vector has: one number at a time. */
static void forward_few(const struct dml_kernel_filter *f, const float *x, const float *wt,
                        const float *bias, float *y)
{
    size_t c = f->c;
    for (size_t oh = 0; oh < f->ho; oh++)
        for (size_t ow = 0; ow < f->wo; ow++, y += c) {
            struct range rh = taps(f, oh, f->h), rw = taps(f, ow, f->w);
            size_t at = first_tap(f, oh, ow, rh, rw);
            for (size_t i = 0; i < c; i++) {
                float sum = bias ? bias[i] : 0.0f;
                for (size_t kh = rh.lo; kh < rh.hi; kh++)
                    for (size_t kw = rw.lo; kw < rw.hi; kw++)
                        sum += wt[(kh * f->k + kw) * c + i] *
                               x[at + ((kh - rh.lo) * f->w + kw - rw.lo) * c + i];
                y[i] = sum;
            }
        }
}

static void backward_few(const struct dml_kernel_filter *f, const float *dy, const float *wt,
                         float *dx, const float *x, float *dwt)
{
    size_t c = f->c;
    for (size_t oh = 0; oh < f->ho; oh++)
        for (size_t ow = 0; ow < f->wo; ow++, dy += c) {
            struct range rh = taps(f, oh, f->h), rw = taps(f, ow, f->w);
            size_t first = first_tap(f, oh, ow, rh, rw);
            for (size_t kh = rh.lo; kh < rh.hi; kh++)
                for (size_t kw = rw.lo; kw < rw.hi; kw++)
                    for (size_t i = 0; i < c; i++) {
                        size_t tap = (kh * f->k + kw) * c + i;
                        size_t at = first + ((kh - rh.lo) * f->w + kw - rw.lo) * c + i;
                        if (dx)
                            dx[at] += dy[i] * wt[tap];
                        else
                            dwt[tap] += dy[i] * x[at];
                    }
        }
}

/* ---- stride 2, back ----------------------------------------------------------------------- */

/* Whether the input is two by two places for each of the output, as half a network's are. */
static int is_halved(const struct dml_kernel_filter *f)
{
    return f->k == 3 && f->pad == 1 && f->stride == 2 && f->h == 2 * f->ho && f->w == 2 * f->wo;
}

/*
 * Place (oh, ow) sees rows 2 oh - 1 … 2 oh + 1, so a row 2 oh is seen once and a row 2 oh + 1
 * twice, by this place and the next: no sums in memory, and every place is written once.
 */
INLINE void spread(size_t c, size_t out_row, size_t row, const float *dy, const vec *w, float *dx,
                   const int right, const int below)
{
    vec g = load(dy), up = w[5] * g, left = w[7] * g, corner = w[8] * g;
    if (right) {
        vec next = load(dy + c);
        up += w[3] * next;
        corner += w[6] * next;
    }
    if (below) {
        vec next = load(dy + out_row);
        left += w[1] * next;
        corner += w[2] * next;
    }
    if (right && below)
        corner += w[0] * load(dy + out_row + c);
    store(dx, w[4] * g);
    store(dx + c, up);
    store(dx + row, left);
    store(dx + row + c, corner);
}

INLINE void dx_halved(const struct dml_kernel_filter *f, const float *dy, const vec *w, float *dx)
{
    size_t c = f->c, out_row = f->wo * c, row = f->w * c;
    for (size_t oh = 0; oh < f->ho; oh++) {
        const float *from = dy + oh * out_row;
        float *to = dx + 2 * oh * row;
        size_t ow = 0;
        if (oh + 1 < f->ho) {
            for (; ow + 1 < f->wo; ow++)
                spread(c, out_row, row, from + ow * c, w, to + 2 * ow * c, 1, 1);
            spread(c, out_row, row, from + ow * c, w, to + 2 * ow * c, 0, 1);
        } else {
            for (; ow + 1 < f->wo; ow++)
                spread(c, out_row, row, from + ow * c, w, to + 2 * ow * c, 1, 0);
            spread(c, out_row, row, from + ow * c, w, to + 2 * ow * c, 0, 0);
        }
    }
}

/* ---- all channels ------------------------------------------------------------------------- */

/* Lanes [skip, LANES) are all ones. */
INLINE bits mask_of(size_t skip)
{
    bits m;
    for (size_t i = 0; i < LANES; i++)
        m[i] = i < skip ? 0 : -1;
    return m;
}

/* The nine weights of channels [at, at + LANES); `flip` runs through them backwards. */
INLINE void load_nine(const float *wt, size_t c, int flip, vec *w)
{
    UNROLL
    for (unsigned t = 0; t < 9; t++)
        w[t] = load(wt + (flip ? 8 - t : t) * c);
}

INLINE void forward_all(const struct dml_kernel_filter *f, size_t n, const float *x,
                        const float *wt, const float *bias, float *y, int flip)
{
    size_t n_in = f->h * f->w * f->c, n_out = f->ho * f->wo * f->c;
    for (size_t c = 0; c < f->c; c += LANES) {
        size_t at = c + LANES <= f->c ? c : f->c - LANES;
        vec w[9], first = bias ? load(bias + at) : splat(0.0f);
        load_nine(wt + at, f->c, flip, w);
        for (size_t b = 0; b < n; b++)
            walk(f, x + b * n_in + at, w, first, y + b * n_out + at, NULL, (bits){0}, NULL, 0);
    }
}

static void forward(const struct dml_kernel_filter *f, size_t n, const float *x, const float *wt,
                    const float *bias, float *y)
{
    size_t n_in = f->h * f->w * f->c, n_out = f->ho * f->wo * f->c;
    if (f->c >= LANES && is_three(f)) {
        forward_all(f, n, x, wt, bias, y, 0);
        return;
    }
    for (size_t b = 0; b < n; b++, x += n_in, y += n_out) {
        if (f->c < LANES) {
            forward_few(f, x, wt, bias, y);
            continue;
        }
        for (size_t c = 0; c < f->c; c += LANES) {
            size_t at = c + LANES <= f->c ? c : f->c - LANES;
            forward_any(f, x + at, wt + at, bias ? bias + at : NULL, y + at);
        }
    }
}

static void dx(const struct dml_kernel_filter *f, size_t n, const float *dy, const float *wt,
               float *dx)
{
    size_t n_in = f->h * f->w * f->c, n_out = f->ho * f->wo * f->c;
    /* With stride 1, dx is the convolution of dy with the filter turned round. */
    struct dml_kernel_filter back = *f;
    back.h = f->ho;
    back.w = f->wo;
    back.ho = f->h;
    back.wo = f->w;
    back.pad = f->k - 1 - f->pad;
    if (f->c >= LANES && f->stride == 1 && is_three(&back)) {
        forward_all(&back, n, dy, wt, NULL, dx, 1);
        return;
    }
    if (f->c >= LANES && is_halved(f)) {
        for (size_t c = 0; c < f->c; c += LANES) {
            size_t at = c + LANES <= f->c ? c : f->c - LANES;
            vec w[9];
            load_nine(wt + at, f->c, 0, w);
            for (size_t b = 0; b < n; b++)
                dx_halved(f, dy + b * n_out + at, w, dx + b * n_in + at);
        }
        return;
    }
    memset(dx, 0, n * n_in * sizeof(float));
    for (size_t b = 0; b < n; b++, dy += n_out, dx += n_in) {
        if (f->c < LANES) {
            backward_few(f, dy, wt, dx, NULL, NULL);
            continue;
        }
        for (size_t c = 0; c < f->c; c += LANES) {
            size_t at = c + LANES <= f->c ? c : f->c - LANES;
            backward_any(f, dy + at, wt + at, dx + at, NULL, NULL, mask_of(c - at));
        }
    }
}

static void dw(const struct dml_kernel_filter *f, size_t n, const float *x, const float *dy,
               float *io_dwt)
{
    size_t n_in = f->h * f->w * f->c, n_out = f->ho * f->wo * f->c;
    for (size_t c = 0; c < f->c && f->c >= LANES; c += LANES) {
        size_t at = c + LANES <= f->c ? c : f->c - LANES;
        bits mask = mask_of(c - at);
        vec sum[9];
        for (unsigned t = 0; t < 9; t++)
            sum[t] = splat(0.0f);
        for (size_t b = 0; b < n; b++) {
            if (is_three(f))
                walk(f, x + b * n_in + at, NULL, splat(0.0f), NULL, dy + b * n_out + at, mask, sum,
                     1);
            else
                backward_any(f, dy + b * n_out + at, NULL, NULL, x + b * n_in + at, io_dwt + at,
                             mask);
        }
        for (unsigned t = 0; is_three(f) && t < 9; t++)
            store(io_dwt + at + t * f->c, load(io_dwt + at + t * f->c) + sum[t]);
    }
    for (size_t b = 0; b < n && f->c < LANES; b++)
        backward_few(f, dy + b * n_out, NULL, NULL, x + b * n_in, io_dwt);
}

extern const struct dml_kernel_depthwise DML_KERNEL_DEPTHWISE;
const struct dml_kernel_depthwise DML_KERNEL_DEPTHWISE = {.forward = forward, .dx = dx, .dw = dw};
