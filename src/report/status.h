/*
 * What a master says about itself: the JSON of the Control service's replies, as plain structs.
 * The master packs, dmlctl unpacks; both go through here, so the two cannot disagree.
 *
 * Replies by command (enum dml_control_command); each reply is one JSON object or array:
 *
 *   STATUS   one reply: dml_status_pack()
 *   WORKERS  one reply: dml_status_workers_pack(), an array
 *   RUN      the records of the events as they happen (the `json` of a dml_event_fn), then
 *            {"results": …, "path": …}: dml_status_results_pack()
 *   WATCH    one STATUS object at once, then the records of the events as they happen
 *   STOP     one reply: {"stopped": true}, or false when nothing was running
 *   REPORT   one reply: {"results": …, "path": …}
 *
 * A record has "DML_EVENT"; nothing else has. A mistake is no reply: the call ends with an errno
 * and a sentence. Who asked for a RUN and hangs up leaves the run running; STOP ends it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct dml_err;

#define DML_STATUS_JSON_MAX    (64u << 20) /* bytes of one reply that dmlctl reads */
#define DML_STATUS_WORKERS_MAX 1024

enum dml_status_state {
    DML_STATUS_IDLE,    /* "idle": no test case */
    DML_STATUS_WAITING, /* "waiting": for workers */
    DML_STATUS_RUNNING, /* "running" */
    DML_STATUS_MAX_
};

struct dml_status {
    char version[32];
    enum dml_status_state state;
    char testcase[128], label[128]; /* "" when idle */
    unsigned i_case, n_cases;       /* i_: 0-based */
    unsigned i_repeat, n_repeats;
    uint64_t round, n_rounds;      /* last round that ended: 0 … n_rounds */
    unsigned nodes;                /* workers the test case wants */
    unsigned workers;              /* workers that are there; in a run: that answered last */
    double loss, accuracy;         /* last known; NAN (in JSON null): not yet */
    double elapsed_s, remaining_s; /* of the whole test case; NAN: not known */
    char results[512];             /* path of the last results, "" = none */
};

enum dml_status_worker_state {
    DML_STATUS_WORKER_IDLE,   /* "idle" */
    DML_STATUS_WORKER_BUSY,   /* "busy": takes part in the run */
    DML_STATUS_WORKER_SILENT, /* "silent": no heartbeat for a while, not lost yet */
    DML_STATUS_WORKER_MAX_
};

struct dml_status_worker {
    char id[64], host[128], peer[128], board[128], arch[16], version[32];
    uint32_t cores;
    uint64_t memory_bytes;
    double gflops;
    enum dml_status_worker_state state;
    double temperature_c;         /* negative (in JSON null): not known */
    int32_t throttled;            /* likewise */
    int64_t rss_bytes;            /* likewise */
    double last_beat_s, joined_s; /* so many seconds ago */
};

/* A status that says idle and knows nothing: this version, NAN for what is not known. */
void dml_status_init(struct dml_status *ret);

/* Returns 0 or -ENOMEM. Owner: caller, free(*ret_json). */
int dml_status_pack(const struct dml_status *s, char **ret_json);
int dml_status_workers_pack(const struct dml_status_worker *w, size_t n, char **ret_json);

/* results: the text of dml_results_to_json(). Also -EINVAL when that is not JSON. */
int dml_status_results_pack(const char *results, const char *path, char **ret_json);

/*
 * Bytes from outside: never crash; texts are cut to their fields, numbers that are missing or of
 * another type stay as dml_status_init() has them.
 * Returns 0, -EBADMSG (no JSON object, or array), -ENOMEM.
 */
int dml_status_unpack(const char *json, size_t len, struct dml_status *ret, struct dml_err *err);

/* Owner: caller, free(*ret). */
int dml_status_workers_unpack(const char *json, size_t len, struct dml_status_worker **ret,
                              size_t *ret_n, struct dml_err *err);

/* Both texts are the caller's: free(). */
int dml_status_results_unpack(const char *json, size_t len, char **ret_results, char **ret_path,
                              struct dml_err *err);
