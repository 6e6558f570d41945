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

/* f - 0 is f. 0 + f would be an addition each time, since -0 + 0 is 0. */
INLINE vec splat(float f)
{
    return f - (vec){0};
}

/* io_sum += v */
INLINE void add_wide(double *io_sum, vec v)
{
    wide_anywhere *to = (wide_anywhere *)(void *)io_sum;
    *to += __builtin_convertvector(v, wide_vec);
}
