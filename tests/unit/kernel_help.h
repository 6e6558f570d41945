/* The greatest difference so far between what a kernel made and what plain loops in double did, and
 * numbers to try it on. */
#pragma once

#include <math.h>

#include "base/mem.h"
#include "tests/unit/nn_ref.h"

/* A sum of n products of numbers below 1 is right to about n·6e-8 times its size; the longest in
 * these tests has 400 and reaches some 10, so 2e-4 would be the worst case, and 3e-5 is what random
 * signs leave of it. */
#define TOLERANCE 3e-5

static double worst;

/* Not a number is the worst. */
static inline void differ(double got, double want)
{
    double off = fabs(got - want);
    if (!(off <= worst))
        worst = off;
}

/* Floats behind the end of every buffer; tests of kernels that work "with slack" say how many
 * before they include this. */
#ifndef NUMBERS_SLACK
#define NUMBERS_SLACK 0
#endif

/* [n]; caller frees. */
static inline float *numbers(size_t n, uint32_t seed)
{
    float *x = dml_mem_floats(n + NUMBERS_SLACK);
    ref_fill(x, n + NUMBERS_SLACK, 1.0, seed);
    return x;
}
