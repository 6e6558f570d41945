/* Batches: the fast fill against a naive twin, orders, and augmentation within its bounds. */
#include "base/rng.h"
#include "data/batch.h"
#include "tests/unit/data_files.h"

#define N 12u

/* Random images, C = 3, H = 5, W = 4, with odd statistics. */
static struct dml_dataset *make(enum dml_dataset_kind kind)
{
    struct dml_dataset *ds = dml_dataset_new(kind, N, 3, 5, 4, 7);
    struct dml_rng rng;
    dml_rng_init(&rng, 11, 0, DML_RNG_TEST, 0);
    for (size_t i = 0; i < N * 60; i++) {
        uint8_t v = (uint8_t)dml_rng_below(&rng, 256);
        if (kind == DML_DATASET_U8)
            ((uint8_t *)ds->x)[i] = v;
        else
            ((float *)ds->x)[i] = (float)v * 0.37f;
    }
    for (size_t i = 0; i < N; i++)
        ds->labels[i] = (int32_t)(i % 7);
    for (int c = 0; c < 3; c++) {
        ds->mean[c] = 100.3f + 9 * (float)c;
        ds->scale[c] = 0.017f + 0.001f * (float)c;
    }
    return ds;
}

/* A value at (y, x) of sample n, channel c; the border is black. */
static float twin(const struct dml_dataset *ds, size_t n, int c, int y, int x)
{
    size_t at = ((n * 3 + (size_t)c) * 5 + (size_t)y) * 4 + (size_t)x;
    float raw = y < 0 || y >= 5 || x < 0 || x >= 4 ? 0
                : ds->kind == DML_DATASET_U8       ? (float)((uint8_t *)ds->x)[at]
                                                   : ((float *)ds->x)[at];
    return (raw - ds->mean[c]) * ds->scale[c];
}

/* Is the batch's sample b what `index` shows when shifted by (dy, dx) and mirrored or not? */
static bool is_view(const struct dml_dataset *ds, size_t index, const float *x, int dy, int dx,
                    bool flip)
{
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 5; y++)
            for (int w = 0; w < 4; w++)
                if (x[(c * 5 + y) * 4 + w] != twin(ds, index, c, y + dy, (flip ? 3 - w : w) + dx))
                    return false;
    return true;
}

static void test_fill(void)
{
    static const uint32_t index[] = {11, 0, 5, 5};
    for (int kind = 0; kind < 2; kind++) {
        _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make((enum dml_dataset_kind)kind);
        float x[4 * 60];
        int32_t labels[4];
        dml_batch_fill(ds, index, 4, 0, NULL, x, labels, NULL);
        unsigned right = 0, right_labels = 0;
        for (size_t b = 0; b < 4; b++) {
            right += is_view(ds, index[b], x + b * 60, 0, 0, false);
            right_labels += labels[b] == (int32_t)(index[b] % 7);
        }
        tap_int(right, 4, kind ? "floats, bit for bit" : "bytes, bit for bit");
        tap_int(right_labels, 4, "labels");
    }
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds =
        dml_dataset_new(DML_DATASET_F32, 3, 2, 1, 1, 0);
    float x[2], target;
    ds->targets[2] = 4.5f;
    ((float *)ds->x)[5] = 3;
    struct dml_batch_augment a = {.kind = DML_AUGMENT_FLIP_CROP, .padding = 4};
    dml_batch_fill(ds, (const uint32_t[]){2}, 1, 0, &a, x, NULL, &target);
    tap_near((double)target, 4.5, 0, "target");
    tap_near((double)x[1], 3, 0, "a table is never augmented");
}

static void test_order(void)
{
    uint32_t a[50], b[50], c[50];
    unsigned seen[50] = {0}, once = 0;
    dml_batch_order(a, 50, 1, 2, 3);
    for (int i = 0; i < 50; i++)
        seen[a[i] % 50]++;
    for (int i = 0; i < 50; i++)
        once += seen[i] == 1;
    tap_int(once, 50, "a permutation");
    dml_batch_order(b, 50, 1, 2, 3);
    tap_ok(!memcmp(a, b, sizeof(a)), "fixed by seed, rank and epoch");
    for (uint64_t i = 0; i < 3; i++) {
        dml_batch_order(c, 50, 1 + (i == 0), 2 + (i == 1), 3 + (i == 2));
        tap_ok(memcmp(a, c, sizeof(a)), "another seed, rank, epoch: another order");
    }
}

static void test_augment(int kind, const char *what)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(DML_DATASET_U8);
    unsigned found = 0, flips = 0, shifts = 0, seen[5][5] = {{0}}, n = 0;
    bool flip_allowed = kind != DML_AUGMENT_CROP, crop = kind != DML_AUGMENT_FLIP;
    for (uint64_t step = 0; step < 40; step++) {
        float x[N * 60];
        uint32_t index[N];
        dml_batch_order(index, N, 1, 0, step);
        struct dml_batch_augment a = {
            .kind = kind, .padding = 2, .seed = 3, .rank = 1, .step = step};
        dml_batch_fill(ds, index, N, 0, &a, x, NULL, NULL);
        for (size_t b = 0; b < N; b++, n++) {
            int reach = crop ? 2 : 0;
            bool hit = false;
            for (int dy = -reach; dy <= reach && !hit; dy++)
                for (int dx = -reach; dx <= reach && !hit; dx++)
                    for (int flip = 0; flip <= flip_allowed && !hit; flip++)
                        if (is_view(ds, index[b], x + b * 60, dy, dx, flip)) {
                            hit = true;
                            flips += (unsigned)flip;
                            shifts += dy || dx;
                            seen[dy + 2][dx + 2]++;
                        }
            found += hit;
        }
    }
    unsigned places = 0;
    for (int i = 0; i < 25; i++)
        places += seen[i / 5][i % 5] > 0;
    tap_int(found, n, what);
    tap_int(places, crop ? 25 : 1, "every place within the padding occurs");
    /* 480 draws: half of them ± 5 deviations of sqrt(480)/2 */
    if (flip_allowed)
        tap_ok(flips > 185 && flips < 295, "about half are mirrored: %u of %u", flips, n);
    else
        tap_int(flips, 0, "none is mirrored");
    tap_ok(crop ? shifts > 400 : shifts == 0, "shifted: %u of %u", shifts, n);
}

static void test_slices(void)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(DML_DATASET_U8);
    float whole[N * 60], parts[N * 60], other[N * 60];
    uint32_t index[N];
    dml_batch_order(index, N, 1, 0, 0);
    struct dml_batch_augment a = {
        .kind = DML_AUGMENT_FLIP_CROP, .padding = 2, .seed = 3, .rank = 1, .step = 9};
    dml_batch_fill(ds, index, N, 0, &a, whole, NULL, NULL);
    dml_batch_fill(ds, index + 5, N - 5, 5, &a, parts + 5 * 60, NULL, NULL);
    dml_batch_fill(ds, index, 5, 0, &a, parts, NULL, NULL);
    tap_ok(!memcmp(whole, parts, sizeof(whole)), "slices in any order give the same batch");
    for (int i = 0; i < 3; i++) {
        struct dml_batch_augment b = a;
        b.seed += i == 0, b.rank += i == 1, b.step += i == 2;
        dml_batch_fill(ds, index, N, 0, &b, other, NULL, NULL);
        tap_ok(memcmp(whole, other, sizeof(whole)), "another seed, rank, step: another batch");
    }
    struct dml_batch_augment none = {.kind = DML_AUGMENT_NONE};
    dml_batch_fill(ds, index, N, 0, &none, whole, NULL, NULL);
    dml_batch_fill(ds, index, N, 0, NULL, parts, NULL, NULL);
    tap_ok(!memcmp(whole, parts, sizeof(whole)), "none is none");
}

int main(void)
{
    test_fill();
    test_order();
    test_augment(DML_AUGMENT_FLIP, "flip: every sample is the image or its mirror");
    test_augment(DML_AUGMENT_CROP, "crop: every sample is the image moved by at most the padding");
    test_augment(DML_AUGMENT_FLIP_CROP, "both");
    test_slices();
    return tap_done();
}
