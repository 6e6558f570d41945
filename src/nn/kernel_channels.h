/*
 * The hot loops over samples with channels last, private to nn/; a second table beside
 * nn/kernel.h's, compiled for the same levels of vector instructions.
 *
 * x and y are [rows][C]. Nothing here reads or writes beyond its buffers.
 */
#pragma once

#include <stddef.h>

struct dml_kernel_depthwise {
    size_t c, k, stride, pad;
    size_t h, w, ho, wo; /* of the input and of the output */
};

struct dml_kernel_channels {
    /*
     * One sample of a depthwise convolution: x [h][w][C], y [ho][wo][C], wt [K][K][C] (taps first),
     * bias [C] or NULL.
     */
    void (*depthwise)(const struct dml_kernel_depthwise *d, const float *x, const float *wt,
                      const float *bias, float *y);
    /* io_dx += what dy [ho][wo][C] gives back; any stride. */
    void (*depthwise_dx)(const struct dml_kernel_depthwise *d, const float *dy, const float *wt,
                         float *io_dx);
    /* io_dwt [K][K][C] += gradient of the taps. */
    void (*depthwise_dw)(const struct dml_kernel_depthwise *d, const float *x, const float *dy,
                         float *io_dwt);

    /* io_s1[c] += sum of (x - shift[c]), io_s2[c] += sum of its square; tmp [2 C]. */
    void (*sums)(const float *x, size_t rows, size_t c, const float *shift, float *tmp,
                 double *io_s1, double *io_s2);
    /* io_s1[c] += sum of dy, io_s2[c] += sum of dy (x - mean[c]); tmp [2 C]. */
    void (*sums_back)(const float *x, const float *dy, size_t rows, size_t c, const float *mean,
                      float *tmp, double *io_s1, double *io_s2);
    /* y = a[c] x + b[c] */
    void (*scale)(const float *x, size_t rows, size_t c, const float *a, const float *b, float *y);
    /* dx = a[c] dy + b[c] x + d[c]; dx may be dy */
    void (*mix)(const float *x, const float *dy, size_t rows, size_t c, const float *a,
                const float *b, const float *d, float *dx);
    /* io_sum[c] += x */
    void (*add_rows)(const float *x, size_t rows, size_t c, float *io_sum);
    /* y = a + b; y may be a */
    void (*add)(const float *a, const float *b, float *y, size_t n);
    void (*relu6)(const float *x, float *y, size_t n);
    void (*relu6_back)(const float *y, const float *dy, float *dx, size_t n);
};
