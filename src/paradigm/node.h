/*
 * One member's part in a pipeline: its runs of layers, and a step's micro-batches on their way
 * through them, in the order of schedule.h.
 *
 * Activations go on to the member that has the next run, with the labels behind them, for the last
 * one; gradients go back. What is sent is sent while the next operation computes; with overlap = no
 * the next operation waits until it has been taken in. Replicas sum their gradients in buckets, the
 * first stages already while their last backward computes.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nn/trainer.h"
#include "paradigm/layout.h"

struct dml_err;
struct dml_feed_batch;
struct dml_group;
struct dml_node;

struct dml_node_options {
    const struct dml_layout *layout; /* borrowed */
    const struct dml_model *model;   /* the whole one, borrowed */
    const struct dml_testcase *tc;   /* borrowed */
    struct dml_trainer_cpu cpu;
    unsigned member;                 /* 0 … R·S - 1 */
    const atomic_bool *cancel;
};

/* Errors: -ENOMEM, -EAGAIN (no threads). Owner: caller. */
int dml_node_new(const struct dml_node_options *o, struct dml_node **ret, struct dml_err *err);
struct dml_node *dml_node_free(struct dml_node *n);
DML_MEM_CLEANUP(struct dml_node, dml_node_free);

/* The member's part of the model, dml_layout_part() floats with as many moments as the optimiser
 * keeps; step: how many steps that has made. */
void dml_node_load(struct dml_node *n, const float *part, uint64_t step);
void dml_node_store(const struct dml_node *n, float *ret_part);

struct dml_node_step {
    uint64_t step;    /* over all epochs; below 2^36 */
    double rate;
    size_t n_samples; /* of the replica's minibatch; may be 0 */
    double divisor;   /* samples of the step over all replicas; above 0 */
    const struct dml_feed_batch *batch; /* stage 0: the replica's minibatch; else not read */
};

/* Added to by every step; what is said of samples only where the last run is. */
struct dml_node_sums {
    uint64_t n_steps;
    uint64_t n_samples, n_correct;
    double loss;
};

/*
 * One step: all micro-batches forward and back, gradients summed over the replicas, applied.
 * Returns as dml_group_recv(). After an error the step is to be forgotten: dml_node_clear().
 */
int dml_node_step(struct dml_node *n, struct dml_group *group, const struct dml_node_step *step,
                  struct dml_node_sums *io_sums);
void dml_node_clear(struct dml_node *n);

/* Running statistics become their mean over the replicas, at the end of a leg. step: of the leg's
 * last. Returns as dml_group_recv(). */
int dml_node_average_state(struct dml_node *n, struct dml_group *group, uint64_t step);

/* Time in which its threads computed so far. */
uint64_t dml_node_work_us(const struct dml_node *n);
