/*
 * Calls are accepted by slots that take any method: a method nobody knows has to be answered as
 * well, or its caller waits for ever.
 *
 * The end: stop accepting, give the goodbyes their time, cancel what is left, wait until every
 * operation has come back; only then destroy the server. Any other order aborts the process.
 *
 * so_reuseport is off, or two programs would share a port without either noticing.
 */
#include "rpc/listener.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>

#include "base/clock.h"
#include "base/err.h"
#include "rpc/listen.h"
#include "rpc/loop.h"
#include "rpc/settings.h"

enum { N_SLOTS = 4 }; /* calls that may begin at the same time; the rest wait inside gRPC */

struct slot {
    struct dml_listener *listener;
    struct dml_loop_tag tag;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

struct dml_listener {
    struct dml_loop *loop;
    dml_listener_call_fn fn;
    void *arg;
    grpc_server *grpc;
    struct slot slots[N_SLOTS];
    struct dml_loop_tag shutdown_tag;
};

static void request(struct slot *slot)
{
    grpc_call_details_init(&slot->details);
    grpc_metadata_array_init(&slot->metadata);
    grpc_completion_queue *cq = dml_loop_queue(slot->listener->loop);
    dml_loop_give(&slot->tag);
    grpc_call_error e = grpc_server_request_call(slot->listener->grpc, &slot->call, &slot->details,
                                                 &slot->metadata, cq, cq, &slot->tag);
    assert(e == GRPC_CALL_OK);
    (void)e;
}

static void on_call(void *obj, bool ok)
{
    struct slot *slot = obj;
    struct dml_listener *l = slot->listener;
    if (ok) {
        char *method = grpc_slice_to_c_string(slot->details.method);
        l->fn(l->arg, method, slot->call);
        gpr_free(method);
    }
    grpc_call_details_destroy(&slot->details);
    grpc_metadata_array_destroy(&slot->metadata);
    if (ok)
        request(slot);
    else
        dml_loop_release(l->loop);
}

static void on_shutdown(void *obj, bool ok)
{
    struct dml_listener *l = obj;
    (void)ok;
    dml_loop_release(l->loop);
}

/* Clients may ping twice as often as they do (settings.c). */
static grpc_server *create(struct dml_loop *loop)
{
    static const struct dml_setting own[] = {
        {GRPC_ARG_ALLOW_REUSEPORT, 0},
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10 * 1000},
    };
    grpc_arg list[ARRAY_SIZE(own) + DML_SETTINGS_COMMON];
    grpc_channel_args args = dml_settings(own, ARRAY_SIZE(own), list);
    grpc_server *server = grpc_server_create(&args, NULL);
    grpc_server_register_completion_queue(server, dml_loop_queue(loop), NULL);
    return server;
}

int dml_listener_new(struct dml_loop *loop, dml_listener_call_fn fn, void *arg,
                     struct dml_listener **ret)
{
    struct dml_listener *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->loop = loop;
    l->fn = fn;
    l->arg = arg;
    l->grpc = create(loop);
    *ret = l;
    return 0;
}

int dml_listener_add_tcp(struct dml_listener *l, const char *address, uint16_t *ret_port,
                         struct dml_err *err)
{
    int r = dml_listen_check(address, err);
    if (r < 0)
        return r;
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(l->grpc, address, credentials);
    grpc_server_credentials_release(credentials);
    if (port <= 0)
        return dml_listen_explain(address, err);
    *ret_port = (uint16_t)port;
    return 0;
}

/* 0660 from the first moment on. */
int dml_listener_add_unix(struct dml_listener *l, const char *path, struct dml_err *err)
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

void dml_listener_start(struct dml_listener *l)
{
    grpc_server_start(l->grpc);
    for (unsigned i = 0; i < N_SLOTS; i++) {
        l->slots[i].listener = l;
        l->slots[i].tag = (struct dml_loop_tag){on_call, &l->slots[i]};
        dml_loop_hold(l->loop);
        request(&l->slots[i]);
    }
}

struct dml_listener *dml_listener_free(struct dml_listener *l, uint64_t grace_us)
{
    if (!l)
        return NULL;
    l->shutdown_tag = (struct dml_loop_tag){on_shutdown, l};
    dml_loop_hold(l->loop);
    dml_loop_give(&l->shutdown_tag);
    grpc_server_shutdown_and_notify(l->grpc, dml_loop_queue(l->loop), &l->shutdown_tag);
    if (!grace_us || !dml_loop_wait_idle(l->loop, dml_clock_now_us() + grace_us)) {
        grpc_server_cancel_all_calls(l->grpc);
        (void)dml_loop_wait_idle(l->loop, DML_CLOCK_NEVER);
    }
    grpc_server_destroy(l->grpc);
    free(l);
    return NULL;
}
