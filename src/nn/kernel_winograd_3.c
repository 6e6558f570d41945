/*
 * To the points and back, once per level of vector instructions like kernel_loops.c. Vectors lie
 * along the channels; a tile is transformed along its columns first, then along its rows.
 */
#include "nn/kernel_winograd_3.h"

#include <stdbool.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#include "nn/kernel_vec.h"

#ifndef DML_KERNEL_WINOGRAD_3
#define DML_KERNEL_WINOGRAD_3 dml_kernel_winograd_3_base
#endif

#define OUT  DML_WINOGRAD_3_OUT
#define SIDE 6 /* of a tile of inputs, and points of a row */
#define TAPS 3

_Static_assert(DML_WINOGRAD_3_CHANNELS % LANES == 0, "whole vectors");

/* ---- one row or column -------------------------------------------------------------------- */

/* B^T */
INLINE void from_inputs(const vec d[SIDE], vec v[SIDE])
{
    vec a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    vec e = d[4] - d[2], o = 2.0f * (d[3] - d[1]);
    v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    v[1] = a + b;
    v[2] = a - b;
    v[3] = e + o;
    v[4] = e - o;
    v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* B */
INLINE void to_inputs(const vec v[SIDE], vec d[SIDE])
{
    vec s1 = v[1] + v[2], d1 = v[1] - v[2], s2 = v[3] + v[4], d2 = v[3] - v[4];
    d[0] = 4.0f * v[0];
    d[1] = 4.0f * (v[5] - d1) - 2.0f * d2;
    d[2] = -5.0f * v[0] - 4.0f * s1 - s2;
    d[3] = d1 + 2.0f * d2 - 5.0f * v[5];
    d[4] = v[0] + s1 + s2;
    d[5] = v[5];
}

/* A^T */
INLINE void to_outputs(const vec m[SIDE], vec y[OUT])
{
    vec s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    y[0] = m[0] + s1 + s2;
    y[1] = d1 + 2.0f * d2;
    y[2] = s1 + 4.0f * s2;
    y[3] = d1 + 8.0f * d2 + m[5];
}

/* A */
INLINE void from_outputs(const vec y[OUT], vec e[SIDE])
{
    vec even = y[0] + y[2], odd = y[1] + y[3];
    vec far = y[0] + 4.0f * y[2], away = 2.0f * y[1] + 8.0f * y[3];
    e[0] = y[0];
    e[1] = even + odd;
    e[2] = even - odd;
    e[3] = far + away;
    e[4] = far - away;
    e[5] = y[3];
}

/* G */
INLINE void from_taps(const vec g[TAPS], vec u[SIDE])
{
    vec even = (g[0] + g[2]) * (-1.0f / 6), odd = g[1] * (-1.0f / 6);
    vec far = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), away = g[1] * (1.0f / 12);
    u[0] = 0.25f * g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = far + away;
    u[4] = far - away;
    u[5] = g[2];
}

/* G^T */
INLINE void to_taps(const vec u[SIDE], vec g[TAPS])
{
    vec s1 = (u[1] + u[2]) * (1.0f / 6), d1 = (u[2] - u[1]) * (1.0f / 6);
    vec s2 = u[3] + u[4], d2 = u[3] - u[4];
    g[0] = 0.25f * u[0] - s1 + s2 * (1.0f / 24);
    g[1] = d1 + d2 * (1.0f / 12);
    g[2] = u[5] - s1 + s2 * (1.0f / 6);
}

/* ---- tiles -------------------------------------------------------------------------------- */

/* The square of pixels from tile t's first on. */
struct square {
    size_t row[SIDE], col[SIDE]; /* in floats, to be added up */
    bool has_row[SIDE], has_col[SIDE];
};

INLINE struct square square_of(const struct dml_kernel_winograd_3_form *f, size_t t,
                               const unsigned side)
{
    struct square s;
    size_t j = t % f->cols * OUT, i = t / f->cols % f->rows * OUT, b = t / f->cols / f->rows;
    UNROLL
    for (unsigned k = 0; k < side; k++) {
        size_t h = i + k - f->pad, w = j + k - f->pad; /* huge before the first */
        s.has_row[k] = h < f->h;
        s.has_col[k] = w < f->w;
        s.row[k] = (b * f->h + h) * f->w * f->c;
        s.col[k] = w * f->c;
    }
    return s;
}

INLINE void find(const struct dml_kernel_winograd_3_form *f, const float *x, size_t t,
                 const unsigned side, const float **ret)
{
    const struct square s = square_of(f, t, side);
    const float *zeros = f->zeros;
    UNROLL
    for (unsigned i = 0; i < side; i++)
        UNROLL
    for (unsigned j = 0; j < side; j++)
        ret[i * side + j] = (s.has_row[i] & s.has_col[j]) ? x + s.row[i] + s.col[j] : zeros;
}

static void inputs(const struct dml_kernel_winograd_3_form *f, const float *x, size_t first,
                   size_t n, float *v)
{
    size_t point = f->point, channels = f->c; /* which no store changes */
    for (size_t t = 0; t < n; t++) {
        const float *from[SIDE * SIDE];
        find(f, x, first + t, SIDE, from);
        for (size_t c = 0; c < channels; c += LANES) {
            vec half[SIDE][SIDE], d[SIDE], p[SIDE];
            UNROLL
            for (unsigned j = 0; j < SIDE; j++) {
                UNROLL
                for (unsigned i = 0; i < SIDE; i++)
                    d[i] = load(from[i * SIDE + j] + c);
                from_inputs(d, p);
                UNROLL
                for (unsigned i = 0; i < SIDE; i++)
                    half[i][j] = p[i];
            }
            float *to = v + t * channels + c;
            UNROLL
            for (unsigned i = 0; i < SIDE; i++) {
                from_inputs(half[i], p);
                UNROLL
                for (unsigned j = 0; j < SIDE; j++)
                    store(to + (i * SIDE + j) * point, p[j]);
            }
        }
    }
}

static void inputs_back(const struct dml_kernel_winograd_3_form *f, const float *dv, size_t first,
                        size_t n, float *dx)
{
    size_t point = f->point, channels = f->c; /* which no store changes */
    for (size_t t = 0; t < n; t++) {
        const struct square s = square_of(f, first + t, SIDE);
        for (size_t c = 0; c < channels; c += LANES) {
            vec half[SIDE][SIDE], p[SIDE], d[SIDE];
            const float *from = dv + t * channels + c;
            UNROLL
            for (unsigned i = 0; i < SIDE; i++) {
                UNROLL
                for (unsigned j = 0; j < SIDE; j++)
                    p[j] = load(from + (i * SIDE + j) * point);
                to_inputs(p, half[i]);
            }
            UNROLL
            for (unsigned j = 0; j < SIDE; j++) {
                UNROLL
                for (unsigned i = 0; i < SIDE; i++)
                    p[i] = half[i][j];
                to_inputs(p, d);
                UNROLL
                for (unsigned i = 0; i < SIDE; i++)
                    if (s.has_row[i] & s.has_col[j]) {
                        float *to = dx + s.row[i] + s.col[j] + c;
                        store(to, load(to) + d[i]);
                    }
            }
        }
    }
}

static void outputs(const struct dml_kernel_winograd_3_form *f, const float *m, const float *bias,
                    size_t first, size_t n, float *y)
{
    size_t point = f->point, channels = f->c; /* which no store changes */
    for (size_t t = 0; t < n; t++) {
        const struct square s = square_of(f, first + t, OUT);
        for (size_t c = 0; c < channels; c += LANES) {
            vec half[SIDE][OUT], p[SIDE], d[OUT], shift = bias ? load(bias + c) : splat(0.0f);
            const float *from = m + t * channels + c;
            UNROLL
            for (unsigned i = 0; i < SIDE; i++) {
                UNROLL
                for (unsigned j = 0; j < SIDE; j++)
                    p[j] = load(from + (i * SIDE + j) * point);
                to_outputs(p, half[i]);
            }
            UNROLL
            for (unsigned j = 0; j < OUT; j++) {
                UNROLL
                for (unsigned i = 0; i < SIDE; i++)
                    p[i] = half[i][j];
                to_outputs(p, d);
                UNROLL
                for (unsigned i = 0; i < OUT; i++)
                    if (s.has_row[i] & s.has_col[j])
                        store(y + s.row[i] + s.col[j] + c, d[i] + shift);
            }
        }
    }
}

static void outputs_back(const struct dml_kernel_winograd_3_form *f, const float *dy, size_t first,
                         size_t n, float *e)
{
    size_t point = f->point, channels = f->c; /* which no store changes */
    for (size_t t = 0; t < n; t++) {
        const float *from[OUT * OUT];
        find(f, dy, first + t, OUT, from);
        for (size_t c = 0; c < channels; c += LANES) {
            vec half[SIDE][OUT], d[OUT], p[SIDE];
            UNROLL
            for (unsigned j = 0; j < OUT; j++) {
                UNROLL
                for (unsigned i = 0; i < OUT; i++)
                    d[i] = load(from[i * OUT + j] + c);
                from_outputs(d, p);
                UNROLL
                for (unsigned i = 0; i < SIDE; i++)
                    half[i][j] = p[i];
            }
            float *to = e + t * channels + c;
            UNROLL
            for (unsigned i = 0; i < SIDE; i++) {
                from_outputs(half[i], p);
                UNROLL
                for (unsigned j = 0; j < SIDE; j++)
                    store(to + (i * SIDE + j) * point, p[j]);
            }
        }
    }
}

/* ---- filters ------------------------------------------------------------------------------ */

static void weights(const float *w, size_t n, size_t point, float *u)
{
    for (size_t c = 0; c < n; c += LANES) {
        vec half[SIDE][TAPS], g[TAPS], p[SIDE];
        UNROLL
        for (unsigned j = 0; j < TAPS; j++) {
            UNROLL
            for (unsigned i = 0; i < TAPS; i++)
                g[i] = load(w + (i * TAPS + j) * n + c);
            from_taps(g, p);
            UNROLL
            for (unsigned i = 0; i < SIDE; i++)
                half[i][j] = p[i];
        }
        UNROLL
        for (unsigned i = 0; i < SIDE; i++) {
            from_taps(half[i], p);
            UNROLL
            for (unsigned j = 0; j < SIDE; j++)
                store(u + (i * SIDE + j) * point + c, p[j]);
        }
    }
}

static void weights_back(const float *du, size_t n, size_t point, float *dw)
{
    for (size_t c = 0; c < n; c += LANES) {
        vec half[SIDE][TAPS], g[TAPS], p[SIDE];
        UNROLL
        for (unsigned i = 0; i < SIDE; i++) {
            UNROLL
            for (unsigned j = 0; j < SIDE; j++)
                p[j] = load(du + (i * SIDE + j) * point + c);
            to_taps(p, half[i]);
        }
        UNROLL
        for (unsigned j = 0; j < TAPS; j++) {
            UNROLL
            for (unsigned i = 0; i < SIDE; i++)
                p[i] = half[i][j];
            to_taps(p, g);
            UNROLL
            for (unsigned i = 0; i < TAPS; i++)
                store(dw + (i * TAPS + j) * n + c, g[i]);
        }
    }
}

extern const struct dml_kernel_winograd_3 DML_KERNEL_WINOGRAD_3;
const struct dml_kernel_winograd_3 DML_KERNEL_WINOGRAD_3 = {
    .inputs = inputs,
    .inputs_back = inputs_back,
    .outputs = outputs,
    .outputs_back = outputs_back,
    .weights = weights,
    .weights_back = weights_back,
};
