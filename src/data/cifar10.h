/* CIFAR-10's binary layout, in memory. Private to data/. */
#pragma once

#include "data/dataset.h"

#define DML_CIFAR10_PIXELS  3072u /* 3 × 32 × 32 */
#define DML_CIFAR10_RECORD  (1u + DML_CIFAR10_PIXELS)
#define DML_CIFAR10_CLASSES 10u

/*
 * Copies the records of one batch file to samples `first`… of `ds`, as many as fit.
 * Returns 0 or -EBADMSG (err: `file`, the record and its label); *ret_n is the number copied.
 */
int dml_cifar10_parse(const void *data, size_t len, const char *file, struct dml_dataset *ds,
                      size_t first, size_t *ret_n, struct dml_err *err);
