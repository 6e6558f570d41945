/*
 * Every call belongs to the desk from the moment it comes in until dml_control_end(), which the
 * desk calls exactly once for each: at once after a single answer, at the end of the run for RUN,
 * when the client has gone or the master stops for WATCH.
 *
 * Over TCP anybody on the network can ask, so there only what `remote` allows is answered; who may
 * open the Unix socket is decided by its folder's permissions.
 */
#include "master/desk.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "master/roster.h"
#include "master/sent.h"
#include "report/result.h"

#define WATCHERS_MAX 64 /* dmlctl watch and run at the same time */
#define QUEUE_MAX    64 /* requests not yet looked at */

struct request {
    struct dml_control_call *call;
    struct dml_control_request r;
    struct request *next;
};

struct watcher {
    struct dml_control_call *call;
    uint64_t job; /* of a RUN; 0: WATCH */
};

struct dml_desk {
    struct dml_desk_options o;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t queue_lock;
    pthread_cond_t wake;
    struct request *first, **last;
    unsigned n_queued;
    bool closed;

    pthread_mutex_t lock; /* of the watchers; taken inside an event */
    struct watcher watchers[WATCHERS_MAX];
    unsigned n_watchers;
};

static void end(struct dml_control_call *call, int r, const char *sentence)
{
    struct dml_err err = {0};
    if (sentence)
        (void)dml_err_set(&err, r, "%s", sentence);
    dml_control_end(call, r, &err);
}

static struct request *request_free(struct request *q)
{
    if (q)
        dml_control_request_done(&q->r);
    free(q);
    return NULL;
}

static int answer_status(struct dml_desk *d, struct dml_control_call *call)
{
    struct dml_status status;
    _cleanup_(dml_mem_freep) char *json = NULL;
    dml_progress_get(d->o.progress, dml_roster_count(d->o.roster), &status);
    int r = dml_status_pack(&status, &json);
    return r ? r : dml_control_reply(call, json);
}

static int answer_workers(struct dml_desk *d, struct dml_control_call *call)
{
    _cleanup_(dml_mem_freep) struct dml_status_worker *workers = NULL;
    _cleanup_(dml_mem_freep) char *json = NULL;
    size_t n = 0;
    int r = dml_roster_status(d->o.roster, &workers, &n);
    if (!r)
        r = dml_status_workers_pack(workers, n, &json);
    return r ? r : dml_control_reply(call, json);
}

static int answer_stop(struct dml_desk *d, struct dml_control_call *call)
{
    return dml_control_reply(call, dml_runner_stop(d->o.runner) ? "{\"stopped\": true}"
                                                                : "{\"stopped\": false}");
}

/* A result is asked for by its name, which must not lead out of the results' folder. */
static int answer_report(struct dml_desk *d, struct dml_control_call *call, const char *name,
                         struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *path = NULL;
    _cleanup_(dml_mem_freep) char *text = NULL;
    _cleanup_(dml_mem_freep) char *json = NULL;
    size_t len;
    int r = 0;
    if (name && strchr(name, '/'))
        return dml_err_set(err, -EINVAL, "\"%s\" is not the name of a result.", name);
    if (name && name[0])
        path =
            dml_mem_printf("%s/%s%s", d->o.results_dir, name, strstr(name, ".json") ? "" : ".json");
    else
        r = dml_results_newest(d->o.results_dir, &path, err);
    if (!r && !path)
        r = -ENOMEM;
    if (!r)
        r = dml_fileio_read(path, DML_STATUS_JSON_MAX, &text, &len, err);
    if (!r)
        r = dml_status_results_pack(text, path, &json);
    return r ? r : dml_control_reply(call, json);
}

/* Lets those go whose client has gone: nobody notices while no event is told. With the lock. */
static void sweep(struct dml_desk *d)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->n_watchers; i++) {
        struct watcher w = d->watchers[i];
        if (dml_control_is_gone(w.call))
            end(w.call, -EPIPE, NULL);
        else
            d->watchers[n++] = w;
    }
    d->n_watchers = n;
}

/* Whether another may watch; the caller holds the lock. */
static int make_room(struct dml_desk *d, struct dml_err *err)
{
    sweep(d);
    if (d->n_watchers == WATCHERS_MAX)
        return dml_err_set(err, -EAGAIN, "%u dmlctl are watching already", WATCHERS_MAX);
    return 0;
}

/* Adds a watcher; the caller holds the lock and has made room. */
static void watch(struct dml_desk *d, struct dml_control_call *call, uint64_t job)
{
    d->watchers[d->n_watchers++] = (struct watcher){.call = call, .job = job};
}

/* The lock is held from before the run can begin until its first event can be told. */
static int answer_run(struct dml_desk *d, const struct request *q, struct dml_err *err)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    const char *text = q->r.text ? q->r.text : "";
    const struct dml_sent sent = {
        .request = &q->r,
        .is_local = dml_control_is_local(q->call),
        .data_dir = d->o.data_dir,
    };
    int r = dml_testcase_parse(text, strlen(text), q->r.file ? q->r.file : "test case",
                               d->o.plugin_dir, &cases, err);
    if (!r)
        r = dml_sent_unpack(&sent, cases, err);
    if (!r)
        r = dml_runner_check(d->o.model_dir, cases, err);
    if (r)
        return r;
    uint64_t job;
    pthread_mutex_lock(&d->lock);
    r = make_room(d, err);
    if (!r)
        r = dml_runner_submit(d->o.runner, &cases, &job, err);
    if (!r)
        watch(d, q->call, job);
    pthread_mutex_unlock(&d->lock);
    return r;
}

static int answer_watch(struct dml_desk *d, struct dml_control_call *call, struct dml_err *err)
{
    /* Locked, so that no event falls between the status and the first record. */
    pthread_mutex_lock(&d->lock);
    int r = make_room(d, err);
    if (!r)
        r = answer_status(d, call);
    if (!r)
        watch(d, call, 0);
    pthread_mutex_unlock(&d->lock);
    return r;
}

static bool may(const struct dml_desk *d, const struct request *q, struct dml_err *err)
{
    bool changes = q->r.command == DML_CONTROL_RUN || q->r.command == DML_CONTROL_STOP;
    if (dml_control_is_local(q->call) || d->o.remote >= (changes ? 2 : 1))
        return true;
    if (d->o.remote < 1)
        (void)dml_err_set(err, -EACCES,
                          "this master answers dmlctl only on its own machine (remote = no in "
                          "dmlmasterd.conf)");
    else
        (void)dml_err_set(err, -EACCES,
                          "over the network this master answers questions only; run and stop work "
                          "on its own machine, or with remote = full in its dmlmasterd.conf and "
                          "after systemctl restart dmlmasterd");
    return false;
}

static void answer(struct dml_desk *d, const struct request *q)
{
    struct dml_err err = {0};
    int r = -EACCES;
    bool stays = false;
    if (may(d, q, &err)) {
        switch (q->r.command) {
        case DML_CONTROL_STATUS:
            r = answer_status(d, q->call);
            break;
        case DML_CONTROL_WORKERS:
            r = answer_workers(d, q->call);
            break;
        case DML_CONTROL_RUN:
            r = answer_run(d, q, &err);
            stays = !r;
            break;
        case DML_CONTROL_STOP:
            r = answer_stop(d, q->call);
            break;
        case DML_CONTROL_WATCH:
            r = answer_watch(d, q->call, &err);
            stays = !r;
            break;
        case DML_CONTROL_REPORT:
            r = answer_report(d, q->call, q->r.text, &err);
            break;
        default:
            r = dml_err_set(&err, -ENOSYS, "this master does not know that command");
        }
    }
    if (!stays)
        dml_control_end(q->call, r, &err);
}

static void *serve(void *arg)
{
    struct dml_desk *d = arg;
    for (;;) {
        pthread_mutex_lock(&d->queue_lock);
        while (!d->first && !d->closed)
            pthread_cond_wait(&d->wake, &d->queue_lock);
        struct request *q = d->first;
        bool closed = d->closed;
        if (q) {
            d->first = q->next;
            if (!d->first)
                d->last = &d->first;
            d->n_queued--;
        }
        pthread_mutex_unlock(&d->queue_lock);
        if (!q)
            return NULL;
        if (closed)
            end(q->call, -ECANCELED, "the master is about to stop");
        else
            answer(d, q);
        request_free(q);
    }
}

int dml_desk_new(const struct dml_desk_options *o, struct dml_desk **ret)
{
    struct dml_desk *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->o = *o;
    d->last = &d->first;
    pthread_mutex_init(&d->queue_lock, NULL);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->wake, NULL);
    int r = -pthread_create(&d->thread, NULL, serve, d);
    d->has_thread = !r;
    if (r) {
        dml_desk_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

void dml_desk_request(struct dml_desk *d, struct dml_control_call *call,
                      const struct dml_control_request *request)
{
    struct request *q = calloc(1, sizeof(*q));
    if (q)
        q->call = call;
    bool whole = q && dml_control_request_copy(request, &q->r) == 0;
    pthread_mutex_lock(&d->queue_lock);
    bool taken = whole && !d->closed && d->n_queued < QUEUE_MAX;
    if (taken) {
        *d->last = q;
        d->last = &q->next;
        d->n_queued++;
        pthread_cond_signal(&d->wake);
    }
    pthread_mutex_unlock(&d->queue_lock);
    if (!taken) {
        end(call, -EAGAIN, "the master is busy or about to stop; try again");
        request_free(q);
    }
}

static void tell(struct dml_desk *d, const char *json)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->n_watchers; i++) {
        struct watcher w = d->watchers[i];
        if (dml_control_reply(w.call, json))
            end(w.call, -EPIPE, NULL);
        else
            d->watchers[n++] = w;
    }
    d->n_watchers = n;
}

void dml_desk_listen(void *arg, enum dml_event_kind kind, const char *json,
                     const struct dml_event_run *run, const struct dml_round *round,
                     const struct dml_run_totals *totals)
{
    struct dml_desk *d = arg;
    (void)kind;
    (void)run;
    (void)round;
    (void)totals;
    pthread_mutex_lock(&d->lock);
    tell(d, json);
    pthread_mutex_unlock(&d->lock);
}

void dml_desk_finished(struct dml_desk *d, const struct dml_runner_outcome *outcome)
{
    _cleanup_(dml_mem_freep) char *json = NULL;
    if (outcome->results)
        (void)dml_status_results_pack(outcome->results, outcome->path ? outcome->path : "", &json);
    unsigned n = 0;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->n_watchers; i++) {
        struct watcher w = d->watchers[i];
        if (w.job != outcome->job) {
            d->watchers[n++] = w;
            continue;
        }
        if (json)
            (void)dml_control_reply(w.call, json);
        if (outcome->r == -ECANCELED)
            end(w.call, outcome->r, "the test case was stopped");
        else
            dml_control_end(w.call, outcome->r, outcome->err);
    }
    d->n_watchers = n;
    pthread_mutex_unlock(&d->lock);
}

void dml_desk_close(struct dml_desk *d)
{
    pthread_mutex_lock(&d->queue_lock);
    d->closed = true;
    pthread_cond_broadcast(&d->wake);
    pthread_mutex_unlock(&d->queue_lock);
    if (d->has_thread)
        (void)pthread_join(d->thread, NULL);
    d->has_thread = false;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->n_watchers; i++)
        end(d->watchers[i].call, 0, NULL);
    d->n_watchers = 0;
    pthread_mutex_unlock(&d->lock);
}

struct dml_desk *dml_desk_free(struct dml_desk *d)
{
    if (!d)
        return NULL;
    dml_desk_close(d);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    pthread_mutex_destroy(&d->queue_lock);
    free(d);
    return NULL;
}
