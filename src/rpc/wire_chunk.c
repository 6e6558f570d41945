/*
 * Frames that carry a chunk, without protobuf-c: two varints and two tags, so that the bytes go
 * from a buffer to the socket and from the socket's slices into a buffer without ever lying in a
 * protobuf message. The bytes on the wire are those that protobuf would have written; test_wire
 * holds the one against the other.
 */
#include "rpc/wire_pack.h"

#include <assert.h>
#include <errno.h>

enum {
    TAG_RUN_ID = 1 << 3,     /* varint */
    TAG_CHUNK = 10 << 3 | 2, /* length-delimited */
};

static size_t put_varint(unsigned char *out, uint64_t x)
{
    size_t n = 0;
    for (; x >= 0x80; x >>= 7)
        out[n++] = (unsigned char)(x | 0x80);
    out[n++] = (unsigned char)x;
    return n;
}

/* Returns the bytes read, 0 when there is no varint within `len` bytes. */
static size_t get_varint(const unsigned char *in, size_t len, uint64_t *ret)
{
    uint64_t x = 0;
    for (size_t n = 0; n < len && n < 10; n++) {
        x |= (uint64_t)(in[n] & 0x7f) << (7 * n);
        if (!(in[n] & 0x80)) {
            *ret = x;
            return n + 1;
        }
    }
    return 0;
}

/* The run's number takes at most 11 bytes with its tag, the chunk's tag and length at most 4. */
static_assert(11 + 1 + 3 <= DML_WIRE_CHUNK_HEAD && DML_WIRE_CHUNK < 1 << 21, "heads fit");

size_t dml_wire_pack_chunk(uint64_t run_id, size_t chunk_len,
                           unsigned char ret_head[DML_WIRE_CHUNK_HEAD])
{
    assert(chunk_len <= DML_WIRE_CHUNK);
    size_t n = 0;
    if (run_id) { /* proto3 leaves zeroes out */
        ret_head[n++] = TAG_RUN_ID;
        n += put_varint(ret_head + n, run_id);
    }
    ret_head[n++] = TAG_CHUNK;
    return n + put_varint(ret_head + n, chunk_len);
}

int dml_wire_unpack_chunk(const unsigned char *head, size_t total, uint64_t *ret_run_id,
                          size_t *ret_offset)
{
    size_t len = total < DML_WIRE_CHUNK_HEAD ? total : DML_WIRE_CHUNK_HEAD, at = 0;
    uint64_t run_id = 0, chunk_len;
    if (at < len && head[at] == TAG_RUN_ID) {
        size_t n = get_varint(head + 1, len - 1, &run_id);
        if (n == 0)
            return 0;
        at = 1 + n;
    }
    if (at >= len || head[at] != TAG_CHUNK)
        return 0;
    size_t n = get_varint(head + at + 1, len - at - 1, &chunk_len);
    at += 1 + n;
    if (n == 0 || chunk_len != total - at || chunk_len > DML_WIRE_CHUNK)
        return -EPROTO;
    *ret_run_id = run_id;
    *ret_offset = at;
    return 1;
}
