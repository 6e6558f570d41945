/*
 * Replies are read one at a time: the stream is asked for the next only when the caller has dealt
 * with the last, so a terminal that cannot keep up slows the master's sending, not our memory.
 *
 * Whether a master listens on a Unix socket is asked with a plain connect() first, because its
 * errno tells "no master" from "not allowed" and gRPC's sentence does not reliably.
 */
#include "rpc/control.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "rpc/channel.h"
#include "rpc/listen.h"
#include "rpc/transfer.h"
#include "rpc/wait.h"

#define JSON_MAX (64u << 20) /* bytes of one reply, in all its pieces */

struct dml_control {
    char name[DML_CHANNEL_TARGET_MAX];
    char target[DML_CHANNEL_TARGET_MAX];
    struct dml_loop *loop;
    struct dml_stream *stream; /* of the call under way, or NULL */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool cancelled;
    bool opened, closed;
    int code;
    char why[256];
    int bad;      /* a reply could not be taken: why */
    bool waiting; /* a reply waits to be taken; the next is not read before */
    struct dml_wire_reply reply;
};

int dml_control_new(const char *target, struct dml_control **ret, struct dml_err *err)
{
    struct dml_control *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    pthread_mutex_init(&c->lock, NULL);
    dml_wait_init(&c->changed);
    int r = dml_channel_target(target, c->target, err);
    if (r == 0) {
        snprintf(c->name, sizeof(c->name), "%s", target);
        r = dml_loop_new(NULL, NULL, 0, &c->loop, err);
    }
    if (r < 0) {
        (void)dml_control_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

struct dml_control *dml_control_free(struct dml_control *c)
{
    if (!c)
        return NULL;
    (void)dml_loop_free(c->loop);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

void dml_control_cancel(struct dml_control *c)
{
    pthread_mutex_lock(&c->lock);
    c->cancelled = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void on_opened(void *arg)
{
    struct dml_control *c = arg;
    pthread_mutex_lock(&c->lock);
    c->opened = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct dml_control *c = arg;
    if (!message)
        return false;
    size_t len = 0;
    struct dml_wire_reply reply = {0};
    unsigned char *data = dml_transfer_bytes(message, &len);
    int r = data ? dml_wire_unpack_reply(data, len, &reply) : -ENOMEM;
    free(data);
    pthread_mutex_lock(&c->lock);
    c->reply = reply;
    c->waiting = r == 0;
    c->bad = r;
    c->opened = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return false;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct dml_control *c = arg;
    pthread_mutex_lock(&c->lock);
    c->closed = true;
    c->code = code;
    snprintf(c->why, sizeof(c->why), "%s", why);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static const struct dml_stream_ops control_ops = {
    .opened = on_opened, .message = on_message, .closed = on_closed};

static int nobody(struct dml_control *c, const char *reason, struct dml_err *err)
{
    bool local = !strncmp(c->name, "unix:", 5);
    return dml_err_set(err, -EHOSTDOWN, "No master answers at %s: %s. %s", c->name, reason,
                       local ? "Start it with: systemctl start dmlmasterd"
                             : "Is dmlmasterd running there, and is the port open?");
}

/* Who may not open the socket is told whose it is; what cannot be found out is left away. */
static int not_allowed(struct dml_control *c, const char *path, struct dml_err *err)
{
    struct stat st;
    struct group entry, *found = NULL;
    char names[4096], folder[DML_CHANNEL_TARGET_MAX];
    (void)snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash && slash > folder)
        *slash = '\0';
    if (stat(path, &st) == 0 || stat(folder, &st) == 0)
        (void)getgrgid_r(st.st_gid, &entry, names, sizeof(names), &found);
    if (!found)
        return dml_err_set(err, -EACCES,
                           "This user may not talk to the master at %s: use sudo, or become a "
                           "member of the group that owns the socket.",
                           c->name);
    return dml_err_set(err, -EACCES,
                       "This user may not talk to the master at %s: use sudo, or become a member of "
                       "group %s (sudo adduser $USER %s, then log in anew).",
                       c->name, found->gr_name, found->gr_name);
}

static int probe(struct dml_control *c, struct dml_err *err)
{
    if (strncmp(c->name, "unix:", 5) != 0)
        return 0;
    const char *path = c->name + 5;
    path += strncmp(path, "///", 3) ? 0 : 2;
    int r = dml_listen_probe(path);
    if (r == -EACCES || r == -EPERM)
        return not_allowed(c, path, err);
    return r < 0 ? nobody(c, strerror(-r), err) : 0;
}

/* With the lock: the next reply. Returns 0, or why there is none. */
static int next_reply(struct dml_control *c, uint64_t connect_deadline_us,
                      struct dml_wire_reply *ret, struct dml_err *err)
{
    char reason[256];
    for (;;) {
        if (c->cancelled)
            return dml_err_set(err, -ECANCELED, "Interrupted.");
        if (c->waiting) {
            *ret = c->reply;
            c->waiting = false;
            return 0;
        }
        if (c->bad)
            return dml_err_set(err, c->bad, "The reply of the master at %s cannot be read.",
                               c->name);
        if (c->closed && c->code == DML_STREAM_UNIMPLEMENTED)
            return dml_err_set(err, -EPROTO, "What answers at %s is no dml master: %s", c->name,
                               c->why);
        if (c->closed && c->code == DML_STREAM_OK)
            return dml_err_set(err, -EPROTO, "The master at %s ended the call without a result.",
                               c->name);
        if (c->closed && c->opened)
            return dml_err_set(err, -EHOSTDOWN, "The connection to the master at %s broke: %s.",
                               c->name, dml_channel_reason(c->why, reason, sizeof(reason)));
        if (c->closed)
            return nobody(c, dml_channel_reason(c->why, reason, sizeof(reason)), err);
        uint64_t deadline_us = c->opened ? DML_CLOCK_NEVER : connect_deadline_us;
        if (!dml_wait_until(&c->changed, &c->lock, deadline_us) && !c->opened && !c->closed)
            return nobody(c, "the time is up", err);
    }
}

/* Adds a piece; *io_json grows. */
static int add_piece(char **io_json, size_t *io_len, const struct dml_wire_reply *piece)
{
    if (piece->json_len > JSON_MAX - *io_len)
        return -EMSGSIZE;
    char *json = realloc(*io_json, *io_len + piece->json_len + 1);
    if (!json)
        return -ENOMEM;
    memcpy(json + *io_len, piece->json, piece->json_len + 1);
    *io_json = json;
    *io_len += piece->json_len;
    return 0;
}

/* Hands out replies until the end. Called without the lock. */
static int converse(struct dml_control *c, uint64_t connect_deadline_us, dml_control_reply_fn fn,
                    void *arg, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *json = NULL;
    size_t json_len = 0;
    for (;;) {
        struct dml_wire_reply reply = {0};
        pthread_mutex_lock(&c->lock);
        int r = next_reply(c, connect_deadline_us, &reply, err);
        pthread_mutex_unlock(&c->lock);
        if (r < 0)
            return r;
        if (!reply.json) {
            if (reply.r < 0 && err)
                *err = reply.err;
            return reply.r;
        }
        r = add_piece(&json, &json_len, &reply);
        free(reply.json);
        if (r < 0)
            return dml_err_set(err, r, "The master's reply is too large.");
        if (!reply.more) {
            r = fn(arg, json);
            json_len = 0;
            if (r)
                return r;
        }
        dml_stream_resume(c->stream);
    }
}

int dml_control_call(struct dml_control *c, const struct dml_control_request *request,
                     uint64_t connect_us, dml_control_reply_fn fn, void *arg, struct dml_err *err)
{
    unsigned char *data;
    size_t len;
    uint64_t deadline_us = dml_clock_now_us() + connect_us;
    int r = probe(c, err);
    if (r == 0 && (r = dml_wire_pack_request(request, &data, &len)) == -EMSGSIZE)
        (void)dml_err_set(err, r,
                          "That is too much to send: %u bytes are allowed for a test case, %u with "
                          "its models, %d of them.",
                          DML_WIRE_TEXT_MAX, DML_WIRE_MESSAGE_MAX, DML_CONTROL_MODELS_MAX);
    if (r < 0)
        return r;

    struct grpc_channel *channel = dml_channel_new(c->target);
    pthread_mutex_lock(&c->lock);
    c->opened = c->closed = c->waiting = false;
    c->bad = 0;
    c->stream = dml_stream_open(c->loop, channel, "/dml.Master/Control", &control_ops, c);
    pthread_mutex_unlock(&c->lock);
    if (!c->stream) {
        free(data);
        (void)dml_channel_free(channel);
        return -ENOMEM;
    }
    (void)dml_stream_send(c->stream, dml_transfer_message(data, len), 0, NULL);
    dml_stream_finish(c->stream, DML_STREAM_OK, "");

    r = converse(c, deadline_us, fn, arg, err);
    dml_stream_cancel(c->stream, "");
    pthread_mutex_lock(&c->lock);
    while (!c->closed)
        (void)dml_wait_until(&c->changed, &c->lock, DML_CLOCK_NEVER);
    if (c->waiting)
        free(c->reply.json);
    c->waiting = false;
    pthread_mutex_unlock(&c->lock);
    c->stream = dml_stream_unref(c->stream);
    (void)dml_channel_free(channel);
    return r;
}
