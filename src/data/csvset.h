/* From parsed tables to data sets. Private to data/. */
#pragma once

#include "data/csv.h"

/*
 * Both sets. test NULL: o->test_fraction of the rows of `train`, drawn with o->split_seed.
 * Class ids follow the sorted names of all rows, so they do not depend on the order of rows.
 * Returns 0, -EBADMSG (too few rows, too many classes; err names `file`), -ENOMEM.
 */
int dml_csvset_split(const struct dml_csv *train, const struct dml_csv *test, const char *file,
                     const struct dml_data_options *o, struct dml_dataset **ret_train,
                     struct dml_dataset **ret_test, struct dml_err *err);
