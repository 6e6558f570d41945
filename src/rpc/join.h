/*
 * The worker's side of the cluster: one bidirectional stream to the master (Join), and heartbeats
 * on a connection and a thread of their own, so that a busy trainer or a large transfer never
 * looks dead.
 *
 * Intended usage (worker/worker.c):
 *     dml_join_new(&options, &join, &err);
 *     for (;;) {
 *         dml_join_connect(join, &hello, deadline, &err);      // retry with backoff on -EHOSTDOWN
 *         while (!(r = dml_join_wait(join, deadline, &order)))
 *             { dml_join_comm(join, &order, &comm); …train…; dml_join_ended(join, …); }
 *     }
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/mem.h"
#include "rpc/comm.h"
#include "rpc/wire.h"

struct dml_err;
struct dml_join;

struct dml_join_options {
    const char *master; /* "host", "host:port", "[::1]:port" */
    uint64_t heartbeat_us;
    const char *peer_listen; /* where other workers send to: "[::]:0"; "" or NULL: nowhere */
    const char
        *peer_address; /* host or host:port they reach it by; "" or NULL: as the master sees it */
    uint64_t peer_connect_us; /* a call to another worker has to come about by then; 0: 20 s */
    /* Called on the heartbeat thread. */
    void (*health)(void *arg, struct dml_health *ret);
    void *arg;
    /* Set to true, from the poller thread, as soon as a run in progress ends from outside (the
     * master's stop, a broken connection, dml_join_cancel()), so that a trainer in the middle of
     * an epoch notices too. The caller sets it back. NULL: not wanted. */
    atomic_bool *interrupt;
};

/* Starts the poller thread and listens. Blocks no signals itself: the program must have blocked
 * them. Returns 0, -EINVAL (an address), -EADDRINUSE (peer_listen), -ENOMEM … */
int dml_join_new(const struct dml_join_options *o, struct dml_join **ret, struct dml_err *err);

/* Ends everything, waits for the threads. NULL is fine. */
struct dml_join *dml_join_free(struct dml_join *j);
DML_MEM_CLEANUP(struct dml_join, dml_join_free);

/* The port that other workers send to; 0: none. */
uint16_t dml_join_peer_port(const struct dml_join *j);

/*
 * Dials and says hello; what the hello says of peers is filled in.
 * Returns 0 once the master said welcome; -EHOSTDOWN (nobody answered by the deadline or the
 * connection broke; worth retrying), -EPROTO (refused, err has the master's sentence: wrong
 * protocol version, name already taken …), -ECANCELED.
 */
int dml_join_connect(struct dml_join *j, const struct dml_hello *hello, uint64_t deadline_us,
                     struct dml_err *err);

/*
 * Waits for an order. Returns 0 (owner: caller, dml_run_order_done()), -EPIPE (connection lost:
 * connect again), -ETIMEDOUT, -ECANCELED. An order that the master takes back before anybody has
 * waited for it is answered here, as ended with -ECANCELED, and never handed out.
 */
int dml_join_wait(struct dml_join *j, uint64_t deadline_us, struct dml_run_order *ret);

/* The comm of that run, rank order->rank. Must be freed before the next dml_join_wait(). It fails
 * with -ECANCELED when the master stops the run, with -EPIPE when the connection breaks. */
int dml_join_comm(struct dml_join *j, const struct dml_run_order *order, struct dml_comm **ret);

/* Tells the master how the run ended here: r 0 or a negative errno with a sentence.
 * Blocks: while other workers read what was sent to them last, at most 1 s. */
int dml_join_ended(struct dml_join *j, uint64_t run_id, int r, const char *text);

/* From any thread or signal-waiting loop: everything returns -ECANCELED soon. */
void dml_join_cancel(struct dml_join *j);
