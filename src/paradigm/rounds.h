/*
 * The book-keeping every paradigm needs on the master: when a round began, who answered, what it
 * cost, how good the model is now.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "paradigm/message.h"
#include "paradigm/paradigm.h"

struct dml_rounds {
    struct dml_task *task;
    struct dml_round record;           /* of the current round */
    struct dml_round_worker *workers;  /* [nodes] */
    struct dml_comm_stats before;      /* then */
    uint64_t begin_us;                 /* of the round; after its end, when the clock stopped */
    double loss_sum, sample_sum;
    uint64_t work_sum_us;
    uint64_t saved_bytes;              /* by a filter, in this round; set before its end */
    struct dml_run_totals totals;      /* of the rounds that are over */
};

int dml_rounds_init(struct dml_rounds *r, struct dml_task *task);
void dml_rounds_done(struct dml_rounds *r);

/* The clock of the round starts here. */
void dml_rounds_begin(struct dml_rounds *r, uint64_t round);

/* The clock goes on from where the last round's stopped: for workers that train all the time. Not
 * after an evaluation. */
void dml_rounds_go_on(struct dml_rounds *r, uint64_t round);

/* The first round from `round` on that is evaluated when it is over; UINT64_MAX: none. */
uint64_t dml_rounds_next_evaluated(const struct dml_rounds *r, uint64_t round);

/*
 * Whether an UPDATE or PROGRESS can be believed: all meta fields there, counts positive, and a body
 * of n_vec floats (n_vec 0: none). Values are not looked at: see dml_rounds_end().
 */
bool dml_rounds_update_is_sound(const struct dml_rounds *r, const struct dml_comm_msg *msg,
                                size_t n_vec);

/* Counts a sound answer in; several of a worker in one round add up. Returns the worker's row of
 * the round. */
struct dml_round_worker *dml_rounds_answer(struct dml_rounds *r, const struct dml_comm_msg *msg);

/*
 * The clock stops; task->vec is evaluated when that is due and `vec_is_new` (standalone moves its
 * parameters only once, at the end); the round is told. strategy: "" when there is none.
 * Returns 0, -ECANCELED, or -ERANGE with a sentence when training has diverged: the loss of
 * training or of the test set, or a parameter, is no finite number.
 */
int dml_rounds_end(struct dml_rounds *r, bool vec_is_new, const char *strategy,
                   struct dml_err *err);

/* Fills task->totals (setup_us excepted) from all rounds. */
void dml_rounds_totals(struct dml_rounds *r, unsigned n_lost);

/* Worker: the numbers of an UPDATE or PROGRESS. */
void dml_rounds_fill_update(struct dml_comm_msg *io_msg, size_t n_shard,
                            const struct dml_trainer_result *fit);

/* Deadlines from now on, by the test case. */
uint64_t dml_rounds_deadline(const struct dml_task *task);
uint64_t dml_rounds_setup_deadline(const struct dml_task *task);
