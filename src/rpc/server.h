/*
 * The master's side of the cluster: accepts workers (Join, Beat) on TCP and dmlctl (Control) on TCP
 * and on a Unix socket.
 *
 * Handlers run on the poller thread and must not block; everything else may be called from any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "rpc/comm.h"
#include "rpc/wire.h"

struct dml_err;
struct dml_server;
struct dml_session;      /* one joined worker, reference-counted */
struct dml_control_call; /* one request of a dmlctl, reference-counted by the rpc layer */

struct dml_server_options {
    const char *listen;         /* "[::]:7077", "127.0.0.1:0" (0: any free port) */
    const char *control_socket; /* path, or "" for none */
    uint64_t beat_timeout_us;   /* a worker that is silent for so long is lost */
};

struct dml_server_handlers {
    /* Somebody said hello with the right protocol. Return 0 to welcome it, or a negative errno with
     * a sentence in refusal. The session is borrowed; keep it with dml_session_ref(). */
    int (*joined)(void *arg, struct dml_session *s, char *refusal, size_t refusal_len);
    /* Somebody was turned away by the server itself: another protocol, an impossible hello. id: as
     * claimed, perhaps "". NULL: not wanted. */
    void (*refused)(void *arg, const char *id, const char *peer, const char *why);
    /* Called once for each session that joined() welcomed. */
    void (*left)(void *arg, struct dml_session *s, const char *why);
    void (*beat)(void *arg, struct dml_session *s, const struct dml_health *health);
    /* The worker's side of a run ended; r as from the worker. */
    void (*run_ended)(void *arg, struct dml_session *s, uint64_t run_id, int r, const char *text);
    /* A request: answer with dml_control_reply() any number of times, now or later, then
     * dml_control_end(). */
    void (*control)(void *arg, struct dml_control_call *call,
                    const struct dml_control_request *request);
    void *arg;
};

/* Returns 0, -EADDRINUSE (err names the address), -EINVAL, … */
int dml_server_new(const struct dml_server_options *o, const struct dml_server_handlers *h,
                   struct dml_server **ret, struct dml_err *err);

/* Ends all calls after a short grace, waits for the threads. All comms must have been freed. */
struct dml_server *dml_server_free(struct dml_server *s);
DML_MEM_CLEANUP(struct dml_server, dml_server_free);
uint16_t dml_server_port(const struct dml_server *s);

struct dml_session *dml_session_ref(struct dml_session *s);
struct dml_session *dml_session_unref(struct dml_session *s);
const struct dml_hello *dml_session_hello(const struct dml_session *s);
const char *dml_session_peer(const struct dml_session *s); /* "192.168.1.7:40312" */

/* Hangs up; left() follows. */
void dml_session_close(struct dml_session *s, const char *why);

/* The rank-0 end of a run with `size` ranks, none of them there yet. */
int dml_server_comm_new(struct dml_server *srv, uint64_t run_id, uint32_t size,
                        struct dml_comm **ret);

/* No worker of this run has reason to send a longer body; who does is hung up on. Before the first
 * dml_server_comm_attach(); without it the limit is DML_COMM_BODY_MAX. */
void dml_server_comm_limit(struct dml_comm *comm, uint64_t body_max);

/*
 * Gives `rank` to a worker: sends the order, then puts JOINED into the comm. Also for a rank that
 * was lost. Any thread. Returns 0, -EBUSY (that rank or worker is taken), -EPIPE (worker just
 * left).
 */
int dml_server_comm_attach(struct dml_comm *comm, struct dml_session *s,
                           const struct dml_run_order *order);

/* The run is over for everybody: workers still in it get a stop. Then free the comm. */
void dml_server_comm_stop(struct dml_comm *comm);

/* Whether the caller came over the Unix socket. */
bool dml_control_is_local(const struct dml_control_call *call);

/* Whether nobody is left to hear a reply; the call wants its dml_control_end() all the same. Any
 * thread. */
bool dml_control_is_gone(const struct dml_control_call *call);

/* One JSON object. Returns 0 or -EPIPE when the client has gone. Any thread. */
int dml_control_reply(struct dml_control_call *call, const char *json);

/* r 0, or a negative errno with err's sentence, file and line. The call is gone afterwards. */
void dml_control_end(struct dml_control_call *call, int r, const struct dml_err *err);
