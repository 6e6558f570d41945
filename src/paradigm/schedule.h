/*
 * What one node of a pipeline does in a step, and in which order. A pure function.
 *
 * The layers of the model are cut into S·V runs; run r lies on node r mod S, as its chunk r div S.
 * Each of M micro-batches goes forward through all runs and back. V = 1 is a pipeline, V > 1 a ring.
 *
 * When every node works through its list, waits for what an operation needs and never for what it
 * has sent, all lists come to their ends. A step then takes, for M >= S and an operation's forward
 * and backward costing F and B,  (V·M + S - 1)(F + B):  the pipeline stands still for a share of
 * (S - 1)/(V·M + S - 1), on each node.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct dml_schedule_op {
    bool backward;
    unsigned micro; /* 0 … M-1 */
    unsigned chunk; /* 0 … V-1 */
};

struct dml_schedule {
    size_t n_ops; /* 2·V·M */
    struct dml_schedule_op *ops;
    /* [V] most micro-batches that are between forward and backward in a chunk at a time. In each
     * chunk they go forward in ascending order and back in ascending order, so micro-batch m may
     * keep what it needs in slot m mod n_slots[chunk]. */
    unsigned *n_slots;
};

/*
 * node < S; S, V, M >= 1. hides: nodes keep more micro-batches in flight than the time above needs,
 * so that transfers have time to arrive while something else is computed; at most twice as many.
 * Returns 0, -ENOMEM. Owner: caller.
 */
int dml_schedule_make(unsigned n_stages, unsigned n_chunks, unsigned n_micro, unsigned node,
                      bool hides, struct dml_schedule **ret);
struct dml_schedule *dml_schedule_free(struct dml_schedule *s);
DML_MEM_CLEANUP(struct dml_schedule, dml_schedule_free);
