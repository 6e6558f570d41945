/*
 * Who does what when layers are dealt to nodes: replicas × stages × chunks. A pure function of test
 * case, model and number of members, so that all ranks come to the same.
 *
 * Members are numbered 0 … by ascending rank. Member i is stage i mod S of replica i div S; members
 * that are too few for another replica are spare. Run r of the layers lies on stage r mod S, as its
 * chunk r div S.
 *
 * A member's part of the model is, for each of its chunks in turn: parameters, state, and the
 * optimiser's moments, the first of all its parameters before the second.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "conf/testcase.h"
#include "paradigm/cut.h"

struct dml_err;
struct dml_model;
struct dml_trainer_cpu;

struct dml_layout_run {
    size_t first, last;         /* cuts: nn/model_cut.h */
    size_t params_at, n_params; /* in the whole block */
    size_t state_at, n_state;
    size_t n_in, n_out;         /* floats per sample that enter and leave */
};

struct dml_layout {
    unsigned n_members; /* R·S and the spare ones */
    unsigned n_replicas, n_stages, n_chunks, n_micro;
    size_t n_runs;      /* S·V */
    struct dml_layout_run *runs;
    struct dml_cut *cut;      /* the same runs, with their shares of the cost */
    size_t n_params, n_state; /* P, Q of the whole model */
};

/*
 * Cut as the key `cut` says in numbers of layers, else by estimated cost; no node needs more than
 * the key node-memory allows, with the threads that the test case gives it.
 * With fewer members than the test case has nodes there are as many whole replicas as they give, or
 * one of fewer stages; a key `cut` that no longer fits gives way to costs.
 * Errors: -EINVAL, -ENOMEM, with a sentence, as dml_cut_make(). Owner: caller.
 */
int dml_layout_make(const struct dml_testcase *tc, const struct dml_model *model,
                    unsigned n_members, struct dml_layout **ret, struct dml_err *err);

/* The same for all nodes of the test case, cut by measured cost: costs_us as in dml_cut_make(). */
int dml_layout_make_measured(const struct dml_testcase *tc, const struct dml_model *model,
                             const double *costs_us, struct dml_layout **ret, struct dml_err *err);
struct dml_layout *dml_layout_free(struct dml_layout *l);
DML_MEM_CLEANUP(struct dml_layout, dml_layout_free);

/* Trained members: R·S. */
static inline unsigned dml_layout_n_busy(const struct dml_layout *l)
{
    return l->n_replicas * l->n_stages;
}

/* Samples [ret, …) of a minibatch of n that micro-batch m consists of; m = M: the end, n. */
static inline size_t dml_layout_micro_at(const struct dml_layout *l, size_t n, unsigned micro)
{
    return (size_t)((uint64_t)n * micro / l->n_micro);
}

/* Most samples of a micro-batch when minibatches have at most n. */
size_t dml_layout_micro_most(const struct dml_layout *l, size_t n);

/* Floats of a stage's part, with so many moments per parameter. */
size_t dml_layout_part(const struct dml_layout *l, unsigned stage, size_t n_moments);

/* Between the whole model (vec [P+Q], moments [n_moments][P]) and a stage's part. */
void dml_layout_take(const struct dml_layout *l, unsigned stage, size_t n_moments,
                     const float *vec, const float *moments, float *ret_part);
void dml_layout_put(const struct dml_layout *l, unsigned stage, size_t n_moments,
                    const float *part, float *io_vec, float *io_moments);

/* Most bytes that can be on their way to a node at a time: those of a whole step and of what comes
 * before it is done with it. n_extra: floats per sample that travel with activations. */
uint64_t dml_layout_ahead(const struct dml_layout *l, unsigned stage, size_t batch, size_t n_extra);

/* Bytes a node of that stage needs for training, messages included, data apart. */
int dml_layout_memory(const struct dml_layout *l, const struct dml_testcase *tc,
                      const struct dml_model *model, unsigned stage,
                      const struct dml_trainer_cpu *cpu, uint64_t *ret);
