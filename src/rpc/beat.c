/*
 * The Beat stream, the master's end: nothing but frames that keep a session alive. A beat of a
 * session that is not there tells its sender so by ending the call; its Join stream tells it why.
 */
#include "rpc/session.h"

#include <stdlib.h>

#include "base/clock.h"

struct beat {
    struct dml_server *server;
    struct dml_stream *stream;
};

static uint64_t no_room(void *arg, uint64_t run_id)
{
    (void)arg;
    (void)run_id;
    return 0;
}

/* The session that the beat keeps alive, referenced, or NULL. */
static struct dml_session *revive(struct dml_server *srv, uint64_t id)
{
    struct dml_session *s;
    pthread_mutex_lock(&srv->lock);
    for (s = srv->sessions; s; s = s->next) {
        if (id && s->id == id && s->welcomed) {
            s->beat_us = dml_clock_now_us();
            (void)dml_session_ref(s);
            break;
        }
    }
    pthread_mutex_unlock(&srv->lock);
    return s;
}

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct beat *b = arg;
    const struct dml_server_handlers *h = &b->server->handlers;
    if (!message) {
        dml_stream_finish(b->stream, DML_STREAM_OK, "");
        return false;
    }
    struct dml_transfer in = {0};
    struct dml_wire_frame f;
    int r = dml_transfer_receive(&in, message, no_room, NULL, &f);
    dml_transfer_done(&in);
    struct dml_session *s = NULL;
    if (r == 1) {
        if (f.kind == DML_WIRE_BEAT)
            s = revive(b->server, f.beat.session);
        if (s && h->beat)
            h->beat(h->arg, s, &f.beat.health);
        dml_wire_frame_done(&f);
    }
    if (!s)
        dml_stream_finish(b->stream, DML_STREAM_NOT_FOUND, "There is no such session.");
    (void)dml_session_unref(s);
    return true;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct beat *b = arg;
    (void)code;
    (void)why;
    (void)dml_stream_unref(b->stream);
    free(b);
}

void dml_session_accept_beat(struct dml_server *srv, struct grpc_call *call)
{
    static const struct dml_stream_ops ops = {.message = on_message, .closed = on_closed};
    struct beat *b = calloc(1, sizeof(*b));
    if (!b) {
        dml_stream_reject(srv->loop, call, DML_STREAM_NO_RESOURCES, "The master is out of memory.");
        return;
    }
    b->server = srv;
    b->stream = dml_stream_accept(srv->loop, call, &ops, b);
    if (!b->stream)
        free(b);
}
