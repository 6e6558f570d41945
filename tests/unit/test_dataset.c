/* The data set object, loading by name, normalisation, synthetic sets. */
#include <errno.h>

#include "tests/unit/data_files.h"

static void test_new(void)
{
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_U8, 3, 2, 4, 5, 6);
    tap_ok(ds != NULL, "a set");
    tap_int((long long)dml_dataset_d(ds), 40, "inputs");
    tap_ok(ds->labels && !ds->targets && ds->class_names && !ds->class_names[5], "classes");
    tap_ok(ds->mean[1] == 0 && ds->scale[1] == 1, "statistics that change nothing");
    tap_ok(dml_dataset_free(ds) == NULL && dml_dataset_free(NULL) == NULL, "free returns NULL");
    ds = dml_dataset_new(DML_DATASET_F32, 0, 1, 1, 1, 0);
    tap_ok(ds && ds->targets && !ds->labels && !ds->class_names, "regression, no samples yet");
    (void)dml_dataset_free(ds);

    tap_ok(!dml_dataset_new(DML_DATASET_U8, 1, 0, 1, 1, 2), "no channels");
    tap_ok(!dml_dataset_new(DML_DATASET_U8, 1, 1, 1, 1, DML_DATASET_CLASSES_MAX + 1), "classes");
    tap_ok(!dml_dataset_new(DML_DATASET_U8, 1, 1u << 31, 1u << 31, 1u << 31, 2), "overflow");
    tap_ok(!dml_dataset_new(DML_DATASET_U8, (size_t)1 << 31, 1, 4, 1, 2), "over the limit");
    tap_ok(!dml_dataset_new(DML_DATASET_F32, (size_t)1 << 30, 1, 2, 1, 2), "in floats");
}

static void test_subset(void)
{
    struct dml_data_options o = data_options("synth");
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL, *sub = NULL;
    tap_int(dml_dataset_load(&o, &train, &test, NULL), 0, "synth");
    static const uint32_t index[] = {7, 0, 7};
    sub = dml_dataset_subset(train, index, 3);
    size_t d = dml_dataset_d(train);
    const float *x = train->x, *s = sub->x;
    tap_int((long long)sub->n_samples, 3, "samples");
    tap_ok(!memcmp(s, x + 7 * d, d * 4) && !memcmp(s + d, x, d * 4) &&
               !memcmp(s + 2 * d, x + 7 * d, d * 4),
           "the samples named, in that order");
    tap_int(sub->labels[0], train->labels[7], "their labels");
    tap_str(sub->class_names[3], "class-3", "names");
    tap_ok(sub->class_names[3] != train->class_names[3], "as own strings");
    tap_ok(!memcmp(sub->mean, train->mean, 4 * d) && !memcmp(sub->scale, train->scale, 4 * d),
           "statistics");
    data_options_done(&o);
}

static void test_names(void)
{
    const struct dml_dataset_format *const *f = dml_dataset_formats();
    unsigned n = 0, told = 0;
    for (; f[n]; n++)
        told += f[n]->name && f[n]->summary && f[n]->where_to_get && f[n]->load;
    tap_ok(n >= 7 && told == n, "every format says what it is and where to get it");
    struct dml_data_options o = data_options("fashion-mnsit");
    data_refused(&o, -EINVAL, "did you mean \"fashion-mnist\"", "a name with a slip");
    data_set(&o, "dataset", "imagenet21k");
    data_refused(&o, -EINVAL, "cifar10, csv", "an unknown name is answered with the known ones");
    data_set(&o, "dataset", "synth-images");
    data_set(&o, "task", "regression");
    data_refused(&o, -EINVAL, "task = classification", "regression on images");
    data_options_done(&o);
}

/* Mean and deviation after normalisation, of one channel. */
static void moments(const struct dml_dataset *ds, size_t c, double *ret_mean, double *ret_sd)
{
    size_t plane = (size_t)ds->height * ds->width, n = ds->n_samples * plane;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < ds->n_samples; i++)
        for (size_t j = 0; j < plane; j++) {
            size_t at = (i * ds->channels + c) * plane + j;
            double raw =
                ds->kind == DML_DATASET_U8 ? ((uint8_t *)ds->x)[at] : (double)((float *)ds->x)[at];
            double v = (raw - (double)ds->mean[c]) * (double)ds->scale[c];
            sum += v;
            squares += v * v;
        }
    *ret_mean = sum / (double)n;
    *ret_sd = sqrt(squares / (double)n - *ret_mean * *ret_mean);
}

static void test_normalise(void)
{
    static const char *const names[] = {"synth", "synth-images"};
    for (size_t i = 0; i < 2; i++) {
        struct dml_data_options o = data_options(names[i]);
        data_set(&o, "synth-features", i ? "192" : "5");
        _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
        tap_int(dml_dataset_load(&o, &train, &test, NULL), 0, names[i]);
        tap_int(train->channels, i ? 3 : 5, "channels");
        for (size_t c = 0; c < train->channels; c++) {
            double mean, sd;
            moments(train, c, &mean, &sd);
            /* mean and scale are floats: 2^-24 of a mean of a few deviations */
            tap_near(mean, 0, 1e-6, "the training set's mean is 0");
            tap_near(sd, 1, 1e-6, "and its deviation 1");
        }
        tap_ok(!memcmp(train->mean, test->mean, 4 * train->channels) &&
                   !memcmp(train->scale, test->scale, 4 * train->channels),
               "the test set has the same");
        data_options_done(&o);
    }
    struct dml_data_options o = data_options("synth-images");
    _cleanup_(dml_dataset_freep) struct dml_dataset *a = NULL, *b = NULL, *c = NULL, *d = NULL;
    data_set(&o, "normalise", "half");
    tap_int(dml_dataset_load(&o, &a, &b, NULL), 0, "half");
    tap_near((255 - (double)a->mean[0]) * (double)a->scale[0], 1, 1e-7, "white is 1");
    tap_near((0 - (double)a->mean[0]) * (double)a->scale[0], -1, 1e-7, "black is -1");
    data_set(&o, "normalise", "none");
    tap_int(dml_dataset_load(&o, &c, &d, NULL), 0, "none");
    tap_near((255 - (double)c->mean[0]) * (double)c->scale[0], 1, 1e-7, "white is 1");
    tap_near((double)c->mean[0], 0, 0, "black is 0");
    data_set(&o, "augment", "crop");
    data_refused(&o, -EINVAL, "crop-padding = 4 is too much for images of 4x4", "a pad too wide");
    data_options_done(&o);
}

static void test_synth(void)
{
    struct dml_data_options o = data_options("synth");
    _cleanup_(dml_dataset_freep) struct dml_dataset *a = NULL, *b = NULL, *c = NULL, *d = NULL,
                                                    *e = NULL, *f = NULL;
    tap_int(dml_dataset_load(&o, &a, &b, NULL), 0, "synth");
    tap_ok(a->n_samples == 800 && b->n_samples == 200, "split by test-fraction");
    tap_ok(a->labels[799] == 3 && b->labels[0] == 0, "classes take turns, across both sets");
    tap_int(dml_dataset_load(&o, &c, &d, NULL), 0, "again");
    tap_ok(!memcmp(b->x, d->x, 200 * 16 * 4), "the same seed, the same samples");
    data_set(&o, "split-seed", "9");
    tap_int(dml_dataset_load(&o, &e, &f, NULL), 0, "another seed");
    tap_ok(memcmp(b->x, f->x, 200 * 16 * 4), "other samples");

    /* Nearest centre, centres estimated from the training set, must do well on the test set. */
    double centre[4][16] = {{0}};
    for (size_t i = 0; i < a->n_samples; i++)
        for (size_t j = 0; j < 16; j++)
            centre[a->labels[i]][j] += (double)((float *)a->x)[i * 16 + j] / 200;
    unsigned right = 0;
    for (size_t i = 0; i < b->n_samples; i++) {
        double best = INFINITY;
        int pick = -1;
        for (int k = 0; k < 4; k++) {
            double sum = 0;
            for (size_t j = 0; j < 16; j++)
                sum += pow((double)((float *)b->x)[i * 16 + j] - centre[k][j], 2);
            if (sum < best)
                best = sum, pick = k;
        }
        right += pick == b->labels[i];
    }
    tap_ok(right > 180, "both sets have the same centres: %u of 200 right", right);

    (void)dml_dataset_free(e);
    (void)dml_dataset_free(f);
    e = f = NULL;
    data_set(&o, "task", "regression");
    data_set(&o, "synth-noise", "0");
    tap_int(dml_dataset_load(&o, &e, &f, NULL), 0, "regression");
    double squares = 0;
    for (size_t i = 0; i < e->n_samples; i++)
        squares += pow((double)e->targets[i], 2) / (double)e->n_samples;
    tap_ok(!e->labels && squares > 0.1 && squares < 10, "targets of about unit variance");
    data_options_done(&o);

    o = data_options("synth-images");
    data_set(&o, "synth-features", "12");
    (void)dml_dataset_free(e);
    (void)dml_dataset_free(f);
    e = f = NULL;
    tap_int(dml_dataset_load(&o, &e, &f, NULL) == 0 && e->channels == 3 && e->width == 2, 1,
            "3 squares are a colour image");
    data_set(&o, "synth-features", "15");
    data_refused(&o, -EINVAL, "synth-features = 15 is no square", "no image");
    data_options_done(&o);
}

int main(void)
{
    test_new();
    test_subset();
    test_names();
    test_normalise();
    test_synth();
    return tap_done();
}
