/*
 * One request of dmlctl, the master's end. Two hold it: the stream, until the client is gone, and
 * the program, until dml_control_end(); either may be first.
 *
 * A client that reads more slowly than the master talks (a suspended `dmlctl watch`) is hung up on
 * before its replies fill the memory.
 */
#include "rpc/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUED_MAX = 4096 }; /* replies; a watched master makes some tens per round */

struct dml_control_call {
    atomic_uint refs;
    struct dml_server *server; /* poller thread only */
    struct dml_stream *stream;
    atomic_bool gone; /* the client is */
    bool local;
    bool asked; /* poller thread only */
};

static void call_unref(struct dml_control_call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) == 1) {
        (void)dml_stream_unref(call->stream);
        free(call);
    }
}

static int send_reply(struct dml_control_call *call, const struct dml_wire_reply *reply)
{
    unsigned char *data;
    size_t len;
    int r = dml_wire_pack_reply(reply, &data, &len);
    return r < 0 ? r : dml_stream_send(call->stream, dml_transfer_message(data, len), 0, NULL);
}

bool dml_control_is_local(const struct dml_control_call *call)
{
    return call->local;
}

bool dml_control_is_gone(const struct dml_control_call *call)
{
    return atomic_load(&call->gone);
}

int dml_control_reply(struct dml_control_call *call, const char *json)
{
    if (dml_stream_queued(call->stream) > QUEUED_MAX) {
        dml_stream_cancel(call->stream, "The client reads too slowly.");
        return -EPIPE;
    }
    int r = 0;
    size_t left = strlen(json);
    do {
        struct dml_wire_reply reply = {.json = (char *)(uintptr_t)json};
        reply.json_len = left < DML_WIRE_CHUNK ? left : DML_WIRE_CHUNK;
        reply.more = left > reply.json_len;
        r = send_reply(call, &reply);
        json += reply.json_len;
        left -= reply.json_len;
    } while (r == 0 && left);
    return r;
}

void dml_control_end(struct dml_control_call *call, int r, const struct dml_err *err)
{
    struct dml_wire_reply end = {.r = r};
    if (err)
        end.err = *err;
    if (r < 0 && !dml_err_is_set(&end.err))
        (void)dml_err_set(&end.err, r, "%s", strerror(-r));
    (void)send_reply(call, &end);
    dml_stream_finish(call->stream, DML_STREAM_OK, "");
    call_unref(call);
}

static void ask(struct dml_control_call *call, struct grpc_byte_buffer *message)
{
    const struct dml_server_handlers *h = &call->server->handlers;
    struct dml_control_request request = {0};
    struct dml_err err = {0};
    size_t len = 0;
    unsigned char *data = dml_transfer_bytes(message, &len);
    int r = data ? dml_wire_unpack_request(data, len, &request, &err) : -ENOMEM;
    free(data);
    atomic_fetch_add(&call->refs, 1); /* given up by dml_control_end() */
    if (r == 0 && !h->control)
        r = -EOPNOTSUPP;
    if (r < 0)
        dml_control_end(call, r, &err);
    else
        h->control(h->arg, call, &request);
    dml_control_request_done(&request);
}

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct dml_control_call *call = arg;
    if (message && !call->asked) {
        call->asked = true;
        ask(call, message);
    } else if (!call->asked) {
        dml_stream_finish(call->stream, DML_STREAM_OK, "");
    }
    return true;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct dml_control_call *call = arg;
    (void)code;
    (void)why;
    atomic_store(&call->gone, true);
    call_unref(call);
}

void dml_control_call_accept(struct dml_server *srv, struct grpc_call *grpc)
{
    static const struct dml_stream_ops ops = {.message = on_message, .closed = on_closed};
    struct dml_control_call *call = calloc(1, sizeof(*call));
    if (!call) {
        dml_stream_reject(srv->loop, grpc, DML_STREAM_NO_RESOURCES, "The master is out of memory.");
        return;
    }
    atomic_init(&call->refs, 1);
    call->server = srv;
    call->stream = dml_stream_accept(srv->loop, grpc, &ops, call);
    if (!call->stream) {
        free(call);
        return;
    }
    char peer[64];
    dml_stream_peer(call->stream, peer, sizeof(peer));
    call->local = !strncmp(peer, "unix:", 5);
}
