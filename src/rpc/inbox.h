/*
 * Where messages wait until the thread of a comm takes them: one queue per sender, shared by every
 * implementation of comm, so that all of them order, drop and end in the same way.
 *
 * Any thread may call anything; one thread receives.
 */
#pragma once

#include <stdint.h>

#include "rpc/comm.h"

struct dml_inbox;

/* The inbox of `rank` among n_ranks. Nobody is there yet. Only rank 0 is told JOINED and LOST in
 * band. NULL when out of memory. */
struct dml_inbox *dml_inbox_new(uint32_t n_ranks, uint32_t rank);
struct dml_inbox *dml_inbox_free(struct dml_inbox *in);

/* Takes a reference of msg->body. Returns 0, -EPIPE (msg->from is not there), -ENOMEM, or what
 * dml_inbox_end() said. */
int dml_inbox_push(struct dml_inbox *in, const struct dml_comm_msg *msg);

/* `from` is there (again), respectively gone. drop: what it sent and nobody has read goes too.
 * Returns 0 or -ENOMEM; leaving cannot fail. */
int dml_inbox_join(struct dml_inbox *in, uint32_t from);
void dml_inbox_leave(struct dml_inbox *in, uint32_t from, bool drop);

/* From now on r: at once (drop), or after what has arrived was read. The first end counts, except
 * that a dropping one overtakes. */
void dml_inbox_end(struct dml_inbox *in, int r, bool drop);

/* As dml_comm_recv(). */
int dml_inbox_recv(struct dml_inbox *in, uint32_t from, uint64_t deadline_us,
                   struct dml_comm_msg *ret);

bool dml_inbox_present(struct dml_inbox *in, uint32_t from);

/* Bytes that messages from `from` take up while they wait, with or without a body. */
uint64_t dml_inbox_unread(struct dml_inbox *in, uint32_t from);

/* What a message costs on its way, for the statistics: its body, its numbers, a header. */
uint64_t dml_inbox_cost(const struct dml_comm_msg *msg);
