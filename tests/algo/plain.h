/*
 * What distributed training must come to: one process, one thread, one loop over minibatches, with
 * nothing but the model, the optimiser and the order of the samples.
 */
#pragma once

#include "lab.h"

struct plain {
    /* Set by the caller: this replica (from 1; 0: none) has no part in epochs from absent_from on. */
    unsigned absent;
    uint64_t absent_from;

    struct dml_model *model;
    float *vec;           /* [P+Q] trained */
    uint64_t n_steps;
    double loss[LAB_ROUNDS_MAX]; /* mean training loss of each round */
};

/*
 * Trains the lab's case as R replicas would: each step is made of the next minibatch of each
 * replica's shard, in one batch, and with `accumulate` minibatches of each before every step.
 * Bails out on failure.
 */
void plain_train(struct plain *p, struct lab *lab, unsigned n_replicas, unsigned accumulate);
void plain_done(struct plain *p);

/* The largest difference to another vector, and where it is. */
double plain_differs(const struct plain *p, const float *vec, size_t *ret_at);
