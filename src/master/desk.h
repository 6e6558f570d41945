/*
 * Where dmlctl is answered: one request after the other on a thread of its own, so that reading a
 * results file from a slow card never holds up the workers' heartbeats.
 */
#pragma once

#include "base/mem.h"
#include "master/progress.h"
#include "master/runner.h"
#include "rpc/server.h"

struct dml_desk;

/* Borrowed while the desk lives. The runner may be set later, before the first request. */
struct dml_desk_options {
    struct dml_roster *roster;
    struct dml_progress *progress;
    struct dml_runner *runner;
    const char *model_dir, *plugin_dir, *data_dir, *results_dir;
    int remote; /* what may be asked over TCP: 0 nothing, 1 to read, 2 everything */
};

int dml_desk_new(const struct dml_desk_options *o, struct dml_desk **ret);

/* Ends all calls, and at once every one that still comes. */
void dml_desk_close(struct dml_desk *d);
struct dml_desk *dml_desk_free(struct dml_desk *d);
DML_MEM_CLEANUP(struct dml_desk, dml_desk_free);

/* Poller thread; takes the call over. */
void dml_desk_request(struct dml_desk *d, struct dml_control_call *call,
                      const struct dml_control_request *request);

/* A dml_event_fn; arg: the desk. Tells everyone who watches. */
void dml_desk_listen(void *arg, enum dml_event_kind kind, const char *json,
                     const struct dml_event_run *run, const struct dml_round *round,
                     const struct dml_run_totals *totals);

/* Run thread: who asked for that run gets its results. */
void dml_desk_finished(struct dml_desk *d, const struct dml_runner_outcome *outcome);
