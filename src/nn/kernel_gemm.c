/*
 * Matrix products without packing, once per level of vector instructions like kernel_loops.c.
 *
 * A tile of HIGH rows by some vectors of C stays in registers while k runs; B's rows are read where
 * they lie and A's numbers are broadcast, so nn and tn differ only in how A is stepped through. A
 * BLAS packs both factors first, which pays off for large matrices and not for the ones here.
 *
 * nt turns a panel of B round with 4×4 transposes, k by some vectors on the stack, and goes on as
 * nn. With few rows of A that would cost more than the product: then sums run along the rows
 * instead, and are added up across the lanes at the end.
 *
 * Columns that do not fill a vector: B is read in whole vectors all the same, into the next row,
 * and what is too much is not stored. Only the last rows, where there is no next one, are copied.
 */
#include "nn/kernel_gemm.h"

#include <string.h>

#include "nn/kernel_outer.h"
#include "nn/kernel_vec.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

/* HIGH × WIDE sums fill most of the registers, HIGH_3 × 3 likewise. */
#if defined(__AVX512F__)
#define WIDE   4
#define HIGH_3 6
#define FEW    4 /* rows beside each other in sums along the rows */
#elif defined(__AVX__)
#define WIDE   2
#define HIGH_3 4
#define FEW    2
#elif defined(__aarch64__)
#define WIDE   4
#define HIGH_3 6
#define FEW    4
#else
#define WIDE   2
#define HIGH_3 4
#define FEW    2
#endif
#define HIGH   6
#define WIDEST (WIDE > 3 ? WIDE : 3)
#define PANEL  (4096 / (WIDEST * LANES) / 4 * 4) /* rows of a panel: 16 KiB, half of an L1 cache */

#ifndef DML_KERNEL_GEMM
#define DML_KERNEL_GEMM dml_kernel_gemm_base
#endif

INLINE four cut_four(four v)
{
    typedef int bits_four __attribute__((vector_size(16)));
    return (four)((bits_four)v & ~(v < (four){0}));
}

/* ---- tiles -------------------------------------------------------------------------------- */

/* What all tiles of a product share. A's number (i, k) is a[i a_row + k a_step]. */
struct job {
    size_t k, a_row, a_step, ldb, ldc;
    size_t n_tail;     /* of B's rows lie in `tail` instead, [n_tail][wide * LANES] */
    const float *tail; /* behind the k others */
    bool add, relu;
};

/* What tile() does with its last vectors when only `n` of their lanes count. */
INLINE void store_edge(const struct job *j, const float *from, float *to, size_t n)
{
    size_t l = 0;
    for (; l + 4 <= n; l += 4) {
        four y = load_four(from + l);
        y = j->add ? y + load_four(to + l) : y;
        store_four(to + l, j->relu ? cut_four(y) : y);
    }
    for (; l < n; l++) {
        float y = j->add ? from[l] + to[l] : from[l];
        to[l] = j->relu && y < 0.0f ? 0.0f : y;
    }
}

/* One row of B against a column of A. */
INLINE void step(vec (*io_sum)[WIDEST], const float *a, size_t a_row, const float *b,
                 const unsigned high, const unsigned wide)
{
    vec in[WIDEST];
    UNROLL
    for (unsigned v = 0; v < wide; v++)
        in[v] = load(b + v * LANES);
    UNROLL
    for (unsigned i = 0; i < high; i++) {
        vec x = splat(a[i * a_row]);
        UNROLL
        for (unsigned v = 0; v < wide; v++)
            io_sum[i][v] += x * in[v];
    }
}

/* `high` × `wide` vectors of C, the last of which has `last` lanes that count. bias: whole vectors,
 * or NULL. */
INLINE void tile(const struct job *j, const float *a, const float *b, const float *bias, float *c,
                 size_t last, const unsigned high, const unsigned wide, const bool is_t)
{
    size_t a_row = is_t ? 1 : j->a_row, a_step = is_t ? j->a_step : 1;
    size_t ldb = j->ldb, ldc = j->ldc, k = j->k;
    bool add = j->add, relu = j->relu; /* for all the compiler knows, c overlaps j */
    vec sum[HIGH][WIDEST];
    UNROLL
    for (unsigned i = 0; is_t && i < high; i++) /* a gradient, added to and seldom in the cache */
        __builtin_prefetch(c + i * ldc, 1);
    UNROLL
    for (unsigned i = 0; i < high; i++)
        UNROLL
    for (unsigned v = 0; v < wide; v++)
        sum[i][v] = splat(0.0f);
    for (; k > 0; k--, b += ldb, a += a_step)
        step(sum, a, a_row, b, high, wide);
    b = j->tail;
    for (k = j->n_tail; k > 0; k--, b += wide * LANES, a += a_step)
        step(sum, a, a_row, b, high, wide);
    UNROLL
    for (unsigned v = 0; v < wide; v++) {
        vec first = bias ? load(bias + v * LANES) : splat(0.0f);
        if (v + 1 == wide && last < LANES) {
            UNROLL
            for (unsigned i = 0; i < high; i++) {
                float lanes[LANES];
                store(lanes, sum[i][v] + first);
                store_edge(j, lanes, c + i * ldc + v * LANES, last);
            }
            break;
        }
        UNROLL
        for (unsigned i = 0; i < high; i++) {
            float *to = c + i * ldc + v * LANES;
            vec y = sum[i][v] + first;
            y = add ? y + load(to) : y;
            store(to, relu ? relu_of(y) : y);
        }
    }
}

/* Each tile is a function of its own, so that nothing but its sums competes for registers. */
typedef void (*tile_fn)(const struct job *j, const float *a, const float *b, const float *bias,
                        float *c, size_t last);

#define TILE(way, is_t, wide, high)                                                                \
    static __attribute__((noinline)) void way##_##wide##_##high(                                   \
        const struct job *j, const float *a, const float *b, const float *bias, float *c,          \
        size_t last)                                                                               \
    {                                                                                              \
        tile(j, a, b, bias, c, last, high, wide, is_t);                                            \
    }
#define LOW_TILES(way, is_t, wide)                                                                 \
    TILE(way, is_t, wide, 1)                                                                       \
    TILE(way, is_t, wide, 2) TILE(way, is_t, wide, 3) TILE(way, is_t, wide, 4)
#define ALL_TILES(way, is_t, wide)                                                                 \
    LOW_TILES(way, is_t, wide) TILE(way, is_t, wide, 5) TILE(way, is_t, wide, 6)
#define LOW_ROW(way, wide) way##_##wide##_1, way##_##wide##_2, way##_##wide##_3, way##_##wide##_4
#define ALL_ROW(way, wide) LOW_ROW(way, wide), way##_##wide##_5, way##_##wide##_6

ALL_TILES(plain, false, 1)
ALL_TILES(plain, false, 2)
ALL_TILES(turned, true, 1)
ALL_TILES(turned, true, 2)
#if WIDE > 3
ALL_TILES(plain, false, 3)
ALL_TILES(plain, false, 4)
ALL_TILES(turned, true, 3)
ALL_TILES(turned, true, 4)
static const tile_fn tiles[2][WIDEST][HIGH] = {
    {{ALL_ROW(plain, 1)}, {ALL_ROW(plain, 2)}, {ALL_ROW(plain, 3)}, {ALL_ROW(plain, 4)}},
    {{ALL_ROW(turned, 1)}, {ALL_ROW(turned, 2)}, {ALL_ROW(turned, 3)}, {ALL_ROW(turned, 4)}}};
#else
LOW_TILES(plain, false, 3)
LOW_TILES(turned, true, 3)
static const tile_fn tiles[2][WIDEST][HIGH] = {
    {{ALL_ROW(plain, 1)}, {ALL_ROW(plain, 2)}, {LOW_ROW(plain, 3)}},
    {{ALL_ROW(turned, 1)}, {ALL_ROW(turned, 2)}, {LOW_ROW(turned, 3)}}};
#endif

/* All m rows of `wide` vectors of C, in strips of nearly equal height. bias: whole vectors. */
static void columns(const struct job *j, size_t m, const float *a, const float *b,
                    const float *bias, float *c, size_t last, size_t wide, bool is_t)
{
    size_t n = wide == 3 ? (m + HIGH_3 - 1) / HIGH_3 : (m + HIGH - 1) / HIGH;
    if (n == 0)
        return;
    size_t high = m / n, n_higher = m % n; /* a division takes as long as a small tile */
    const tile_fn *row = tiles[is_t][wide - 1];
    for (size_t i = 0; i < n; i++) {
        size_t rows = i < n_higher ? high + 1 : high;
        row[rows - 1](j, a, b, bias, c, last);
        a += rows * j->a_row;
        c += rows * j->ldc;
    }
}

/* The bias of `n` columns, where they are no whole vectors: a copy. */
static const float *whole_bias(const float *bias, size_t n, float *copy)
{
    for (size_t v = 0; v < WIDEST * LANES; v++)
        copy[v] = v < n ? bias[v] : 0.0f;
    return copy;
}

/* How many of the vectors that are left to take next, so that no thin column remains. */
static size_t width(size_t left)
{
    if (WIDE == 2)
        return left % 2 && left >= 3 ? 3 : left < 2 ? left : 2;
    return left == 5 || left == 6 ? 3 : left < 4 ? left : 4;
}

/* B's last n rows, where its end is too near for whole vectors: `count` columns from b on. */
static void copy_tail(const struct dml_kernel_product *p, const float *b, size_t n, size_t count,
                      size_t row, float *copy)
{
    for (size_t i = 0; i < n; i++)
        for (size_t v = 0; v < row; v++)
            copy[i * row + v] = v < count ? b[(p->k - n + i) * p->ldb + v] : 0.0f;
}

static void all_columns(const struct dml_kernel_product *p, bool is_t)
{
    _Alignas(64) float tail[LANES * WIDEST * LANES];
    float whole[WIDEST * LANES];
    struct job j = {.k = p->k,
                    .a_row = is_t ? 1 : p->lda,
                    .a_step = is_t ? p->lda : 1,
                    .ldb = p->ldb,
                    .ldc = p->ldc,
                    .tail = tail,
                    .add = p->add,
                    .relu = p->relu};
    for (size_t at = 0; at < p->n;) {
        size_t wide = width((p->n - at + LANES - 1) / LANES), end = at + wide * LANES;
        size_t over = end > p->n ? end - p->n : 0;
        const float *bias = p->bias ? p->bias + at : NULL;
        if (over) { /* the last */
            size_t count = p->n - at, n_last = (over + p->ldb - 1) / p->ldb;
            j.n_tail = n_last < p->k ? n_last : p->k;
            j.k = p->k - j.n_tail;
            copy_tail(p, p->b + at, j.n_tail, count, wide * LANES, tail);
            bias = bias ? whole_bias(bias, count, whole) : NULL;
        }
        columns(&j, p->m, p->a, p->b + at, bias, p->c + at, LANES - over, wide, is_t);
        at = end;
    }
}

static void nn(const struct dml_kernel_product *p)
{
    all_columns(p, false);
}

static void tn(const struct dml_kernel_product *p)
{
    if (is_outer(p))
        outer(p);
    else
        all_columns(p, true);
}

/* ---- B turned round ----------------------------------------------------------------------- */

/* Four columns of four rows of B, of which `n` count, into four rows. */
INLINE void turn_4(const float *b, size_t ldb, size_t n, float *panel, size_t n_to)
{
    four block[4];
    for (unsigned r = 0; r < 4; r++)
        block[r] = r < n ? load_four(b + r * ldb) : (four){0};
    transpose(block);
    for (unsigned r = 0; r < 4; r++)
        store_four(panel + r * n_to, block[r]);
}

#if LANES > 4
typedef float eight __attribute__((vector_size(32)));
typedef float eight_anywhere __attribute__((vector_size(32), aligned(4), may_alias));

#define JOIN(a, b)    __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7)
#define LOWER_8(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define UPPER_8(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)

/* The same of eight rows: two blocks beside each other. */
INLINE void turn_8(const float *b, size_t ldb, float *panel, size_t n_to)
{
    eight in[4];
    UNROLL
    for (unsigned r = 0; r < 4; r++)
        in[r] = JOIN(load_four(b + r * ldb), load_four(b + (r + 4) * ldb));
    eight p = LOWER_8(in[0], in[2]), q = UPPER_8(in[0], in[2]);
    eight s = LOWER_8(in[1], in[3]), t = UPPER_8(in[1], in[3]);
    *(eight_anywhere *)(void *)panel = LOWER_8(p, s);
    *(eight_anywhere *)(void *)(panel + n_to) = UPPER_8(p, s);
    *(eight_anywhere *)(void *)(panel + 2 * n_to) = LOWER_8(q, t);
    *(eight_anywhere *)(void *)(panel + 3 * n_to) = UPPER_8(q, t);
}
#endif

/* panel [k][n_to] = transpose of b [n][k], zeros in the columns from n on. n_to: whole vectors.
 * Blocks of four columns; the last one may go over some a second time. */
static void turn(const float *b, size_t ldb, size_t n, size_t k, float *panel, size_t n_to)
{
    size_t i = 0;
    for (size_t c = 0; k < 4 && c < k; c++)
        for (i = 0; i < n_to; i++)
            panel[c * n_to + i] = i < n ? b[i * ldb + c] : 0.0f;
    if (k < 4)
        return;
#if LANES > 4
    for (; i + 8 <= n; i += 8)
        for (size_t c = 0; c < k; c += 4) {
            size_t at = c + 4 <= k ? c : k - 4;
            turn_8(b + i * ldb + at, ldb, panel + at * n_to + i, n_to);
        }
#endif
    for (; i < n_to; i += 4)
        for (size_t c = 0; c < k; c += 4) {
            size_t at = c + 4 <= k ? c : k - 4;
            if (i + 4 <= n)
                turn_4(b + i * ldb + at, ldb, 4, panel + at * n_to + i, n_to);
            else
                turn_4(b + i * ldb + at, ldb, i < n ? n - i : 0, panel + at * n_to + i, n_to);
        }
}

static void nt_turned(const struct dml_kernel_product *p)
{
    _Alignas(64) float panel[PANEL * WIDEST * LANES];
    float whole[WIDEST * LANES];
    for (size_t at = 0; at < p->n;) {
        size_t wide = width((p->n - at + LANES - 1) / LANES), n = wide * LANES;
        size_t end = at + n, over = end > p->n ? end - p->n : 0, k = 0;
        const float *bias = p->bias ? p->bias + at : NULL;
        if (bias && over)
            bias = whole_bias(bias, p->n - at, whole);
        do { /* once at least: k may be 0 */
            size_t k_next = p->k - k < PANEL ? p->k : k + PANEL;
            const struct job j = {.k = k_next - k,
                                  .a_row = p->lda,
                                  .a_step = 1,
                                  .ldb = n,
                                  .ldc = p->ldc,
                                  .add = p->add || k > 0,
                                  .relu = p->relu && k_next == p->k};
            turn(p->b + at * p->ldb + k, p->ldb, n - over, j.k, panel, n);
            columns(&j, p->m, p->a + k, panel, k == 0 ? bias : NULL, p->c + at, LANES - over, wide,
                    false);
            k = k_next;
        } while (k < p->k);
        at += n;
    }
}

/* ---- sums along the rows ------------------------------------------------------------------ */

INLINE four half_of(vec v)
{
#if LANES == 16
    eight h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif LANES == 8
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
    return v;
#endif
}

/* `rows` rows of A with four of B, of which n count; `mask` is for the vector at the rows' end. */
INLINE void dots(const struct dml_kernel_product *p, const float *a, const float *b, size_t n,
                 const float *bias, float *c, bits mask, const unsigned rows)
{
    const float *at[4] = {b, b + (n > 1) * p->ldb, b + (n > 2) * 2 * p->ldb,
                          b + (n > 3) * 3 * p->ldb};
    vec sum[4][4];
    UNROLL
    for (unsigned i = 0; i < rows; i++)
        UNROLL
    for (unsigned o = 0; o < 4; o++)
        sum[i][o] = splat(0.0f);
    size_t k = 0;
    for (; k + LANES <= p->k; k += LANES) {
        vec in[4];
        UNROLL
        for (unsigned o = 0; o < 4; o++)
            in[o] = load(at[o] + k);
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            vec x = load(a + i * p->lda + k);
            UNROLL
            for (unsigned o = 0; o < 4; o++)
                sum[i][o] += x * in[o];
        }
    }
    if (k < p->k) {
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            vec x = (vec)(mask & (bits)load(a + i * p->lda + p->k - LANES));
            UNROLL
            for (unsigned o = 0; o < 4; o++)
                sum[i][o] += x * (vec)(mask & (bits)load(at[o] + p->k - LANES));
        }
    }
    four first = {0};
    for (size_t o = 0; bias && o < n; o++)
        first[o] = bias[o];
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        float *to = c + i * p->ldc;
        four part[4];
        UNROLL
        for (unsigned o = 0; o < 4; o++)
            part[o] = half_of(sum[i][o]);
        transpose(part);
        four y = (part[0] + part[1]) + (part[2] + part[3]) + first;
        if (n == 4) {
            y = p->add ? y + load_four(to) : y;
            y = p->relu ? cut_four(y) : y;
            store_four(to, y);
            continue;
        }
        for (size_t o = 0; o < n; o++) {
            float f = p->add ? y[o] + to[o] : y[o];
            to[o] = p->relu && f < 0.0f ? 0.0f : f;
        }
    }
}

/* k >= LANES */
static void nt_few(const struct dml_kernel_product *p)
{
    bits mask;
    for (size_t i = 0; i < LANES; i++)
        mask[i] = i < LANES - p->k % LANES ? 0 : -1;
    for (size_t o = 0; o < p->n; o += 4) {
        size_t n = p->n - o < 4 ? p->n - o : 4, i = 0;
        const float *b = p->b + o * p->ldb, *bias = p->bias ? p->bias + o : NULL;
        float *c = p->c + o;
#if FEW > 2
        for (; i + 4 <= p->m; i += 4)
            dots(p, p->a + i * p->lda, b, n, bias, c + i * p->ldc, mask, 4);
#endif
        for (; i + 2 <= p->m; i += 2)
            dots(p, p->a + i * p->lda, b, n, bias, c + i * p->ldc, mask, 2);
        if (i < p->m)
            dots(p, p->a + i * p->lda, b, n, bias, c + i * p->ldc, mask, 1);
    }
}

static void nt(const struct dml_kernel_product *p)
{
    if (p->m < DML_KERNEL_GEMM_FEW && p->k >= 4 * LANES)
        nt_few(p);
    else
        nt_turned(p);
}

extern const struct dml_kernel_gemm DML_KERNEL_GEMM;
const struct dml_kernel_gemm DML_KERNEL_GEMM = {.nn = nn, .nt = nt, .tn = tn, .tn_sgd = tn_sgd};
