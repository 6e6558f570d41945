/*
 * Loops over functions that are neither sums nor products, private to nn/; a table beside
 * nn/kernel.h's, compiled for the same levels of vector instructions.
 *
 * Nothing here reads or writes beyond its buffers, and what a number becomes does not depend on
 * where in them it stands. Not a number stays that.
 */
#pragma once

#include <stddef.h>

struct dml_kernel_smooth {
    /* y = e^x, right to 2.5e-7 of it; below -87 it is 0, above 88 infinity. y may be x. */
    void (*exp)(const float *x, float *y, size_t n);

    /* y = tanh x and 1 / (1 + e^-x), right to 4e-7 of themselves, the second down to e^-87; y may
     * be x. */
    void (*tanh)(const float *x, float *y, size_t n);
    void (*sigmoid)(const float *x, float *y, size_t n);

    /* y = x Phi(x), Phi right to 1.5e-7, and dx = dy (Phi(x) + x phi(x)); y may be x, dx may be
     * dy. */
    void (*gelu)(const float *x, float *y, size_t n);
    void (*gelu_back)(const float *x, const float *dy, float *dx, size_t n);

    /* io_a becomes softmax(scale io_a). */
    void (*softmax)(float *io_a, size_t n, float scale);

    /* io_da, the gradient of the a that softmax made, becomes that of what it was made of. */
    void (*softmax_back)(const float *a, float *io_da, size_t n, float scale);
};
