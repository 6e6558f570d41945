/*
 * Vectors of the level of instructions that the including file is compiled for, private to the
 * kernels (kernel.c says which levels there are). GCC's vector extensions: one source for SSE2,
 * AVX2, AVX-512 and NEON.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t bits __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES))); /* sums may wrap round */
typedef int32_t bits_anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16)));
typedef float four_anywhere __attribute__((vector_size(16), aligned(4), may_alias));
typedef double wide_vec __attribute__((vector_size(8 * LANES)));
typedef float vec_anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double wide_anywhere __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE vec load(const float *p)
{
    return *(const vec_anywhere *)(const void *)p;
}

INLINE void store(float *p, vec v)
{
    *(vec_anywhere *)(void *)p = v;
}

INLINE four load_four(const float *p)
{
    return *(const four_anywhere *)(const void *)p;
}

INLINE void store_four(float *p, four v)
{
    *(four_anywhere *)(void *)p = v;
}

#define LOWER(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define UPPER(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)

/* Rows to columns. */
INLINE void transpose(four *io)
{
    four a = LOWER(io[0], io[2]), b = UPPER(io[0], io[2]);
    four c = LOWER(io[1], io[3]), d = UPPER(io[1], io[3]);
    io[0] = LOWER(a, c);
    io[1] = UPPER(a, c);
    io[2] = LOWER(b, d);
    io[3] = UPPER(b, d);
}

/* f - 0 is f. 0 + f would be an addition each time, since -0 + 0 is 0. */
INLINE vec splat(float f)
{
    return f - (vec){0};
}

INLINE bits load_bits(const int32_t *p)
{
    return *(const bits_anywhere *)(const void *)p;
}

INLINE void store_bits(int32_t *p, bits b)
{
    *(bits_anywhere *)(void *)p = b;
}

INLINE vec choose(bits m, vec a, vec b)
{
    return (vec)((m & (bits)a) | (~m & (bits)b));
}

/* Not a number goes through. */
INLINE vec relu_of(vec v)
{
    return (vec)((bits)v & ~(v < splat(0.0f)));
}

/* Where b takes a's place as the greatest so far: of equals the first stays; what is not a number
 * wins, so that a run that diverged says so. */
INLINE bits beats(vec b, vec a)
{
    return (b > a) | (b != b);
}

/* The greatest of `left` and `right` of two rows, and its place counted from the first, where rows
 * are wp long. */
INLINE vec greatest(const vec up[2], const vec down[2], int wp, bits *ret_at)
{
    bits up_right = beats(up[1], up[0]), down_right = beats(down[1], down[0]); /* -1: true */
    vec high = choose(up_right, up[1], up[0]), low = choose(down_right, down[1], down[0]);
    bits lower = beats(low, high);
    *ret_at = (lower & (wp - down_right)) | (~lower & -up_right);
    return choose(lower, low, high);
}

INLINE float sum_of(vec v)
{
    float lanes[LANES];
    store(lanes, v);
    UNROLL
    for (unsigned n = LANES / 2; n > 0; n /= 2)
        UNROLL
    for (unsigned i = 0; i < n; i++)
        lanes[i] += lanes[i + n];
    return lanes[0];
}

/* io_sum += v */
INLINE void add_wide(double *io_sum, vec v)
{
    wide_anywhere *to = (wide_anywhere *)(void *)io_sum;
    *to += __builtin_convertvector(v, wide_vec);
}
