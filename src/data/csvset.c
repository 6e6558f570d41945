/*
 * The format `csv`: which rows train, which test, and which number stands for which class.
 *
 * Files may be sorted (by class, by source, by time), so rows are always shuffled with split_seed,
 * also when nothing is split off: the first train-samples are then a fair draw. The split depends
 * on the number of rows and the seed alone, so every rank that reads the same file agrees on it.
 */
#include "data/csvset.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/rng.h"
#include "data/format.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different labels of both tables, sorted. The pointers stay those of the tables. */
static int collect_classes(const struct dml_csv *train, const struct dml_csv *test,
                           const char *file, const char ***ret, uint32_t *ret_n,
                           struct dml_err *err)
{
    size_t n = 0, n_test = test ? test->n_rows : 0;
    const char **names = dml_mem_array(train->n_rows + n_test, sizeof(*names));
    if (!names)
        return -ENOMEM;
    memcpy(names, train->labels, train->n_rows * sizeof(*names));
    if (test)
        memcpy(names + train->n_rows, test->labels, n_test * sizeof(*names));
    qsort(names, train->n_rows + n_test, sizeof(*names), by_name);
    for (size_t i = 0; i < train->n_rows + n_test; i++)
        if (!i || strcmp(names[i], names[n - 1]))
            names[n++] = names[i];
    if (n > DML_DATASET_CLASSES_MAX) {
        free(names);
        return dml_err_at(err, -EBADMSG, file, 0,
                          "the label has %zu different values, at most %d can be classes; "
                          "task = regression predicts numbers",
                          n, DML_DATASET_CLASSES_MAX);
    }
    *ret = names, *ret_n = (uint32_t)n;
    return 0;
}

/* The rows index[0 … n) as a data set. */
static struct dml_dataset *gather(const struct dml_csv *csv, const uint32_t *index, size_t n,
                                  const char **names, uint32_t n_classes)
{
    size_t d = csv->n_features;
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds =
        dml_dataset_new(DML_DATASET_F32, n, csv->n_features, 1, 1, n_classes);
    if (!ds)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        memcpy((float *)ds->x + i * d, csv->x + index[i] * d, d * sizeof(float));
        if (csv->targets) {
            ds->targets[i] = csv->targets[index[i]];
        } else {
            const char **found =
                bsearch(&csv->labels[index[i]], names, n_classes, sizeof(*names), by_name);
            ds->labels[i] = (int32_t)(found - names);
        }
    }
    for (uint32_t k = 0; k < n_classes; k++)
        if (!(ds->class_names[k] = strdup(names[k])))
            return NULL;

    struct dml_dataset *done = ds;
    ds = NULL;
    return done;
}

static uint32_t *shuffled(size_t n, uint64_t seed, uint64_t stream)
{
    uint32_t *index = dml_mem_array(n, sizeof(*index));
    if (!index)
        return NULL;
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)i;
    struct dml_rng rng;
    dml_rng_init(&rng, seed, stream, DML_RNG_SPLIT, 0);
    dml_rng_shuffle(&rng, index, n);
    return index;
}

int dml_csvset_split(const struct dml_csv *train, const struct dml_csv *test, const char *file,
                     const struct dml_data_options *o, struct dml_dataset **ret_train,
                     struct dml_dataset **ret_test, struct dml_err *err)
{
    if (!test && train->n_rows < 2)
        return dml_err_at(err, -EBADMSG, file, 0,
                          "one row cannot be split into a training and a test set");
    _cleanup_(dml_mem_freep) const char **names = NULL;
    uint32_t n_classes = 0;
    if (train->labels) {
        int r = collect_classes(train, test, file, &names, &n_classes, err);
        if (r < 0)
            return r;
    }

    _cleanup_(dml_mem_freep) uint32_t *index = shuffled(train->n_rows, o->split_seed, 0);
    _cleanup_(dml_mem_freep) uint32_t *test_index =
        shuffled(test ? test->n_rows : 0, o->split_seed, 1);
    if (!index || !test_index)
        return -ENOMEM;
    size_t n_train = train->n_rows, n_test;
    const uint32_t *held_back = test_index;
    if (test) {
        n_test = test->n_rows;
    } else {
        n_test = (size_t)llrint((double)n_train * o->test_fraction);
        n_test = n_test < 1 ? 1 : n_test >= n_train ? n_train - 1 : n_test;
        n_train -= n_test;
        held_back = index + n_train;
    }

    _cleanup_(dml_dataset_freep) struct dml_dataset *a =
        gather(train, index, dml_format_cut(n_train, o->train_samples), names, n_classes);
    _cleanup_(dml_dataset_freep) struct dml_dataset *b = gather(
        test ? test : train, held_back, dml_format_cut(n_test, o->test_samples), names, n_classes);
    if (!a || !b)
        return -ENOMEM;
    *ret_train = a, *ret_test = b;
    a = b = NULL;
    return 0;
}

static int load(const struct dml_data_options *o, const char *path, struct dml_dataset **ret_train,
                struct dml_dataset **ret_test, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *text = NULL, *test_text = NULL;
    _cleanup_(dml_csv_freep) struct dml_csv *train = NULL, *test = NULL;
    size_t len;
    int r = dml_fileio_read(path, DML_FORMAT_FILE_MAX, &text, &len, err);
    if (r == 0)
        r = dml_csv_parse(text, len, path, o, &train, err);
    if (r == 0 && o->test_path && o->test_path[0]) {
        r = dml_fileio_read(o->test_path, DML_FORMAT_FILE_MAX, &test_text, &len, err);
        if (r == 0)
            r = dml_csv_parse(test_text, len, o->test_path, o, &test, err);
        if (r == 0 && strcmp(test->features, train->features))
            r = dml_err_at(err, -EBADMSG, o->test_path, 1,
                           "its columns are not those of %.256s, or in another order; name the "
                           "columns to use with features",
                           path);
    }
    return r < 0 ? r : dml_csvset_split(train, test, path, o, ret_train, ret_test, err);
}

/* Classes are in the rows; the inputs are counted here only when the test case names them. */
static bool shape(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    uint32_t n = 0;
    for (const char *p = o->features; p && *p; p += strcspn(p, " \t")) {
        p += strspn(p, " \t");
        n += *p != '\0';
    }
    *ret = (struct dml_dataset_shape){n, 1, 1, o->task == 1, 0};
    return n > 0;
}

const struct dml_dataset_format dml_csvset_format = {
    .name = "csv",
    .summary = "A table with a header line, plain or .gz; features and label are column names",
    .where_to_get = "Let path name a text file whose first line names the columns and whose rows "
                    "are numbers and a label",
    .shape = shape,
    .load = load,
};
