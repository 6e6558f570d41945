/*
 * What the readers share: the list of them, and finding a file that may be gzipped.
 * Private to data/.
 */
#pragma once

#include <stddef.h>

#include "data/dataset.h"

/* One file of any format, decompressed: more than any data set that fits a Pi, less than a bomb. */
#define DML_FORMAT_FILE_MAX ((size_t)1 << 30)
#define DML_FORMAT_PATH_MAX 4096 /* PATH_MAX of Linux */

extern const struct dml_dataset_format dml_cifar10_format;
extern const struct dml_dataset_format dml_idx_format, dml_idx_mnist_format, dml_idx_fashion_format;
extern const struct dml_dataset_format dml_csvset_format;
extern const struct dml_dataset_format dml_text_format;
extern const struct dml_dataset_format dml_synth_format, dml_synth_images_format;

/*
 * Reads the first file of `folder` that exists: names[0], names[0].gz, names[1], … A gzipped one
 * is decompressed. ret_path gets the file's path, for messages; it may be set on error too.
 * Returns 0, -ENOENT (err says which file is missing from which folder), or as dml_fileio_read().
 * Owner: caller, free(*ret_data).
 */
int dml_format_read(const char *folder, const char *const *names, size_t n_names,
                    char ret_path[DML_FORMAT_PATH_MAX], char **ret_data, size_t *ret_len,
                    struct dml_err *err);

/* n, or `limit` when that is smaller and not 0: how train_samples and test_samples cut. */
static inline size_t dml_format_cut(size_t n, uint64_t limit)
{
    return limit && limit < n ? (size_t)limit : n;
}
