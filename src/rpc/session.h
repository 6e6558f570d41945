/* The server from inside: what its files share. For rpc/ only. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/inbox.h"
#include "rpc/server.h"
#include "rpc/stream.h"
#include "rpc/transfer.h"

struct server_comm;

/* The lock guards everything below that is not said to be fixed; it is taken before a stream's or
 * an inbox's. */
struct dml_server {
    struct dml_loop *loop;               /* fixed */
    struct dml_server_handlers handlers; /* fixed */
    uint64_t beat_timeout_us;            /* fixed */
    uint64_t period_us;                  /* fixed: between two ticks */
    uint64_t tick_us;                    /* loop's thread only: when the last one was */
    struct dml_listener *listener;       /* fixed */
    uint16_t port;                       /* fixed */
    pthread_mutex_t lock;
    struct dml_session *sessions;
};

struct dml_session {
    atomic_uint refs;
    struct dml_server *server; /* to be used by those only who know that it is still there */
    struct dml_session *next;
    struct dml_stream *stream; /* fixed */
    struct dml_hello hello;    /* fixed once it joined */
    char peer[64];             /* fixed */
    uint64_t id;               /* what its beats say; 0 before it joined */
    uint64_t beat_us;          /* when it was heard of last */
    bool greeted, joined;      /* poller thread only */
    bool welcomed, gone, paused;
    atomic_ullong hung_up_us; /* when we said goodbye; 0: not yet */
    struct server_comm *comm; /* the run it takes part in, or NULL */
    uint32_t rank, life;
    struct dml_transfer in; /* poller thread only */
};

/* Takes ownership of the call: somebody wants to join, beats, asks. */
void dml_session_accept(struct dml_server *srv, struct grpc_call *call);
void dml_session_accept_beat(struct dml_server *srv, struct grpc_call *call);
void dml_control_call_accept(struct dml_server *srv, struct grpc_call *call);

/* Hangs up on those who have been silent for too long. Every period_us, or later: the time by which
 * it is late counts as nobody's silence. */
void dml_session_tick(struct dml_server *srv);

/* Hangs up on everybody. */
void dml_session_close_all(struct dml_server *srv, const char *why);

/* With the lock: the worker may be sent orders. */
void dml_session_welcome(struct dml_session *s);

/* With the lock, from the session to its run: whether it takes part in that run; how long its
 * messages' bodies may be (0: it does not take part); a message; it leaves. */
bool dml_server_comm_has(const struct dml_session *s, uint64_t run_id);
uint64_t dml_server_comm_room(const struct dml_session *s, uint64_t run_id);
int dml_server_comm_deliver(struct dml_session *s, struct dml_comm_msg *msg);
void dml_server_comm_detach(struct dml_session *s, bool drop);

/* With the lock: tells the other ranks (NULL: nobody there) of one that came, and it of them; of
 * one that went, lost or in order. */
void dml_server_peers_joined(struct dml_session *const *ranks, uint32_t size,
                             const struct dml_session *who, uint64_t run_id);
void dml_server_peers_went(struct dml_session *const *ranks, uint32_t size,
                           const struct dml_session *who, uint64_t run_id, bool lost);
