/*
 * The plan of a run: what each node will use, worked out before anything starts. A pure function,
 * so that `dmlctl check` says the same as the run would.
 */
#pragma once

#include <stdint.h>

#include "conf/testcase.h"
#include "nn/model.h"

struct dml_err;

struct dml_plan {
    uint32_t size;          /* ranks, the master included */
    double cores_per_node;  /* as asked for; 0 = all */
    unsigned n_threads;     /* compute threads per worker */
    double duty;            /* (0, 1] share of the time they may compute */
    uint64_t worker_bytes;  /* predicted memory of a worker's trainer and messages, data apart */
};

/*
 * cores_here: whole cores the node may use; 0 = not known yet (then `cores = all` plans for one).
 * Returns 0 or -EINVAL with a sentence: more threads than cores, a paradigm that does not go with
 * the number of nodes or the strategy, …
 */
int dml_plan_make(const struct dml_testcase *tc, const struct dml_model *model, unsigned cores_here,
                  struct dml_plan *ret, struct dml_err *err);

/* Compute threads of a worker, as far as the test case says: with cores = all, 1. */
unsigned dml_plan_threads(const struct dml_testcase *tc);

/* Bytes of the longest message body that a worker of this case sends the master: what a connection
 * need not take more of. */
uint64_t dml_plan_longest_answer(const struct dml_testcase *tc, const struct dml_model *model);

/*
 * Whether `n_here` workers of the plan find room in `memory_bytes` (0: not known, taken for enough).
 * Returns 0 or -ENOMEM with a sentence, which is better than what the kernel does later.
 */
int dml_plan_check_memory(const struct dml_plan *plan, const struct dml_model *model,
                          unsigned n_here, uint64_t memory_bytes, struct dml_err *err);
