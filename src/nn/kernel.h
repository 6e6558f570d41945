/*
 * The hot loops, private to nn/. One source, kernel_loops.c, is compiled for each level of vector
 * instructions; a table of functions is chosen at run time.
 *
 * All functions may read and write up to DML_KERNEL_SLACK floats beyond the end of a buffer where
 * the description says "with slack": they work in whole vectors.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Floats of the widest block of vectors that one step of a loop may touch. */
#define DML_KERNEL_SLACK 64

/* Rows that are read in whole vectors are padded to this many floats (one AVX-512 register). */
#define DML_KERNEL_ROW 16

/* In 64 bits, as all sizes of scratch are that nobody has checked yet. */
static inline uint64_t dml_kernel_round(uint64_t n)
{
    return (n + DML_KERNEL_ROW - 1) / DML_KERNEL_ROW * DML_KERNEL_ROW;
}

/* n planes whose windows of 2×2 are pooled to [n][h][w]; a plane's rows are x_row apart, planes
 * x_plane. */
struct dml_kernel_pool {
    size_t n, h, w, x_row, x_plane;
};

struct dml_kernel_adam {
    float beta1, beta2, epsilon;
    float gain1, gain2; /* 1 - beta1, 1 - beta2, which float32 would get wrong in the fifth digit */
    float rate;         /* learning rate / (1 - beta1^t) */
    float root;         /* 1 / sqrt(1 - beta2^t) */
    float l2;           /* Adam: weight decay added to the gradient */
    float shrink;       /* AdamW: 1 - learning rate * weight decay, applied to the weight first */
};

struct dml_kernel_channels;
struct dml_kernel_gemm;
struct dml_kernel_depthwise;
struct dml_kernel_patches;
struct dml_kernel_winograd;
struct dml_kernel_smooth;
struct dml_kernel_winograd_3;

struct dml_kernel {
    const char *name;
    const struct dml_kernel_channels *channels;     /* nn/kernel_channels.h */
    const struct dml_kernel_gemm *gemm;             /* nn/kernel_gemm.h */
    const struct dml_kernel_depthwise *depthwise;   /* nn/kernel_depthwise.h */
    const struct dml_kernel_patches *patches;       /* nn/kernel_patch.h */
    const struct dml_kernel_winograd *winograd;     /* nn/kernel_winograd.h */
    const struct dml_kernel_smooth *smooth;         /* nn/kernel_smooth.h */
    const struct dml_kernel_winograd_3 *winograd_3; /* nn/kernel_winograd_3.h */

    /*
     * A product whose right factor is never copied together: row k is x + at[k].
     *   y[o][p] = bias[o] + sum over k of wt[k][o] x[at[k] + p],   o < n_o, p < n
     * wt [n_k][n_o]; rows of y are y_row >= dml_kernel_round(n)
     * apart; x and y with slack.
     */
    void (*shifted_gemm)(const float *x, const uint32_t *at, size_t n_k, const float *wt,
                         const float *bias, size_t n_o, size_t n, float *y, size_t y_row);

    /* 2x2 windows of n_rows row pairs: y [n_rows][w/2], x [2 n_rows][w]; at (or NULL) gets the
     * winner's place in x. */
    void (*max_pool_2)(const float *x, size_t n_rows, size_t w, float *y, uint32_t *at);

    /* relu, then 2x2 windows; x with slack. at (or NULL) gets the winner's place in its plane;
     * where y is 0, nothing is said about which of the four that is. */
    void (*relu_pool_2)(const struct dml_kernel_pool *p, const float *x, float *y, uint32_t *at);

    void (*relu)(const float *x, float *y, size_t n);
    void (*relu_back)(const float *y, const float *dy, float *dx, size_t n);

    /* io_sum[c] += the sum of column c of dy [rows][cols], of which, when y is not NULL, only what
     * stands where y > 0 counts; that is written to dz. */
    void (*sum_rows)(const float *y, const float *dy, size_t rows, size_t cols, float *dz,
                     float *io_sum);

    /* mask[i] = 0 where a hash of key and i is below limit, of 2^32, and `kept` elsewhere: the same
     * at every level. y = x mask; y may be x. */
    void (*drop)(uint64_t key, uint32_t limit, float kept, const float *x, size_t n, float *mask,
                 float *y);

    /* y = a b; y may be a */
    void (*times)(const float *a, const float *b, float *y, size_t n);

    /* One optimiser step over n parameters; see optim.c. */
    void (*sgd)(float *io_w, const float *g, float *io_m, size_t n, float rate, float momentum,
                float decay);
    void (*adam)(float *io_w, const float *g, float *io_m, float *io_v, size_t n,
                 const struct dml_kernel_adam *c);
};

/* The best table for this processor, but none above the one that DML_KERNEL names. */
const struct dml_kernel *dml_kernel_get(void);

/* Table i of those this processor can run, worst first; NULL beyond the last. For tests. */
const struct dml_kernel *dml_kernel_nth(size_t i);
