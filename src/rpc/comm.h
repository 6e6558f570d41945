/*
 * Ranks that exchange messages: the only thing a paradigm knows of a cluster.
 *
 * Rank 0 is the master, ranks 1 … R-1 are workers. A message has a kind, a sequence number (round
 * or step), a few numbers and an optional body of bytes (parameters, a shard). Every rank may send
 * to every other. From one rank to another messages arrive in the order they were sent.
 * Implementations: comm_local (threads of one process); server_comm (rank 0) and join_comm
 * (workers) over gRPC.
 *
 * Peers come and go. Rank 0 is told in band, in order with a rank's messages, by the
 * pseudo-messages DML_COMM_JOINED and DML_COMM_LOST, and decides what follows. A worker's calls
 * return -EPIPE once the master is gone; of other workers it learns when it asks for them:
 *
 * - a worker that is gone (killed, left, given up by the master) is -EPIPE to send to and, once
 * what it said in order was read, to receive from, until it is back as another process; then there
 * is nothing of its former life in any queue. One that was never there is waited for;
 * - between machines a connection can break while both live. Then messages may be missing, so
 *   whoever had sent is told -EPIPE once, by its next send to that rank or receive from it (and who
 *   receives from it, if nobody has connected again before); after that, sends connect again. While
 *   no connection comes about, sends (and, when nothing comes from there either, receives) say
 *   -EPIPE; a new attempt is made with a send, after pauses of up to 4 s;
 * - with DML_COMM_ANY nothing is said of other workers' going.
 *
 * Threads: one thread uses a comm, except dml_comm_cancel().
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"

#define DML_COMM_META_MAX  16
#define DML_COMM_ANY       UINT32_MAX
#define DML_COMM_BODY_MAX  (UINT64_C(2) << 30) /* bytes */
#define DML_COMM_RANKS_MAX 256

/* Kinds from DML_COMM_USER on belong to the paradigms. */
enum dml_comm_kind {
    DML_COMM_JOINED = 1, /* rank `from` is there (again), with nothing in its queues */
    DML_COMM_LOST = 2,   /* rank `from` is gone, what was not sent yet is dropped, and so is what it
                          * sent and nobody has read, unless it left in order */
    DML_COMM_USER = 16,
};

struct dml_comm_msg {
    uint32_t from;
    uint32_t kind;
    uint64_t seq;
    uint32_t n_meta;
    double meta[DML_COMM_META_MAX]; /* counts up to 2^53 are exact */
    struct dml_buf *body;           /* or NULL */
};

struct dml_comm_stats {
    uint64_t sent_bytes, received_bytes; /* bodies and headers, this run */
    /* Time in which at least one message to anybody waited to be sent or, of this process, was not
     * yet acknowledged by the other machine (rpc/meter.h); comm_local: 0. */
    uint64_t sending_us;
};

struct dml_comm;

struct dml_comm_ops {
    int (*send)(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg);
    int (*recv)(struct dml_comm *c, uint32_t from, uint64_t deadline_us, struct dml_comm_msg *ret);
    bool (*alive)(struct dml_comm *c, uint32_t rank);
    void (*stats)(struct dml_comm *c, struct dml_comm_stats *ret);
    void (*why)(struct dml_comm *c, uint32_t rank, char *buf, size_t buf_len); /* or NULL */
    void (*cancel)(struct dml_comm *c);
    void (*free)(struct dml_comm *c);
};

/* Embedded first in every implementation. */
struct dml_comm {
    const struct dml_comm_ops *ops;
    uint32_t rank, size; /* size: R, the master included */

    /*
     * True as soon as nothing more can come of this comm: cancelled, the run stopped by the master,
     * or (on a worker) the master gone. Every implementation sets it the moment it learns so, from
     * whatever thread, so that a trainer in the middle of an epoch can look at it every step.
     */
    atomic_bool stopped;
};

/*
 * Queues msg for rank `to` and returns; takes a reference of msg->body, which must not be written
 * to until dml_buf_is_sole() again. That it was queued does not mean that it arrives: a rank may go
 * at any time.
 * Returns 0, -EPIPE (rank is gone or cannot be reached; rank 0 has or will have a LOST message),
 * -EMSGSIZE, -ECANCELED, -ENOMEM.
 */
int dml_comm_send(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg);

/*
 * The next message from `from`, or from anybody with DML_COMM_ANY (fair over ranks).
 * Owner: the caller gets a reference of ret->body.
 * Returns 0, -ETIMEDOUT, -ECANCELED; -EPIPE only when `from` is one rank that is gone (on rank 0:
 * and whose LOST message was already received), or on a worker when the master is gone.
 * Blocks: until deadline_us (dml_clock_now_us() scale; DML_CLOCK_NEVER).
 */
int dml_comm_recv(struct dml_comm *c, uint32_t from, uint64_t deadline_us,
                  struct dml_comm_msg *ret);

/* Sends to every living rank but the own. Returns the number of ranks it was queued for. */
unsigned dml_comm_bcast(struct dml_comm *c, const struct dml_comm_msg *msg);

/* Whether messages of that rank may be expected; asking changes nothing. */
bool dml_comm_alive(struct dml_comm *c, uint32_t rank);

/* A sentence for people on what is known of a rank that is gone or cannot be reached, with its
 * address where it has one: "Rank 2 at 10.0.0.7:40001 cannot be reached: Connection refused."
 * Returns buf. */
const char *dml_comm_why(struct dml_comm *c, uint32_t rank, char *buf, size_t buf_len);

void dml_comm_stats(struct dml_comm *c, struct dml_comm_stats *ret);

/* From any thread: every call now and later returns -ECANCELED. */
void dml_comm_cancel(struct dml_comm *c);

/* NULL is fine. Returns NULL. */
struct dml_comm *dml_comm_free(struct dml_comm *c);
DML_MEM_CLEANUP(struct dml_comm, dml_comm_free);
