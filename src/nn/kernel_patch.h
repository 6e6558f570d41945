/*
 * Loops over patches of pictures [H][W][C], where a row of a patch, K·C floats, is one contiguous
 * run; private to nn/. A table beside nn/kernel.h's, compiled for the same levels of vector
 * instructions. "With slack" means what it does there.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Where the pieces of a [K][len] patch lie: K rows, `x_row` apart in the picture and `w_row`
 * (a multiple of DML_KERNEL_ROW) apart in the packed weights. */
struct dml_kernel_patch {
    size_t n_rows, len, x_row, w_row;
};

/* A convolution with relu and max-pool 2 behind it: K·K windows of a padded picture of Wp pixels a
 * row, pooled to [O][h][w]. */
struct dml_kernel_windows {
    size_t k, c, wp, o, h, w;
    size_t w_row; /* between taps in the weights: O, rounded by dml_kernel_round() */
    size_t f_row; /* between rows of framed weights, see windows_dx */
};

/* Floats of a row of framed weights, for vectors of `lanes`. */
static inline size_t dml_kernel_frame_row(size_t k, size_t c, size_t lanes)
{
    return ((k + 1) * c + lanes - 1) / lanes * lanes + c;
}

/* 0 for both zeros, 1 for all else, not a number included. As integers: comparing floats with that
 * in mind takes three times as long. */
static inline uint32_t dml_kernel_is_not_zero(float f)
{
    uint32_t word;
    memcpy(&word, &f, sizeof(word));
    return word << 1 != 0;
}

struct dml_kernel_patches {
    size_t lanes; /* floats of a vector */

    /*
     * io_dw[row][j] += sum over i of v[i] x[at[i] + row x_row + j]: the gradient of one output
     * channel's weights from n places of its dy. x, io_dw with slack.
     */
    void (*dw)(const struct dml_kernel_patch *patch, const float *x, const uint32_t *at,
               const float *v, size_t n, float *io_dw);

    /*
     * io_dx[row x_row + j] += sum over i of v[i] w[at[i] + row w_row + j]: what one place of the
     * output gives back to its patch of the input; w padded with zeros, io_dx with slack.
     */
    void (*dx)(const struct dml_kernel_patch *patch, const float *w, const uint32_t *at,
               const float *v, size_t n, float *io_dx);

    /* x pixels, wt [K][K·C][w_row], bias [w_row]; won (or NULL) gets the winner's place, h Wp + w,
     * which where y is 0 may be any of the four. Not a number goes through. */
    void (*windows)(const struct dml_kernel_windows *f, const float *x, const float *wt,
                    const float *bias, float *y, uint32_t *won);

    /* The way back over n windows: v = dy where y > 0 and 0 elsewhere, at = won step; returns the
     * sum of v. */
    float (*windows_back)(const float *y, const float *dy, const uint32_t *won, size_t n,
                          uint32_t step, float *v, uint32_t *at);

    /*
     * What windows give back to the picture; v, won [h w][O], dx pixels, all with slack. framed
     * [O][K + 2][f_row]: in row i+1, behind C zeros, row i of the channel's weights, [K][C]; zeros
     * everywhere else. So the patches of a window's four places are blocks of K + 1 rows that begin
     * in row 0 or 1, at float 0 or C. some_v, some_at: scratch, [O].
     */
    void (*windows_dx)(const struct dml_kernel_windows *f, const float *framed, const float *v,
                       const uint32_t *won, float *some_v, uint32_t *some_at, float *io_dx);

    /* n pixels of C channels, whose planes are `plane` floats apart. */
    void (*to_pixels)(const float *x, size_t plane, size_t n, size_t c, float *to);
    void (*to_planes)(const float *from, size_t plane, size_t n, size_t c, float *x);
};
