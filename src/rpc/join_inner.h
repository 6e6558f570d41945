/* The worker's connection from inside: what its files share. For rpc/ only. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/channel.h"
#include "rpc/inbox.h"
#include "rpc/join.h"
#include "rpc/peer.h"
#include "rpc/stream.h"
#include "rpc/transfer.h"

struct join_comm;

/* One order of the master and the messages that already came for it. */
struct dml_join_run {
    struct dml_run_order order; /* without texts once it was handed out */
    struct dml_inbox *inbox;
    struct dml_meter *meter;
    struct dml_peers *peers;
    struct join_comm *comm; /* or NULL */
    int end;                /* from outside: -ECANCELED, -EPIPE; 0: goes on */
    bool over;              /* dml_join_ended() was called */
};

enum dml_join_state {
    DML_JOIN_IDLE,       /* no stream */
    DML_JOIN_CONNECTING, /* hello was said */
    DML_JOIN_WELCOME,
    DML_JOIN_REFUSED,
    DML_JOIN_BROKEN,
};

/* The lock guards everything below that is not said to be fixed; it is taken before a stream's or
 * an inbox's. `changed` tells of every change that anybody may wait for. */
struct dml_join {
    struct dml_join_options options;         /* fixed; master points to name */
    char name[DML_CHANNEL_TARGET_MAX];       /* fixed: as the user wrote it */
    char target[DML_CHANNEL_TARGET_MAX];     /* fixed: as gRPC wants it */
    char peer_address[DML_WIRE_ADDRESS_MAX]; /* fixed */
    struct dml_loop *loop;                   /* fixed */
    struct dml_peer_hub *hub;                /* fixed */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool cancelled, quit;

    enum dml_join_state state;
    struct grpc_channel *channel;
    struct dml_stream *stream;
    bool closed; /* the stream's last callback was called */
    bool paused; /* the stream is not read: too much is unread */
    int code;    /* how it ended */
    char why[256];
    char refusal[768];
    uint64_t session;
    struct dml_transfer in; /* poller thread only, while the stream is open */

    struct dml_join_run *next; /* came, nobody waited for it yet */
    struct dml_join_run *run;  /* handed out */

    struct grpc_channel *beat_channel;
    struct dml_stream *beat;
    pthread_t beat_thread;
    bool has_thread;
};

/* With the lock: the run that messages of that number belong to, or NULL. */
struct dml_join_run *dml_join_find_run(struct dml_join *j, uint64_t run_id);

/* With the lock: nothing more comes of the run. drop: not even what has come already. */
void dml_join_end_run(struct dml_join *j, struct dml_join_run *run, int r, bool drop);

/* With the lock: reads on if what is unread has become little enough. */
void dml_join_resume(struct dml_join *j);

/* With the lock: whether so much of the run is unread that the stream must wait. */
bool dml_join_is_full(const struct dml_join_run *run);

/* The heartbeat thread. */
void *dml_join_beat(void *join);

/* With the lock: hangs up, and waits until the call is over. */
void dml_join_beat_stop(struct dml_join *j);
