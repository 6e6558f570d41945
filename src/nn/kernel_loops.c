/*
 * The hot loops, compiled once per level of vector instructions (see kernel.c).
 *
 * They are written with the vector extension that gcc and clang share; only the number of lanes
 * and of registers differs between SSE2 or NEON (4), AVX2 (8) and AVX-512 (16). A tile is an
 * inline function of constant extents: the compiler unrolls it and keeps the sums in registers.
 *
 * shifted_gemm is convolution without im2col. For stride 1, tap k of the kernel reads the whole
 * picture shifted by at[k], so that row k of the textbook's column matrix already lies in memory;
 * the K-1 columns at the end of each row are computed too and thrown away by the caller.
 */
#include "nn/kernel.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "nn/kernel_vec.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#if defined(__AVX512F__)
#define WIDE 4 /* vectors beside each other in a tile: 6 * 4 sums of 32 registers */
#elif defined(__AVX__)
#define WIDE 2 /* 6 * 2 sums of 16 registers */
#elif defined(__aarch64__)
#define WIDE 4
#else
#define WIDE 2
#endif
#define HIGH 6 /* output channels in a tile */

#ifndef DML_KERNEL_TABLE
#define DML_KERNEL_TABLE      dml_kernel_base
#define DML_KERNEL_CHANNELS   dml_kernel_channels_base
#define DML_KERNEL_GEMM       dml_kernel_gemm_base
#define DML_KERNEL_DEPTHWISE  dml_kernel_depthwise_base
#define DML_KERNEL_PATCHES    dml_kernel_patches_base
#define DML_KERNEL_WINOGRAD   dml_kernel_winograd_base
#define DML_KERNEL_SMOOTH     dml_kernel_smooth_base
#define DML_KERNEL_WINOGRAD_3 dml_kernel_winograd_3_base
#endif

_Static_assert(LANES *WIDE <= DML_KERNEL_SLACK && LANES <= DML_KERNEL_ROW, "slack");

/* Every second lane of two vectors, from the first or the second on. */
#if LANES == 16
#define EVERY_SECOND(a, b, from)                                                                   \
    __builtin_shufflevector(a, b, from, from + 2, from + 4, from + 6, from + 8, from + 10,         \
                            from + 12, from + 14, from + 16, from + 18, from + 20, from + 22,      \
                            from + 24, from + 26, from + 28, from + 30)
#define COUNT_BY_TWO                                                                               \
    {                                                                                              \
        0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30                                  \
    }
#elif LANES == 8
#define EVERY_SECOND(a, b, from)                                                                   \
    __builtin_shufflevector(a, b, from, from + 2, from + 4, from + 6, from + 8, from + 10,         \
                            from + 12, from + 14)
#define COUNT_BY_TWO                                                                               \
    {                                                                                              \
        0, 2, 4, 6, 8, 10, 12, 14                                                                  \
    }
#else
#define EVERY_SECOND(a, b, from) __builtin_shufflevector(a, b, from, from + 2, from + 4, from + 6)
#define COUNT_BY_TWO                                                                               \
    {                                                                                              \
        0, 2, 4, 6                                                                                 \
    }
#endif

/* ---- shifted product ---------------------------------------------------------------------- */

INLINE void tile(const float *x, const uint32_t *at, size_t n_k, const float *wt, size_t n_o,
                 const float *bias, float *y, size_t y_row, const unsigned high,
                 const unsigned wide)
{
    vec sum[HIGH][WIDE];
    UNROLL
    for (unsigned o = 0; o < high; o++)
        UNROLL
    for (unsigned v = 0; v < wide; v++)
        sum[o][v] = splat(bias[o]);
    for (size_t k = 0; k < n_k; k++, wt += n_o) {
        const float *row = x + at[k];
        vec in[WIDE];
        UNROLL
        for (unsigned v = 0; v < wide; v++)
            in[v] = load(row + v * LANES);
        UNROLL
        for (unsigned o = 0; o < high; o++) {
            vec w = splat(wt[o]);
            UNROLL
            for (unsigned v = 0; v < wide; v++)
                sum[o][v] += w * in[v];
        }
    }
    UNROLL
    for (unsigned o = 0; o < high; o++)
        UNROLL
    for (unsigned v = 0; v < wide; v++)
        store(y + o * y_row + v * LANES, sum[o][v]);
}

/* Each tile is a function of its own, so that nothing but its sums competes for registers. */
typedef void (*tile_fn)(const float *x, const uint32_t *at, size_t n_k, const float *wt, size_t n_o,
                        const float *bias, float *y, size_t y_row);

#define TILE(high, wide)                                                                           \
    static __attribute__((noinline)) void tile_##high##_##wide(                                    \
        const float *x, const uint32_t *at, size_t n_k, const float *wt, size_t n_o,               \
        const float *bias, float *y, size_t y_row)                                                 \
    {                                                                                              \
        tile(x, at, n_k, wt, n_o, bias, y, y_row, high, wide);                                     \
    }
#define TILES(wide)                                                                                \
    TILE(1, wide) TILE(2, wide) TILE(3, wide) TILE(4, wide) TILE(5, wide) TILE(6, wide)
#define ROW(wide)                                                                                  \
    {                                                                                              \
        tile_1_##wide, tile_2_##wide, tile_3_##wide, tile_4_##wide, tile_5_##wide, tile_6_##wide   \
    }

TILES(1)
TILES(2)
#if WIDE > 2
TILES(4)
static const tile_fn tiles[3][HIGH] = {ROW(1), ROW(2), ROW(4)};
#else
static const tile_fn tiles[2][HIGH] = {ROW(1), ROW(2)};
#endif

static void strip(const float *x, const uint32_t *at, size_t n_k, const float *wt, size_t n_o,
                  const float *bias, size_t n, float *y, size_t y_row, size_t high)
{
    size_t p = 0;
#if WIDE > 2
    for (; p + 3 * LANES < n; p += 4 * LANES)
        tiles[2][high - 1](x + p, at, n_k, wt, n_o, bias, y + p, y_row);
#endif
    for (; p + LANES < n; p += 2 * LANES)
        tiles[1][high - 1](x + p, at, n_k, wt, n_o, bias, y + p, y_row);
    for (; p < n; p += LANES)
        tiles[0][high - 1](x + p, at, n_k, wt, n_o, bias, y + p, y_row);
}

static void shifted_gemm(const float *x, const uint32_t *at, size_t n_k, const float *wt,
                         const float *bias, size_t n_o, size_t n, float *y, size_t y_row)
{
    size_t left = (n_o + HIGH - 1) / HIGH; /* strips, of nearly equal height */
    for (size_t o = 0; o < n_o; left--) {
        size_t high = (n_o - o + left - 1) / left;
        strip(x, at, n_k, wt + o, n_o, bias + o, n, y + o * y_row, y_row, high);
        o += high;
    }
}

/* ---- pointwise ---------------------------------------------------------------------------- */

/* beats() of one number each, without a branch. */
INLINE bool one_beats(float b, float a)
{
    return (b > a) | (b != b);
}

static void max_pool_2(const float *x, size_t n_rows, size_t w, float *restrict y,
                       uint32_t *restrict at)
{
    size_t half = w / 2;
    for (size_t r = 0; r < n_rows; r++) {
        const float *a = x + 2 * r * w, *b = a + w;
        float *to = y + r * half;
        if (!at) {
            for (size_t j = 0; j < half; j++) {
                float up = one_beats(a[2 * j + 1], a[2 * j]) ? a[2 * j + 1] : a[2 * j];
                float down = one_beats(b[2 * j + 1], b[2 * j]) ? b[2 * j + 1] : b[2 * j];
                to[j] = one_beats(down, up) ? down : up;
            }
            continue;
        }
        uint32_t *won = at + r * half;
        uint32_t first = (uint32_t)(2 * r * w), second = first + (uint32_t)w;
        for (size_t j = 0; j < half; j++) {
            float a0 = a[2 * j], a1 = a[2 * j + 1], b0 = b[2 * j], b1 = b[2 * j + 1];
            uint32_t here = 2 * (uint32_t)j;
            bool a_right = one_beats(a1, a0), b_right = one_beats(b1, b0);
            float up = a_right ? a1 : a0, down = b_right ? b1 : b0;
            uint32_t i_up = a_right ? first + here + 1 : first + here;
            uint32_t i_down = b_right ? second + here + 1 : second + here;
            bool lower = one_beats(down, up);
            to[j] = lower ? down : up;
            won[j] = lower ? i_down : i_up;
        }
    }
}

/* LANES windows between rows a and b, whose place in the plane is `first`. */
INLINE vec pool_windows(const float *a, const float *b, int first, int x_row, bits *ret_at)
{
    const bits by_two = COUNT_BY_TWO;
    vec a_low = load(a), a_high = load(a + LANES), b_low = load(b), b_high = load(b + LANES);
    vec a0 = EVERY_SECOND(a_low, a_high, 0), a1 = EVERY_SECOND(a_low, a_high, 1);
    vec b0 = EVERY_SECOND(b_low, b_high, 0), b1 = EVERY_SECOND(b_low, b_high, 1);
    bits a_right = beats(a1, a0), b_right = beats(b1, b0); /* -1 where true */
    vec up = choose(a_right, a1, a0), down = choose(b_right, b1, b0);
    bits lower = beats(down, up);
    vec top = choose(lower, down, up);
    bits at_up = by_two + first - a_right, at_down = by_two + first + x_row - b_right;
    *ret_at = (lower & at_down) | (~lower & at_up);
    return relu_of(top);
}

static void relu_pool_2(const struct dml_kernel_pool *p, const float *x, float *y, uint32_t *at)
{
    const float *end = y + p->n * p->h * p->w;
    for (size_t i = 0; i < p->n * p->h; i++, y += p->w) {
        size_t first = 2 * (i % p->h) * p->x_row;
        const float *a = x + i / p->h * p->x_plane + first, *b = a + p->x_row;
        for (size_t j = 0; j < p->w; j += LANES) {
            bits won;
            vec top = pool_windows(a + 2 * j, b + 2 * j, (int)(first + 2 * j), (int)p->x_row, &won);
            if (y + j + LANES <= end) { /* what is too much is overwritten by the next row */
                store(y + j, top);
                if (at)
                    *(bits_anywhere *)(void *)(at + j) = won;
                continue;
            }
            for (size_t k = 0; j + k < p->w; k++) {
                y[j + k] = top[k];
                if (at)
                    at[j + k] = (uint32_t)won[k];
            }
        }
        if (at)
            at += p->w;
    }
}

/* Vectors by hand: in place the compiler would find that the arrays overlap and go one by one.
 * Not a number goes through, so that a run that diverged says so. */
static void relu(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(x + i);
        store(y + i, (vec)((bits)v & ~(v < splat(0.0f))));
    }
    for (; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

static void relu_back(const float *y, const float *dy, float *dx, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dx + i, (vec)((bits)load(dy + i) & (load(y + i) > splat(0.0f))));
    for (; i < n; i++)
        dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

/* `n` vectors of columns beside each other, so that no sum waits for itself. */
INLINE void sum_some(const float *y, const float *dy, size_t rows, size_t cols, float *dz,
                     float *io_sum, const unsigned n)
{
    vec sum[4];
    UNROLL
    for (unsigned i = 0; i < n; i++)
        sum[i] = splat(0.0f);
    for (size_t r = 0, at = 0; r < rows; r++, at += cols)
        UNROLL
    for (unsigned i = 0; i < n; i++) {
        vec v = load(dy + at + i * LANES);
        if (y) {
            v = (vec)((bits)v & (load(y + at + i * LANES) > splat(0.0f)));
            store(dz + at + i * LANES, v);
        }
        sum[i] += v;
    }
    UNROLL
    for (unsigned i = 0; i < n; i++)
        store(io_sum + i * LANES, load(io_sum + i * LANES) + sum[i]);
}

static void sum_rows(const float *y, const float *dy, size_t rows, size_t cols, float *dz,
                     float *io_sum)
{
    size_t c = 0;
    for (; c + 4 * LANES <= cols; c += 4 * LANES)
        if (y)
            sum_some(y + c, dy + c, rows, cols, dz + c, io_sum + c, 4);
        else
            sum_some(NULL, dy + c, rows, cols, NULL, io_sum + c, 4);
    for (; c + LANES <= cols; c += LANES)
        sum_some(y ? y + c : NULL, dy + c, rows, cols, y ? dz + c : NULL, io_sum + c, 1);
    for (; c < cols; c++) {
        float sum = 0.0f;
        for (size_t r = 0, at = c; r < rows; r++, at += cols) {
            float v = !y || y[at] > 0.0f ? dy[at] : 0.0f;
            if (y)
                dz[at] = v;
            sum += v;
        }
        io_sum[c] += sum;
    }
}

/* Two rounds of Wellons' "lowbias32" (2018, nullprogram.com/blog/2018/07/31), a bijection of 32
 * bits that mixes as well as its multiplications allow, with half of the key before each: numbers
 * with a name of their own need no state, and so no order. */
INLINE words hash(words x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

INLINE vec mask_of(words i, uint64_t key, uint32_t limit, vec kept)
{
    words h = hash(hash(i + (uint32_t)key) + (uint32_t)(key >> 32));
    return (vec)((bits)kept & (h >= limit));
}

static void drop(uint64_t key, uint32_t limit, float kept, const float *x, size_t n, float *mask,
                 float *y)
{
    const vec value = splat(kept);
    words at;
    for (uint32_t l = 0; l < LANES; l++)
        at[l] = l;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES, at += LANES) {
        vec m = mask_of(at, key, limit, value);
        store(mask + i, m);
        store(y + i, load(x + i) * m);
    }
    float lanes[LANES];
    store(lanes, mask_of(at, key, limit, value));
    for (size_t l = 0; i < n; i++, l++) {
        mask[i] = lanes[l];
        y[i] = x[i] * lanes[l];
    }
}

static void times(const float *a, const float *b, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, load(a + i) * load(b + i));
    for (; i < n; i++)
        y[i] = a[i] * b[i];
}

static void sgd(float *restrict io_w, const float *restrict g, float *restrict io_m, size_t n,
                float rate, float momentum, float decay)
{
    if (!io_m) {
        for (size_t i = 0; i < n; i++)
            io_w[i] -= rate * (g[i] + decay * io_w[i]);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float m = momentum * io_m[i] + (g[i] + decay * io_w[i]);
        io_m[i] = m;
        io_w[i] -= rate * m;
    }
}

static void adam(float *restrict io_w, const float *restrict g, float *restrict io_m,
                 float *restrict io_v, size_t n, const struct dml_kernel_adam *c)
{
    const struct dml_kernel_adam k = *c;
    for (size_t i = 0; i < n; i++) {
        float w = io_w[i] * k.shrink, d = g[i] + k.l2 * io_w[i];
        float m = k.beta1 * io_m[i] + k.gain1 * d;
        float v = k.beta2 * io_v[i] + k.gain2 * d * d;
        io_m[i] = m;
        io_v[i] = v;
        io_w[i] = w - k.rate * m / (sqrtf(v) * k.root + k.epsilon);
    }
}

extern const struct dml_kernel_channels DML_KERNEL_CHANNELS;
extern const struct dml_kernel_gemm DML_KERNEL_GEMM;
extern const struct dml_kernel_depthwise DML_KERNEL_DEPTHWISE;
extern const struct dml_kernel_patches DML_KERNEL_PATCHES;
extern const struct dml_kernel_winograd DML_KERNEL_WINOGRAD;
extern const struct dml_kernel_smooth DML_KERNEL_SMOOTH;
extern const struct dml_kernel_winograd_3 DML_KERNEL_WINOGRAD_3;
extern const struct dml_kernel DML_KERNEL_TABLE;
const struct dml_kernel DML_KERNEL_TABLE = {
#if defined(__AVX512F__)
    .name = "avx512",
#elif defined(__AVX__)
    .name = "avx2",
#elif defined(__aarch64__)
    .name = "neon",
#else
    .name = "base",
#endif
    .channels = &DML_KERNEL_CHANNELS,
    .gemm = &DML_KERNEL_GEMM,
    .depthwise = &DML_KERNEL_DEPTHWISE,
    .patches = &DML_KERNEL_PATCHES,
    .winograd = &DML_KERNEL_WINOGRAD,
    .smooth = &DML_KERNEL_SMOOTH,
    .winograd_3 = &DML_KERNEL_WINOGRAD_3,
    .shifted_gemm = shifted_gemm,
    .max_pool_2 = max_pool_2,
    .relu_pool_2 = relu_pool_2,
    .relu = relu,
    .relu_back = relu_back,
    .sum_rows = sum_rows,
    .drop = drop,
    .times = times,
    .sgd = sgd,
    .adam = adam,
};
