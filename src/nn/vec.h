/*
 * Loops over float vectors, inline so that a strategy plugin needs no library for them.
 * This header is installed. Shapes: all vectors have n elements and do not overlap unless the same
 * pointer is allowed by name (io_).
 */
#pragma once

#include <stddef.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC push_options
#pragma GCC optimize("O3") /* vectors; what is mostly given, -O2, means one number at a time */
#endif

/* io_y += a x */
static inline void dml_vec_axpy(float *restrict io_y, float a, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        io_y[i] += a * x[i];
}

/* io_y *= a */
static inline void dml_vec_scale(float *io_y, float a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        io_y[i] *= a;
}

/* io_acc += a x, accumulated in double */
static inline void dml_vec_axpy_f64(double *restrict io_acc, double a, const float *restrict x,
                                    size_t n)
{
    for (size_t i = 0; i < n; i++)
        io_acc[i] += a * (double)x[i];
}

static inline double dml_vec_dot(const float *x, const float *y, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC pop_options
#endif
