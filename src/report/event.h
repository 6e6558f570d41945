/*
 * Everything worth telling about a run, one function per event. Each writes a record with its own
 * MESSAGE_ID (catalog: etc/dml.catalog) and DML_ fields to the log, and hands the same record to
 * the listeners (dmlctl watch, the results).
 *
 * Times are microseconds of CLOCK_MONOTONIC.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_err;

enum dml_event_kind {
    DML_EVENT_MASTER_STARTED,
    DML_EVENT_CASE_STARTED, /* a test case of the matrix begins: waiting for workers */
    DML_EVENT_CUT,          /* … its model is dealt to nodes: who gets which layers */
    DML_EVENT_RUN_STARTED,
    DML_EVENT_WORKER_JOINED,
    DML_EVENT_WORKER_LOST,
    DML_EVENT_WORKER_REFUSED,
    DML_EVENT_WORKER_READY,   /* has its shard */
    DML_EVENT_WORKER_WARNING, /* throttled, under-voltage, too hot */
    DML_EVENT_ROUND,
    DML_EVENT_EVALUATION,
    DML_EVENT_RUN_ENDED,
    DML_EVENT_RUN_FAILED,
    DML_EVENT_RESULTS_SAVED,
    DML_EVENT_MODEL_SAVED,
    DML_EVENT_MODEL_UNSAVED, /* a run ended well, but its model found no room */
    DML_EVENT_MAX_
};

/* What records of before did not say yet. */
#define DML_EVENT_UNKNOWN UINT64_MAX

/* One worker's share of one round. */
struct dml_round_worker {
    uint32_t rank;
    char id[64];
    uint64_t work_us;
    uint64_t n_steps;    /* of the optimiser that it took part in */
    uint64_t idle_us;    /* waited for other workers; these five: where workers exchange messages */
    uint64_t sending_us; /* something waited to be sent; it may have computed meanwhile */
    uint64_t exposed_us; /* … and did not, but was idle; DML_EVENT_UNKNOWN: not recorded then */
    uint64_t sent_bytes, received_bytes;
    uint64_t n_samples;
    double loss;
    double temperature_c; /* negative: unknown */
    int32_t throttled;    /* the firmware's bits; -1 unknown */
    char layers[48];      /* that it has, "1-3 7-9"; "" where everybody has all */
};

/* Bits of `throttled`: something of the kind holds now, and which. Bits 16 … 19: since boot. */
#define DML_EVENT_THROTTLED_NOW 0xfu
#define DML_EVENT_UNDER_VOLTAGE 0x1u

struct dml_round {
    uint64_t round, n_rounds;            /* 1 … n_rounds */
    unsigned n_participants;             /* answered in time */
    unsigned n_expected;                 /* nodes of the test case */
    uint64_t t_us;                       /* start of the round to the new global vector */
    uint64_t work_us;                    /* mean of the participants' work times */
    int64_t overhead_us;                 /* t_us - work_us */
    uint64_t sent_bytes, received_bytes; /* master's view, this round */
    uint64_t sending_us;                 /* something of the master's waited to be sent */
    uint64_t unfiltered_bytes; /* what both would have been without a significance filter; 0: none */
    double loss;                         /* mean training loss, weighted by samples */
    bool evaluated;
    double eval_loss, accuracy; /* global model on the test set, when evaluated */
    uint64_t eval_us;           /* not part of t_us */
    const char *strategy, *paradigm;
    const struct dml_round_worker *workers; /* [n_participants] */
};

/* Which run: borrowed by every call below. */
struct dml_event_run {
    const char *testcase; /* name of the experiment */
    const char *label;    /* of the case, "3:6" */
    uint64_t run_id;
    unsigned i_case, n_cases; /* 0-based index and count */
    unsigned i_repeat, n_repeats;
    unsigned nodes;
    double cores;
    const char *paradigm, *strategy, *model, *dataset;
    uint64_t n_params, n_train, n_test;
    uint64_t n_rounds;
};

/* One stage of a model that is dealt to nodes. */
struct dml_event_stage {
    char *layers; /* "1-25", of several runs "1-25,95-" */
    double share; /* of the cost of all layers */
};

/* Where a model is cut. */
struct dml_event_cut {
    const char *layers; /* as the key `cut` takes them */
    const char *by;     /* "measured", "estimated", "given" */
    uint64_t took_us;   /* of measuring; 0 for the others */
    const struct dml_event_stage *stages;
    unsigned n_stages;
};

/* Totals of a run. */
struct dml_run_totals {
    uint64_t t_us, work_us; /* T, W */
    int64_t overhead_us;    /* O = T - W */
    uint64_t setup_us;      /* shards to the workers, before T begins */
    uint64_t n_rounds;
    unsigned n_lost;       /* workers lost on the way */
    double loss, accuracy; /* final, on the test set */
    uint64_t sent_bytes, received_bytes;
};

struct dml_events;

/* What a listener gets. json: the record as one object. round/totals by kind, else NULL. */
typedef void (*dml_event_fn)(void *arg, enum dml_event_kind kind, const char *json,
                             const struct dml_event_run *run, const struct dml_round *round,
                             const struct dml_run_totals *totals);

struct dml_events *dml_events_new(void);
struct dml_events *dml_events_free(struct dml_events *ev);
DML_MEM_CLEANUP(struct dml_events, dml_events_free);

/* Listeners are called one at a time, on the thread of the event. Add them before the first event.
 */
int dml_events_listen(struct dml_events *ev, dml_event_fn fn, void *arg);

/* 32 hex digits. */
const char *dml_event_message_id(enum dml_event_kind kind);
const char *dml_event_name(enum dml_event_kind kind); /* "round" */
enum dml_event_kind dml_event_find(const char *name); /* DML_EVENT_MAX_: no such event */

/* ev may be NULL in all of these: then nothing happens. */
void dml_event_master_started(struct dml_events *ev, const char *listen, const char *version);
void dml_event_case_started(struct dml_events *ev, const struct dml_event_run *run,
                            unsigned n_workers_there);
void dml_event_cut(struct dml_events *ev, const struct dml_event_run *run,
                   const struct dml_event_cut *cut);
void dml_event_run_started(struct dml_events *ev, const struct dml_event_run *run);
void dml_event_worker_joined(struct dml_events *ev, const char *id, const char *host,
                             const char *peer, const char *board, uint32_t cores);
void dml_event_worker_lost(struct dml_events *ev, const char *id, const char *why);
void dml_event_worker_refused(struct dml_events *ev, const char *id, const char *why);
/* cores_held: what holds the worker to a fraction of a core, "kernel quota" or "duty cycle"; ""
 * when nothing has to. */
void dml_event_worker_ready(struct dml_events *ev, const struct dml_event_run *run, uint32_t rank,
                            uint64_t n_samples, bool from_cache, const char *cores_held);
void dml_event_worker_warning(struct dml_events *ev, const char *id, const char *what);
void dml_event_round(struct dml_events *ev, const struct dml_event_run *run,
                     const struct dml_round *round);
void dml_event_evaluation(struct dml_events *ev, const struct dml_event_run *run, uint64_t round,
                          double loss, double accuracy, uint64_t eval_us);
void dml_event_run_ended(struct dml_events *ev, const struct dml_event_run *run,
                         const struct dml_run_totals *totals);
void dml_event_run_failed(struct dml_events *ev, const struct dml_event_run *run, int r,
                          const struct dml_err *err);
void dml_event_model_unsaved(struct dml_events *ev, const struct dml_event_run *run, int r,
                             const struct dml_err *err);
void dml_event_model_saved(struct dml_events *ev, const struct dml_event_run *run,
                           const char *path);
/* Those of the whole experiment, whose runs are in the file. */
void dml_event_results_saved(struct dml_events *ev, const char *testcase, const char *path);
