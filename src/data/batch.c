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

static void fill_u8(const uint8_t *restrict from, size_t n, float mean, float scale,
                    float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = ((float)from[i] - mean) * scale;
}

static void fill_f32(const float *restrict from, size_t n, float mean, float scale,
                     float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (from[i] - mean) * scale;
}

/* A row of numbers, each with its own mean and scale. */
static void fill_row(const struct dml_dataset *ds, size_t base, size_t d, float *restrict to)
{
    const float *restrict mean = ds->mean, *restrict scale = ds->scale;
    const float *restrict f32 = (const float *)ds->x + base;
    const uint8_t *restrict u8 = (const uint8_t *)ds->x + base;
    if (ds->kind == DML_DATASET_U8) {
        for (size_t i = 0; i < d; i++)
            to[i] = ((float)u8[i] - mean[i]) * scale[i];
    } else {
        for (size_t i = 0; i < d; i++)
            to[i] = (f32[i] - mean[i]) * scale[i];
    }
}

static float raw(const struct dml_dataset *ds, size_t at)
{
    return ds->kind == DML_DATASET_U8 ? (float)((const uint8_t *)ds->x)[at]
                                      : ((const float *)ds->x)[at];
}

/* One channel, looked at through `v`; `base` is the plane's first value. */
static void fill_view(const struct dml_dataset *ds, size_t base, struct view v, float mean,
                      float scale, float *to)
{
    int64_t h = ds->height, w = ds->width;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            int64_t sy = y + v.dy, sx = (v.flip ? w - 1 - x : x) + v.dx;
            bool inside = sy >= 0 && sy < h && sx >= 0 && sx < w;
            float value = inside ? raw(ds, base + (size_t)(sy * w + sx)) : 0;
            to[y * w + x] = (value - mean) * scale;
        }
}

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
    for (size_t b = 0; b < n; b++) {
        assert(index[b] < ds->n_samples);
        struct view v = augment ? draw(augment, first + b) : (struct view){0};
        bool moved = v.dy || v.dx || v.flip;
        if (plane == 1 && b + AHEAD < n)
            __builtin_prefetch((const char *)ds->x + index[b + AHEAD] * row_bytes);
        if (plane == 1)
            fill_row(ds, index[b] * d, d, x + b * d);
        for (size_t c = 0; c < ds->channels && plane > 1; c++) {
            size_t base = index[b] * d + c * plane;
            float *to = x + b * d + c * plane;
            if (moved)
                fill_view(ds, base, v, ds->mean[c], ds->scale[c], to);
            else if (ds->kind == DML_DATASET_U8)
                fill_u8((const uint8_t *)ds->x + base, plane, ds->mean[c], ds->scale[c], to);
            else
                fill_f32((const float *)ds->x + base, plane, ds->mean[c], ds->scale[c], to);
        }
        if (labels)
            labels[b] = ds->labels[index[b]];
        if (targets)
            targets[b] = ds->targets[index[b]];
    }
}
