/*
 * A gRPC server on a loop: addresses to listen on, calls handed to a function, and the order in
 * which gRPC wants to be left. The master has one, and so has every worker.
 */
#pragma once

#include <stdint.h>

#include "base/mem.h"

struct dml_err;
struct dml_listener;
struct dml_loop;
struct grpc_call;

/* Somebody calls `method` ("/dml.Master/Join"). Takes ownership of the call. On the loop's thread.
 */
typedef void (*dml_listener_call_fn)(void *arg, const char *method, struct grpc_call *call);

/* Listens on nothing yet. The loop must outlive it. */
int dml_listener_new(struct dml_loop *loop, dml_listener_call_fn fn, void *arg,
                     struct dml_listener **ret);

/* address: "[::]:7077", port 0 for any that is free. Returns 0, -EADDRINUSE (err names the
 * address), -EINVAL … */
int dml_listener_add_tcp(struct dml_listener *l, const char *address, uint16_t *ret_port,
                         struct dml_err *err);

/* A Unix socket that owner and group may use. */
int dml_listener_add_unix(struct dml_listener *l, const char *path, struct dml_err *err);

/* From now on calls come. */
void dml_listener_start(struct dml_listener *l);

/*
 * Accepts nothing more, gives the calls grace_us to end, cancels what is left, and waits until
 * nobody holds the loop any more: not only these calls, everything on it. NULL is fine.
 */
struct dml_listener *dml_listener_free(struct dml_listener *l, uint64_t grace_us);
