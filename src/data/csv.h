/* The columns of a CSV file that a test case asks for, in memory. Private to data/. */
#pragma once

#include "data/dataset.h"

struct dml_csv {
    size_t n_rows;
    uint32_t n_features;
    char *features;      /* their names in order, a newline behind each */
    float *x;            /* [N][D] */
    float *targets;      /* [N] for regression, else NULL */
    const char **labels; /* [N] for classification, else NULL; they lie in the text */
};

/*
 * Parses header and rows as o->features, o->label and o->task say. The text is changed; text[len]
 * must be writable. `file` is for messages.
 * Returns 0, -EBADMSG (err: file and line), -EINVAL (a column that is not there), -ENOMEM.
 * Owner: caller, dml_csv_free(); the text must outlive the labels.
 */
int dml_csv_parse(char *text, size_t len, const char *file, const struct dml_data_options *o,
                  struct dml_csv **ret, struct dml_err *err);
struct dml_csv *dml_csv_free(struct dml_csv *csv);
DML_MEM_CLEANUP(struct dml_csv, dml_csv_free);
