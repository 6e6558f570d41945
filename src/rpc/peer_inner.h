/* Worker to worker from inside: what its files share. For rpc/ only. With the hub's lock, all of
 * it. */
#pragma once

#include <pthread.h>

#include "rpc/channel.h"
#include "rpc/peer.h"
#include "rpc/stream.h"
#include "rpc/transfer.h"

struct dml_listener;
struct peer_call;
struct peer_guest;

struct dml_peer_hub {
    struct dml_loop *loop;         /* fixed */
    struct dml_listener *listener; /* fixed; NULL: listens not */
    uint16_t port;                 /* fixed */
    uint64_t connect_us;           /* fixed */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a call or a guest went */
    bool closing;
    struct peer_call *calls;
    struct peer_guest *guests;
    struct dml_peers *runs;
};

/* One other worker of a run. */
struct peer {
    uint32_t life; /* 0: the master has said nothing of it yet */
    bool gone;     /* the master says so, or itself */
    bool left;     /* and it went in order: a call that it made before is still heard */
    bool present;  /* so it is in the inbox */
    char *address; /* for people */
    char *target;  /* for gRPC; NULL: it cannot be called */
    struct peer_call *call;
    struct peer_guest *guest;
    uint64_t n_calls;      /* made; the number of the next is one more */
    uint64_t last_attempt; /* the number of its last call */
    bool owes;             /* what was sent is lost and nobody has been told */
    unsigned n_failed;     /* calls in a row that did not come about */
    uint64_t retry_us;     /* when the next may be tried */
    char *why;             /* it is not there; NULL: nothing is wrong */
};

struct dml_peers {
    struct dml_peer_hub *hub; /* fixed */
    struct dml_peers *next;
    struct dml_peers_self self; /* fixed; master points to host */
    char host[DML_CHANNEL_TARGET_MAX];
    struct dml_inbox *inbox; /* fixed */
    struct dml_meter *meter; /* fixed */
    bool over;
    struct peer peers[]; /* by rank */
};

/* A call of ours, from dialling to its last callback. */
struct peer_call {
    struct dml_peer_hub *hub;
    struct peer_call *next;
    struct dml_peers *peers; /* NULL: nobody is interested any more */
    uint32_t rank;
    struct grpc_channel *channel;
    struct dml_stream *stream;
    bool opened; /* somebody answered */
    bool used;   /* messages were sent */
};

/* Calls a peer; messages may be queued at once. Returns 0, -ENOMEM. */
int dml_peer_call_new(struct dml_peers *p, uint32_t rank, struct peer_call **ret);

/* Lets go of it: finish: after what is queued. */
void dml_peer_call_end(struct peer_call *call, bool finish);

/* Likewise for somebody's call to us. */
void dml_peer_guest_end(struct peer_guest *guest, bool finish);
void dml_peer_guest_resume(struct peer_guest *guest);

/* Looks again at the guests that wait for the master's word. */
void dml_peer_guests_examine(struct dml_peer_hub *hub);

/* Accepts a call to us; takes ownership of it. Without the lock. */
void dml_peer_guest_accept(struct dml_peer_hub *hub, struct grpc_call *call);

/* What became of calls and guests, told by them: */
void dml_peer_call_ended(struct dml_peers *p, uint32_t rank, bool opened, bool used, int code,
                         const char *why);
void dml_peer_guest_ended(struct dml_peers *p, uint32_t rank, bool in_order, const char *why);

enum peer_verdict { PEER_WELCOME, PEER_WAIT, PEER_REFUSED };

/* Whether somebody who says hello may send to us; if so, the guest is the peer's. */
enum peer_verdict dml_peer_judge(struct dml_peer_hub *hub, uint64_t run_id,
                                 const struct dml_wire_peer_hello *hello, struct peer_guest *guest,
                                 struct dml_peers **ret, char *refusal, size_t refusal_len);

/* A message of a peer. Returns 0 or -ENOMEM; *ret_full: nothing more, for now. */
int dml_peer_deliver(struct dml_peers *p, uint32_t from, struct dml_comm_msg *msg, bool *ret_full);
