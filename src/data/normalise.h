/* Statistics of the training set, and nothing but the training set. Private to data/. */
#pragma once

#include "data/dataset.h"

/*
 * Sets mean and scale [C] of `train` as `kind` (enum dml_data_normalise) says and copies them to
 * `test`, which is not looked at otherwise.
 * Returns 0 or -EINVAL (half is for pixels).
 * Cost: one pass over bytes, two over floats.
 */
int dml_normalise_fit(struct dml_dataset *train, struct dml_dataset *test, int kind,
                      struct dml_err *err);
