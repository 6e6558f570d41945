/*
 * The parameter server's ledger: who has handed in which step's gradient, who may go how far, and
 * what each knows of the parameters. No messages, no clock: server.c brings those.
 *
 * A member's clock is the number of steps whose gradients it has handed in; `slowest` is the least
 * clock of all members. A member may begin step i when i ≤ slowest + staleness. With staleness 0 a
 * step's gradients wait for each other and become one step of the optimiser, added in the order of
 * ranks, so a run repeats bit for bit. Otherwise each gradient is applied as it comes, at the rate
 * of its share of the step's samples, so that R of them amount to one synchronous step.
 *
 * Source: stale-synchronous parallel, Ho et al., NIPS 2013; significance filter, Hsieh et al.,
 * NSDI 2017.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "nn/optim.h"

struct dml_ledger;

struct dml_ledger_options {
    uint32_t n_ranks; /* ranks 1 … n_ranks */
    size_t n_params;
    const struct dml_train_options *train; /* borrowed, as the next two */
    const size_t *n_samples; /* [n_ranks] of each rank's shard */
    float *vec;              /* [P], changed by every step */
    uint64_t steps_per_epoch, n_epochs;
    uint64_t staleness; /* or DML_STALENESS_UNBOUNDED */
    double significance;
};

/* Returns 0 or -ENOMEM. */
int dml_ledger_new(const struct dml_ledger_options *o, struct dml_ledger **ret);
struct dml_ledger *dml_ledger_free(struct dml_ledger *l);
DML_MEM_CLEANUP(struct dml_ledger, dml_ledger_free);

/* A rank takes part from the slowest member's step on and knows vec. Returns 0 or -ENOMEM. */
int dml_ledger_admit(struct dml_ledger *l, uint32_t rank);

/* It takes part no more; what it has handed in for a step that is not complete is forgotten. */
void dml_ledger_drop(struct dml_ledger *l, uint32_t rank);

bool dml_ledger_has(const struct dml_ledger *l, uint32_t rank);
unsigned dml_ledger_n_members(const struct dml_ledger *l);
uint64_t dml_ledger_clock(const struct dml_ledger *l, uint32_t rank);

/* Steps whose gradients it has handed in, those included that wait for the others'. */
uint64_t dml_ledger_handed_in(const struct dml_ledger *l, uint32_t rank);

/* Samples of a rank's minibatch of that step. */
size_t dml_ledger_batch(const struct dml_ledger *l, uint32_t rank, uint64_t step);

/*
 * A member's gradient of its next step: sum over its minibatch / batch-size, packed by sparse.h;
 * takes a reference of it. Returns 0, or -EPROTO for another step or unsound bytes, which change
 * nothing.
 */
int dml_ledger_push(struct dml_ledger *l, uint32_t rank, uint64_t step, struct dml_buf *gradient);

/* Staleness 0: applies the step, once all members have handed in their gradients; with fewer than
 * `least` members nothing is complete. Returns whether it did. */
bool dml_ledger_settle(struct dml_ledger *l, unsigned least);

/* A member whose push can be answered now, because it may begin its next step; 0: nobody. */
uint32_t dml_ledger_answerable(const struct dml_ledger *l);

/* Nobody may begin step `first` or a later one until it is raised again; without a limit at first.
 * It never falls. */
void dml_ledger_limit(struct dml_ledger *l, uint64_t first);

/* The last step that a member may begin now, if the limit is above 0. */
uint64_t dml_ledger_grant(const struct dml_ledger *l);

/* The answer: what is new in the parameters for that member, packed by sparse.h. Returns 0 or
 * -ENOMEM. Owner: caller. */
int dml_ledger_answer(struct dml_ledger *l, uint32_t rank, struct dml_buf **ret);

/* Bytes of gradients and answers that the filter has saved so far. */
uint64_t dml_ledger_saved(const struct dml_ledger *l);
