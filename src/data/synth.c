/*
 * Data sets out of nothing, for tests and for trying things without a download. Fixed by
 * split_seed.
 *
 * synth: a table. Each class has a centre, standard normal in every input; a sample is its class's
 * centre plus synth-noise times a standard normal. With task = regression the target is a fixed
 * random linear function of the inputs, of about unit variance, plus synth-noise.
 *
 * synth-images: bytes. Each class is a pattern of three plane waves per channel, low enough in
 * frequency for a 5×5 kernel to see them; a sample is the pattern around middle grey plus noise.
 *
 * Sample i has class i mod n_classes, so every class is there and the first n are balanced. Centres
 * and samples are drawn from streams of their own (rank 0 and 1): more samples begin with the same
 * ones.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "base/err.h"
#include "base/rng.h"
#include "data/format.h"

#define GREY     127.5
#define CONTRAST 40.0 /* grey levels of one wave, and of synth-noise = 1 */
#define WAVES    3

enum { STREAM_CENTRES, STREAM_SAMPLES };

static void fill_classes(struct dml_dataset *ds, struct dml_rng *rng, const float *centres,
                         size_t first, double noise)
{
    size_t d = dml_dataset_d(ds);
    for (size_t i = 0; i < ds->n_samples; i++) {
        size_t k = (first + i) % ds->n_classes;
        const float *centre = centres + k * d;
        ds->labels[i] = (int32_t)k;
        for (size_t j = 0; j < d; j++) {
            double v = (double)centre[j] + noise * dml_rng_normal(rng);
            if (ds->kind == DML_DATASET_F32)
                ((float *)ds->x)[i * d + j] = (float)v;
            else
                ((uint8_t *)ds->x)[i * d + j] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : lrint(v));
        }
    }
}

static void fill_regression(struct dml_dataset *ds, struct dml_rng *rng, const float *w,
                            double noise)
{
    size_t d = dml_dataset_d(ds);
    for (size_t i = 0; i < ds->n_samples; i++) {
        double y = 0;
        for (size_t j = 0; j < d; j++) {
            double v = dml_rng_normal(rng);
            ((float *)ds->x)[i * d + j] = (float)v;
            y += (double)w[j] * v;
        }
        ds->targets[i] = (float)(y / sqrt((double)d) + noise * dml_rng_normal(rng));
    }
}

/* centres: [classes][C][H][W] */
static void draw_waves(struct dml_rng *rng, size_t n_planes, uint32_t side, float *centres)
{
    for (size_t p = 0; p < n_planes; p++, centres += (size_t)side * side)
        for (int k = 0; k < WAVES; k++) {
            double fy = 2 * M_PI * (double)dml_rng_below(rng, 4) / side;
            double fx = 2 * M_PI * (double)(1 + dml_rng_below(rng, 3)) / side;
            double phase = 2 * M_PI * dml_rng_uniform(rng);
            for (uint32_t y = 0; y < side; y++)
                for (uint32_t x = 0; x < side; x++)
                    centres[(size_t)y * side + x] +=
                        (float)((k ? 0 : GREY) + CONTRAST * sin(fy * y + fx * x + phase));
        }
}

static int name_classes(struct dml_dataset *ds)
{
    for (uint32_t k = 0; k < ds->n_classes; k++)
        if (!(ds->class_names[k] = dml_mem_printf("class-%u", k)))
            return -ENOMEM;
    return 0;
}

static int make(const struct dml_data_options *o, enum dml_dataset_kind kind, uint32_t channels,
                uint32_t side, struct dml_dataset **ret_train, struct dml_dataset **ret_test)
{
    uint32_t n_classes = o->task ? 0 : (uint32_t)o->synth_classes;
    size_t d = (size_t)channels * side * side, n = o->synth_samples;
    size_t n_test = (size_t)llrint((double)n * o->test_fraction);
    n_test = n_test < 1 ? 1 : n_test >= n ? n - 1 : n_test;

    _cleanup_(dml_dataset_freep) struct dml_dataset *train =
        dml_dataset_new(kind, n - n_test, channels, side, side, n_classes);
    _cleanup_(dml_dataset_freep) struct dml_dataset *test =
        dml_dataset_new(kind, n_test, channels, side, side, n_classes);
    _cleanup_(dml_mem_freep) float *centres = dml_mem_floats(d * (n_classes ? n_classes : 1));
    if (!train || !test || !centres || name_classes(train) < 0 || name_classes(test) < 0)
        return -ENOMEM;

    struct dml_rng rng;
    dml_rng_init(&rng, o->split_seed, STREAM_CENTRES, DML_RNG_SYNTH, 0);
    if (kind == DML_DATASET_U8)
        draw_waves(&rng, (size_t)n_classes * channels, side, centres);
    else
        for (size_t i = 0; i < d * (n_classes ? n_classes : 1); i++)
            centres[i] = (float)dml_rng_normal(&rng);

    dml_rng_init(&rng, o->split_seed, STREAM_SAMPLES, DML_RNG_SYNTH, 0);
    double noise = o->synth_noise * (kind == DML_DATASET_U8 ? CONTRAST : 1);
    if (n_classes) {
        fill_classes(train, &rng, centres, 0, noise);
        fill_classes(test, &rng, centres, n - n_test, noise);
    } else {
        fill_regression(train, &rng, centres, noise);
        fill_regression(test, &rng, centres, noise);
    }
    *ret_train = train, *ret_test = test;
    train = test = NULL;
    return 0;
}

static int load_table(const struct dml_data_options *o, const char *path,
                      struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                      struct dml_err *err)
{
    (void)path, (void)err;
    return make(o, DML_DATASET_F32, (uint32_t)o->synth_features, 1, ret_train, ret_test);
}

static bool shape_of_table(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    *ret = (struct dml_dataset_shape){(uint32_t)o->synth_features, 1, 1, true,
                                      o->task ? 0 : (uint32_t)o->synth_classes};
    return true;
}

static bool shape_of_images(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    for (uint32_t channels = 1; channels <= 3; channels += 2) {
        uint64_t plane = o->synth_features / channels;
        uint32_t side = (uint32_t)lrint(sqrt((double)plane));
        if (plane && o->synth_features % channels == 0 && (uint64_t)side * side == plane) {
            *ret = (struct dml_dataset_shape){channels, side, side, true,
                                              (uint32_t)o->synth_classes};
            return true;
        }
    }
    return false;
}

static int load_images(const struct dml_data_options *o, const char *path,
                       struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                       struct dml_err *err)
{
    (void)path;
    struct dml_dataset_shape s;
    if (o->task)
        return dml_err_set(err, -EINVAL, "synth-images has classes only: task = classification");
    if (shape_of_images(o, &s))
        return make(o, DML_DATASET_U8, s.channels, s.width, ret_train, ret_test);
    return dml_err_set(err, -EINVAL,
                       "synth-features = %" PRIu64 " is no square image: synth-images takes s*s "
                       "(784 for 28x28) or 3*s*s (3072 for 3x32x32)",
                       o->synth_features);
}

const struct dml_dataset_format dml_synth_format = {
    .name = "synth",
    .summary = "Made up: a table of Gaussian blobs (or a linear function, task = regression)",
    .default_path = "",
    .where_to_get = "It needs no files",
    .shape = shape_of_table,
    .load = load_table,
};

const struct dml_dataset_format dml_synth_images_format = {
    .name = "synth-images",
    .summary = "Made up: images of plane waves with noise, one pattern per class",
    .default_path = "",
    .where_to_get = "It needs no files",
    .shape = shape_of_images,
    .load = load_images,
};
