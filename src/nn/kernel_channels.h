/*
 * The hot loops over samples with channels last, private to nn/; a second table beside
 * nn/kernel.h's, compiled for the same levels of vector instructions.
 *
 * x and y are [rows][C]. Nothing here reads or writes beyond its buffers.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* v = a[c] x + b[c], then cut off at lo and hi: batch-norm and what follows it. */
struct dml_kernel_clip {
    const float *a, *b; /* [C] */
    const float *mean;  /* [C] of x; only sums_back reads it */
    float lo, hi;
};

/* Windows without padding over one sample [.][w][c]; those of y are out_h by out_w. */
struct dml_kernel_windows {
    size_t w, c, out_h, out_w, window, stride;
};

struct dml_kernel_channels {
    /* io_s1[c] += sum of (x - shift[c]), io_s2[c] += sum of its square. */
    void (*sums)(const float *x, size_t rows, size_t c, const float *shift, double *io_s1,
                 double *io_s2);
    /* y = v, cut off; y may be x. Not a number stays what it is. */
    void (*clip)(const float *x, size_t rows, size_t c, const struct dml_kernel_clip *clip,
                 float *y);
    /* g = dy where lo < v < hi, and 0 elsewhere; io_s1[c] += sum of g, io_s2[c] += sum of
     * g (x - mean[c]). g may be dy, or NULL. */
    void (*sums_back)(const float *x, const float *dy, size_t rows, size_t c,
                      const struct dml_kernel_clip *clip, float *g, double *io_s1, double *io_s2);
    /* g alone. */
    void (*cut_back)(const float *x, const float *dy, size_t rows, size_t c,
                     const struct dml_kernel_clip *clip, float *g);
    /* dx = a[c] dy + b[c] x + d[c]; dx may be dy */
    void (*mix)(const float *x, const float *dy, size_t rows, size_t c, const float *a,
                const float *b, const float *d, float *dx);
    /* io_sum[c] += x */
    void (*add_rows)(const float *x, size_t rows, size_t c, float *io_sum);
    /* y = a + b; y may be a */
    void (*add)(const float *a, const float *b, float *y, size_t n);
    void (*relu6)(const float *x, float *y, size_t n);
    void (*relu6_back)(const float *y, const float *dy, float *dx, size_t n);
    /* y [columns][rows] from x [rows][columns] */
    void (*turn)(const float *x, size_t rows, size_t columns, float *y);
    /* y: the greatest of each window; at (or NULL) gets its place in x, the first one of equals.
     * Not a number is greater than all. */
    void (*max_windows)(const struct dml_kernel_windows *f, const float *x, float *y, uint32_t *at);
};
