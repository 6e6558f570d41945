/*
 * One pass per sample and channel: read the raw value, subtract, multiply, write. The compiler
 * makes SIMD of the plain case; a shifted or mirrored image takes the same arithmetic with another
 * source address, so that an augmentation that moves nothing gives the very same bits.
 *
 * A crop is an image with a black border of `padding` pixels, cut at a random place to its old
 * size. The border is there before normalisation, so its value is what a black pixel becomes, (0 -
 * mean) * scale, and not 0, which would be an average grey.
 *
 * Random numbers: a stream per sample, named by (seed, rank, step, position in the batch), so that
 * it does not matter how many threads fill the batch nor in which order. Source: He et al.
 * 2015, 4.2 (pad by 4, random crop, horizontal flip).
 */
#include "data/batch.h"

#include <assert.h>
#include <string.h>

#include "base/rng.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* vectors; CFLAGS are mostly -O2, which means one number at a time */
#endif

/* Samples whose place in memory is told beforehand: rows are short, and lie anywhere. */
#define AHEAD 8

/* Rows that are asked for a whole minibatch ahead: longer ones would fill the cache, and a
 * processor sees by itself how they go on. */
#define EXPECTED_MAX 256
#define LINE         64 /* bytes of a cache's line */

void dml_batch_order(uint32_t *index, size_t n, uint64_t seed, uint64_t rank, uint64_t epoch)
{
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)i;
    struct dml_rng rng;
    dml_rng_init(&rng, seed, rank, DML_RNG_SHUFFLE, epoch);
    dml_rng_shuffle(&rng, index, n);
}

/* Where the window lies relative to the image, and whether it is mirrored. */
struct view {
    int32_t dy, dx;
    bool flip;
};

static struct view draw(const struct dml_batch_augment *a, size_t position)
{
    struct view v = {0};
    struct dml_rng rng;
    /* Steps and positions stay below 2^32: no two samples of a run share a stream. */
    dml_rng_init(&rng, a->seed, a->rank, DML_RNG_AUGMENT, a->step << 32 | (uint32_t)position);
    if (a->kind == DML_AUGMENT_CROP || a->kind == DML_AUGMENT_FLIP_CROP) {
        uint64_t places = 2 * (uint64_t)a->padding + 1;
        v.dy = (int32_t)dml_rng_below(&rng, places) - (int32_t)a->padding;
        v.dx = (int32_t)dml_rng_below(&rng, places) - (int32_t)a->padding;
    }
    if (a->kind == DML_AUGMENT_FLIP || a->kind == DML_AUGMENT_FLIP_CROP)
        v.flip = dml_rng_u64(&rng) >> 63;
    return v;
}

/*
 * The loops. They are compiled a second time for AVX2 where the processor may have it: bytes become
 * floats three times as fast. Subtracting and multiplying are rounded one by one either way: the
 * same bits.
 */
#define INLINE static inline __attribute__((always_inline))

/* from, step: of numbers beside each other; -1 goes backwards. */
INLINE void u8_some(const uint8_t *from, const ptrdiff_t step, size_t n, float mean, float scale,
                    float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = ((float)from[(ptrdiff_t)i * step] - mean) * scale;
}

INLINE void f32_some(const float *from, const ptrdiff_t step, size_t n, float mean, float scale,
                     float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (from[(ptrdiff_t)i * step] - mean) * scale;
}

INLINE void some(const struct dml_dataset *ds, size_t at, bool flip, size_t n, float mean,
                 float scale, float *to)
{
    const uint8_t *u8 = (const uint8_t *)ds->x + at;
    const float *f32 = (const float *)ds->x + at;
    if (ds->kind == DML_DATASET_U8 && flip)
        u8_some(u8, -1, n, mean, scale, to);
    else if (ds->kind == DML_DATASET_U8)
        u8_some(u8, 1, n, mean, scale, to);
    else if (flip)
        f32_some(f32, -1, n, mean, scale, to);
    else
        f32_some(f32, 1, n, mean, scale, to);
}

/* One row of a channel that begins at `base`, looked at through `v`: some of it may lie outside.
 * Where the neighbours in memory may be read in its stead, a row is made whole and its border
 * painted over: a length that vectors divide is worth more than a few numbers. */
INLINE void row(const struct dml_dataset *ds, size_t base, struct view v, float mean, float scale,
                float *to)
{
    int64_t w = ds->width, begin = v.flip ? v.dx : -v.dx, end = begin + w;
    begin = begin < 0 ? 0 : begin < w ? begin : w;
    end = end < 0 ? 0 : end < w ? end : w;
    int64_t first = (int64_t)base + v.dx, n = (int64_t)(ds->n_samples * dml_dataset_d(ds));
    bool whole = first >= 0 && first + w <= n;
    int64_t at = whole ? 0 : begin;
    if (begin < end)
        some(ds, base + (size_t)((v.flip ? w - 1 - at : at) + v.dx), v.flip,
             (size_t)(whole ? w : end - begin), mean, scale, to + at);
    for (int64_t x = 0; x < begin; x++)
        to[x] = (0.0f - mean) * scale;
    for (int64_t x = end > begin ? end : begin; x < w; x++)
        to[x] = (0.0f - mean) * scale;
}

INLINE void picture(const struct dml_dataset *ds, size_t base, struct view v, float *to)
{
    size_t w = ds->width, plane = ds->height * w;
    int64_t h = ds->height;
    for (size_t c = 0; c < ds->channels; c++, base += plane, to += plane) {
        float mean = ds->mean[c], scale = ds->scale[c];
        if (!v.dy && !v.dx && !v.flip) {
            some(ds, base, false, plane, mean, scale, to);
            continue;
        }
        for (int64_t y = 0; y < h; y++) {
            int64_t sy = y + v.dy;
            struct view at = v;
            if (sy < 0 || sy >= h) /* all of the row */
                at.dx = (int32_t)w, sy = 0;
            row(ds, base + (size_t)sy * w, at, mean, scale, to + (size_t)y * w);
        }
    }
}

/* Rows of numbers, each with its own mean and scale. */
INLINE void rows(const struct dml_dataset *ds, const uint32_t *index, size_t n, size_t d,
                 size_t row_bytes, float *restrict to)
{
    const float *restrict mean = ds->mean, *restrict scale = ds->scale;
    for (size_t b = 0; b < n; b++, to += d) {
        const float *restrict f32 = (const float *)ds->x + index[b] * d;
        const uint8_t *restrict u8 = (const uint8_t *)ds->x + index[b] * d;
        if (b + AHEAD < n)
            __builtin_prefetch((const char *)ds->x + index[b + AHEAD] * row_bytes);
        if (ds->kind == DML_DATASET_U8) {
            for (size_t i = 0; i < d; i++)
                to[i] = ((float)u8[i] - mean[i]) * scale[i];
        } else {
            for (size_t i = 0; i < d; i++)
                to[i] = (f32[i] - mean[i]) * scale[i];
        }
    }
}

static void picture_base(const struct dml_dataset *ds, size_t base, struct view v, float *to)
{
    picture(ds, base, v, to);
}

#ifdef __x86_64__
static __attribute__((target("avx2"))) void picture_avx2(const struct dml_dataset *ds, size_t base,
                                                         struct view v, float *to)
{
    picture(ds, base, v, to);
}
#endif

void dml_batch_expect(const struct dml_dataset *ds, const uint32_t *index, size_t n)
{
    size_t d = dml_dataset_d(ds);
    size_t row_bytes = d * (ds->kind == DML_DATASET_U8 ? sizeof(uint8_t) : sizeof(float));
    if (ds->height * ds->width > 1 || row_bytes > EXPECTED_MAX)
        return;
    for (size_t b = 0; b < n; b++) {
        const char *row = (const char *)ds->x + index[b] * row_bytes;
        for (size_t at = 0; at < row_bytes; at += LINE)
            __builtin_prefetch(row + at);
        __builtin_prefetch(row + row_bytes - 1);
        if (ds->labels)
            __builtin_prefetch(&ds->labels[index[b]]);
    }
}

void dml_batch_fill(const struct dml_dataset *ds, const uint32_t *index, size_t n, size_t first,
                    const struct dml_batch_augment *augment, float *x, int32_t *labels,
                    float *targets)
{
    size_t plane = (size_t)ds->height * ds->width, d = dml_dataset_d(ds);
    size_t row_bytes = d * (ds->kind == DML_DATASET_U8 ? sizeof(uint8_t) : sizeof(float));
    if (augment && (augment->kind == DML_AUGMENT_NONE || plane == 1))
        augment = NULL;
    assert(!labels || ds->labels);
    assert(!targets || ds->targets);
    void (*fill)(const struct dml_dataset *, size_t, struct view, float *) = picture_base;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2"))
        fill = picture_avx2;
#endif
    for (size_t b = 0; b < n; b++) {
        assert(index[b] < ds->n_samples);
        if (labels)
            labels[b] = ds->labels[index[b]];
        if (targets)
            targets[b] = ds->targets[index[b]];
        if (plane > 1)
            fill(ds, index[b] * d, augment ? draw(augment, first + b) : (struct view){0},
                 x + b * d);
    }
    if (plane == 1)
        rows(ds, index, n, d, row_bytes, x);
}
