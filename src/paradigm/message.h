/*
 * What master and workers say to each other inside a run, whatever the paradigm. Numbers travel in
 * the meta fields of a comm message, named here; bodies are floats, packed shards or sentences.
 */
#pragma once

#include <stdint.h>

#include "rpc/comm.h"

struct dml_err;
struct dml_task;

enum dml_message_kind {
    /* Provisioning: who has which shard. */
    /* seq: 1 + number of the shard, 0: no data. body: hash of the packed shard, as hex */
    DML_MESSAGE_OFFER = DML_COMM_USER, /* 0→w */
    DML_MESSAGE_WANT,                  /* w→0  the worker has no such shard */
    DML_MESSAGE_SHARD,                 /* 0→w  body: the packed shard */
    DML_MESSAGE_READY,                 /* w→0  shard and trainer are there */
    DML_MESSAGE_FAILED,                /* w→0  body: a sentence; the worker leaves the run */

    /* Training. seq: round. */
    DML_MESSAGE_FIT,                   /* 0→w  body: vec [P+Q] to start from */
    DML_MESSAGE_PROGRESS,              /* w→0  one round done, nothing moved (standalone) */
    DML_MESSAGE_UPDATE,                /* w→0  body: vec [P+Q] after training */
    DML_MESSAGE_FINISH,                /* 0→w  the run is over */

    /* Training in step: paradigm/group.h. UPDATE ends a leg; its seq is the leg's. */
    DML_MESSAGE_LEG,                   /* 0→w  seq: leg. body: u32 [members] samples of each, then
                                        *      the member's part of the state if it has to have it */
    DML_MESSAGE_PEER,                  /* w→w  seq: tag of the paradigm. meta: generation */
    DML_MESSAGE_STUCK,                 /* w→0  seq: generation. body: why, in words, or none */

    /* Parameter server: server.c. */
    DML_MESSAGE_PUSH,                  /* w→0  seq: step. body: gradient, by sparse.h */
    DML_MESSAGE_PARAMS,                /* 0→w  seq: last step it may begin. body: by sparse.h */
    DML_MESSAGE_MAX_
};

/* Meta of READY. */
enum { DML_READY_SAMPLES, DML_READY_CACHED, DML_READY_CORES_HELD, DML_READY_N_ };

/* Meta of UPDATE and PROGRESS. */
enum {
    DML_UPDATE_SAMPLES, /* trained on in this round, over all its epochs */
    DML_UPDATE_SHARD,   /* in the worker's shard */
    DML_UPDATE_STEPS,
    DML_UPDATE_LOSS,
    DML_UPDATE_ACCURACY,
    DML_UPDATE_WORK_US,
    DML_UPDATE_IDLE_US,    /* waited for other workers, and computed nothing meanwhile */
    DML_UPDATE_SENDING_US, /* something waited to be sent */
    DML_UPDATE_EXPOSED_US, /* … while the worker was idle */
    DML_UPDATE_SENT_BYTES, /* by this worker, to all */
    DML_UPDATE_RECEIVED_BYTES,
    DML_UPDATE_OPTIM_STEP, /* that the optimiser has made since the run began */
    DML_UPDATE_CHECK,      /* the same for all whose state should be the same; 0: not said */
    DML_UPDATE_N_
};

/* Meta of LEG. Members are bits: rank r is bit r % DML_LEG_BITS of number r / DML_LEG_BITS. */
enum {
    DML_LEG_GENERATION,
    DML_LEG_ROUND,
    DML_LEG_FIRST,         /* step within the round */
    DML_LEG_STEPS,
    DML_LEG_EPOCH_BATCHES, /* minibatches of an epoch of the largest shard */
    DML_LEG_OPTIM_STEP,    /* steps the optimiser has made */
    DML_LEG_HAS_PART,
    DML_LEG_MEMBERS,       /* five of them */
    DML_LEG_N_ = DML_LEG_MEMBERS + 5
};
#define DML_LEG_BITS 52 /* that a double holds, and to spare */

/* Meta of PEER. */
/* … RECEIPT: 1: the receiver is to say so when it has taken it. */
enum { DML_PEER_GENERATION, DML_PEER_RECEIPT, DML_PEER_N_ };

/* Meta of STUCK: the rank that is waited for; 1: it cannot be reached, 0: it is silent. */
enum { DML_STUCK_RANK, DML_STUCK_UNREACHABLE, DML_STUCK_N_ };

/* Whether x, from outside, is a whole number of at least min. */
static inline bool dml_message_is_count(double x, double min)
{
    return x >= min && x <= 0x1p53 && x == (double)(uint64_t)x;
}

/* A message without body. */
int dml_message_send(struct dml_comm *comm, uint32_t to, uint32_t kind, uint64_t seq);

/*
 * The next message for the master half, waking up often enough to see *task->cancel.
 * Returns as dml_comm_recv().
 */
int dml_message_next(struct dml_task *task, uint64_t deadline_us, struct dml_comm_msg *ret);

/* Drops the body. */
void dml_message_done(struct dml_comm_msg *msg);
static inline void dml_message_donep(struct dml_comm_msg *msg)
{
    dml_message_done(msg);
}

/* A worker's last word when it cannot go on: the sentence of err, or strerror(-r). */
void dml_message_send_failed(struct dml_comm *comm, int r, const struct dml_err *err);

/* A sentence from another rank, cut to fit. What a worker says ends in terminals and logs: no
 * control characters, nothing that is not UTF-8. body NULL: "". Returns buf. */
const char *dml_message_text(const struct dml_buf *body, char *buf, size_t buf_len);
