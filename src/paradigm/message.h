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
    DML_MESSAGE_OFFER = DML_COMM_USER, /* 0→w  body: hash of the packed shard, as hex */
    DML_MESSAGE_WANT,                  /* w→0  the worker has no such shard */
    DML_MESSAGE_SHARD,                 /* 0→w  body: the packed shard */
    DML_MESSAGE_READY,                 /* w→0  shard and trainer are there */
    DML_MESSAGE_FAILED,                /* w→0  body: a sentence; the worker leaves the run */

    /* Training. seq: round. */
    DML_MESSAGE_FIT,                   /* 0→w  body: vec [P+Q] to start from */
    DML_MESSAGE_PROGRESS,              /* w→0  one round done, nothing moved (standalone) */
    DML_MESSAGE_UPDATE,                /* w→0  body: vec [P+Q] after training */
    DML_MESSAGE_FINISH,                /* 0→w  the run is over */
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
    DML_UPDATE_N_
};

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
