/* dmlctl's side: one request to a master, replies as they come. */
#pragma once

#include <stdint.h>

#include "base/mem.h"
#include "rpc/wire.h"

struct dml_err;
struct dml_control;

/* target: "unix:/run/dml/control.sock", "host", "host:port". Does not connect yet. */
int dml_control_new(const char *target, struct dml_control **ret, struct dml_err *err);
struct dml_control *dml_control_free(struct dml_control *c);
DML_MEM_CLEANUP(struct dml_control, dml_control_free);

/* One reply: a JSON object as text. Return 0 to go on, anything else to hang up. */
typedef int (*dml_control_reply_fn)(void *arg, const char *json);

/*
 * Sends the request and hands every reply to fn (on the calling thread) until the master ends the
 * call. Blocks: connect_us until connected, then without limit.
 * Returns 0, what fn returned, -EHOSTDOWN (no master there; err names the target and the remedy),
 * or the master's errno with its sentence.
 */
int dml_control_call(struct dml_control *c, const struct dml_control_request *request,
                     uint64_t connect_us, dml_control_reply_fn fn, void *arg, struct dml_err *err);

/* From a signal-waiting thread: a blocked call returns -ECANCELED. */
void dml_control_cancel(struct dml_control *c);
