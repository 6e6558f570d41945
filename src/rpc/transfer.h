/*
 * Frames on streams, and messages between ranks as a header frame and the frames of their body.
 *
 * Sending refers to the body instead of copying it; receiving copies each byte once, from the
 * network's slices into the body's own buffer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/stream.h"
#include "rpc/wire_pack.h"

/* Returns 0, -EPIPE (closed), -EMSGSIZE, -ENOMEM. */
int dml_transfer_send_frame(struct dml_stream *s, const struct dml_wire_frame *frame);

/* Labelled with run_id. meter: of dml_stream_send(). Returns as above. */
int dml_transfer_send(struct dml_stream *s, uint64_t run_id, const struct dml_comm_msg *msg,
                      struct dml_meter *meter);

/* The receiving side of one stream. All zero at first. */
struct dml_transfer {
    struct dml_wire_frame header; /* of the body that is coming in */
    uint64_t have;
    bool coming, unwanted;
};

void dml_transfer_done(struct dml_transfer *t);

/*
 * Takes a message of the stream. Returns 1 when *ret is complete (owner: caller, the body of a
 * HEADER and dml_wire_frame_done()), 0 when more must come, -EPROTO, -ENOMEM.
 * room: the longest body that a message of that run may have; 0: the run is of no interest, its
 * bodies are skipped.
 */
int dml_transfer_receive(struct dml_transfer *t, struct grpc_byte_buffer *message,
                         uint64_t (*room)(void *arg, uint64_t run_id), void *arg,
                         struct dml_wire_frame *ret);

/* The bytes of a message in one piece. Owner: caller, free(). NULL when out of memory. */
unsigned char *dml_transfer_bytes(struct grpc_byte_buffer *message, size_t *ret_len);

/* A message of those bytes. Takes ownership of data (malloc). */
struct grpc_byte_buffer *dml_transfer_message(unsigned char *data, size_t len);
