/*
 * Puts the parts together and passes on what the server reports. Order of ending: the run first
 * (it saves its results and still tells its watchers), then the desk, then the server, whose
 * threads must be gone before what they report to.
 */
#include "config.h"

#include "master/master.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/log.h"
#include "master/desk.h"
#include "master/progress.h"
#include "master/roster.h"
#include "master/runner.h"

#define FIRST_JOB 1 /* dml_runner_submit() counts from here */

enum { PENDING, DONE, FAILED };

struct dml_master {
    const struct dml_master_options *options;
    struct dml_events *events;
    struct dml_roster *roster;
    struct dml_progress *progress;
    struct dml_runner *runner;
    struct dml_desk *desk;
    struct dml_server *server;
    uint64_t first_job; /* of the test case given at the start; 0: none */
    _Atomic int first_state;
    atomic_bool ending; /* workers that leave are not lost */
};

static int joined(void *arg, struct dml_session *s, char *refusal, size_t refusal_len)
{
    struct dml_master *m = arg;
    const struct dml_hello *hello = dml_session_hello(s);
    struct dml_session *replaced = NULL;
    int r = dml_roster_add(m->roster, s, &replaced, refusal, refusal_len);
    if (r) {
        dml_event_worker_refused(m->events, hello->worker_id, refusal);
        return r;
    }
    if (replaced) {
        dml_event_worker_lost(m->events, hello->worker_id, "silent, and joined anew");
        dml_session_close(replaced, "another worker took this name after a silence");
        dml_session_unref(replaced);
    }
    dml_event_worker_joined(m->events, hello->worker_id, hello->host, dml_session_peer(s),
                            hello->board, hello->cores);
    return 0;
}

static void refused(void *arg, const char *id, const char *peer, const char *why)
{
    struct dml_master *m = arg;
    char text[512];
    snprintf(text, sizeof(text), "%s (from %s)", why, peer);
    dml_event_worker_refused(m->events, id, text);
}

static void left(void *arg, struct dml_session *s, const char *why)
{
    struct dml_master *m = arg;
    char id[64];
    memcpy(id, dml_session_hello(s)->worker_id, sizeof(id));
    if (dml_roster_remove(m->roster, s) && !atomic_load(&m->ending))
        dml_event_worker_lost(m->events, id, why);
}

static void beat(void *arg, struct dml_session *s, const struct dml_health *health)
{
    struct dml_master *m = arg;
    char warning[128];
    if (dml_roster_beat(m->roster, s, health, warning, sizeof(warning)))
        dml_event_worker_warning(m->events, dml_session_hello(s)->worker_id, warning);
}

static void run_ended(void *arg, struct dml_session *s, uint64_t run_id, int r, const char *text)
{
    struct dml_master *m = arg;
    dml_runner_ended(m->runner, s, run_id, r, text);
}

static void control(void *arg, struct dml_control_call *call,
                    const struct dml_control_request *request)
{
    struct dml_master *m = arg;
    dml_desk_request(m->desk, call, request);
}

static void finished(void *arg, const struct dml_runner_outcome *outcome)
{
    struct dml_master *m = arg;
    char text[1200];
    if (outcome->r < 0 && outcome->r != -ECANCELED)
        dml_log(LOG_ERR, "Results cannot be kept: %s",
                dml_err_format(outcome->err, outcome->r, text, sizeof(text)));
    dml_progress_idle(m->progress, outcome->path);
    dml_desk_finished(m->desk, outcome);
    if (outcome->job == m->first_job)
        atomic_store(&m->first_state, outcome->r || outcome->n_failed ? FAILED : DONE);
}

static int build(struct dml_master *m, struct dml_err *err)
{
    const struct dml_master_options *o = m->options;
    m->events = dml_events_new();
    m->roster = dml_roster_new(o->beat_timeout_us);
    m->progress = dml_progress_new();
    if (!m->events || !m->roster || !m->progress)
        return -ENOMEM;
    (void)dml_fileio_sweep(o->results_dir); /* what cannot be removed is in nobody's way */

    const struct dml_runner_options ro = {
        .roster = m->roster,
        .events = m->events,
        .model_dir = o->model_dir,
        .plugin_dir = o->plugin_dir,
        .data_dir = o->data_dir,
        .results_dir = o->results_dir,
        .keep_models = o->keep_models,
        .finished = finished,
        .arg = m,
    };
    int r = dml_runner_new(&ro, &m->runner);
    if (r)
        return r;
    const struct dml_desk_options dops = {
        .roster = m->roster,
        .progress = m->progress,
        .runner = m->runner,
        .model_dir = o->model_dir,
        .plugin_dir = o->plugin_dir,
        .data_dir = o->data_dir,
        .results_dir = o->results_dir,
        .remote = o->remote,
    };
    r = dml_desk_new(&dops, &m->desk);
    if (!r)
        r = dml_events_listen(m->events, dml_progress_listen, m->progress);
    if (!r)
        r = dml_events_listen(m->events, dml_desk_listen, m->desk);
    if (r)
        return r;

    const struct dml_server_options so = {
        .listen = o->listen,
        .control_socket = o->control_socket,
        .beat_timeout_us = o->beat_timeout_us,
    };
    const struct dml_server_handlers handlers = {
        .joined = joined,
        .refused = refused,
        .left = left,
        .beat = beat,
        .run_ended = run_ended,
        .control = control,
        .arg = m,
    };
    r = dml_server_new(&so, &handlers, &m->server, err);
    return r ? r : dml_runner_start(m->runner, m->server);
}

/* The address with the port that was really bound: "127.0.0.1:0" lets the system choose. */
static void tell_start(struct dml_master *m)
{
    const char *listen = m->options->listen, *colon = strrchr(listen, ':');
    char text[160];
    snprintf(text, sizeof(text), "%.*s:%u", (int)(colon ? colon - listen : 0), listen,
             dml_server_port(m->server));
    dml_event_master_started(m->events, colon ? text : listen, VERSION);
}

int dml_master_new(const struct dml_master_options *o, struct dml_testcases **io_cases,
                   struct dml_master **ret, struct dml_err *err)
{
    struct dml_master *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->options = o;
    int r = build(m, err);
    if (!r) {
        tell_start(m);
        uint64_t job;
        m->first_job = *io_cases ? FIRST_JOB : 0;
        if (*io_cases)
            r = dml_runner_submit(m->runner, io_cases, &job, err);
    }
    if (r) {
        dml_master_free(m);
        return r;
    }
    *ret = m;
    return 0;
}

int dml_master_reload(struct dml_master *m, struct dml_err *err)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    uint64_t job;
    int r = dml_master_check(m->options, &cases, err);
    if (!r && !cases)
        r = dml_err_set(err, -ENOENT,
                        "no test case is configured: set testcase in dmlmasterd.conf");
    if (!r)
        r = dml_runner_submit(m->runner, &cases, &job, err);
    return r;
}

struct dml_master *dml_master_free(struct dml_master *m)
{
    if (!m)
        return NULL;
    if (m->runner)
        dml_runner_close(m->runner);
    if (m->desk)
        dml_desk_close(m->desk);
    atomic_store(&m->ending, true);
    m->server = dml_server_free(m->server);
    dml_desk_free(m->desk);
    dml_runner_free(m->runner);
    dml_progress_free(m->progress);
    dml_roster_free(m->roster);
    dml_events_free(m->events);
    free(m);
    return NULL;
}

int dml_master_check(const struct dml_master_options *o, struct dml_testcases **ret,
                     struct dml_err *err)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    if (!o->testcase[0]) {
        *ret = NULL;
        return 0;
    }
    int r = dml_testcase_load(o->testcase, o->plugin_dir, &cases, err);
    if (!r)
        r = dml_runner_check(o->model_dir, cases, err);
    if (r)
        return r;
    *ret = cases;
    cases = NULL;
    return 0;
}

uint16_t dml_master_port(const struct dml_master *m)
{
    return dml_server_port(m->server);
}

bool dml_master_is_live(struct dml_master *m)
{
    return dml_runner_is_live(m->runner);
}

bool dml_master_is_done(struct dml_master *m, bool *ret_failed)
{
    int state = atomic_load(&m->first_state);
    if (!m->first_job || state == PENDING)
        return false;
    *ret_failed = state == FAILED;
    return true;
}

const char *dml_master_status(struct dml_master *m, char *buf, size_t buf_len)
{
    struct dml_status status;
    dml_progress_get(m->progress, dml_roster_count(m->roster), &status);
    return dml_progress_text(&status, buf, buf_len);
}
