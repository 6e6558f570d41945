/*
 * Minibatches of one rank's shard, step by step: every epoch has an order of its own, in which each
 * sample comes exactly once. Two of them are kept, so that the next one is prepared while the
 * compute threads have the current one.
 *
 * All ranks make the same number of steps in an epoch, those of the largest shard; a rank whose
 * shard is done before has minibatches of no samples for the rest of it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_data_options;
struct dml_dataset;
struct dml_feed;
struct dml_train_options;

struct dml_feed_batch {
    size_t n;               /* samples; may be 0 */
    const float *x;         /* [n][D] */
    const int32_t *labels;  /* [n], or NULL: regression */
    const float *targets;   /* [n], or NULL: classes */
};

/* Borrows ds, which may be empty. rank names the random streams (order, augmentation). */
int dml_feed_new(const struct dml_dataset *ds, const struct dml_train_options *train,
                 const struct dml_data_options *data, uint64_t rank, uint64_t steps_per_epoch,
                 struct dml_feed **ret);
struct dml_feed *dml_feed_free(struct dml_feed *f);
DML_MEM_CLEANUP(struct dml_feed, dml_feed_free);

/* The minibatch of a step, counted over all epochs; prepared now, unless it has been. It stays as
 * it is until the step after the next one is prepared. */
const struct dml_feed_batch *dml_feed_get(struct dml_feed *f, uint64_t step);

/* Steps that n samples make. */
static inline uint64_t dml_feed_steps(uint64_t n_samples, uint64_t batch)
{
    return (n_samples + batch - 1) / batch;
}
