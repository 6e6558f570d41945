/*
 * Depthwise convolutions with channels last, private to nn/; a table beside nn/kernel.h's, compiled
 * for the same levels of vector instructions.
 *
 * n pictures x [n][h][w][C] and y [n][ho][wo][C], filters wt [K][K][C] (taps first). Nothing here
 * reads or writes beyond its buffers.
 */
#pragma once

#include <stddef.h>

struct dml_kernel_filter {
    size_t c, k, stride, pad;
    size_t h, w, ho, wo; /* of the input and of the output */
};

struct dml_kernel_depthwise {
    /* bias [C] or NULL */
    void (*forward)(const struct dml_kernel_filter *f, size_t n, const float *x, const float *wt,
                    const float *bias, float *y);
    /* What dy gives back. */
    void (*dx)(const struct dml_kernel_filter *f, size_t n, const float *dy, const float *wt,
               float *dx);
    /* io_dwt [K][K][C] += gradient of the taps. */
    void (*dw)(const struct dml_kernel_filter *f, size_t n, const float *x, const float *dy,
               float *io_dwt);
};
