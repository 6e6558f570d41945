/*
 * Convolution by filters of 3×3 in Winograd's way, in two dimensions, with channels last; private
 * to nn/. A table beside nn/kernel.h's, compiled for the same levels of vector instructions.
 *
 * A tile is 4×4 outputs of one sample, made of 6×6 inputs. What costs 144 products per pair of
 * channels one by one costs 36 at the points: both factors are taken as polynomials in two
 * variables, given by their values where each is 0, ±1, ±2 or infinity.
 *
 *     v = B^T x B      of each tile [6][6] and channel
 *     u = G w G^T      of each filter [3][3]
 *     m[p] = v[p] u[p] at each of the 36 points, [tiles][C] [C][O]: products for kernel_gemm.h
 *     y = A^T m A      [4][4]
 *
 * Backward is the same turned round, so that its sums are the gradient of what forward does:
 * e = A dy A^T, du[p] = v[p]^T e[p], dv[p] = e[p] u[p]^T, dw = G^T du G, dx += B dv B^T.
 *
 * All numbers of channels are multiples of 16. Tiles of a sample are numbered through row by row,
 * and samples one behind the other; outside the picture there are zeros, which are not written.
 *
 * Source: Lavin, Gray 2016, "Fast algorithms for convolutional neural networks", F(4×4, 3×3).
 */
#pragma once

#include <stddef.h>

#define DML_WINOGRAD_3_POINTS   36
#define DML_WINOGRAD_3_OUT      4 /* side of a tile of outputs */
#define DML_WINOGRAD_3_CHANNELS 16

/* Pictures [n][h][w][c], and tiles on them: the first begins `pad` rows and columns before. */
struct dml_kernel_winograd_3_form {
    size_t h, w, c, pad;
    size_t rows, cols; /* of tiles */
    size_t point; /* floats from a point to the next: of as many tiles as there are, [c] each */
    const float *zeros; /* [c] */
};

struct dml_kernel_winograd_3 {
    /* Tiles [first, first + n) of x to the points, v [36][n][c]. */
    void (*inputs)(const struct dml_kernel_winograd_3_form *f, const float *x, size_t first,
                   size_t n, float *v);
    /* dx += what dv [36][n][c] stands for. */
    void (*inputs_back)(const struct dml_kernel_winograd_3_form *f, const float *dv, size_t first,
                        size_t n, float *dx);
    /* y, and bias [c] or NULL, from m [36][n][c]. */
    void (*outputs)(const struct dml_kernel_winograd_3_form *f, const float *m, const float *bias,
                    size_t first, size_t n, float *y);
    /* dy to the points, e [36][n][c]. */
    void (*outputs_back)(const struct dml_kernel_winograd_3_form *f, const float *dy, size_t first,
                         size_t n, float *e);
    /* u [36][n], `point` apart, from w [9][n]; and the other way round. */
    void (*weights)(const float *w, size_t n, size_t point, float *u);
    void (*weights_back)(const float *du, size_t n, size_t point, float *dw);
};
