/*
 * One Join stream. The first message is the hello; from the welcome on the worker counts as there
 * until its stream breaks (a killed process: about 1 ms), or until it has not beaten for too long
 * (a cut cable, a stopped process). Either way the end is the stream's: left() and LOST come from
 * on_closed() and nowhere else.
 *
 * Hanging up lets the goodbye out first, but gives it only a second: a worker that reads nothing
 * must not keep its rank.
 */
#include "rpc/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"

enum { GOODBYE_US = 1000 * 1000 };

struct dml_session *dml_session_ref(struct dml_session *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

struct dml_session *dml_session_unref(struct dml_session *s)
{
    if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        (void)dml_stream_unref(s->stream);
        free(s);
    }
    return NULL;
}

const struct dml_hello *dml_session_hello(const struct dml_session *s)
{
    return &s->hello;
}

const char *dml_session_peer(const struct dml_session *s)
{
    return s->peer;
}

void dml_session_close(struct dml_session *s, const char *why)
{
    unsigned long long never = 0;
    if (atomic_compare_exchange_strong(&s->hung_up_us, &never, dml_clock_now_us()))
        dml_stream_finish(s->stream, DML_STREAM_ABORTED, why);
}

void dml_session_welcome(struct dml_session *s)
{
    if (s->welcomed)
        return;
    s->welcomed = true;
    struct dml_wire_frame f = {.kind = DML_WIRE_WELCOME};
    f.welcome.protocol = DML_WIRE_PROTOCOL;
    f.welcome.session = s->id;
    (void)dml_transfer_send_frame(s->stream, &f);
}

static void refuse(struct dml_session *s, const char *why)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_REFUSED};
    snprintf(f.ended.text, sizeof(f.ended.text), "%s", why);
    (void)dml_transfer_send_frame(s->stream, &f);
    dml_session_close(s, why);
}

/* Refused without asking the program. */
static void turn_away(struct dml_session *s, const char *why)
{
    const struct dml_server_handlers *h = &s->server->handlers;
    if (h->refused)
        h->refused(h->arg, s->hello.worker_id, s->peer, why);
    refuse(s, why);
}

static uint64_t new_id(void)
{
    uint64_t id = 0;
    while (id == 0)
        if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
            id = 0;
    return id;
}

static int greet(struct dml_session *s, const struct dml_wire_frame *f)
{
    const struct dml_server_handlers *h = &s->server->handlers;
    s->greeted = true;
    if (f->kind != DML_WIRE_HELLO) {
        turn_away(s, "The first message was no hello.");
        return 0;
    }
    s->hello = f->hello;
    if (f->hello.protocol != DML_WIRE_PROTOCOL) {
        char why[256];
        snprintf(why, sizeof(why),
                 "The worker %s (dml %s) speaks protocol %u, the master %u: install the same "
                 "version of dml on both.",
                 s->hello.worker_id, s->hello.version, f->hello.protocol, DML_WIRE_PROTOCOL);
        turn_away(s, why);
        return 0;
    }

    pthread_mutex_lock(&s->server->lock);
    s->id = new_id();
    s->beat_us = dml_clock_now_us();
    pthread_mutex_unlock(&s->server->lock);
    char refusal[256] = "";
    int r = h->joined(h->arg, s, refusal, sizeof(refusal));
    if (r < 0) {
        refuse(s, refusal[0] ? refusal : strerror(-r));
        return 0;
    }
    s->joined = true;
    pthread_mutex_lock(&s->server->lock);
    dml_session_welcome(s);
    pthread_mutex_unlock(&s->server->lock);
    return 0;
}

static int take(struct dml_session *s, struct dml_wire_frame *f)
{
    const struct dml_server_handlers *h = &s->server->handlers;
    if (!s->greeted)
        return greet(s, f);
    int r = -EPROTO;
    if (f->kind == DML_WIRE_HEADER) {
        pthread_mutex_lock(&s->server->lock);
        r = 0;
        if (dml_server_comm_has(s, f->run_id))
            r = dml_server_comm_deliver(s, &f->header.msg);
        pthread_mutex_unlock(&s->server->lock);
        (void)dml_buf_unref(f->header.msg.body);
    } else if (f->kind == DML_WIRE_ENDED) {
        pthread_mutex_lock(&s->server->lock);
        if (dml_server_comm_has(s, f->run_id))
            dml_server_comm_detach(s, false);
        pthread_mutex_unlock(&s->server->lock);
        if (h->run_ended)
            h->run_ended(h->arg, s, f->run_id, f->ended.r, f->ended.text);
        r = 0;
    }
    return r;
}

static uint64_t room(void *arg, uint64_t run_id)
{
    struct dml_session *s = arg;
    pthread_mutex_lock(&s->server->lock);
    uint64_t longest = dml_server_comm_room(s, run_id);
    pthread_mutex_unlock(&s->server->lock);
    return longest;
}

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct dml_session *s = arg;
    if (!message) {
        dml_stream_finish(s->stream, DML_STREAM_OK, "");
        return false;
    }
    if (atomic_load(&s->hung_up_us))
        return true;
    struct dml_wire_frame f;
    int r = dml_transfer_receive(&s->in, message, room, s, &f);
    if (r == 1) {
        r = take(s, &f);
        dml_wire_frame_done(&f);
    }
    if (r == -ENOMEM)
        dml_session_close(s, "The master has no memory left for what the worker sends.");
    else if (r < 0 && !s->greeted)
        turn_away(s, "The hello cannot be understood: an id of 1 to 63 characters of "
                     "A-Z a-z 0-9 . _ - and at least one core are wanted.");
    else if (r < 0)
        dml_session_close(s, "The worker broke the protocol.");
    pthread_mutex_lock(&s->server->lock);
    bool more = !s->paused;
    pthread_mutex_unlock(&s->server->lock);
    return more;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct dml_session *s = arg;
    struct dml_server *srv = s->server;
    pthread_mutex_lock(&srv->lock);
    s->gone = true;
    dml_server_comm_detach(s, true);
    for (struct dml_session **at = &srv->sessions; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    pthread_mutex_unlock(&srv->lock);
    dml_transfer_done(&s->in);
    if (s->joined && srv->handlers.left)
        srv->handlers.left(srv->handlers.arg, s,
                           why[0]                  ? why
                           : code == DML_STREAM_OK ? "The worker said goodbye."
                                                   : "The connection broke.");
    (void)dml_session_unref(s);
}

static const struct dml_stream_ops session_ops = {.message = on_message, .closed = on_closed};

void dml_session_accept(struct dml_server *srv, struct grpc_call *call)
{
    struct dml_session *s = calloc(1, sizeof(*s));
    if (!s) {
        dml_stream_reject(srv->loop, call, DML_STREAM_NO_RESOURCES, "The master is out of memory.");
        return;
    }
    atomic_init(&s->refs, 1);
    s->server = srv;
    s->stream = dml_stream_accept(srv->loop, call, &session_ops, s);
    if (!s->stream) {
        free(s);
        return;
    }
    s->beat_us = dml_clock_now_us();
    dml_stream_peer(s->stream, s->peer, sizeof(s->peer));
    pthread_mutex_lock(&srv->lock);
    s->next = srv->sessions;
    srv->sessions = s;
    pthread_mutex_unlock(&srv->lock);
}

/* With the lock. */
static void give_up_silent(struct dml_server *srv, uint64_t now)
{
    char why[96];
    snprintf(why, sizeof(why), "No heartbeat for %.1f s.", (double)srv->beat_timeout_us / 1e6);
    for (struct dml_session *s = srv->sessions; s; s = s->next) {
        uint64_t hung_up_us = atomic_load(&s->hung_up_us);
        if (hung_up_us && now > hung_up_us + GOODBYE_US)
            dml_stream_cancel(s->stream, "");
        else if (!hung_up_us && now > s->beat_us + srv->beat_timeout_us)
            dml_stream_cancel(s->stream, why);
    }
}

/* The master stood still (stopped, starved, waiting for its disk): what came meanwhile is still to
 * be read. With the lock. */
static void excuse(struct dml_server *srv, uint64_t now, uint64_t late_us)
{
    for (struct dml_session *s = srv->sessions; s; s = s->next)
        s->beat_us = s->beat_us + late_us < now ? s->beat_us + late_us : now;
}

void dml_session_tick(struct dml_server *srv)
{
    pthread_mutex_lock(&srv->lock);
    uint64_t now = dml_clock_now_us(), due = srv->tick_us + srv->period_us;
    srv->tick_us = now;
    if (now > due + srv->period_us)
        excuse(srv, now, now - due);
    else
        give_up_silent(srv, now);
    pthread_mutex_unlock(&srv->lock);
}

void dml_session_close_all(struct dml_server *srv, const char *why)
{
    pthread_mutex_lock(&srv->lock);
    for (struct dml_session *s = srv->sessions; s; s = s->next)
        dml_session_close(s, why);
    pthread_mutex_unlock(&srv->lock);
}
