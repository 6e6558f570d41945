/*
 * Matrix products of small and middling size, private to nn/; a third table beside nn/kernel.h's,
 * compiled for the same levels of vector instructions. Row-major; nothing is copied together
 * beforehand, nothing is allocated, and no lock is taken. Where the products are large,
 * nn/gemm.h's BLAS is for it; bench/bench_gemm tells where.
 *
 * The sum for one number of C is taken in an order that depends on k and on the level alone, and,
 * for nt, on whether m is below DML_KERNEL_GEMM_FEW: rows may be split over threads or chunks
 * freely where that does not change.
 *
 * Intended usage:
 *     y = relu(x W^T + bias), x [B][D], W [O][D]:
 *     gemm->nt(&(struct dml_kernel_product){.m = B, .n = O, .k = D, .a = x, .lda = D, .b = W,
 *                                           .ldb = D, .c = y, .ldc = O, .bias = bias,
 *                                           .relu = true});
 *     dW += dy^T x:  tn with .m = O, .n = D, .k = B, .a = dy, .b = x, .add = true
 *     dx = dy W:     nn with .m = B, .n = D, .k = O, .a = dy, .b = W
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Rows of A for which nt prefers sums along the rows to turning B round. */
#define DML_KERNEL_GEMM_FEW 12

/* C [m][n] = [C +] A B [+ bias of the column], then relu. k may be 0. C overlaps nothing. */
struct dml_kernel_product {
    size_t m, n, k;
    const float *a;
    size_t lda;
    const float *b;
    size_t ldb;
    float *c;
    size_t ldc;
    const float *bias; /* [n] or NULL */
    bool add, relu;
};

/* A step of SGD with momentum, of parameters that lie in memory as C does. */
struct dml_kernel_sgd {
    float *w, *m;
    float rate, momentum, decay;
};

typedef void (*dml_kernel_product_fn)(const struct dml_kernel_product *p);

struct dml_kernel_gemm {
    dml_kernel_product_fn nn; /* a [m][k], b [k][n] */
    dml_kernel_product_fn nt; /* a [m][k], b [n][k] */
    dml_kernel_product_fn tn; /* a [k][m], b [k][n] */
    /* tn, whose result is a gradient that nobody else wants: p->c is not used. The bits of tn and
     * kernel.h's sgd(). false: nothing is done, this shape is not worth it. */
    bool (*tn_sgd)(const struct dml_kernel_product *p, const struct dml_kernel_sgd *sgd);
};
