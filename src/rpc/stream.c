/*
 * What gRPC wants of a call, kept in one place:
 *
 * - one SEND and one RECEIVE under way at a time; the rest of what is to be sent waits in a queue;
 * - a received message that nobody asked the successor of is flow control: nothing more is read
 * from the peer than gRPC's window;
 * - everything an operation points to lives until its tag came back, so the object is freed by the
 *   last tag or the last reference, whichever is later;
 * - batches finish in any order. The end (status) may be known before the last messages are read;
 *   closed() waits for them. After a message that is NULL only the status tells whether the peer is
 *   done or dead;
 * - a send that finished was accepted, not delivered;
 * - a cancelled call whose socket is stuck gives its SEND back only when keepalive ends the
 *   connection. closed() does not wait for that, freeing the loop does.
 */
#include "rpc/stream.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include "rpc/clean.h"

struct out {
    struct out *next;
    grpc_byte_buffer *message;
    uint64_t label;
    struct dml_meter *meter; /* told when it was sent or dropped */
};

struct dml_stream {
    pthread_mutex_t lock;
    unsigned refs;
    unsigned n_tags; /* operations under way */
    struct dml_loop *loop;
    grpc_call *call; /* until closed and no operation is under way */
    const struct dml_stream_ops *ops;
    void *arg;
    bool server;

    struct dml_loop_tag open_tag, end_tag, receive_tag, send_tag, finish_tag;
    grpc_metadata_array initial_md, trailing_md;
    grpc_byte_buffer *incoming;
    grpc_status_code status;
    grpc_slice details;
    int cancelled;

    bool receiving, receive_ended;
    bool resumed; /* while message() ran */
    bool sending, finishing, finished;
    bool ended;  /* the status is known */
    bool closed; /* closed() was called */
    struct out *head, **tail;
    size_t n_queued;
    int finish_code;
    char finish_why[256];
    char why[256]; /* of the first cancel */
};

static void start(struct dml_stream *s, const grpc_op *ops, size_t n_ops, struct dml_loop_tag *tag)
{
    s->n_tags++;
    s->refs++;
    dml_loop_give(tag);
    grpc_call_error e = grpc_call_start_batch(s->call, ops, n_ops, tag, NULL);
    assert(e == GRPC_CALL_OK);
    (void)e;
}

static void free_out(struct out *o)
{
    grpc_byte_buffer_destroy(o->message);
    dml_meter_end(o->meter);
    free(o);
}

static void drop_queue(struct dml_stream *s)
{
    while (s->head) {
        struct out *o = s->head;
        s->head = o->next;
        free_out(o);
    }
    s->tail = &s->head;
    s->n_queued = 0;
}

/* Called with the lock: the call is over for us and gRPC holds nothing of ours. */
static void release_call(struct dml_stream *s)
{
    if (!s->call || !s->closed || s->n_tags)
        return;
    drop_queue(s);
    grpc_call_unref(s->call);
    s->call = NULL;
    grpc_metadata_array_destroy(&s->initial_md);
    grpc_metadata_array_destroy(&s->trailing_md);
    grpc_slice_unref(s->details);
    dml_loop_release(s->loop);
}

static void unlock_and_unref(struct dml_stream *s)
{
    assert(s->refs > 0);
    bool last = --s->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Called with the lock. */
static void receive(struct dml_stream *s)
{
    if (s->receiving || s->receive_ended)
        return;
    s->receiving = true;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &s->incoming;
    start(s, &op, 1, &s->receive_tag);
}

/* Called with the lock: sends what is next. */
static void send_next(struct dml_stream *s)
{
    if (s->sending || s->ended || s->finished)
        return;
    if (s->head) {
        grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
        op.data.send_message.send_message = s->head->message;
        s->sending = true;
        start(s, &op, 1, &s->send_tag);
    } else if (s->finishing) {
        s->finished = true;
        grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
        grpc_slice details = grpc_slice_from_copied_string(s->finish_why);
        if (s->server) {
            op.op = GRPC_OP_SEND_STATUS_FROM_SERVER;
            op.data.send_status_from_server.status = (grpc_status_code)s->finish_code;
            op.data.send_status_from_server.status_details = &details;
        }
        start(s, &op, 1, &s->finish_tag);
        grpc_slice_unref(details);
    }
}

/* Called with the lock, which it gives up for the callback. */
static void close_if_over(struct dml_stream *s)
{
    if (!s->ended || s->receiving || s->closed)
        return;
    s->closed = true;
    int code = s->server ? (s->cancelled ? GRPC_STATUS_CANCELLED : GRPC_STATUS_OK) : (int)s->status;
    char why[sizeof(s->why)], *details = grpc_slice_to_c_string(s->details);
    const char *said = s->server ? s->finish_why : details;
    dml_clean_copy(why, sizeof(why), s->why[0] ? s->why : said);
    gpr_free(details);
    pthread_mutex_unlock(&s->lock);
    s->ops->closed(s->arg, code, why);
    pthread_mutex_lock(&s->lock);
}

static void tag_done(struct dml_stream *s)
{
    s->n_tags--;
    close_if_over(s);
    release_call(s);
    unlock_and_unref(s);
}

/* Every operation under way holds a reference; the callbacks below begin so and end with
 * tag_done(). */
static struct dml_stream *tag_begin(void *obj)
{
    struct dml_stream *s = obj;
    pthread_mutex_lock(&s->lock);
    return s;
}

static void on_open(void *obj, bool ok)
{
    struct dml_stream *s = tag_begin(obj);
    if (ok && s->ops->opened && !s->closed) {
        pthread_mutex_unlock(&s->lock);
        s->ops->opened(s->arg);
        pthread_mutex_lock(&s->lock);
    }
    tag_done(s);
}

static void on_end(void *obj, bool ok)
{
    (void)ok; /* "always succeeds" */
    struct dml_stream *s = tag_begin(obj);
    s->ended = true;
    tag_done(s);
}

static void on_receive(void *obj, bool ok)
{
    struct dml_stream *s = tag_begin(obj);
    grpc_byte_buffer *message = ok ? s->incoming : NULL;
    s->incoming = NULL;
    s->receive_ended = !message;
    bool more = true;
    s->resumed = false;
    if (!s->closed) {
        pthread_mutex_unlock(&s->lock);
        more = s->ops->message(s->arg, message);
        pthread_mutex_lock(&s->lock);
    }
    s->receiving = false;
    if (more || s->resumed)
        receive(s);
    if (message)
        grpc_byte_buffer_destroy(message);
    tag_done(s);
}

static void on_send(void *obj, bool ok)
{
    struct dml_stream *s = tag_begin(obj);
    s->sending = false;
    struct out *o = s->head;
    s->head = o->next;
    if (!s->head)
        s->tail = &s->head;
    s->n_queued--;
    free_out(o);
    if (ok)
        send_next(s);
    else
        drop_queue(s); /* the status says why */
    tag_done(s);
}

static void on_finish(void *obj, bool ok)
{
    (void)ok;
    tag_done(tag_begin(obj));
}

static struct dml_stream *stream_new(struct dml_loop *loop, const struct dml_stream_ops *ops,
                                     void *arg)
{
    struct dml_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->refs = 1;
    s->loop = loop;
    s->ops = ops;
    s->arg = arg;
    s->tail = &s->head;
    s->open_tag = (struct dml_loop_tag){on_open, s};
    s->end_tag = (struct dml_loop_tag){on_end, s};
    s->receive_tag = (struct dml_loop_tag){on_receive, s};
    s->send_tag = (struct dml_loop_tag){on_send, s};
    s->finish_tag = (struct dml_loop_tag){on_finish, s};
    grpc_metadata_array_init(&s->initial_md);
    grpc_metadata_array_init(&s->trailing_md);
    s->details = grpc_empty_slice();
    dml_loop_hold(loop);
    return s;
}

struct dml_stream *dml_stream_open(struct dml_loop *loop, struct grpc_channel *channel,
                                   const char *method, const struct dml_stream_ops *ops, void *arg)
{
    struct dml_stream *s = stream_new(loop, ops, arg);
    if (!s)
        return NULL;
    grpc_slice name = grpc_slice_from_copied_string(method);
    s->call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, dml_loop_queue(loop),
                                       name, NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_slice_unref(name);

    pthread_mutex_lock(&s->lock);
    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    end.data.recv_status_on_client.trailing_metadata = &s->trailing_md;
    end.data.recv_status_on_client.status = &s->status;
    end.data.recv_status_on_client.status_details = &s->details;
    start(s, &end, 1, &s->end_tag);
    grpc_op open[] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    open[1].data.recv_initial_metadata.recv_initial_metadata = &s->initial_md;
    start(s, open, 2, &s->open_tag);
    receive(s);
    pthread_mutex_unlock(&s->lock);
    return s;
}

struct dml_stream *dml_stream_accept(struct dml_loop *loop, struct grpc_call *call,
                                     const struct dml_stream_ops *ops, void *arg)
{
    struct dml_stream *s = stream_new(loop, ops, arg);
    if (!s) {
        grpc_call_unref(call);
        return NULL;
    }
    s->server = true;
    s->call = call;
    pthread_mutex_lock(&s->lock);
    grpc_op open = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    start(s, &open, 1, &s->open_tag);
    grpc_op end = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    end.data.recv_close_on_server.cancelled = &s->cancelled;
    start(s, &end, 1, &s->end_tag);
    receive(s);
    pthread_mutex_unlock(&s->lock);
    return s;
}

struct dml_stream *dml_stream_ref(struct dml_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->refs++;
    pthread_mutex_unlock(&s->lock);
    return s;
}

struct dml_stream *dml_stream_unref(struct dml_stream *s)
{
    if (s) {
        pthread_mutex_lock(&s->lock);
        unlock_and_unref(s);
    }
    return NULL;
}

int dml_stream_send(struct dml_stream *s, struct grpc_byte_buffer *message, uint64_t label,
                    struct dml_meter *meter)
{
    struct out *o = malloc(sizeof(*o));
    if (!o) {
        grpc_byte_buffer_destroy(message);
        return -ENOMEM;
    }
    *o = (struct out){.message = message, .label = label, .meter = meter};
    dml_meter_begin(meter);
    pthread_mutex_lock(&s->lock);
    int r = s->ended || s->closed || s->finishing ? -EPIPE : 0;
    if (r == 0) {
        *s->tail = o;
        s->tail = &o->next;
        s->n_queued++;
        send_next(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (r < 0)
        free_out(o);
    return r;
}

void dml_stream_purge(struct dml_stream *s, uint64_t label)
{
    pthread_mutex_lock(&s->lock);
    struct out **at = &s->head;
    if (s->sending)
        at = &s->head->next; /* gRPC has it */
    while (*at) {
        struct out *o = *at;
        if (o->label == label) {
            *at = o->next;
            s->n_queued--;
            free_out(o);
        } else {
            at = &o->next;
        }
    }
    s->tail = at;
    pthread_mutex_unlock(&s->lock);
}

size_t dml_stream_queued(struct dml_stream *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_queued;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void dml_stream_resume(struct dml_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->resumed = true;
    if (s->call && !s->closed)
        receive(s);
    pthread_mutex_unlock(&s->lock);
}

void dml_stream_finish(struct dml_stream *s, int code, const char *why)
{
    pthread_mutex_lock(&s->lock);
    if (s->call && !s->closed && !s->finishing) {
        s->finishing = true;
        s->finish_code = code;
        dml_clean_copy(s->finish_why, sizeof(s->finish_why), why);
        send_next(s);
    }
    pthread_mutex_unlock(&s->lock);
}

void dml_stream_cancel(struct dml_stream *s, const char *why)
{
    pthread_mutex_lock(&s->lock);
    if (s->call && !s->closed) {
        if (!s->why[0])
            dml_clean_copy(s->why, sizeof(s->why), why);
        grpc_call_cancel_with_status(s->call, GRPC_STATUS_CANCELLED, "cancelled", NULL);
    }
    pthread_mutex_unlock(&s->lock);
}

/* gRPC names a peer by a URI: [::1]:80 is %5B::1%5D:80. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++, to++) {
        *to = *s;
        if (s[0] == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2])) {
            *to = (char)strtoul((const char[]){s[1], s[2], '\0'}, NULL, 16);
            s += 2;
        }
    }
    *to = '\0';
}

void dml_stream_peer(struct dml_stream *s, char *buf, size_t buf_len)
{
    pthread_mutex_lock(&s->lock);
    char *peer = s->call ? grpc_call_get_peer(s->call) : NULL;
    pthread_mutex_unlock(&s->lock);
    char *from = peer;
    if (from && (!strncmp(from, "ipv4:", 5) || !strncmp(from, "ipv6:", 5)))
        from += 5;
    if (from)
        unescape(from);
    dml_clean_copy(buf, buf_len, from ? from : "");
    gpr_free(peer);
}

static bool ignore_message(void *arg, struct grpc_byte_buffer *message)
{
    (void)arg;
    return message != NULL;
}

static void ignore_end(void *arg, int code, const char *why)
{
    (void)arg;
    (void)code;
    (void)why;
}

void dml_stream_reject(struct dml_loop *loop, struct grpc_call *call, int code, const char *why)
{
    static const struct dml_stream_ops ops = {.message = ignore_message, .closed = ignore_end};
    struct dml_stream *s = dml_stream_accept(loop, call, &ops, NULL);
    if (s)
        dml_stream_finish(s, code, why);
    (void)dml_stream_unref(s);
}
