/*
 * Workers that train in step with each other: the master's half, the same for every paradigm of
 * that kind. (The workers': paradigm/group.h, which says what a leg is.)
 *
 * The master holds the agreed state: parameters, running statistics, the optimiser's moments. It
 * cuts each round into legs of checkpoint-steps steps, chooses the members from the workers that
 * are ready, gives them what they need, waits until all have answered, and takes over what they
 * send. Whoever is lost, or keeps the others waiting for step-deadline, is left out, and the leg is
 * done again; who comes back takes part from the next leg on.
 *
 * Who is to blame when members wait for each other: one that others wait for and that does not say
 * itself whom it waits for. Two that cannot reach each other though the master reaches both end the
 * run, after three tries.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "paradigm/paradigm.h"

struct dml_err;

/* What all members agree upon. */
struct dml_legs_state {
    float *vec;      /* [P+Q] */
    float *moments;  /* [n_moments][P] */
    size_t n_moments, n_params, n_vec;
    uint64_t step;   /* of the optimiser */
};

/* How a paradigm deals the state and the data to n members, in ascending order of their ranks. All
 * pure functions. A NULL stands for the answer in brackets, of a paradigm whose members all have
 * the whole model and send the same. */
struct dml_legs_ops {
    /* The most members, at most n, that can train together; 0: none. [n] */
    unsigned (*fit)(void *arg, unsigned n);
    /* Floats of member i's part. [P+Q + n_moments·P: vec, then moments] */
    size_t (*part)(void *arg, unsigned n, unsigned i);
    void (*take)(void *arg, unsigned n, unsigned i, const struct dml_legs_state *s,
                 float *ret_part);
    void (*put)(void *arg, unsigned n, unsigned i, const float *part,
                struct dml_legs_state *io_s);
    /* Whether member i sends its part at the end of a leg. [the first does] */
    bool (*sends)(void *arg, unsigned n, unsigned i);
    /* Number of member i's shard, or DML_PROVISION_NO_SHARD. [its rank - 1] */
    uint32_t (*shard)(void *arg, unsigned n, unsigned i);
    /* Which layers member i has, for people: "1-3 7-9". [all: ""] */
    void (*layers)(void *arg, unsigned n, unsigned i, char *ret, size_t ret_len);
};

/* part, take and put go together. */

/* A whole run as its master: a paradigm's `master`. Returns 0 or a negative errno with a sentence.
 */
int dml_legs_lead(struct dml_task *task, const struct dml_legs_ops *ops, void *arg,
                  struct dml_err *err);

/* Floats of the whole state, and n_moments of the test case's optimiser. */
size_t dml_legs_n_state(const struct dml_task *task);
size_t dml_legs_n_moments(const struct dml_train_options *train);
