/*
 * Worker to worker. A hub is a worker's listening side and all its calls; the peers of one run are
 * the other workers, as the master tells of them.
 *
 * One stream per direction: who sends, calls; who is called, receives. Two workers that call each
 * other at the same moment are so no special case. A pair of workers is either whole or broken:
 * when one of the two streams breaks, the other is ended too and both are told once.
 *
 * The master's word decides who takes part. A call that comes before that word waits for it.
 *
 * Locks: the hub's is taken after a join's and before a stream's or an inbox's. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/inbox.h"
#include "rpc/meter.h"
#include "rpc/wire_pack.h"

struct dml_err;
struct dml_loop;
struct dml_peer_hub;
struct dml_peers;

struct dml_peer_hub_options {
    const char *listen;  /* "[::]:0"; "": not at all, others cannot send to this worker */
    uint64_t connect_us; /* a call that has not come about by then has failed; 0: 20 s */
};

/* Returns 0, -EADDRINUSE (err names the address), -EINVAL … */
int dml_peer_hub_new(struct dml_loop *loop, const struct dml_peer_hub_options *o,
                     struct dml_peer_hub **ret, struct dml_err *err);

/* Ends every call. All peers must have been freed. Blocks: until nobody holds the loop. */
struct dml_peer_hub *dml_peer_hub_free(struct dml_peer_hub *hub);

/* Where it listens; 0: nowhere. */
uint16_t dml_peer_hub_port(const struct dml_peer_hub *hub);

/* Waits until what was said to peers that were left in order is out, at most until deadline_us. */
void dml_peer_hub_drain(struct dml_peer_hub *hub, uint64_t deadline_us);

struct dml_peers_self {
    uint64_t run_id;
    uint32_t rank, size, life;
    unsigned char secret[DML_WIRE_SECRET_LEN];
    const char *master; /* target that the master was called by: workers beside it are there too */
};

/* inbox: borrowed; gets what peers send and who of them is there. meter: of what is sent. */
int dml_peers_new(struct dml_peer_hub *hub, const struct dml_peers_self *self,
                  struct dml_inbox *inbox, struct dml_meter *meter, struct dml_peers **ret);

/* Leaves if that was not done. NULL is fine. */
struct dml_peers *dml_peers_free(struct dml_peers *p);

/* The master's word. */
void dml_peers_tell(struct dml_peers *p, const struct dml_wire_peer *news);

/* As dml_comm_send(), to another worker. */
int dml_peers_send(struct dml_peers *p, uint32_t to, const struct dml_comm_msg *msg);

/* The inbox was read: go on reading from the network if there is room again. */
void dml_peers_resume(struct dml_peers *p, uint32_t from);

/* The run's thread was told -EPIPE when it asked for messages of `from`: it has not to be told
 * again of the same break. */
void dml_peers_noticed(struct dml_peers *p, uint32_t from);

/* As dml_comm_why(). */
void dml_peers_why(struct dml_peers *p, uint32_t rank, char *buf, size_t buf_len);

/* Nothing more goes to the peers or comes from them. in_order: what was queued still goes out. Once
 * only, further calls do nothing. */
void dml_peers_leave(struct dml_peers *p, bool in_order);
