/*
 * The run thread: takes one experiment at a time, walks its matrix, keeps and saves the results.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "conf/testcase.h"
#include "report/event.h"
#include "rpc/server.h"

struct dml_err;
struct dml_roster;
struct dml_runner;

/* How an experiment ended. Borrowed for the call. */
struct dml_runner_outcome {
    uint64_t job;
    int r;               /* 0; -ECANCELED: stopped; else the results could not be saved */
    const char *results; /* JSON, or NULL */
    const char *path;    /* of the saved results, or NULL */
    unsigned n_failed;   /* runs that failed */
    const struct dml_err *err;
};

struct dml_runner_options {
    struct dml_roster *roster;
    struct dml_events *events;
    const char *model_dir, *plugin_dir, *data_dir, *results_dir;
    uint64_t keep_models; /* see dml_models_prune() */
    /* On the run thread, after each experiment. */
    void (*finished)(void *arg, const struct dml_runner_outcome *outcome);
    void *arg;
};

/* Adds a listener to events. The texts are borrowed. */
int dml_runner_new(const struct dml_runner_options *o, struct dml_runner **ret);

/* Starts the thread, once there is a server. */
int dml_runner_start(struct dml_runner *r, struct dml_server *server);

/* Stops what is running, saves what there is, waits for the thread. */
void dml_runner_close(struct dml_runner *r);
struct dml_runner *dml_runner_free(struct dml_runner *r);
DML_MEM_CLEANUP(struct dml_runner, dml_runner_free);

/* What can be known before any worker is there: models exist, paradigm and nodes fit. */
int dml_runner_check(const char *model_dir, const struct dml_testcases *cases, struct dml_err *err);

/* Takes over *io_cases on success. Returns 0, or -EBUSY with a sentence. */
int dml_runner_submit(struct dml_runner *r, struct dml_testcases **io_cases, uint64_t *ret_job,
                      struct dml_err *err);

/* Ends the experiment soon. Returns false when there was none. */
bool dml_runner_stop(struct dml_runner *r);
bool dml_runner_is_busy(struct dml_runner *r);

/* Whether the run thread makes progress, as far as can be told. */
bool dml_runner_is_live(struct dml_runner *r);

/* A worker's part in a run has ended. Poller thread. */
void dml_runner_ended(struct dml_runner *r, const struct dml_session *session, uint64_t run_id,
                      int result, const char *text);
