/*
 * The data set object, and the way from a name in a test case to two of them.
 *
 * Readers only read. Everything that holds for all formats is done here, once: which reader, which
 * path, that both sets have one shape, cutting to the sizes asked for, statistics from the training
 * set, and the sentence that says where a missing data set can be had.
 */
#include "data/dataset.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "data/format.h"
#include "data/normalise.h"

static const struct dml_dataset_format *const formats[] = {
    &dml_idx_fashion_format, &dml_idx_mnist_format,    &dml_idx_format,   &dml_cifar10_format,
    &dml_csvset_format, &dml_text_format,      &dml_synth_images_format, &dml_synth_format, NULL,
};

const struct dml_dataset_format *const *dml_dataset_formats(void)
{
    return formats;
}

struct dml_dataset *dml_dataset_new(enum dml_dataset_kind kind, size_t n_samples, uint32_t channels,
                                    uint32_t height, uint32_t width, uint32_t n_classes)
{
    size_t d, all;
    if (!channels || !height || !width || n_samples > UINT32_MAX ||
        n_classes > DML_DATASET_CLASSES_MAX)
        return NULL;
    if (!dml_mem_mul(channels, height, &d) || !dml_mem_mul(d, width, &d) ||
        !dml_mem_mul(d, kind == DML_DATASET_U8 ? 1 : sizeof(float), &all) ||
        !dml_mem_mul(all, n_samples, &all) || all > DML_DATASET_BYTES_MAX)
        return NULL;

    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = calloc(1, sizeof(*ds));
    if (!ds)
        return NULL;
    ds->kind = kind;
    ds->n_samples = n_samples;
    ds->channels = channels, ds->height = height, ds->width = width;
    ds->n_classes = n_classes;
    ds->x = dml_mem_array(all, 1);
    ds->mean = dml_mem_floats(channels);
    ds->scale = dml_mem_floats(channels);
    if (n_classes) {
        ds->labels = dml_mem_array(n_samples, sizeof(*ds->labels));
        ds->class_names = dml_mem_array(n_classes, sizeof(*ds->class_names));
    } else {
        ds->targets = dml_mem_floats(n_samples);
    }
    if (!ds->x || !ds->mean || !ds->scale ||
        (n_classes ? !ds->labels || !ds->class_names : !ds->targets))
        return NULL;
    for (size_t c = 0; c < channels; c++)
        ds->scale[c] = 1;

    struct dml_dataset *done = ds;
    ds = NULL;
    return done;
}

struct dml_dataset *dml_dataset_free(struct dml_dataset *ds)
{
    if (!ds)
        return NULL;
    for (size_t i = 0; ds->class_names && i < ds->n_classes; i++)
        free(ds->class_names[i]);
    free(ds->class_names);
    free(ds->x);
    free(ds->labels);
    free(ds->targets);
    free(ds->mean);
    free(ds->scale);
    free(ds);
    return NULL;
}

struct dml_dataset *dml_dataset_subset(const struct dml_dataset *ds, const uint32_t *index,
                                       size_t n)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *sub =
        dml_dataset_new(ds->kind, n, ds->channels, ds->height, ds->width, ds->n_classes);
    if (!sub)
        return NULL;
    size_t row = dml_dataset_d(ds) * (ds->kind == DML_DATASET_U8 ? 1 : sizeof(float));
    for (size_t i = 0; i < n; i++) {
        assert(index[i] < ds->n_samples);
        memcpy((char *)sub->x + i * row, (const char *)ds->x + index[i] * row, row);
        if (sub->labels)
            sub->labels[i] = ds->labels[index[i]];
        else
            sub->targets[i] = ds->targets[index[i]];
    }
    memcpy(sub->mean, ds->mean, ds->channels * sizeof(float));
    memcpy(sub->scale, ds->scale, ds->channels * sizeof(float));
    for (size_t i = 0; i < ds->n_classes; i++)
        if (ds->class_names[i] && !(sub->class_names[i] = strdup(ds->class_names[i])))
            return NULL;

    struct dml_dataset *done = sub;
    sub = NULL;
    return done;
}

static int find_format(const char *name, const struct dml_dataset_format **ret, struct dml_err *err)
{
    const char *names[ARRAY_SIZE(formats)];
    char all[256] = "";
    size_t n = 0;
    for (; formats[n]; n++) {
        if (!strcmp(formats[n]->name, name)) {
            *ret = formats[n];
            return 0;
        }
        names[n] = formats[n]->name;
        size_t used = strlen(all);
        (void)snprintf(all + used, sizeof(all) - used, "%s%s", n ? ", " : "", names[n]);
    }
    const char *near = dml_opt_nearest(name, names, n);
    return dml_err_set(err, -EINVAL, "no data set is called \"%.64s\"%s%s%s; there are: %s", name,
                       near ? "; did you mean \"" : "", near ? near : "", near ? "\"" : "", all);
}

/* The first `limit` samples; their memory stays, readers have cut already where it matters. */
static int cut(struct dml_dataset *ds, uint64_t limit, const char *key, const char *which,
               struct dml_err *err)
{
    if (limit > ds->n_samples)
        return dml_err_set(err, -EINVAL, "%s = %" PRIu64 ", but the %s set has %zu samples", key,
                           limit, which, ds->n_samples);
    if (limit)
        ds->n_samples = (size_t)limit;
    return 0;
}

/* What is asked for must make sense for what was read. */
static int check(const struct dml_data_options *o, const char *path,
                 const struct dml_dataset *train, const struct dml_dataset *test,
                 struct dml_err *err)
{
    if (train->kind != test->kind || train->channels != test->channels ||
        train->height != test->height || train->width != test->width ||
        train->n_classes != test->n_classes)
        return dml_err_at(err, -EBADMSG, path, 0,
                          "training samples are %ux%ux%u with %u classes, test samples %ux%ux%u "
                          "with %u",
                          train->channels, train->height, train->width, train->n_classes,
                          test->channels, test->height, test->width, test->n_classes);
    if (o->task && train->n_classes)
        return dml_err_set(err, -EINVAL, "task = regression is for csv and synth; %s has classes",
                           o->dataset);
    if (o->augment == DML_AUGMENT_NONE)
        return 0;
    if (train->height == 1 && train->width == 1)
        return dml_err_set(err, -EINVAL, "augment is for images; %s is a table: none", o->dataset);
    uint32_t side = train->height < train->width ? train->height : train->width;
    if (o->augment != DML_AUGMENT_FLIP && o->crop_padding >= side)
        return dml_err_set(err, -EINVAL,
                           "crop-padding = %" PRIu64 " is too much for images of %ux%u pixels: "
                           "at most %u",
                           o->crop_padding, train->height, train->width, side - 1);
    return 0;
}

bool dml_dataset_foresee(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    for (size_t i = 0; formats[i]; i++)
        if (!strcmp(formats[i]->name, o->dataset))
            return formats[i]->shape && formats[i]->shape(o, ret);
    return false;
}

int dml_dataset_load(const struct dml_data_options *o, struct dml_dataset **ret_train,
                     struct dml_dataset **ret_test, struct dml_err *err)
{
    struct dml_err local = {0};
    if (!err)
        err = &local;

    const struct dml_dataset_format *f = NULL;
    int r = find_format(o->dataset, &f, err);
    if (r < 0)
        return r;
    const char *path = o->path && o->path[0] ? o->path : f->default_path;
    if (!path)
        return dml_err_set(err, -EINVAL, "%s needs a path. %s", f->name, f->where_to_get);

    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    r = f->load(o, path, &train, &test, err);
    if (r == -ENOENT) {
        struct dml_err found = *err;
        return dml_err_at(err, r, found.file, found.line, "%s. %s", found.text, f->where_to_get);
    }
    if (r < 0)
        return r;
    r = cut(train, o->train_samples, "train-samples", "training", err);
    if (r == 0)
        r = cut(test, o->test_samples, "test-samples", "test", err);
    if (r == 0)
        r = check(o, path, train, test, err);
    if (r == 0 && !f->is_codes)
        r = dml_normalise_fit(train, test, o->normalise, err);
    if (r < 0)
        return r;
    *ret_train = train, *ret_test = test;
    train = test = NULL;
    return 0;
}
