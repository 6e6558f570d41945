/*
 * The listening side: ports, calls, and the order in which gRPC wants to be left.
 *
 * Calls are accepted by slots that take any method: a method nobody knows has to be answered as
 * well, or its caller waits for ever. Which one it is decides the file that goes on with it:
 * session.c (Join), beat.c (Beat), control_call.c (Control).
 *
 * The end: say goodbye to all sessions, stop accepting, give the goodbyes GRACE_US, cancel what is
 * left, wait until every operation has come back; only then destroy the server and the loop.
 *
 * so_reuseport is off, or two masters would share a port without either noticing.
 */
#include "rpc/session.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "base/clock.h"
#include "base/err.h"
#include "rpc/listen.h"

enum {
    N_SLOTS = 4, /* calls that may begin at the same time; the rest wait inside gRPC */
    GRACE_US = 500 * 1000,
    TICK_MIN_US = 10 * 1000,
    TICK_MAX_US = 500 * 1000,
};

struct slot {
    struct listener *listener;
    struct dml_loop_tag tag;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

struct listener {
    struct dml_server server;
    grpc_server *grpc;
    uint16_t port;
    struct slot slots[N_SLOTS];
    struct dml_loop_tag shutdown_tag;
};

static struct listener *listener_of(const struct dml_server *s)
{
    return (struct listener *)(uintptr_t)s;
}

static void request(struct slot *slot)
{
    grpc_call_details_init(&slot->details);
    grpc_metadata_array_init(&slot->metadata);
    grpc_completion_queue *cq = dml_loop_queue(slot->listener->server.loop);
    dml_loop_give(&slot->tag);
    grpc_call_error e = grpc_server_request_call(slot->listener->grpc, &slot->call, &slot->details,
                                                 &slot->metadata, cq, cq, &slot->tag);
    assert(e == GRPC_CALL_OK);
    (void)e;
}

static void dispatch(struct dml_server *srv, grpc_slice method, grpc_call *call)
{
    if (grpc_slice_str_cmp(method, "/dml.Master/Join") == 0)
        dml_session_accept(srv, call);
    else if (grpc_slice_str_cmp(method, "/dml.Master/Beat") == 0)
        dml_session_accept_beat(srv, call);
    else if (grpc_slice_str_cmp(method, "/dml.Master/Control") == 0)
        dml_control_call_accept(srv, call);
    else
        dml_stream_reject(srv->loop, call, DML_STREAM_UNIMPLEMENTED,
                          "This master does not know such a call.");
}

static void on_call(void *obj, bool ok)
{
    struct slot *slot = obj;
    struct dml_server *srv = &slot->listener->server;
    if (ok)
        dispatch(srv, slot->details.method, slot->call);
    grpc_call_details_destroy(&slot->details);
    grpc_metadata_array_destroy(&slot->metadata);
    if (ok)
        request(slot);
    else
        dml_loop_release(srv->loop);
}

static void on_shutdown(void *obj, bool ok)
{
    struct listener *l = obj;
    (void)ok;
    dml_loop_release(l->server.loop);
}

static void tick(void *arg)
{
    dml_session_tick(arg);
}

static grpc_arg integer(const char *key, int value)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key};
    arg.value.integer = value;
    return arg;
}

/* For the numbers see channel.c; clients may ping twice as often as they do. */
static grpc_server *create(struct dml_loop *loop)
{
    grpc_arg list[] = {
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, DML_WIRE_MESSAGE_MAX),
        integer(GRPC_ARG_ALLOW_REUSEPORT, 0),
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, 20 * 1000),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20 * 1000),
        integer(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        integer(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10 * 1000),
    };
    grpc_channel_args args = {.num_args = ARRAY_SIZE(list), .args = list};
    grpc_server *server = grpc_server_create(&args, NULL);
    grpc_server_register_completion_queue(server, dml_loop_queue(loop), NULL);
    return server;
}

static int listen_tcp(struct listener *l, const char *address, struct dml_err *err)
{
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(l->grpc, address, credentials);
    grpc_server_credentials_release(credentials);
    l->port = (uint16_t)port;
    return port > 0 ? 0 : dml_listen_explain(address, err);
}

/* Owner and group may use the socket: 0660 from the first moment on. */
static int listen_unix(struct listener *l, const char *path, struct dml_err *err)
{
    char target[128];
    int r = dml_listen_check_socket(path, err);
    if (r < 0)
        return r;
    snprintf(target, sizeof(target), "unix:%s", path);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    mode_t mask = umask(0117);
    int port = grpc_server_add_http2_port(l->grpc, target, credentials);
    (void)umask(mask);
    grpc_server_credentials_release(credentials);
    if (port > 0)
        return 0;
    return dml_err_set(err, -EADDRNOTAVAIL,
                       "Cannot make the control socket %s: does its directory exist, and may this "
                       "user write to it?",
                       path);
}

int dml_server_new(const struct dml_server_options *o, const struct dml_server_handlers *h,
                   struct dml_server **ret, struct dml_err *err)
{
    struct listener *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    struct dml_server *srv = &l->server;
    srv->handlers = *h;
    srv->beat_timeout_us = o->beat_timeout_us;
    pthread_mutex_init(&srv->lock, NULL);
    uint64_t period_us = o->beat_timeout_us / 4;
    if (period_us < TICK_MIN_US)
        period_us = TICK_MIN_US;
    if (period_us > TICK_MAX_US)
        period_us = TICK_MAX_US;
    int r = dml_loop_new(tick, srv, period_us, &srv->loop, err);
    if (r < 0) {
        (void)dml_server_free(srv);
        return r;
    }
    l->grpc = create(srv->loop);
    r = listen_tcp(l, o->listen, err);
    if (r == 0 && o->control_socket && o->control_socket[0])
        r = listen_unix(l, o->control_socket, err);
    if (r < 0) {
        (void)dml_server_free(srv);
        return r;
    }
    grpc_server_start(l->grpc);
    for (unsigned i = 0; i < N_SLOTS; i++) {
        l->slots[i].listener = l;
        l->slots[i].tag = (struct dml_loop_tag){on_call, &l->slots[i]};
        dml_loop_hold(srv->loop);
        request(&l->slots[i]);
    }
    *ret = srv;
    return 0;
}

struct dml_server *dml_server_free(struct dml_server *s)
{
    if (!s)
        return NULL;
    struct listener *l = listener_of(s);
    if (l->grpc) {
        dml_session_close_all(s, "The master stops.");
        l->shutdown_tag = (struct dml_loop_tag){on_shutdown, l};
        dml_loop_hold(s->loop);
        dml_loop_give(&l->shutdown_tag);
        grpc_server_shutdown_and_notify(l->grpc, dml_loop_queue(s->loop), &l->shutdown_tag);
        if (!dml_loop_wait_idle(s->loop, dml_clock_now_us() + GRACE_US)) {
            grpc_server_cancel_all_calls(l->grpc);
            (void)dml_loop_wait_idle(s->loop, DML_CLOCK_NEVER);
        }
        grpc_server_destroy(l->grpc);
    }
    (void)dml_loop_free(s->loop);
    pthread_mutex_destroy(&s->lock);
    free(l);
    return NULL;
}

uint16_t dml_server_port(const struct dml_server *s)
{
    return listener_of(s)->port;
}
