/*
 * The changes between pictures and points of nn/kernel_winograd.h, once per level of vector
 * instructions like kernel_loops.c. One lane is one tile, or one output channel for weights.
 */
#include "nn/kernel_winograd.h"

#include <stdbool.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#include "nn/kernel_vec.h"

#ifndef DML_KERNEL_WINOGRAD
#define DML_KERNEL_WINOGRAD dml_kernel_winograd_base
#endif

#define K      DML_WINOGRAD_K
#define POINTS DML_WINOGRAD_POINTS

/* ---- lanes -------------------------------------------------------------------------------- */

/* ZIP: of each four lanes the lower, or upper, two of a and b by turns. PAIRS: of all lanes. */
#if LANES == 16
#define ZIP_LOW(a, b)                                                                              \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define ZIP_HIGH(a, b)                                                                             \
    __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define PAIRS_LOW(a, b)                                                                            \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define PAIRS_HIGH(a, b)                                                                           \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define HALF(v, from)                                                                              \
    __builtin_shufflevector(v, v, from, from + 1, from + 2, from + 3, from + 4, from + 5,          \
                            from + 6, from + 7)
#elif LANES == 8
#define HALF(v, from)    __builtin_shufflevector(v, v, from, from + 1, from + 2, from + 3)
#define ZIP_LOW(a, b)    __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define ZIP_HIGH(a, b)   __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define PAIRS_LOW(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define PAIRS_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define HALF(v, from)    __builtin_shufflevector(v, v, from, from + 1)
#define ZIP_LOW(a, b)    __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b)   __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define PAIRS_LOW(a, b)  ZIP_LOW(a, b)
#define PAIRS_HIGH(a, b) ZIP_HIGH(a, b)
#endif

/* The lower half of the lanes, or the upper. */
INLINE void store_half(float *to, vec v, const unsigned half)
{
    typedef float half_vec __attribute__((vector_size(2 * LANES), aligned(4), may_alias));
    half_vec *at = (half_vec *)(void *)to;
    *at = half ? HALF(v, LANES / 2) : HALF(v, 0);
}

/* Fours that are 16 floats apart, one behind the other. */
INLINE vec every_fourth_four(const float *x)
{
#if LANES == 16
    typedef float eight __attribute__((vector_size(32)));
    eight low = __builtin_shufflevector(load_four(x), load_four(x + 16), 0, 1, 2, 3, 4, 5, 6, 7);
    eight high =
        __builtin_shufflevector(load_four(x + 32), load_four(x + 48), 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif LANES == 8
    return __builtin_shufflevector(load_four(x), load_four(x + 16), 0, 1, 2, 3, 4, 5, 6, 7);
#else
    return load_four(x);
#endif
}

/* ret[j], lane i: x[4 i + j] */
INLINE void every_fourth(const float *x, vec *ret)
{
    vec in[4];
    UNROLL
    for (unsigned j = 0; j < 4; j++)
        in[j] = every_fourth_four(x + 4 * j);
    vec a = ZIP_LOW(in[0], in[2]), b = ZIP_HIGH(in[0], in[2]);
    vec c = ZIP_LOW(in[1], in[3]), d = ZIP_HIGH(in[1], in[3]);
    ret[0] = ZIP_LOW(a, c);
    ret[1] = ZIP_HIGH(a, c);
    ret[2] = ZIP_LOW(b, d);
    ret[3] = ZIP_HIGH(b, d);
}

/* ---- to the points ------------------------------------------------------------------------ */

static void weights(const struct dml_kernel_winograd_form *f, const float *wt, float *u)
{
    for (size_t k = 0; k < f->c * K; k++, wt += K * f->o, u += f->o)
        for (size_t o = 0; o < f->o; o += LANES) {
            vec g0 = load(wt + o), g1 = load(wt + f->o + o), g2 = load(wt + 2 * f->o + o);
            vec g3 = load(wt + 3 * f->o + o), g4 = load(wt + 4 * f->o + o);
            vec even = g0 + g2 + g4, odd = g1 + g3;
            float *to = u + o;
            store(to, g0);
            store(to + f->u_point, (even + odd) * (-2.0f / 9.0f));
            store(to + 2 * f->u_point, (even - odd) * (-2.0f / 9.0f));
            even = g0 + 4.0f * g2 + 16.0f * g4, odd = 2.0f * g1 + 8.0f * g3;
            store(to + 3 * f->u_point, (even + odd) * (1.0f / 90.0f));
            store(to + 4 * f->u_point, (even - odd) * (1.0f / 90.0f));
            even = 16.0f * g0 + 4.0f * g2 + g4, odd = 8.0f * g1 + 2.0f * g3;
            store(to + 5 * f->u_point, (even + odd) * (2.0f / 45.0f));
            store(to + 6 * f->u_point, (even - odd) * (2.0f / 45.0f));
            store(to + 7 * f->u_point, g4);
        }
}

/* ret[j]: tiles from x on at point j, one a lane. */
INLINE void values(const float *x, vec ret[POINTS])
{
    vec a[8];
    every_fourth(x, a);
    every_fourth(x + 4, a + 4);
    ret[0] = a[0] - a[6] + 5.25f * (a[4] - a[2]);
    vec even = a[2] + a[6] - 4.25f * a[4], odd = a[1] + a[5] - 4.25f * a[3];
    ret[1] = even + odd, ret[2] = even - odd;
    even = 0.25f * a[2] - 1.25f * a[4] + a[6], odd = 0.5f * a[1] - 2.5f * a[3] + 2.0f * a[5];
    ret[3] = even + odd, ret[4] = even - odd;
    even = 4.0f * a[2] - 5.0f * a[4] + a[6], odd = 2.0f * a[1] - 2.5f * a[3] + 0.5f * a[5];
    ret[5] = even + odd, ret[6] = even - odd;
    ret[7] = a[7] - a[1] + 5.25f * (a[3] - a[5]);
}

/* What a row has too much is overwritten by the next one. */
static void inputs(const struct dml_kernel_winograd_form *f, const float *x, float *v)
{
    vec at[POINTS];
    for (size_t c = 0; c < f->c; c++, v += 2 * f->half)
        for (size_t h = 0; h < f->h + K / 2; h++, x += 2 * f->x_row) {
            float *even = v + h * f->tiles, *odd = even + f->half;
            if (2 * f->x_row == 4 * LANES) { /* both rows are in one vector */
                values(x, at);
                UNROLL
                for (unsigned j = 0; j < POINTS; j++) {
                    store_half(even + j * f->v_point, at[j], 0);
                    store_half(odd + j * f->v_point, at[j], 1);
                }
                continue;
            }
            for (size_t t = 0; t < f->tiles; t += LANES) {
                values(x + 4 * t, at);
                UNROLL
                for (unsigned j = 0; j < POINTS; j++)
                    store(even + j * f->v_point + t, at[j]);
                values(x + f->x_row + 4 * t, at);
                UNROLL
                for (unsigned j = 0; j < POINTS; j++)
                    store(odd + j * f->v_point + t, at[j]);
            }
        }
}

/* ---- and back ----------------------------------------------------------------------------- */

INLINE void four_outputs(const float *m, size_t point, vec *ret)
{
    vec a = load(m + point), b = load(m + 2 * point), sum1 = a + b, diff1 = a - b;
    a = load(m + 3 * point), b = load(m + 4 * point);
    vec sum2 = a + b, diff2 = a - b;
    a = load(m + 5 * point), b = load(m + 6 * point);
    vec sum3 = a + b, diff3 = a - b;
    ret[0] = load(m) + sum1 + sum2 + sum3;
    ret[1] = diff1 + 2.0f * diff2 + 0.5f * diff3;
    ret[2] = sum1 + 4.0f * sum2 + 0.25f * sum3;
    ret[3] = load(m + 7 * point) + diff1 + 8.0f * diff2 + 0.125f * diff3;
}

/* Both windows of the tiles, by turns. at: the winners' places counted from the tile's first. */
INLINE void windows_of(const float *m, size_t point, size_t next_row, vec bias, int wp, vec *ret,
                       bits *ret_at)
{
    vec up[4], down[4], top[2];
    bits at[2];
    four_outputs(m, point, up);
    four_outputs(m + next_row, point, down);
    top[0] = relu_of(greatest(up, down, wp, &at[0]) + bias);
    top[1] = relu_of(greatest(up + 2, down + 2, wp, &at[1]) + bias);
    at[1] += 2;
    ret[0] = PAIRS_LOW(top[0], top[1]);
    ret[1] = PAIRS_HIGH(top[0], top[1]);
    ret_at[0] = PAIRS_LOW(at[0], at[1]);
    ret_at[1] = PAIRS_HIGH(at[0], at[1]);
}

/* n tiles of a channel, and what fills the last vector. */
INLINE void channel(const struct dml_kernel_winograd_form *f, size_t n, const float *m, vec bias,
                    const int32_t *places, uint32_t first, float *y, int32_t *won, const bool wins)
{
    for (size_t i = 0; i < n; i += LANES) {
        vec top[2];
        bits at[2];
        windows_of(m + i, f->o * f->m_row, POINTS * f->o * f->m_row, bias, (int)f->wp, top, at);
        UNROLL
        for (unsigned j = 0; j < 2; j++) {
            size_t to = 2 * i + j * LANES;
            store(y + to, top[j]);
            if (wins)
                store_bits(won + to, (bits)((words)at[j] + (words)load_bits(places + to) + first));
        }
    }
}

static void outputs(const struct dml_kernel_winograd_form *f, size_t first, size_t rows,
                    const float *m, const float *bias, const struct dml_kernel_winograd_some *some,
                    float *y, int32_t *won)
{
    size_t row = 2 * f->tiles, plane = f->h * f->w, n = rows * f->tiles;
    uint32_t place = (uint32_t)(2 * first * f->wp);
    y += first * f->w;
    won = won ? won + first * f->w : NULL;
    for (size_t o = 0; o < f->o; o++, m += f->m_row, y += plane) {
        /* What is too much is overwritten by the next channel. */
        bool fits = rows == f->h && row == f->w && o + 1 < f->o && f->m_row <= plane;
        float *to_y = fits ? y : some->y;
        int32_t *to_won = fits ? won : some->won;
        if (won)
            channel(f, n, m, splat(bias[o]), some->places, place, to_y, to_won, true);
        else
            channel(f, n, m, splat(bias[o]), some->places, place, to_y, to_won, false);
        for (size_t h = 0; !fits && h < rows; h++) {
            memcpy(y + h * f->w, some->y + h * row, f->w * sizeof(float));
            if (won)
                memcpy(won + h * f->w, some->won + h * row, f->w * sizeof(float));
        }
        won = won ? won + plane : NULL;
    }
}

extern const struct dml_kernel_winograd DML_KERNEL_WINOGRAD;
const struct dml_kernel_winograd DML_KERNEL_WINOGRAD = {
    .weights = weights, .inputs = inputs, .outputs = outputs};
