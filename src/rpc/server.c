/*
 * The listening side of the master. Which method a call is for decides the file that goes on with
 * it: session.c (Join), beat.c (Beat), control_call.c (Control).
 *
 * The end: say goodbye to all sessions, then leave the listener in its order (listener.c); only
 * then the loop.
 */
#include "rpc/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "rpc/listener.h"

enum {
    GRACE_US = 500 * 1000,
    TICK_MIN_US = 10 * 1000,
    TICK_MAX_US = 500 * 1000,
};

static void dispatch(void *arg, const char *method, struct grpc_call *call)
{
    struct dml_server *srv = arg;
    if (!strcmp(method, "/dml.Master/Join"))
        dml_session_accept(srv, call);
    else if (!strcmp(method, "/dml.Master/Beat"))
        dml_session_accept_beat(srv, call);
    else if (!strcmp(method, "/dml.Master/Control"))
        dml_control_call_accept(srv, call);
    else
        dml_stream_reject(srv->loop, call, DML_STREAM_UNIMPLEMENTED,
                          "This master does not know such a call.");
}

static void tick(void *arg)
{
    dml_session_tick(arg);
}

int dml_server_new(const struct dml_server_options *o, const struct dml_server_handlers *h,
                   struct dml_server **ret, struct dml_err *err)
{
    struct dml_server *srv = calloc(1, sizeof(*srv));
    if (!srv)
        return -ENOMEM;
    srv->handlers = *h;
    srv->beat_timeout_us = o->beat_timeout_us;
    pthread_mutex_init(&srv->lock, NULL);
    uint64_t period_us = o->beat_timeout_us / 4;
    if (period_us < TICK_MIN_US)
        period_us = TICK_MIN_US;
    if (period_us > TICK_MAX_US)
        period_us = TICK_MAX_US;
    srv->period_us = period_us;
    srv->tick_us = dml_clock_now_us();
    int r = dml_loop_new(tick, srv, period_us, &srv->loop, err);
    if (r == 0)
        r = dml_listener_new(srv->loop, dispatch, srv, &srv->listener);
    if (r == 0)
        r = dml_listener_add_tcp(srv->listener, o->listen, &srv->port, err);
    if (r == 0 && o->control_socket && o->control_socket[0])
        r = dml_listener_add_unix(srv->listener, o->control_socket, err);
    if (r < 0) {
        (void)dml_server_free(srv);
        return r;
    }
    dml_listener_start(srv->listener);
    *ret = srv;
    return 0;
}

struct dml_server *dml_server_free(struct dml_server *s)
{
    if (!s)
        return NULL;
    dml_session_close_all(s, "The master stops.");
    (void)dml_listener_free(s->listener, GRACE_US);
    (void)dml_loop_free(s->loop);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

uint16_t dml_server_port(const struct dml_server *s)
{
    return s->port;
}
