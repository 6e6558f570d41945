/*
 * Calls of other workers. Whoever says hello is judged (peer.c): welcome, refused with a sentence,
 * or to wait for the master's word about it, which may be slower than the caller. Who waits is not
 * read on, so gRPC's window is all that it can fill; and of those who are not welcome (yet), among
 * them strangers who say nothing at all, only so many are kept.
 *
 * And the hub, which holds both ends.
 */
#include "rpc/peer_inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/listener.h"
#include "rpc/wait.h"

enum { WAITING_MAX = DML_COMM_RANKS_MAX };

#define CONNECT_US (UINT64_C(20) * 1000 * 1000)

struct peer_guest {
    struct dml_peer_hub *hub;
    struct peer_guest *next;
    struct dml_stream *stream;
    struct dml_transfer in; /* loop's thread only */
    bool greeted;           /* it said hello */
    bool refused;
    bool cancelled;
    bool paused;
    uint64_t run_id;
    struct dml_wire_peer_hello hello;
    struct dml_peers *peers; /* NULL: not welcome, or nobody is interested any more */
    char broke[128];         /* why we ended it */
};

static void refuse(struct peer_guest *g, const char *why)
{
    g->refused = true;
    dml_stream_finish(g->stream, DML_STREAM_ABORTED, why);
}

/* With the lock. */
static void judge(struct peer_guest *g)
{
    char refusal[160];
    switch (dml_peer_judge(g->hub, g->run_id, &g->hello, g, &g->peers, refusal, sizeof(refusal))) {
    case PEER_WELCOME:
        dml_peer_guest_resume(g);
        break;
    case PEER_REFUSED:
        refuse(g, refusal);
        dml_peer_guest_resume(g);
        break;
    case PEER_WAIT:
        g->paused = true;
        break;
    }
}

void dml_peer_guests_examine(struct dml_peer_hub *hub)
{
    for (struct peer_guest *g = hub->guests; g; g = g->next)
        if (g->greeted && !g->refused && !g->peers)
            judge(g);
}

void dml_peer_guest_resume(struct peer_guest *g)
{
    if (!g->paused)
        return;
    g->paused = false;
    dml_stream_resume(g->stream);
}

void dml_peer_guest_end(struct peer_guest *g, bool finish)
{
    g->peers = NULL;
    g->refused = true;
    if (finish)
        dml_stream_finish(g->stream, DML_STREAM_OK, "");
    else
        dml_stream_cancel(g->stream, "");
    g->cancelled |= !finish;
    dml_peer_guest_resume(g);
}

static void greet(struct peer_guest *g, const struct dml_wire_frame *f)
{
    char why[160];
    g->greeted = true;
    g->run_id = f->run_id;
    g->hello = f->peer_hello;
    if (f->kind != DML_WIRE_PEER_HELLO) {
        refuse(g, "The first message was no hello.");
    } else if (f->peer_hello.protocol != DML_WIRE_PROTOCOL) {
        snprintf(
            why, sizeof(why),
            "The caller speaks protocol %u, this worker %u: install the same version of dml on "
            "both.",
            f->peer_hello.protocol, DML_WIRE_PROTOCOL);
        refuse(g, why);
    } else {
        judge(g);
    }
}

static uint64_t room(void *arg, uint64_t run_id)
{
    struct peer_guest *g = arg;
    (void)run_id; /* take() has another one refused */
    pthread_mutex_lock(&g->hub->lock);
    bool wanted = g->peers != NULL;
    pthread_mutex_unlock(&g->hub->lock);
    return wanted ? DML_COMM_BODY_MAX : 0;
}

/* With the lock. */
static int take(struct peer_guest *g, struct dml_wire_frame *f)
{
    if (!g->greeted) {
        greet(g, f);
        return 0;
    }
    if (f->kind != DML_WIRE_HEADER || f->run_id != g->run_id)
        return -EPROTO;
    return g->peers ? dml_peer_deliver(g->peers, g->hello.from, &f->header.msg, &g->paused) : 0;
}

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct peer_guest *g = arg;
    if (!message) {
        dml_stream_finish(g->stream, DML_STREAM_OK, "");
        return false;
    }
    pthread_mutex_lock(&g->hub->lock);
    bool refused = g->refused;
    pthread_mutex_unlock(&g->hub->lock);
    if (refused)
        return true;
    struct dml_wire_frame f;
    int r = dml_transfer_receive(&g->in, message, room, g, &f);
    pthread_mutex_lock(&g->hub->lock);
    if (r == 1) {
        bool header = f.kind == DML_WIRE_HEADER;
        r = take(g, &f);
        if (header)
            (void)dml_buf_unref(f.header.msg.body);
        dml_wire_frame_done(&f);
    }
    if (r < 0) {
        snprintf(g->broke, sizeof(g->broke), "%s",
                 r == -ENOMEM ? "No memory is left for what it sends."
                              : "It does not speak the protocol.");
        refuse(g, g->broke);
    }
    bool more = !g->paused;
    pthread_mutex_unlock(&g->hub->lock);
    return more;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct peer_guest *g = arg;
    struct dml_peer_hub *hub = g->hub;
    pthread_mutex_lock(&hub->lock);
    for (struct peer_guest **at = &hub->guests; *at; at = &(*at)->next) {
        if (*at == g) {
            *at = g->next;
            break;
        }
    }
    if (g->peers)
        dml_peer_guest_ended(g->peers, g->hello.from, code == DML_STREAM_OK && !g->broke[0],
                             g->broke[0] ? g->broke : why);
    pthread_cond_broadcast(&hub->changed);
    pthread_mutex_unlock(&hub->lock);
    dml_transfer_done(&g->in);
    (void)dml_stream_unref(g->stream);
    free(g);
}

/* With the lock: the one that has been waiting longest goes if there are too many; also of those
 * who were refused, since they may not read that. */
static void evict(struct dml_peer_hub *hub)
{
    struct peer_guest *oldest = NULL;
    unsigned n = 0;
    for (struct peer_guest *g = hub->guests; g; g = g->next) {
        if (!g->peers && !g->cancelled) {
            oldest = g;
            n++;
        }
    }
    if (n > WAITING_MAX)
        dml_peer_guest_end(oldest, false);
}

static void accept(struct dml_peer_hub *hub, struct grpc_call *call)
{
    static const struct dml_stream_ops ops = {.message = on_message, .closed = on_closed};
    struct peer_guest *g = calloc(1, sizeof(*g));
    if (!g) {
        dml_stream_reject(hub->loop, call, DML_STREAM_ABORTED, "This worker is out of memory.");
        return;
    }
    g->hub = hub;
    g->stream = dml_stream_accept(hub->loop, call, &ops, g);
    if (!g->stream) {
        free(g);
        return;
    }
    pthread_mutex_lock(&hub->lock);
    g->next = hub->guests;
    hub->guests = g;
    if (hub->closing)
        dml_peer_guest_end(g, false);
    evict(hub);
    pthread_mutex_unlock(&hub->lock);
}

static void dispatch(void *arg, const char *method, struct grpc_call *call)
{
    struct dml_peer_hub *hub = arg;
    if (!strcmp(method, "/dml.Peer/Stream"))
        accept(hub, call);
    else
        dml_stream_reject(hub->loop, call, DML_STREAM_UNIMPLEMENTED,
                          "This worker does not know such a call.");
}

int dml_peer_hub_new(struct dml_loop *loop, const struct dml_peer_hub_options *o,
                     struct dml_peer_hub **ret, struct dml_err *err)
{
    struct dml_peer_hub *hub = calloc(1, sizeof(*hub));
    if (!hub)
        return -ENOMEM;
    hub->loop = loop;
    hub->connect_us = o->connect_us ? o->connect_us : CONNECT_US;
    pthread_mutex_init(&hub->lock, NULL);
    dml_wait_init(&hub->changed);
    int r = 0;
    if (o->listen && o->listen[0]) {
        r = dml_listener_new(loop, dispatch, hub, &hub->listener);
        if (r == 0)
            r = dml_listener_add_tcp(hub->listener, o->listen, &hub->port, err);
        if (r == 0)
            dml_listener_start(hub->listener);
    }
    if (r < 0) {
        (void)dml_peer_hub_free(hub);
        return r;
    }
    *ret = hub;
    return 0;
}

struct dml_peer_hub *dml_peer_hub_free(struct dml_peer_hub *hub)
{
    if (!hub)
        return NULL;
    pthread_mutex_lock(&hub->lock);
    hub->closing = true;
    for (struct peer_call *call = hub->calls; call; call = call->next)
        dml_peer_call_end(call, false);
    for (struct peer_guest *g = hub->guests; g; g = g->next)
        dml_peer_guest_end(g, false);
    pthread_mutex_unlock(&hub->lock);
    if (hub->listener)
        (void)dml_listener_free(hub->listener, 0);
    else
        (void)dml_loop_wait_idle(hub->loop, DML_CLOCK_NEVER);
    pthread_cond_destroy(&hub->changed);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
    return NULL;
}

uint16_t dml_peer_hub_port(const struct dml_peer_hub *hub)
{
    return hub->port;
}

void dml_peer_hub_drain(struct dml_peer_hub *hub, uint64_t deadline_us)
{
    pthread_mutex_lock(&hub->lock);
    while (hub->calls && dml_wait_until(&hub->changed, &hub->lock, deadline_us))
        ;
    pthread_mutex_unlock(&hub->lock);
}
