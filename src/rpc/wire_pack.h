/*
 * Frames: the messages of dml.proto as structs, and their way to bytes and back. For rpc/ only.
 *
 * Everything a peer may send is checked here: after a successful unpack all texts are clean UTF-8
 * without control characters and within their sizes, all numbers within their limits.
 */
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "rpc/comm.h"
#include "rpc/wire.h"

enum dml_wire_kind {
    DML_WIRE_HELLO = 1,
    DML_WIRE_WELCOME,
    DML_WIRE_REFUSED,
    DML_WIRE_ORDER,
    DML_WIRE_STOP,
    DML_WIRE_ENDED,
    DML_WIRE_BEAT,
    DML_WIRE_HEADER,
    DML_WIRE_PEER,
    DML_WIRE_PEER_HELLO,
    DML_WIRE_KIND_MAX_
};

enum dml_wire_peer_state {
    DML_WIRE_PEER_THERE = 1,
    DML_WIRE_PEER_LOST,
    DML_WIRE_PEER_LEFT, /* in order */
    DML_WIRE_PEER_MAX_
};

/* The master's word about another worker of the run. */
struct dml_wire_peer {
    uint32_t rank, life;
    enum dml_wire_peer_state state;
    char address[DML_WIRE_ADDRESS_MAX]; /* as in dml.proto */
};

struct dml_wire_peer_hello {
    uint32_t protocol; /* with another one than ours, nothing but that number */
    uint32_t from, from_life, to, to_life;
    uint64_t attempt;
    unsigned char secret[DML_WIRE_SECRET_LEN];
};

struct dml_wire_frame {
    enum dml_wire_kind kind;
    uint64_t run_id;
    union {
        struct dml_hello hello; /* with another protocol than ours, nothing but that number */
        struct {
            uint32_t protocol;
            uint64_t session;
        } welcome;
        struct dml_run_order order; /* owned */
        struct {
            uint64_t session;
            struct dml_health health;
        } beat;
        struct {
            struct dml_comm_msg msg; /* without body */
            bool has_body;
            uint64_t body_len;
        } header;
        struct {
            int r;
            char text[768];
        } ended; /* REFUSED uses text alone */
        struct dml_wire_peer peer;
        struct dml_wire_peer_hello peer_hello;
    };
};

void dml_wire_frame_done(struct dml_wire_frame *f);

/* Owner: caller, free(). Returns 0 or -ENOMEM, -EMSGSIZE (a text is too long). */
int dml_wire_pack(const struct dml_wire_frame *f, unsigned char **ret, size_t *ret_len);

/* Returns 0 (owner: caller, dml_wire_frame_done()), -EPROTO, -ENOMEM. */
int dml_wire_unpack(const unsigned char *data, size_t len, struct dml_wire_frame *ret);

/* Everything of a chunk's frame but the bytes themselves. */
#define DML_WIRE_CHUNK_HEAD 24

/* Returns the head's length. chunk_len at most DML_WIRE_CHUNK. */
size_t dml_wire_pack_chunk(uint64_t run_id, size_t chunk_len,
                           unsigned char ret_head[DML_WIRE_CHUNK_HEAD]);

/*
 * head: the first min(total, DML_WIRE_CHUNK_HEAD) bytes of a frame of `total` bytes.
 * Returns 1 and where the chunk begins (it goes to the end of the frame), 0 when the frame is
 * something else, -EPROTO.
 */
int dml_wire_unpack_chunk(const unsigned char *head, size_t total, uint64_t *ret_run_id,
                          size_t *ret_offset);

/* What dmlctl asks. The strings of *ret are the caller's: free(). -EPROTO with err: refused. */
int dml_wire_pack_request(const struct dml_control_request *req, unsigned char **ret,
                          size_t *ret_len);
int dml_wire_unpack_request(const unsigned char *data, size_t len, struct dml_control_request *ret,
                            struct dml_err *err);

/* A piece of a reply's JSON, or (json NULL) the end. */
struct dml_wire_reply {
    char *json; /* owned after unpack; not terminated when packing */
    size_t json_len;
    bool more;
    int r;
    struct dml_err err;
};

int dml_wire_pack_reply(const struct dml_wire_reply *reply, unsigned char **ret, size_t *ret_len);
int dml_wire_unpack_reply(const unsigned char *data, size_t len, struct dml_wire_reply *ret);
