/*
 * Loops over rows with channels last, once per level of vector instructions like kernel_loops.c.
 *
 * Sums over many rows are taken in float over RUN rows at a time and in double beyond that. They
 * go down the rows with some vectors of channels in registers, which is fastest where the rows are
 * still in the cache: callers hand over what they have just made.
 */
#include "nn/kernel_channels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* CFLAGS come last on the command line, and theirs is mostly -O2 */
#endif

#include "nn/kernel_vec.h"

#define RUN 64

#ifndef DML_KERNEL_CHANNELS
#define DML_KERNEL_CHANNELS dml_kernel_channels_base
#endif

/* ---- rows --------------------------------------------------------------------------------- */

/* Whole vectors of `wide` from channel 0 on: they stay in registers while the rows go by. */
INLINE void sums_of(const float *x, size_t rows, size_t c, const float *shift, double *io_s1,
                    double *io_s2, const unsigned wide)
{
    vec s[4];
    UNROLL
    for (unsigned v = 0; v < wide; v++)
        s[v] = load(shift + v * LANES);
    for (size_t from = 0; from < rows; from += RUN) {
        size_t to = from + RUN < rows ? from + RUN : rows;
        vec t1[4], t2[4];
        UNROLL
        for (unsigned v = 0; v < wide; v++)
            t1[v] = t2[v] = splat(0.0f);
        for (size_t r = from; r < to; r++) {
            UNROLL
            for (unsigned v = 0; v < wide; v++) {
                vec off = load(x + r * c + v * LANES) - s[v];
                t1[v] += off;
                t2[v] += off * off;
            }
        }
        UNROLL
        for (unsigned v = 0; v < wide; v++) {
            add_wide(io_s1 + v * LANES, t1[v]);
            add_wide(io_s2 + v * LANES, t2[v]);
        }
    }
}

static void sums(const float *x, size_t rows, size_t c, const float *shift, double *io_s1,
                 double *io_s2)
{
    size_t i = 0;
    for (; i + 4 * LANES <= c; i += 4 * LANES)
        sums_of(x + i, rows, c, shift + i, io_s1 + i, io_s2 + i, 4);
    for (; i + LANES <= c; i += LANES)
        sums_of(x + i, rows, c, shift + i, io_s1 + i, io_s2 + i, 1);
    for (size_t r = 0; i < c && r < rows; r++)
        for (size_t k = i; k < c; k++) {
            double off = (double)x[r * c + k] - (double)shift[k];
            io_s1[k] += off;
            io_s2[k] += off * off;
        }
}

/* Ones where lo < v < hi; not a number is outside. */
INLINE bits inside(vec v, float lo, float hi)
{
    return (v > splat(lo)) & (v < splat(hi));
}

INLINE void sums_back_of(const float *x, const float *dy, size_t rows, size_t c,
                         const struct dml_kernel_clip *clip, size_t at, float *g, double *io_s1,
                         double *io_s2, const unsigned wide)
{
    vec a[2], b[2], mean[2];
    UNROLL
    for (unsigned v = 0; v < wide; v++) {
        a[v] = load(clip->a + at + v * LANES);
        b[v] = load(clip->b + at + v * LANES);
        mean[v] = load(clip->mean + at + v * LANES);
    }
    for (size_t from = 0; from < rows; from += RUN) {
        size_t to = from + RUN < rows ? from + RUN : rows;
        vec t1[2], t2[2];
        UNROLL
        for (unsigned v = 0; v < wide; v++)
            t1[v] = t2[v] = splat(0.0f);
        for (size_t r = from; r < to; r++) {
            UNROLL
            for (unsigned v = 0; v < wide; v++) {
                size_t i = r * c + at + v * LANES;
                vec z = load(x + i);
                bits in = inside(a[v] * z + b[v], clip->lo, clip->hi);
                vec d = (vec)((bits)load(dy + i) & in);
                if (g)
                    store(g + i, d);
                t1[v] += d;
                t2[v] += d * (z - mean[v]);
            }
        }
        UNROLL
        for (unsigned v = 0; v < wide; v++) {
            add_wide(io_s1 + at + v * LANES, t1[v]);
            add_wide(io_s2 + at + v * LANES, t2[v]);
        }
    }
}

static void sums_back(const float *x, const float *dy, size_t rows, size_t c,
                      const struct dml_kernel_clip *clip, float *g, double *io_s1, double *io_s2)
{
    size_t i = 0;
    for (; i + 2 * LANES <= c; i += 2 * LANES)
        sums_back_of(x, dy, rows, c, clip, i, g, io_s1, io_s2, 2);
    for (; i + LANES <= c; i += LANES)
        sums_back_of(x, dy, rows, c, clip, i, g, io_s1, io_s2, 1);
    for (size_t r = 0; i < c && r < rows; r++)
        for (size_t k = i; k < c; k++) {
            float z = x[r * c + k], v = clip->a[k] * z + clip->b[k];
            float d = v > clip->lo && v < clip->hi ? dy[r * c + k] : 0.0f;
            if (g)
                g[r * c + k] = d;
            io_s1[k] += (double)d;
            io_s2[k] += (double)d * ((double)z - (double)clip->mean[k]);
        }
}

/* As a loop over lanes the compiler makes it two instructions. Not a number goes through. */
INLINE vec cut(vec v, float lo, float hi)
{
    vec y;
    for (unsigned i = 0; i < LANES; i++) {
        float f = v[i];
        f = f < lo ? lo : f;
        y[i] = f > hi ? hi : f;
    }
    return y;
}

static void clip(const float *x, size_t rows, size_t c, const struct dml_kernel_clip *clip,
                 float *y)
{
    const float *a = clip->a, *b = clip->b;
    float lo = clip->lo, hi = clip->hi;
    for (size_t r = 0; r < rows; r++, x += c, y += c) {
        size_t i = 0;
        for (; i + LANES <= c; i += LANES)
            store(y + i, cut(load(a + i) * load(x + i) + load(b + i), lo, hi));
        for (; i < c; i++) {
            float f = a[i] * x[i] + b[i];
            f = f < lo ? lo : f;
            y[i] = f > hi ? hi : f;
        }
    }
}

static void cut_back(const float *x, const float *dy, size_t rows, size_t c,
                     const struct dml_kernel_clip *clip, float *g)
{
    const float *a = clip->a, *b = clip->b;
    for (size_t r = 0; r < rows; r++, x += c, dy += c, g += c) {
        size_t i = 0;
        for (; i + LANES <= c; i += LANES) {
            bits in = inside(load(a + i) * load(x + i) + load(b + i), clip->lo, clip->hi);
            store(g + i, (vec)((bits)load(dy + i) & in));
        }
        for (; i < c; i++) {
            float v = a[i] * x[i] + b[i];
            g[i] = v > clip->lo && v < clip->hi ? dy[i] : 0.0f;
        }
    }
}

static void mix(const float *x, const float *dy, size_t rows, size_t c, const float *a,
                const float *b, const float *d, float *dx)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * c, *g = dy + r * c;
        float *to = dx + r * c;
        size_t i = 0;
        for (; i + LANES <= c; i += LANES)
            store(to + i, load(a + i) * load(g + i) + (load(b + i) * load(from + i) + load(d + i)));
        for (; i < c; i++)
            to[i] = a[i] * g[i] + (b[i] * from[i] + d[i]);
    }
}

static void add_rows(const float *x, size_t rows, size_t c, float *io_sum)
{
    for (size_t r = 0; r < rows; r++) {
        const float *restrict row = x + r * c;
        float *restrict to = io_sum;
        for (size_t i = 0; i < c; i++)
            to[i] += row[i];
    }
}

static void add(const float *a, const float *b, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, load(a + i) + load(b + i));
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

/* Not a number goes through, so that a run that diverged says so. */
static void relu6(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(x + i), six = splat(6.0f);
        bits high = v > six;
        v = (vec)(((bits)six & high) | ((bits)v & ~high));
        store(y + i, (vec)((bits)v & ~(v < splat(0.0f))));
    }
    for (; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i] > 6.0f ? 6.0f : x[i];
}

static void relu6_back(const float *y, const float *dy, float *dx, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = load(y + i);
        store(dx + i, (vec)((bits)load(dy + i) & (v > splat(0.0f)) & (v < splat(6.0f))));
    }
    for (; i < n; i++)
        dx[i] = y[i] > 0.0f && y[i] < 6.0f ? dy[i] : 0.0f;
}

static void turn(const float *x, size_t rows, size_t columns, float *y)
{
    size_t whole_rows = rows / 4 * 4, whole = columns / 4 * 4;
    for (size_t j = 0; j < whole; j += 4)
        for (size_t i = 0; i < whole_rows; i += 4) {
            four f[4];
            UNROLL
            for (unsigned k = 0; k < 4; k++)
                f[k] = load_four(x + (i + k) * columns + j);
            transpose(f);
            UNROLL
            for (unsigned k = 0; k < 4; k++)
                store_four(y + (j + k) * rows + i, f[k]);
        }
    for (size_t j = 0; j < columns; j++)
        for (size_t i = j < whole ? whole_rows : 0; i < rows; i++)
            y[j * rows + i] = x[i * columns + j];
}

static void max_window(const struct dml_kernel_windows *f, const float *x, size_t corner, float *y,
                       uint32_t *at)
{
    size_t c = 0;
    for (; c + LANES <= f->c; c += LANES) {
        vec most = load(x + corner + c);
        bits place = (bits){0};
        for (size_t h = 0; h < f->window; h++)
            for (size_t w = 0; w < f->window; w++) {
                size_t step = (h * f->w + w) * f->c;
                vec v = load(x + corner + step + c);
                bits more = (v > most) | ((v != v) & (most == most));
                most = choose(more, v, most);
                place = (more & (int32_t)step) | (~more & place);
            }
        store(y + c, most);
        for (unsigned i = 0; at && i < LANES; i++)
            at[c + i] = (uint32_t)(corner + c + i) + (uint32_t)place[i];
    }
    for (; c < f->c; c++) {
        size_t best = corner + c;
        for (size_t h = 0; h < f->window; h++)
            for (size_t w = 0; w < f->window; w++) {
                size_t i = corner + c + (h * f->w + w) * f->c;
                if (x[i] > x[best] || (isnan(x[i]) && !isnan(x[best])))
                    best = i;
            }
        y[c] = x[best];
        if (at)
            at[c] = (uint32_t)best;
    }
}

static void max_windows(const struct dml_kernel_windows *f, const float *x, float *y, uint32_t *at)
{
    for (size_t h = 0; h < f->out_h; h++)
        for (size_t w = 0; w < f->out_w; w++) {
            max_window(f, x, (h * f->w + w) * f->stride * f->c, y, at);
            y += f->c;
            at = at ? at + f->c : NULL;
        }
}

extern const struct dml_kernel_channels DML_KERNEL_CHANNELS;
const struct dml_kernel_channels DML_KERNEL_CHANNELS = {
    .sums = sums,
    .sums_back = sums_back,
    .clip = clip,
    .cut_back = cut_back,
    .mix = mix,
    .add_rows = add_rows,
    .add = add,
    .relu6 = relu6,
    .relu6_back = relu6_back,
    .turn = turn,
    .max_windows = max_windows,
};
