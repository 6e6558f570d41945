/* Who gets which samples: pure functions of (labels, options, seed, number of shards). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "data/dataset.h"

struct dml_shards {
    size_t n_shards;
    uint32_t **index; /* [n_shards][n[i]], each ascending */
    size_t *n;
};

/*
 * Deals the samples of `train` to n_shards workers; every sample goes to exactly one, nobody gets
 * none.
 *   iid        a seeded shuffle, dealt out evenly (sizes differ by at most one)
 *   label      each worker gets labels_per_worker classes        Source: McMahan et al. 2017
 *   dirichlet  class mix of each worker ~ Dirichlet(alpha · p), p the classes' shares; equal sizes
 *                                                                Source: Hsu et al. 2019
 *   unequal    iid, but shard r has a share proportional to alpha^r
 * Returns 0, -EINVAL (fewer samples than workers; label or dirichlet of a regression; too few
 * labels_per_worker for every class to have an owner), -ENOMEM.
 * Owner: caller, dml_shards_free().
 */
int dml_shard_make(const struct dml_dataset *train, const struct dml_data_options *o, uint64_t seed,
                   size_t n_shards, struct dml_shards **ret, struct dml_err *err);
struct dml_shards *dml_shards_free(struct dml_shards *shards);
DML_MEM_CLEANUP(struct dml_shards, dml_shards_free);
