/*
 * CIFAR-10 in its official binary layout.
 *
 * A batch file is records of 1 byte label (0…9) and 3072 bytes pixels: 1024 red, 1024 green, 1024
 * blue, each plane row by row. That is [C][H][W] already, so reading is checking and copying.
 * There are five files of 10,000 training images and one of test images; a file may hold any whole
 * number of records, which lets people keep small extracts.
 *
 * The sets are allocated at their final size and the files are read one after another: 184 MB of
 * data peak at 184 + 31 MB.
 *
 * Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
 * https://www.cs.toronto.edu/~kriz/cifar.html, "binary version".
 */
#include "data/cifar10.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "data/format.h"

#define OFFICIAL_BYTES 30730000 /* 10,000 records */

static const char *const train_files[] = {"data_batch_1.bin", "data_batch_2.bin",
                                          "data_batch_3.bin", "data_batch_4.bin",
                                          "data_batch_5.bin"};
static const char *const test_files[] = {"test_batch.bin"};

static const char *const classes[DML_CIFAR10_CLASSES] = {
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};

int dml_cifar10_parse(const void *data, size_t len, const char *file, struct dml_dataset *ds,
                      size_t first, size_t *ret_n, struct dml_err *err)
{
    const uint8_t *p = data;
    size_t n = len / DML_CIFAR10_RECORD;
    if (len == 0 || len % DML_CIFAR10_RECORD)
        return dml_err_at(err, -EBADMSG, file, 0,
                          "%zu bytes are no whole number of images of %u bytes; an official batch "
                          "has %d bytes",
                          len, DML_CIFAR10_RECORD, OFFICIAL_BYTES);
    if (n > ds->n_samples - first)
        n = ds->n_samples - first;
    for (size_t i = 0; i < n; i++, p += DML_CIFAR10_RECORD) {
        if (p[0] >= DML_CIFAR10_CLASSES)
            return dml_err_at(err, -EBADMSG, file, 0, "image %zu has label %u; labels are 0 to %u",
                              i, p[0], DML_CIFAR10_CLASSES - 1);
        ds->labels[first + i] = p[0];
        memcpy((uint8_t *)ds->x + (first + i) * DML_CIFAR10_PIXELS, p + 1, DML_CIFAR10_PIXELS);
    }
    *ret_n = n;
    return 0;
}

/* The names in batches.meta.txt, one a line, when the folder has one with ten of them. */
static int name_classes(const char *folder, struct dml_dataset *ds)
{
    static const char *const meta[] = {"batches.meta.txt"};
    char path[DML_FORMAT_PATH_MAX];
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len, n = 0;
    const char *names[DML_CIFAR10_CLASSES];
    memcpy(names, classes, sizeof(names));
    if (dml_format_read(folder, meta, 1, path, &text, &len, NULL) == 0) {
        const char *found[DML_CIFAR10_CLASSES];
        char *rest = NULL;
        for (char *w = strtok_r(text, "\r\n", &rest); w; w = strtok_r(NULL, "\r\n", &rest)) {
            if (n < DML_CIFAR10_CLASSES)
                found[n] = w;
            n += strlen(w) < DML_DATASET_NAME_MAX ? 1 : 2 * DML_CIFAR10_CLASSES;
        }
        if (n == DML_CIFAR10_CLASSES)
            memcpy(names, found, sizeof(names));
    }
    for (size_t k = 0; k < DML_CIFAR10_CLASSES; k++)
        if (!(ds->class_names[k] = strdup(names[k])))
            return -ENOMEM;
    return 0;
}

/* One set from its files. All hold as many images as the first: a shorter one is torn. */
static int load_set(const char *folder, const char *const *files, size_t n_files, uint64_t limit,
                    struct dml_dataset **ret, struct dml_err *err)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = NULL;
    size_t each = 0, at = 0;
    for (size_t i = 0; i < n_files && (!ds || at < ds->n_samples); i++) {
        char path[DML_FORMAT_PATH_MAX];
        _cleanup_(dml_mem_freep) char *data = NULL;
        size_t len, n;
        int r = dml_format_read(folder, &files[i], 1, path, &data, &len, err);
        if (r < 0)
            return r;
        if (!ds) {
            each = len;
            ds = dml_dataset_new(DML_DATASET_U8,
                                 dml_format_cut(n_files * (len / DML_CIFAR10_RECORD), limit), 3, 32,
                                 32, DML_CIFAR10_CLASSES);
            if (!ds)
                return -ENOMEM;
        }
        if (len != each)
            return dml_err_at(err, -EBADMSG, path, 0,
                              "holds %zu bytes where %s holds %zu; all batches have one size", len,
                              files[0], each);
        r = dml_cifar10_parse(data, len, path, ds, at, &n, err);
        if (r < 0)
            return r;
        at += n;
    }
    int r = name_classes(folder, ds);
    if (r < 0)
        return r;
    *ret = ds;
    ds = NULL;
    return 0;
}

static int load(const struct dml_data_options *o, const char *path, struct dml_dataset **ret_train,
                struct dml_dataset **ret_test, struct dml_err *err)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    int r = load_set(path, train_files, ARRAY_SIZE(train_files), o->train_samples, &train, err);
    if (r == 0)
        r = load_set(path, test_files, ARRAY_SIZE(test_files), o->test_samples, &test, err);
    if (r < 0)
        return r;
    *ret_train = train, *ret_test = test;
    train = test = NULL;
    return 0;
}

static bool shape(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    (void)o;
    *ret = (struct dml_dataset_shape){3, 32, 32, true, 10};
    return true;
}

const struct dml_dataset_format dml_cifar10_format = {
    .name = "cifar10",
    .summary = "CIFAR-10, binary version: 60,000 colour images of 32x32 pixels, 10 classes",
    .default_path = DML_STATE_DIR "/datasets/cifar10",
    .where_to_get = "Get https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, unpack it and "
                    "let path name its folder cifar-10-batches-bin",
    .shape = shape,
    .load = load,
};
