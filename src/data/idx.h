/* The IDX layout of MNIST and its relatives, in memory. Private to data/. */
#pragma once

#include "data/dataset.h"

/*
 * Unsigned bytes in 2 (N × D), 3 (N × H × W) or 4 (N × C × H × W) dimensions.
 * *ret_x borrows from `data`; *ret_shape is N C H W.
 * Returns 0 or -EBADMSG (err: `file`, what was found).
 */
int dml_idx_parse_images(const void *data, size_t len, const char *file, const uint8_t **ret_x,
                         uint32_t ret_shape[4], struct dml_err *err);

/* Unsigned bytes in 1 dimension. Returns as above; *ret_max is the largest label. */
int dml_idx_parse_labels(const void *data, size_t len, const char *file, const uint8_t **ret_labels,
                         size_t *ret_n, unsigned *ret_max, struct dml_err *err);
