/*
 * Everything that comes from a socket: the first byte says which reader gets the rest.
 */
#include "rpc/wire_pack.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void frame(const uint8_t *data, size_t len)
{
    unsigned char head[DML_WIRE_CHUNK_HEAD];
    uint64_t run_id;
    size_t offset;
    memcpy(head, data, len < sizeof(head) ? len : sizeof(head));
    if (dml_wire_unpack_chunk(head, len, &run_id, &offset) == 1 && offset > len)
        abort();

    struct dml_wire_frame f;
    if (dml_wire_unpack(data, len, &f) < 0)
        return;
    /* What was accepted can be said again. */
    unsigned char *again;
    size_t again_len;
    if (dml_wire_pack(&f, &again, &again_len) < 0)
        abort();
    struct dml_wire_frame g;
    bool other = (f.kind == DML_WIRE_HELLO) ||
                 (f.kind == DML_WIRE_PEER_HELLO && f.peer_hello.protocol != DML_WIRE_PROTOCOL);
    if (!other && dml_wire_unpack(again, again_len, &g) < 0)
        abort();
    if (!other)
        dml_wire_frame_done(&g);
    free(again);
    dml_wire_frame_done(&f);
}

static void request(const uint8_t *data, size_t len)
{
    struct dml_control_request req;
    struct dml_err err = {0};
    if (dml_wire_unpack_request(data, len, &req, &err) < 0)
        return;
    dml_control_request_done(&req);
}

static void reply(const uint8_t *data, size_t len)
{
    struct dml_wire_reply rep;
    if (dml_wire_unpack_reply(data, len, &rep) == 0)
        free(rep.json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    switch (data[0]) {
    case 'f':
        frame(data + 1, len - 1);
        break;
    case 'q':
        request(data + 1, len - 1);
        break;
    case 'r':
        reply(data + 1, len - 1);
        break;
    default:
        break;
    }
    return 0;
}
