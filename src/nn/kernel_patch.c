/*
 * Patches of pictures with channels last, once per level of vector instructions like
 * kernel_loops.c.
 *
 * Sums stay in registers while the places go by: up to 12 of them, which is enough to hide an
 * addition's latency and leaves some of 16 registers for the factors. What bounds dw and dx then
 * are the loads, one per multiply-add and about half of them across the end of a cache line.
 */
#include "nn/kernel_patch.h"

#include <stdbool.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#include "nn/kernel.h"
#include "nn/kernel_vec.h"

#ifndef DML_KERNEL_PATCHES
#define DML_KERNEL_PATCHES dml_kernel_patches_base
#endif

#define HIGH 6 /* rows of a block */

/* ---- blocks of a patch -------------------------------------------------------------------- */

struct places {
    const float *from;
    const uint32_t *at;
    const float *v;
    size_t n, row; /* how many; floats between the rows of `from` */
};

/*
 * to[r][j] += v[i] from[at[i] + r row + j] over all i. A row may run over its end into the next
 * one's start, in a picture narrower than a vector; that is right because all are read before and
 * written after the loop, in ascending order.
 */
INLINE void block(const struct places *p, float *to, size_t to_row, const unsigned high,
                  const unsigned wide)
{
    vec sum[HIGH][4];
    size_t n = p->n, row = p->row;
    UNROLL
    for (unsigned r = 0; r < high; r++)
        UNROLL
    for (unsigned j = 0; j < wide; j++)
        sum[r][j] = load(to + r * to_row + j * LANES);
    for (size_t i = 0; i < n; i++) {
        const float *from = p->from + p->at[i];
        vec value = splat(p->v[i]);
        UNROLL
        for (unsigned r = 0; r < high; r++)
            UNROLL
        for (unsigned j = 0; j < wide; j++)
            sum[r][j] += value * load(from + r * row + j * LANES);
    }
    UNROLL
    for (unsigned r = 0; r < high; r++)
        UNROLL
    for (unsigned j = 0; j < wide; j++)
        store(to + r * to_row + j * LANES, sum[r][j]);
}

typedef void (*block_fn)(const struct places *p, float *to, size_t to_row);

#define BLOCK(high, wide)                                                                          \
    static __attribute__((noinline)) void block_##high##_##wide(const struct places *p, float *to, \
                                                                size_t to_row)                     \
    {                                                                                              \
        block(p, to, to_row, high, wide);                                                          \
    }
BLOCK(1, 1)
BLOCK(2, 1)
BLOCK(3, 1)
BLOCK(4, 1)
BLOCK(5, 1)
BLOCK(6, 1)
BLOCK(1, 2)
BLOCK(2, 2)
BLOCK(3, 2)
BLOCK(4, 2)
BLOCK(5, 2)
BLOCK(6, 2)
BLOCK(1, 4)
BLOCK(2, 4)
BLOCK(3, 4)

static const block_fn blocks[3][HIGH] = {
    {block_1_1, block_2_1, block_3_1, block_4_1, block_5_1, block_6_1},
    {block_1_2, block_2_2, block_3_2, block_4_2, block_5_2, block_6_2},
    {block_1_4, block_2_4, block_3_4, NULL, NULL, NULL},
};

INLINE void patch(const struct dml_kernel_patch *p, const struct places *all, float *to,
                  size_t to_row)
{
    size_t left = (p->n_rows + HIGH - 1) / HIGH; /* groups of rows, of nearly equal height */
    for (size_t row = 0; row < p->n_rows; left--) {
        size_t high = (p->n_rows - row + left - 1) / left;
        for (size_t j = 0; j < p->len;) {
            size_t vectors = (p->len - j + LANES - 1) / LANES;
            unsigned wide = vectors >= 4 && high <= 3 ? 2 : vectors >= 2;
            struct places some = *all;
            some.from += row * some.row + j;
            blocks[wide][high - 1](&some, to + row * to_row + j, to_row);
            j += (size_t)LANES << wide;
        }
        row += high;
    }
}

static void dw(const struct dml_kernel_patch *p, const float *x, const uint32_t *at, const float *v,
               size_t n, float *io_dw)
{
    const struct places all = {x, at, v, n, p->x_row};
    if (n)
        patch(p, &all, io_dw, p->w_row);
}

static void dx(const struct dml_kernel_patch *p, const float *w, const uint32_t *at, const float *v,
               size_t n, float *io_dx)
{
    const struct places all = {w, at, v, n, p->w_row};
    if (n)
        patch(p, &all, io_dx, p->x_row);
}

/* ---- convolution, relu and pooling of windows, channels in the lanes ----------------------- */

/* To one place of each of n planes. */
INLINE void scatter(vec top, bits at, size_t n, size_t plane, float *y, uint32_t *won)
{
    float tops[LANES];
    int32_t ats[LANES];
    store(tops, top);
    store_bits(ats, at);
    for (size_t o = 0; o < n; o++) {
        y[o * plane] = tops[o];
        if (won)
            won[o * plane] = (uint32_t)ats[o];
    }
}

/* n windows beside each other from place `first` on, `wide` vectors of channels. */
INLINE void window(const struct dml_kernel_windows *f, const float *x, const float *wt,
                   const float *bias, size_t first, size_t live, float *y, uint32_t *won,
                   const unsigned n, const unsigned wide)
{
    vec sum[2][2][2][2]; /* window, vector, row, place */
    size_t run = f->k * f->c, row = f->wp * f->c, c = f->c;
    UNROLL
    for (unsigned i = 0; i < n; i++)
        UNROLL
    for (unsigned v = 0; v < wide; v++)
        sum[i][v][0][0] = sum[i][v][0][1] = sum[i][v][1][0] = sum[i][v][1][1] =
            load(bias + v * LANES);
    for (size_t kh = 0; kh < f->k; kh++) {
        const float *up = x + first * c + kh * row, *down = up + row;
        for (size_t t = 0; t < run; t++, wt += f->w_row) {
            UNROLL
            for (unsigned v = 0; v < wide; v++) {
                vec w = load(wt + v * LANES);
                UNROLL
                for (unsigned i = 0; i < n; i++) {
                    sum[i][v][0][0] += w * splat(up[2 * i * c + t]);
                    sum[i][v][0][1] += w * splat(up[(2 * i + 1) * c + t]);
                    sum[i][v][1][0] += w * splat(down[2 * i * c + t]);
                    sum[i][v][1][1] += w * splat(down[(2 * i + 1) * c + t]);
                }
            }
        }
    }
    UNROLL
    for (unsigned i = 0; i < n; i++)
        UNROLL
    for (unsigned v = 0; v < wide; v++) {
        bits at;
        vec top = relu_of(greatest(sum[i][v][0], sum[i][v][1], (int)f->wp, &at));
        size_t o = v * LANES, plane = f->h * f->w;
        if (o < live)
            scatter(top, at + (int)(first + 2 * i), live - o < LANES ? live - o : LANES, plane,
                    y + i + o * plane, won ? won + i + o * plane : NULL);
    }
}

#define WINDOW(n, wide)                                                                            \
    static __attribute__((noinline)) void window_##n##_##wide(                                     \
        const struct dml_kernel_windows *f, const float *x, const float *wt, const float *bias,    \
        size_t first, size_t live, float *y, uint32_t *won)                                        \
    {                                                                                              \
        window(f, x, wt, bias, first, live, y, won, n, wide);                                      \
    }
WINDOW(1, 1)
WINDOW(2, 1)
WINDOW(1, 2)

static void windows(const struct dml_kernel_windows *f, const float *x, const float *wt,
                    const float *bias, float *y, uint32_t *won)
{
    size_t plane = f->h * f->w;
    for (size_t o = 0; o < f->o;) {
        size_t live = f->o - o;
        bool two = live > LANES;
        for (size_t h = 0; h < f->h; h++)
            for (size_t w = 0; w < f->w;) {
                size_t at = o * plane + h * f->w + w, first = 2 * (h * f->wp + w);
                bool pair = !two && w + 1 < f->w;
                (two    ? window_1_2
                 : pair ? window_2_1
                        : window_1_1)(f, x, wt + o, bias + o, first, live, y + at,
                                      won ? won + at : NULL);
                w += pair ? 2 : 1;
            }
        o += two ? 2 * LANES : LANES;
    }
}

static float windows_back(const float *y, const float *dy, const uint32_t *won, size_t n,
                          uint32_t step, float *v, uint32_t *at)
{
    const int32_t *from = (const int32_t *)(const void *)won;
    int32_t *to = (int32_t *)(void *)at;
    vec sum = splat(0.0f);
    float all = 0.0f;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec back = (vec)((bits)load(dy + i) & (load(y + i) > splat(0.0f)));
        store_bits(to + i, load_bits(from + i) * (int32_t)step);
        store(v + i, back);
        sum += back;
    }
    for (; i < n; i++) {
        at[i] = won[i] * step;
        v[i] = y[i] > 0.0f ? dy[i] : 0.0f;
        all += v[i];
    }
    return all + sum_of(sum);
}

/* Where the framed weights of window `first` begin for each channel, without those that give back
 * nothing. Returns how many are left. Without a branch: no processor can guess which. */
INLINE size_t list_channels(const struct dml_kernel_windows *f, const float *v, const uint32_t *won,
                            size_t first, float *some_v, uint32_t *some_at)
{
    uint32_t wp = (uint32_t)f->wp, c = (uint32_t)f->c, row = (uint32_t)f->f_row, frame = 0;
    size_t count = 0;
    for (size_t o = 0; o < f->o; o += LANES) { /* what lies beyond O is anything */
        words right = (words)load_bits((const int32_t *)(const void *)won + o) - (uint32_t)first;
        words down = (words)(right >= wp); /* all bits where true */
        right -= down & wp;
        int32_t at[LANES];
        store_bits(at, (bits)(row + c - (down & row) - right * c));
        for (size_t i = 0; i < LANES && o + i < f->o; i++) {
            some_v[count] = v[o + i];
            some_at[count] = frame + (uint32_t)at[i];
            count += dml_kernel_is_not_zero(v[o + i]);
            frame += (uint32_t)((f->k + 2) * f->f_row);
        }
    }
    return count;
}

static void windows_dx(const struct dml_kernel_windows *f, const float *framed, const float *v,
                       const uint32_t *won, float *some_v, uint32_t *some_at, float *io_dx)
{
    const struct dml_kernel_patch patch = {
        .n_rows = f->k + 1, .len = (f->k + 1) * f->c, .x_row = f->wp * f->c, .w_row = f->f_row};
    for (size_t h = 0; h < f->h; h++)
        for (size_t w = 0; w < f->w; w++, v += f->o, won += f->o) {
            size_t first = 2 * (h * f->wp + w);
            size_t count = list_channels(f, v, won, first, some_v, some_at);
            dx(&patch, framed, some_at, some_v, count, io_dx + first * f->c);
        }
}

/* ---- planes and pixels -------------------------------------------------------------------- */

/*
 * A pixel of three channels is written as four floats, of which the next pixel overwrites the last;
 * Arm has instructions for threes that the compiler finds for the last loop.
 */
static void three_to_pixels(const float *x, size_t plane, size_t n, float *to)
{
    const float *restrict r = x, *restrict g = x + plane, *restrict b = x + 2 * plane;
    float *restrict pixel = to;
    size_t i = 0;
#ifndef __aarch64__
    for (; i + 5 <= n; i += 4) {
        four in[4] = {load_four(r + i), load_four(g + i), load_four(b + i), {0}};
        transpose(in);
        UNROLL
        for (unsigned k = 0; k < 4; k++)
            store_four(pixel + 3 * (i + k), in[k]);
    }
#endif
    for (; i < n; i++) {
        pixel[3 * i] = r[i];
        pixel[3 * i + 1] = g[i];
        pixel[3 * i + 2] = b[i];
    }
}

/* Four pixels of four channels at a time, the last of which may be done twice. */
static void to_pixels(const float *x, size_t plane, size_t n, size_t c, float *to)
{
    size_t i = 0;
    if (c == 3) {
        three_to_pixels(x, plane, n, to);
        return;
    }
    for (; c >= 4 && i + 4 <= n; i += 4)
        for (size_t k = 0; k < c; k += 4) {
            size_t first = k + 4 <= c ? k : c - 4;
            four in[4];
            UNROLL
            for (unsigned j = 0; j < 4; j++)
                in[j] = load_four(x + (first + j) * plane + i);
            transpose(in);
            UNROLL
            for (unsigned j = 0; j < 4; j++)
                store_four(to + (i + j) * c + first, in[j]);
        }
    for (; i < n; i++)
        for (size_t k = 0; k < c; k++)
            to[i * c + k] = x[k * plane + i];
}

static void to_planes(const float *from, size_t plane, size_t n, size_t c, float *x)
{
    size_t i = 0;
    for (; c >= 4 && i + 4 <= n; i += 4)
        for (size_t k = 0; k < c; k += 4) {
            size_t first = k + 4 <= c ? k : c - 4;
            four in[4];
            UNROLL
            for (unsigned j = 0; j < 4; j++)
                in[j] = load_four(from + (i + j) * c + first);
            transpose(in);
            UNROLL
            for (unsigned j = 0; j < 4; j++)
                store_four(x + (first + j) * plane + i, in[j]);
        }
    for (; i < n; i++)
        for (size_t k = 0; k < c; k++)
            x[k * plane + i] = from[i * c + k];
}

extern const struct dml_kernel_patches DML_KERNEL_PATCHES;
const struct dml_kernel_patches DML_KERNEL_PATCHES = {
    .lanes = LANES,
    .dw = dw,
    .dx = dx,
    .windows = windows,
    .windows_back = windows_back,
    .windows_dx = windows_dx,
    .to_pixels = to_pixels,
    .to_planes = to_planes,
};
