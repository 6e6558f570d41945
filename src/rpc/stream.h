/*
 * One call with messages both ways, the same from the client's and from the server's end.
 *
 * Callbacks run on the loop's thread, one at a time, without a lock held. `closed` is the last and
 * comes exactly once. Everything else may be called from any thread and does nothing on a stream
 * that is closed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "rpc/loop.h"
#include "rpc/meter.h"

/* Of grpc_status_code, those that are used. */
enum {
    DML_STREAM_OK = 0,
    DML_STREAM_CANCELLED = 1,
    DML_STREAM_NOT_FOUND = 5,
    DML_STREAM_NO_RESOURCES = 8,
    DML_STREAM_ABORTED = 10,
    DML_STREAM_UNIMPLEMENTED = 12,
    DML_STREAM_UNAVAILABLE = 14,
};

struct dml_stream;
struct grpc_byte_buffer;
struct grpc_call;
struct grpc_channel;

struct dml_stream_ops {
    /* Client: the server has accepted the call. May be NULL. */
    void (*opened)(void *arg);
    /* NULL: the other side says nothing more (its end follows, or it went). Return true to hear
     * the next one, false to be left alone until dml_stream_resume(). */
    bool (*message)(void *arg, struct grpc_byte_buffer *message);
    /* code: a grpc_status_code. why: of dml_stream_cancel(); else what was said at the end, by the
     * server in dml_stream_finish(), to the client by the server or by gRPC; may be "". */
    void (*closed)(void *arg, int code, const char *why);
};

/* A call to `method` ("/dml.Master/Join"). Owner: caller, dml_stream_unref(). NULL: no memory. */
struct dml_stream *dml_stream_open(struct dml_loop *loop, struct grpc_channel *channel,
                                   const char *method, const struct dml_stream_ops *ops, void *arg);

/* A call that a server has accepted; takes ownership of it in any case. */
struct dml_stream *dml_stream_accept(struct dml_loop *loop, struct grpc_call *call,
                                     const struct dml_stream_ops *ops, void *arg);

/* Answers the call with an error and forgets it. Takes ownership of it. */
void dml_stream_reject(struct dml_loop *loop, struct grpc_call *call, int code, const char *why);

struct dml_stream *dml_stream_ref(struct dml_stream *s);
struct dml_stream *dml_stream_unref(struct dml_stream *s);

/* Queues a message; takes ownership of it in any case. `label` is for dml_stream_purge(); `meter`
 * (may be NULL) runs until the transport has accepted it. */
int dml_stream_send(struct dml_stream *s, struct grpc_byte_buffer *message, uint64_t label,
                    struct dml_meter *meter);

/* Drops what is labelled so and was not sent yet; a label is a run's number. */
void dml_stream_purge(struct dml_stream *s, uint64_t label);

/* Messages that wait to be sent. */
size_t dml_stream_queued(struct dml_stream *s);

void dml_stream_resume(struct dml_stream *s);

/*
 * Says goodbye after what is queued: a client that it has said everything, a server that the call
 * is over (code 0: all is well).
 */
void dml_stream_finish(struct dml_stream *s, int code, const char *why);

/* Ends the call now, whatever is queued. `why` is what closed() will hear. */
void dml_stream_cancel(struct dml_stream *s, const char *why);

/* "192.168.1.7:40312", "unix:" into buf. */
void dml_stream_peer(struct dml_stream *s, char *buf, size_t buf_len);
