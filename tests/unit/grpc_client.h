/* A bare stream to a master or a worker, for tests of what they answer to others than dml's own. */
#pragma once

#include "rpc/channel.h"
#include "rpc/stream.h"
#include "rpc/transfer.h"
#include "tests/unit/grpc_cluster.h"

struct client {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct dml_loop *loop;
    struct grpc_channel *channel;
    struct dml_stream *stream;
    struct dml_transfer in;
    struct dml_wire_frame first; /* of what the master said */
    unsigned n_frames, n_closed;
    int code;
    char why[256];
};

UNUSED static uint64_t no_room(void *arg, uint64_t run_id)
{
    (void)arg;
    (void)run_id;
    return 0;
}

UNUSED static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct client *c = arg;
    struct dml_wire_frame f;
    if (!message || dml_transfer_receive(&c->in, message, no_room, NULL, &f) != 1)
        return message != NULL;
    pthread_mutex_lock(&c->lock);
    if (c->n_frames++ == 0)
        c->first = f;
    else
        dml_wire_frame_done(&f);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return true;
}

UNUSED static void on_closed(void *arg, int code, const char *why)
{
    struct client *c = arg;
    pthread_mutex_lock(&c->lock);
    c->n_closed++;
    c->code = code;
    snprintf(c->why, sizeof(c->why), "%s", why);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

UNUSED static void client_call(struct client *c, unsigned port, const char *method)
{
    static const struct dml_stream_ops ops = {.message = on_message, .closed = on_closed};
    char target[64];
    *c = (struct client){0};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    snprintf(target, sizeof(target), "127.0.0.1:%u", port);
    (void)dml_loop_new(NULL, NULL, 0, &c->loop, NULL);
    c->channel = dml_channel_new(target);
    c->stream = dml_stream_open(c->loop, c->channel, method, &ops, c);
}

UNUSED static void client_wait(struct client *c, const unsigned *counter)
{
    pthread_mutex_lock(&c->lock);
    while (*counter == 0)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

UNUSED static void client_hang_up(struct client *c)
{
    dml_stream_cancel(c->stream, "");
    client_wait(c, &c->n_closed);
    c->stream = dml_stream_unref(c->stream);
    (void)dml_channel_free(c->channel);
    (void)dml_loop_free(c->loop);
    dml_transfer_done(&c->in);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

UNUSED static void say(struct client *c, const void *bytes, size_t len)
{
    unsigned char *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    (void)dml_stream_send(c->stream, dml_transfer_message(copy, len), 0, NULL);
}

UNUSED static void say_frame(struct client *c, const struct dml_wire_frame *f)
{
    (void)dml_transfer_send_frame(c->stream, f);
}
