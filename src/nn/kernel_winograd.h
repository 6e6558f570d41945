/*
 * Convolution by rows of 5 weights in Winograd's way, with relu and max-pool 2 behind it; private
 * to nn/. A table beside nn/kernel.h's, compiled for the same levels of vector instructions.
 *
 * Four outputs beside each other, 20 products of eight inputs and five weights, come from eight
 * products: both factors are taken as polynomials and multiplied by their values at eight points,
 * 0, ±1, ±2, ±1/2 and infinity. Values of inputs and of weights are taken once each; between them
 * lie ordinary products, summed over input channels and rows of the filter before the four outputs
 * are made of the eight sums. In float32 this is right to about ten roundings of the largest
 * output, where the plain sum is right to one or two.
 *
 * Source: Lavin, Gray 2016, "Fast algorithms for convolutional neural networks", in one dimension;
 * points and scale as usual for eight.
 *
 * A tile is these four outputs, two windows of a row; tiles of a picture are numbered through. Even
 * and odd rows of the picture are kept apart, so that the two rows of a window have the same number
 * and the whole of pooling is between vectors.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define DML_WINOGRAD_K      5 /* side of the filter */
#define DML_WINOGRAD_POINTS 8

struct dml_kernel_winograd_form {
    size_t c, o, h, w; /* pooled to [O][h][w] */
    size_t tiles;      /* of a row: w/2, rounded up */
    size_t x_row;      /* 4 tiles + 4: floats of a row of the picture [C][2h + 4][x_row] */
    size_t wp;         /* pixels of a row in which winners are counted */
    size_t half;       /* floats of the even, or of the odd, rows of a channel at a point */
    size_t v_point;    /* C·2·half, and slack: all of a point */
    size_t u_point;    /* the same of weights, C·5·O */
    size_t band;       /* rows of windows that are made of sums at a time */
    size_t m_row;      /* sums of a channel at a point: band·tiles, rounded */
};

/* Scratch of outputs, with slack, and what it must be told. */
struct dml_kernel_winograd_some {
    float *y;              /* [2 m_row] */
    int32_t *won;          /* [2 m_row] */
    const int32_t *places; /* [2 m_row]: where, h wp + w, the tile of each window begins, counted
                            * from the first of a band */
};

struct dml_kernel_winograd {
    /* u [8][C·5][O] from wt [C·5][5][O]; with slack. */
    void (*weights)(const struct dml_kernel_winograd_form *f, const float *wt, float *u);

    /* v [8][C][2][half], rows of `tiles`, from the picture; with slack. */
    void (*inputs)(const struct dml_kernel_winograd_form *f, const float *picture, float *v);

    /* Rows of windows from `first` on, `rows` of them, `band` at most: y, won (or NULL) as for
     * relu_pool_2, from m [2][8][O][m_row], whose first index is the row of a window, and bias
     * [O]. */
    void (*outputs)(const struct dml_kernel_winograd_form *f, size_t first, size_t rows,
                    const float *m, const float *bias, const struct dml_kernel_winograd_some *some,
                    float *y, int32_t *won);
};
