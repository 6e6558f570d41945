/*
 * A part of a model, or all of it, trained step by step under somebody else's orders: what
 * all-reduce, a parameter server and pipelines are made of. (A trainer, by contrast, runs whole
 * epochs on its own.)
 *
 * One caller's thread gives the orders; the compute threads of the node carry them out, each on its
 * samples of the micro-batch. Gradients are added up until they are applied or cleared. Same seed,
 * same number of threads, same orders: same bits. No allocation in a step.
 *
 * Intended usage:
 *     whole model:   dml_stage_learn_begin(…);
 *                    for each bucket: dml_stage_wait(s, its first), exchange;
 *                    dml_stage_learn_end(…);
 *                    dml_stage_apply(s, rate);
 *     a stage:       dml_stage_forward(s, slot, …) …      (the last one also dml_stage_loss)
 *                    dml_stage_backward(s, slot, …) …
 *                    dml_stage_apply(s, rate);
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nn/model.h"
#include "nn/optim.h"
#include "nn/trainer.h"

struct dml_stage;

struct dml_stage_options {
    const struct dml_model *model;         /* borrowed; a whole model or a part: nn/model_cut.h */
    const struct dml_train_options *train; /* copied */
    struct dml_trainer_cpu cpu;            /* its cpus are read by dml_stage_new() only */
    size_t batch;     /* most samples of one micro-batch, 1 … DML_MODEL_BATCH_MAX */
    unsigned n_slots; /* micro-batches between forward and backward; 0: only whole steps (learn) */
    const atomic_bool *cancel; /* true ends a sleep of the duty cycle early; NULL: never */
    /* NULL, or a stage on the same cores, which must outlive this one and never computes while this
     * one does: their share of a core is one. */
    struct dml_stage *beside;
};

/* Names the random streams, so that dropout draws the same whoever computes it; `first` is the
 * place of x[0] in the replica's minibatch. */
struct dml_stage_at {
    uint64_t rank, step;
    size_t first;
};

/* Returns 0, -EINVAL (a batch of 0 or too large), -ENOMEM, -EAGAIN (no threads). */
int dml_stage_new(const struct dml_stage_options *o, struct dml_stage **ret, struct dml_err *err);
struct dml_stage *dml_stage_free(struct dml_stage *s);
DML_MEM_CLEANUP(struct dml_stage, dml_stage_free);

/* Bytes that a stage of these options will hold: never less than it does. */
uint64_t dml_stage_memory(const struct dml_stage_options *o);

/* [P+Q] of the model given; not initialised by the stage. The caller may read and write it while
 * nothing computes. */
float *dml_stage_vec(struct dml_stage *s);

/*
 * [P] the sum over threads and micro-batches so far; to read and to change (an exchange) until the
 * next order. While learn or a backward in halves runs, only what dml_stage_wait() has said to be final: the pointer is the
 * same at all times and dml_stage_grad() may be called then.
 */
float *dml_stage_grad(struct dml_stage *s);

/*
 * The optimiser's state as one vector, for a checkpoint: floats [n_moments][P], n_moments 0, 1 or
 * 2, and the number of steps taken.
 */
size_t dml_stage_n_moments(const struct dml_stage *s);
void dml_stage_get_moments(const struct dml_stage *s, float *ret, uint64_t *ret_step);
void dml_stage_set_moments(struct dml_stage *s, const float *moments, uint64_t step);

/*
 * Whole model: forward, loss and backward of b ≤ batch samples, in chunks that stay in the cache;
 * b = 0 does nothing. Adds to the gradient, of the sum of losses / divisor (the samples of the
 * whole step over all ranks and micro-batches).
 *   x [b][D], labels [b] or targets [b]: borrowed until learn_end
 * learn_begin returns at once, and the caller has its thread to prepare the next batch or to
 * exchange gradients. dml_stage_wait(s, at) blocks until grad [at … P) is final, its sum over
 * threads included: the last layers' comes first; at = 0 waits for all. It may be called without a
 * running learn and then returns.
 *   ret_loss: the SUM over the b samples; ret_correct as dml_model_loss_grad()
 */
void dml_stage_learn_begin(struct dml_stage *s, const float *x, const int32_t *labels,
                           const float *targets, size_t b, double divisor, struct dml_stage_at at);
void dml_stage_wait(struct dml_stage *s, size_t at);
void dml_stage_learn_end(struct dml_stage *s, double *ret_loss, size_t *ret_correct);

/* Whether the threads still compute what was ordered: between learn_begin and learn_end. */
bool dml_stage_is_busy(const struct dml_stage *s);

/*
 * A stage: x [b][D] → y [b][O], b = 1 … batch. Slot keeps a copy of x and what else backward
 * needs; slots of a stage are 0 … n_slots - 1 and may be used in any order. These block.
 *
 * The last stage makes dy of y: labels [b] or targets [b]; codes [b][dml_model_n_codes(m)], the
 * whole model's x where the loss reads it (else NULL).
 *
 * Backward takes dy [b][O] and gives dx [b][D]; NULL: not wanted. They may not overlap. Empties the
 * slot.
 *
 * The last backward of a step may be given in two halves, which has the caller's thread free to
 * exchange meanwhile what dml_stage_wait() has said to be final. dy and dx: borrowed until the end.
 */
void dml_stage_forward(struct dml_stage *s, unsigned slot, const float *x, size_t b,
                       struct dml_stage_at at, float *y);
void dml_stage_loss(struct dml_stage *s, const float *codes, const float *y, const int32_t *labels,
                    const float *targets, size_t b, double divisor, float *dy, double *ret_loss,
                    size_t *ret_correct);
void dml_stage_backward(struct dml_stage *s, unsigned slot, const float *dy, float *dx);
void dml_stage_backward_begin(struct dml_stage *s, unsigned slot, const float *dy, float *dx);
void dml_stage_backward_end(struct dml_stage *s);

/* One optimiser step with the gradient, which is then 0. */
void dml_stage_apply(struct dml_stage *s, double rate);

/* Forgets gradient and slots: an abandoned step. Ends a learn that was begun. */
void dml_stage_clear(struct dml_stage *s);

/* Time in which the threads carried out orders so far, sleeps of the duty cycle included: the
 * difference of two calls is the time of what was ordered between them. A learn that runs does not
 * count yet. */
uint64_t dml_stage_work_us(const struct dml_stage *s);
