/*
 * The worker: joins a master, takes part in runs, joins again when the connection breaks.
 *
 * Intended usage (worker/main.c): block the signals it will wait for, dml_worker_new(), then look
 * at dml_worker_is_live() and dml_worker_status() from time to time until it is time to go.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "conf/daemon.h"

struct dml_err;
struct dml_worker;

/* Starts the threads and returns at once: that no master answers is a state, not an error.
 * o: borrowed while the worker lives. Returns 0, -EINVAL (id, master's name), -ENOMEM … */
int dml_worker_new(const struct dml_worker_options *o, struct dml_worker **ret,
                   struct dml_err *err);

/* Leaves a run in the middle of an epoch if need be and waits for the threads.
 * Blocks: for one optimiser step. NULL is fine. */
struct dml_worker *dml_worker_free(struct dml_worker *w);
DML_MEM_CLEANUP(struct dml_worker, dml_worker_free);

/*
 * Whether the worker makes progress: the run thread comes round when it is idle; while it trains,
 * heartbeats go on, and a run that was told to end does end. Feeds the watchdog.
 */
bool dml_worker_is_live(struct dml_worker *w);

/* One line for people: "connected to pi-master, waiting for work". Returns buf. */
const char *dml_worker_status(struct dml_worker *w, char *buf, size_t buf_len);
