/*
 * From samples in memory to the floats of one step: order, normalisation, augmentation.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "data/dataset.h"

/* The order of epoch `epoch` for `rank`: index[0..n) becomes a permutation, fixed by the triple. */
void dml_batch_order(uint32_t *index, size_t n, uint64_t seed, uint64_t rank, uint64_t epoch);

struct dml_batch_augment {
    int kind; /* enum dml_data_augment */
    uint32_t padding;
    uint64_t seed, rank, step; /* names the random stream */
};

/*
 * x: [B][C][H][W] floats, normalised (and augmented when `augment` is not NULL; images only).
 * labels: [B] or NULL; targets: [B] or NULL. Sample b of the result depends only on index[b] and
 * on (seed, rank, step, first + b), so threads may fill slices of one batch: `first` is the
 * position of index[0] within the whole batch.
 */
void dml_batch_fill(const struct dml_dataset *ds, const uint32_t *index, size_t n, size_t first,
                    const struct dml_batch_augment *augment, float *x, int32_t *labels,
                    float *targets);

/* Says beforehand which samples are wanted soon. Rows are short and lie anywhere, so that each
 * would come from memory while the step waits. */
void dml_batch_expect(const struct dml_dataset *ds, const uint32_t *index, size_t n);
