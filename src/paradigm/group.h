/*
 * Workers that train in step with each other: the worker's half. (The master's: paradigm/legs.h.)
 *
 * A run is a row of legs, each some steps long. All members of a leg make all its steps together
 * and exchange messages among themselves; at its end the state they agree upon goes to the master.
 * When one is lost, the master begins a new generation of members, and the leg is done again from
 * the last agreed state. Messages carry the number of their generation, so those of an abandoned
 * one are not mistaken for others.
 *
 * Intended usage, on a worker:
 *     dml_group_init(&g, task, err);   (gets the shard: g.shard)
 *     … make what trains …
 *     dml_group_ready(&g);
 *     while ((r = dml_group_next(&g, &leg, err)) == 0) {
 *         take over leg.part, when it is not NULL; for each step dml_group_send(), dml_group_recv();
 *         -ERESTART from any of them: give up the leg and go on with dml_group_next();
 *         dml_group_answer(&g, &leg, …);
 *     }
 * r = 1: the run is over.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "nn/stage.h"
#include "paradigm/message.h"
#include "paradigm/paradigm.h"

/* A message that came before it was wanted. */
struct dml_group_early {
    uint32_t from;
    uint64_t generation, tag;
    struct dml_buf *body;
};

struct dml_group {
    struct dml_task *task;      /* borrowed */
    struct dml_dataset *shard;  /* own; no samples where this member has none */
    unsigned n, i;              /* members, and which of them this one is */
    uint32_t ranks[DML_COMM_RANKS_MAX];     /* [n] ascending */
    uint32_t n_samples[DML_COMM_RANKS_MAX]; /* [n] of their shards */
    uint64_t generation;
    uint64_t ahead_bytes;       /* set by a paradigm whose members run further ahead of each other
                                 * than a few vectors of the model: how many bytes */
    const struct dml_stage *stage; /* of a paradigm that computes while it waits for messages:
                                    * then it is not idle. NULL: none. Borrowed */
    uint64_t idle_us;           /* waited for messages of members, in this leg */
    uint64_t exposed_us;        /* … while something of its own waited to be sent */

    bool cached;                /* the shard came from the cache */
    struct dml_comm_msg order;  /* of the master, not yet carried out; kind 0: none */
    struct dml_comm_stats before;
    struct dml_group_early *early;
    size_t n_early, early_room, early_bytes;
    struct dml_buf **pool;
    size_t n_pool;
};

struct dml_group_leg {
    uint64_t number;
    bool fresh;           /* members or shards are not those of the leg before */
    uint64_t round;       /* 1 … */
    uint64_t first, n_steps; /* steps of this round, from 0; see dml_group_epoch_steps() */
    uint64_t epoch_batches;  /* minibatches that an epoch of the largest shard has */
    uint64_t optim_step;  /* steps the optimiser had made at its begin */
    const float *part;    /* what to start from, [part_len]; NULL: what this member has. Lives until
                             the next call of dml_group_next() */
    size_t part_len;
    struct dml_comm_msg msg; /* own */
};

/* What a member has done in a leg. */
struct dml_group_result {
    uint64_t n_samples;    /* whose loss this member has seen; may be 0 */
    double loss;           /* sum over them */
    uint64_t n_correct;
    uint64_t optim_step;   /* steps the optimiser has made, since the run began */
    uint64_t compute_us;
    uint64_t check;        /* a sum over the state all members should have alike; 0: none */
};

/* Gets this rank's shard. Returns 0 or what dml_provision_fetch() does. done() also after a failed
 * init(). */
int dml_group_init(struct dml_group *g, struct dml_task *task, struct dml_err *err);
void dml_group_done(struct dml_group *g);

/* Tells the master that this member can train. */
int dml_group_ready(struct dml_group *g);

/*
 * Waits for the next leg. The members of `g`, and their shards, are then those of the leg.
 * Returns 0; 1: the run is over; -EPIPE, -ECANCELED, -EPROTO, or what getting another shard did.
 */
int dml_group_next(struct dml_group *g, struct dml_group_leg *io_leg, struct dml_err *err);
/* leg->part has been copied: its memory is free for the leg. */
void dml_group_leg_taken(struct dml_group_leg *leg);
/* io_leg starts zeroed. */
void dml_group_leg_done(struct dml_group_leg *leg);

/*
 * Sends a body (NULL: none) to member `to` (0 … n-1, not the own) under a tag that is not used
 * again for it in this generation. Takes a reference of body.
 * Returns 0; -ERESTART: give up the leg; -EPIPE, -ECANCELED, -ENOMEM.
 * Blocks: not, unless `to` is lost: then until the master's next order.
 */
int dml_group_send(struct dml_group *g, unsigned to, uint64_t tag, struct dml_buf *body);

/* The same, and waits until member `to` has taken it in, which a member does whenever it waits for
 * something itself: what a transfer costs that nothing hides. Tags below 2^63. Blocks as
 * dml_group_recv(). */
int dml_group_deliver(struct dml_group *g, unsigned to, uint64_t tag, struct dml_buf *body);

/*
 * The body that member `from` sent under `tag`, in whatever order they come.
 * Owner: the caller gets the reference; *ret may be NULL, as sent. Its length is not checked.
 * Returns as dml_group_send(). Blocks: until [cluster] step-deadline, then until the master's next
 * order.
 */
int dml_group_recv(struct dml_group *g, unsigned from, uint64_t tag, struct dml_buf **ret);

/* The same for a body that must have n floats: else -EPROTO. */
int dml_group_recv_floats(struct dml_group *g, unsigned from, uint64_t tag, size_t n,
                          struct dml_buf **ret);

/*
 * A buffer of n floats to write to and send; one of those that nobody reads any more, as soon as
 * there are enough of them. Owner: g; it is free again once it has been sent, or with the next call
 * for one. NULL when out of memory.
 */
struct dml_buf *dml_group_buf(struct dml_group *g, size_t n);

/* True when the run was stopped: to be asked in every step. */
bool dml_group_cancelled(const struct dml_group *g);

/* Ends a leg: what this member has done, and its part of the agreed state if the paradigm says that
 * this member sends one (else NULL: no body). body: as dml_comm_send(). */
int dml_group_answer(struct dml_group *g, const struct dml_group_leg *leg,
                     const struct dml_group_result *result, struct dml_buf *body);

/* Samples in minibatch `i` of an epoch of member `m`. */
uint64_t dml_group_batch(const struct dml_group *g, unsigned m, uint64_t i);

/* Steps of the optimiser that so many minibatches make. */
uint64_t dml_group_epoch_steps(const struct dml_testcase *tc, uint64_t epoch_batches);
