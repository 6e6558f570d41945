/*
 * Private to nn/: the compute threads of a node with what each needs to work on its slice of a
 * minibatch. The trainer and the stage are made of it.
 *
 * A minibatch is split over the threads; each has a workspace and a gradient of its own, added up
 * in a fixed order. A step too small to be worth a barrier uses fewer threads than it may. That
 * depends on nothing but model and batch size, so the same seed and the same number of threads
 * give the same bits whatever the scheduling.
 */
#pragma once

#include "nn/duty.h"
#include "nn/model.h"
#include "nn/optim.h"
#include "nn/reduce.h"
#include "nn/team.h"
#include "nn/trainer.h"

struct dml_crew_member {
    float *workspace; /* for dml_crew.chunk samples; NULL when the crew learns no whole steps */
    float *turns;     /* dml_model_turns() for a slice; NULL when it does */
    float *y, *dy;
    double loss; /* sum over its samples */
    size_t correct;
    struct dml_model_meeting meeting;
};

struct dml_crew {
    const struct dml_model *m;
    struct dml_team *team;
    unsigned n_threads;              /* that share a step */
    size_t batch, slice, chunk;      /* samples of a step, of a thread, of one pass */
    struct dml_crew_member *members; /* [n_threads] */
    float **grads;                   /* [n_threads], each [P]; the first becomes the sum */
    double *board; /* where the threads meet; NULL: no layer of the model does, or one thread */
    float *vec;    /* [P+Q] */
    struct dml_optim *optim;
    struct dml_duty duty;
    uint64_t seed;
    bool recomputes;
    bool is_updated; /* by the last learn */
};

struct dml_crew_options {
    const struct dml_model *model;
    const struct dml_train_options *train;
    const struct dml_trainer_cpu *cpu;
    size_t batch;
    bool learns; /* whole steps: dml_crew_learn(); otherwise only the gradients are there */
};

/* Zeroed before. Returns 0, -ENOMEM, -EAGAIN. dml_crew_done() also after a failure. */
int dml_crew_init(struct dml_crew *c, const struct dml_crew_options *o);
void dml_crew_done(struct dml_crew *c);

/* Floats that n samples keep between forward and backward, as the key recompute says. */
size_t dml_crew_kept(const struct dml_crew_options *o, size_t n);

/* Bytes that such a crew holds, and how it divides a batch. */
uint64_t dml_crew_memory(const struct dml_crew_options *o, unsigned *ret_n_threads,
                         size_t *ret_slice, size_t *ret_chunk);

/* Thread i's samples of a minibatch of n: [at, end), maybe none. */
void dml_crew_slice(const struct dml_crew *c, unsigned i, size_t n, size_t *ret_at,
                    size_t *ret_end);

/* What dml_model_training says of thread i. */
struct dml_model_training dml_crew_training(struct dml_crew *c, unsigned i, uint64_t rank,
                                            uint64_t step);

/* A step of n samples, as its threads see it. */
struct dml_crew_step {
    size_t n;
    uint64_t rank, step;
    size_t first;   /* place of sample 0 in the replica's minibatch */
    double divisor; /* of the loss */
    /* Samples [at, at + b), by thread i: x [b][D], labels [b] or targets [b]. */
    void (*give)(void *arg, unsigned i, size_t at, size_t b, const float **ret_x,
                 const int32_t **ret_labels, const float **ret_targets);
    void *arg;
    struct dml_reduce *reduce; /* told what is settled; NULL: nobody asks before the end */
    /* The samples are all that the next update is made of, and dml_optim_begin() has been called:
     * a crew of one thread updates the parameters within backward. The same bits. */
    bool updates;
};

/* By each thread of the team: forward, loss, backward of its slice, in chunks. */
void dml_crew_learn(struct dml_crew *c, const struct dml_crew_step *s, unsigned i);

/* By each thread, after dml_optim_begin(): applies the gradients of the first n threads to its
 * part of the block and clears them. Nothing is left to do where learn has done it. */
void dml_crew_update(struct dml_crew *c, unsigned i, unsigned n);
