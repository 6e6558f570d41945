/*
 * Loops over smooth functions, once per level of vector instructions like kernel_loops.c.
 *
 * All but a part of tanh are made of e^x. Phi, the integral of the normal density phi, comes from
 * erfc(z) = e^(-z^2) times a polynomial of 1 / (1 + p z), right to 1.5e-7 for z >= 0 (Abramowitz,
 * Stegun 1964, 7.1.26, after Hastings 1955), with z = |x| / sqrt 2: the e^(-x^2 / 2) in it is phi
 * but for a factor, so the derivative of gelu costs no second one.
 */
#include "nn/kernel_smooth.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#include "nn/kernel_vec.h"

#ifndef DML_KERNEL_SMOOTH
#define DML_KERNEL_SMOOTH dml_kernel_smooth_base
#endif

/*
 * e^x = 2^n e^r with n the whole number next to x / ln 2, and e^r by its Taylor polynomial, which
 * for |r| <= ln 2 / 2 is off by r^7 / 5040 = 1.2e-7 at the most. Adding 1.5 2^23 leaves n in the
 * low bits of the sum. ln 2 in two parts keeps r exact (Cody, Waite 1980).
 */
INLINE vec exp_of(vec x)
{
    const vec shift = splat(12582912.0f);
    vec big = x * splat(1.44269504f) + shift, n = big - shift;
    vec r = x - n * splat(0.693145752f) - n * splat(1.42860677e-6f);
    vec y = splat(1.0f / 720) * r + splat(1.0f / 120);
    y = y * r + splat(1.0f / 24);
    y = y * r + splat(1.0f / 6);
    y = y * r + splat(0.5f);
    y = y * r + splat(1.0f);
    y = y * r + splat(1.0f);
    y = (vec)((words)y + ((words)big << 23)); /* the exponent; what big has above n falls out */
    y = choose(x < splat(-87.0f), splat(0.0f), y);
    y = choose(x > splat(88.0f), splat(INFINITY), y);
    return choose(x != x, x, y);
}

INLINE vec magnitude_of(vec x)
{
    return (vec)((bits)x & INT32_MAX);
}

INLINE vec with_sign_of(vec sign, vec x)
{
    return (vec)((bits)x | ((bits)sign & INT32_MIN));
}

/* Near 0, where 1 - 2 / (e^2x + 1) would lose its digits, x + x^3 times Cephes' polynomial. */
INLINE vec tanh_of(vec x)
{
    vec size = magnitude_of(x), square = x * x;
    vec near = splat(-5.70498872745e-3f) * square + splat(2.06390887954e-2f);
    near = near * square + splat(-5.37397155531e-2f);
    near = near * square + splat(1.33314422036e-1f);
    near = near * square + splat(-3.33332819422e-1f);
    near = near * square * x + x;
    vec far = splat(1.0f) - splat(2.0f) / (exp_of(size + size) + splat(1.0f));
    return choose(size < splat(0.625f), near, with_sign_of(x, far));
}

/* e^-|x| never overflows, and where it is 0 so is the result for negative x. */
INLINE vec sigmoid_of(vec x)
{
    vec e = exp_of(-magnitude_of(x));
    return choose(x < splat(0.0f), e, splat(1.0f)) / (splat(1.0f) + e);
}

/* Phi(x), and e^(-x^2 / 2). */
INLINE vec normal_below(vec x, vec *ret_bell)
{
    vec bell = exp_of(x * x * splat(-0.5f));
    vec t = splat(1.0f) / (splat(1.0f) + splat(0.3275911f * 0.70710678f) * magnitude_of(x));
    vec p = splat(0.5f * 1.061405429f) * t + splat(0.5f * -1.453152027f);
    p = p * t + splat(0.5f * 1.421413741f);
    p = p * t + splat(0.5f * -0.284496736f);
    p = p * t + splat(0.5f * 0.254829592f);
    p = p * t * bell;
    *ret_bell = bell;
    return choose(x < splat(0.0f), p, splat(1.0f) - p);
}

INLINE vec gelu_of(vec x)
{
    vec bell;
    return x * normal_below(x, &bell);
}

INLINE vec gelu_slope(vec x, vec dy)
{
    vec bell, below = normal_below(x, &bell);
    return dy * (below + x * splat(0.39894228f) * bell); /* 1 / sqrt(2 pi) */
}

/* The first n of a vector, and `rest` behind them. */
INLINE vec load_some(const float *p, size_t n, float rest)
{
    float lanes[LANES];
    store(lanes, splat(rest));
    memcpy(lanes, p, n * sizeof(float));
    return load(lanes);
}

INLINE void store_some(float *p, size_t n, vec v)
{
    float lanes[LANES];
    store(lanes, v);
    memcpy(p, lanes, n * sizeof(float));
}

#define EACH(name, of)                                                                             \
    static void name(const float *x, float *y, size_t n)                                           \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + LANES <= n; i += LANES)                                                         \
            store(y + i, of(load(x + i)));                                                         \
        if (i < n)                                                                                 \
            store_some(y + i, n - i, of(load_some(x + i, n - i, 0.0f)));                           \
    }

EACH(exp_all, exp_of)
EACH(tanh_all, tanh_of)
EACH(sigmoid_all, sigmoid_of)
EACH(gelu, gelu_of)

static void gelu_back(const float *x, const float *dy, float *dx, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dx + i, gelu_slope(load(x + i), load(dy + i)));
    if (i < n)
        store_some(dx + i, n - i,
                   gelu_slope(load_some(x + i, n - i, 0.0f), load_some(dy + i, n - i, 0.0f)));
}

static float greatest_of(const float *a, size_t n)
{
    size_t i = 0;
    vec top = splat(-INFINITY);
    for (; i < n; i += LANES) {
        vec v = i + LANES <= n ? load(a + i) : load_some(a + i, n - i, -INFINITY);
        top = choose(v > top, v, top);
    }
    float lanes[LANES], most = -INFINITY;
    store(lanes, top);
    for (i = 0; i < LANES; i++)
        most = lanes[i] > most ? lanes[i] : most;
    return most;
}

static void softmax(float *io_a, size_t n, float scale)
{
    size_t i = 0;
    vec top = splat(greatest_of(io_a, n)), sum = splat(0.0f), by = splat(scale);
    for (; i + LANES <= n; i += LANES) {
        vec e = exp_of((load(io_a + i) - top) * by);
        store(io_a + i, e);
        sum += e;
    }
    if (i < n) {
        vec e = exp_of((load_some(io_a + i, n - i, -INFINITY) - top) * by);
        store_some(io_a + i, n - i, e);
        sum += e;
    }
    vec share = splat(1.0f / sum_of(sum));
    for (i = 0; i + LANES <= n; i += LANES)
        store(io_a + i, load(io_a + i) * share);
    if (i < n)
        store_some(io_a + i, n - i, load_some(io_a + i, n - i, 0.0f) * share);
}

static void softmax_back(const float *a, float *io_da, size_t n, float scale)
{
    size_t i = 0;
    vec dot = splat(0.0f), by = splat(scale);
    for (; i + LANES <= n; i += LANES)
        dot += load(a + i) * load(io_da + i);
    if (i < n)
        dot += load_some(a + i, n - i, 0.0f) * load_some(io_da + i, n - i, 0.0f);
    vec sum = splat(sum_of(dot));
    for (i = 0; i + LANES <= n; i += LANES)
        store(io_da + i, load(a + i) * (load(io_da + i) - sum) * by);
    if (i < n)
        store_some(io_da + i, n - i,
                   load_some(a + i, n - i, 0.0f) * (load_some(io_da + i, n - i, 0.0f) - sum) * by);
}

extern const struct dml_kernel_smooth DML_KERNEL_SMOOTH;
const struct dml_kernel_smooth DML_KERNEL_SMOOTH = {
    .exp = exp_all,
    .tanh = tanh_all,
    .sigmoid = sigmoid_all,
    .gelu = gelu,
    .gelu_back = gelu_back,
    .softmax = softmax,
    .softmax_back = softmax_back,
};
