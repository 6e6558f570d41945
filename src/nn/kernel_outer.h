/*
 * C = [C +] A^T B when A and B have a few rows only, private to kernel_gemm.c: with so few terms to
 * a sum, a tile is hardly begun when it ends. Rows of C are gone through as they lie in memory, two
 * at a time, with A's numbers for them in registers. What a tile does in the order in which it
 * does it: the same bits.
 */
#pragma once

#include "nn/kernel_gemm.h"
#include "nn/kernel_vec.h"

#define OUTER_MAX 4 /* rows of A and B */

/* LANES numbers of `rows` rows of C: a against b. */
INLINE void outer_sums(vec (*a)[OUTER_MAX], const float *b, size_t ldb, vec *ret,
                       const unsigned rows, const unsigned k)
{
    UNROLL
    for (unsigned r = 0; r < rows; r++)
        ret[r] = splat(0.0f);
    UNROLL
    for (unsigned s = 0; s < k; s++) {
        vec in = load(b + s * ldb);
        UNROLL
        for (unsigned r = 0; r < rows; r++)
            ret[r] += a[r][s] * in;
    }
    UNROLL
    for (unsigned r = 0; r < rows; r++)
        ret[r] += splat(0.0f); /* where a tile has its bias: -0 becomes 0 */
}

INLINE void outer_rows(const struct dml_kernel_product *p, size_t i, const unsigned rows,
                       const unsigned k)
{
    const float *b = p->b;
    float *c = p->c + i * p->ldc;
    size_t n = p->n, ldb = p->ldb, ldc = p->ldc, j = 0;
    bool add = p->add;
    vec a[2][OUTER_MAX], sum[2];
    UNROLL
    for (unsigned r = 0; r < rows; r++)
        UNROLL
    for (unsigned s = 0; s < k; s++)
        a[r][s] = splat(p->a[s * p->lda + i + r]);
    for (; j + LANES <= n; j += LANES) {
        outer_sums(a, b + j, ldb, sum, rows, k);
        UNROLL
        for (unsigned r = 0; r < rows; r++)
            store(c + r * ldc + j, add ? sum[r] + load(c + r * ldc + j) : sum[r]);
    }
    if (j == n)
        return;
    outer_sums(a, b + n - LANES, ldb, sum, rows, k); /* some of them once more */
    UNROLL
    for (unsigned r = 0; r < rows; r++) {
        float lanes[LANES];
        store(lanes, sum[r]);
        for (size_t l = j + LANES - n, at = r * ldc + j; l < LANES; l++, at++)
            c[at] = add ? lanes[l] + c[at] : lanes[l];
    }
}

#define OUTER(k)                                                                                   \
    static __attribute__((noinline)) void outer_##k(const struct dml_kernel_product *p)            \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + 2 <= p->m; i += 2)                                                              \
            outer_rows(p, i, 2, k);                                                                \
        if (i < p->m)                                                                              \
            outer_rows(p, i, 1, k);                                                                \
    }

OUTER(1)
OUTER(2)
OUTER(3)
OUTER(4)

/* Two rows of C at most, and what they change: see kernel.h's sgd(), whose bits these are. */
INLINE void outer_sgd_rows(const struct dml_kernel_product *p, const struct dml_kernel_sgd *sgd,
                           size_t i, const unsigned rows, const unsigned k)
{
    const float *b = p->b;
    float *to_w = sgd->w + i * p->ldc, *to_m = sgd->m + i * p->ldc;
    float rate = sgd->rate, momentum = sgd->momentum, decay = sgd->decay;
    size_t n = p->n, ldb = p->ldb, ldc = p->ldc, j = 0;
    vec a[2][OUTER_MAX], sum[2];
    UNROLL
    for (unsigned r = 0; r < rows; r++)
        UNROLL
    for (unsigned s = 0; s < k; s++)
        a[r][s] = splat(p->a[s * p->lda + i + r]);
    for (; j + LANES <= n; j += LANES) {
        outer_sums(a, b + j, ldb, sum, rows, k);
        UNROLL
        for (unsigned r = 0; r < rows; r++) {
            float *w = to_w + r * ldc + j, *m = to_m + r * ldc + j;
            vec was = load(w), v = momentum * load(m) + (sum[r] + decay * was);
            store(m, v);
            store(w, was - rate * v);
        }
    }
    if (j == n)
        return;
    outer_sums(a, b + n - LANES, ldb, sum, rows, k); /* some of them once more */
    UNROLL
    for (unsigned r = 0; r < rows; r++) {
        float lanes[LANES];
        store(lanes, sum[r]);
        for (size_t l = j + LANES - n, at = r * ldc + j; l < LANES; l++, at++) {
            float v = momentum * to_m[at] + (lanes[l] + decay * to_w[at]);
            to_m[at] = v;
            to_w[at] -= rate * v;
        }
    }
}

#define OUTER_SGD(k)                                                                               \
    static __attribute__((noinline)) void outer_sgd_##k(const struct dml_kernel_product *p,        \
                                                        const struct dml_kernel_sgd *sgd)          \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + 2 <= p->m; i += 2)                                                              \
            outer_sgd_rows(p, sgd, i, 2, k);                                                       \
        if (i < p->m)                                                                              \
            outer_sgd_rows(p, sgd, i, 1, k);                                                       \
    }

OUTER_SGD(1)
OUTER_SGD(2)
OUTER_SGD(3)
OUTER_SGD(4)

/* Whether a product is one for outer(). */
static bool is_outer(const struct dml_kernel_product *p)
{
    return p->k >= 1 && p->k <= OUTER_MAX && p->n >= 2 * LANES && !p->bias && !p->relu;
}

static void outer(const struct dml_kernel_product *p)
{
    static const dml_kernel_product_fn by_k[OUTER_MAX] = {outer_1, outer_2, outer_3, outer_4};
    by_k[p->k - 1](p);
}

static bool tn_sgd(const struct dml_kernel_product *p, const struct dml_kernel_sgd *sgd)
{
    static void (*const by_k[OUTER_MAX])(const struct dml_kernel_product *,
                                         const struct dml_kernel_sgd *) = {
        outer_sgd_1, outer_sgd_2, outer_sgd_3, outer_sgd_4};
    if (!is_outer(p) || p->add)
        return false;
    by_k[p->k - 1](p, sgd);
    return true;
}
