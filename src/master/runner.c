/*
 * One thread, one experiment at a time: for each case and repeat of the matrix, wait for workers,
 * give them their orders, be rank 0 of the run (run.c), and go on to the next whatever became of
 * this one; a failed run is a row of the results like any other.
 *
 * Locks: `lock` guards the job and the comm that dml_runner_stop() cancels; `seats_lock` keeps the
 * seats alive while the poller thread tells them of a worker's end, during which events are told;
 * `results_lock` is the listener's. No event is told under `lock`.
 */
#include "master/runner.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "conf/fit.h"
#include "cuts.h"
#include "master/archive.h"
#include "master/models.h"
#include "master/roster.h"
#include "master/seats.h"
#include "matrix.h"
#include "paradigm/plan.h"
#include "report/result.h"
#include "run.h"

#define SECOND   UINT64_C(1000000)
#define SLICE_US (SECOND / 4)  /* a wait notices a stop within this time */
#define GRACE_US (2 * SECOND)  /* min-workers are there: so long the others may take to come */
#define KEEP_US  (60 * SECOND) /* between two writes of unfinished results */
#define STOP_US  (60 * SECOND) /* a stopped run that is not over by then hangs */

struct dml_runner {
    struct dml_runner_options o;
    struct dml_server *server;
    const char *model_dirs[2];
    struct dml_run_env env;
    struct dml_cuts cuts; /* of the thread */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct dml_testcases *next; /* waiting to be taken by the thread */
    struct dml_comm *comm;      /* of the current run */
    uint64_t job;               /* number of the current or last experiment */
    bool busy, closing;
    uint64_t stopped_us; /* when a stop was asked for, 0: not */
    atomic_bool cancel;

    pthread_mutex_t seats_lock;
    struct dml_seats *seats;
    uint64_t run_id;

    pthread_mutex_t results_lock;
    struct dml_results *results;

    char stamp[DML_MODELS_STAMP_MAX]; /* of the experiment, for file names */
    unsigned n_same_stamp;
    unsigned n_failed;
    uint64_t kept_us; /* when the results were written last */
    bool archived;    /* those of the experiment before have their own name */
};

static void listen_results(void *arg, enum dml_event_kind kind, const char *json,
                           const struct dml_event_run *run, const struct dml_round *round,
                           const struct dml_run_totals *totals)
{
    struct dml_runner *r = arg;
    pthread_mutex_lock(&r->results_lock);
    if (r->results)
        dml_results_listen(r->results, kind, json, run, round, totals);
    pthread_mutex_unlock(&r->results_lock);
}

int dml_runner_new(const struct dml_runner_options *o, struct dml_runner **ret)
{
    struct dml_runner *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->o = *o;
    r->model_dirs[0] = o->model_dir;
    r->env = (struct dml_run_env){
        .model_dirs = r->model_dirs,
        .plugin_dir = o->plugin_dir,
        .data_dir = o->data_dir && o->data_dir[0] ? o->data_dir : NULL,
        .events = o->events,
        .describe = dml_seats_describe,
    };
    /* Orders of a master that was restarted must not be taken for those of the one before. */
    r->run_id = (uint64_t)time(NULL) * 1000;
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->seats_lock, NULL);
    pthread_mutex_init(&r->results_lock, NULL);
    pthread_cond_init(&r->wake, NULL);
    int ret_listen = dml_events_listen(o->events, listen_results, r);
    if (ret_listen) {
        dml_runner_free(r);
        return ret_listen;
    }
    *ret = r;
    return 0;
}

struct dml_runner *dml_runner_free(struct dml_runner *r)
{
    if (!r)
        return NULL;
    dml_runner_close(r);
    dml_run_env_done(&r->env);
    dml_cuts_done(&r->cuts);
    dml_testcases_free(r->next);
    dml_results_free(r->results);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->results_lock);
    pthread_mutex_destroy(&r->seats_lock);
    pthread_mutex_destroy(&r->lock);
    free(r);
    return NULL;
}

static unsigned min_workers(const struct dml_testcase *tc)
{
    uint64_t n = tc->cluster.min_workers;
    return (unsigned)(n && n < tc->testcase.nodes ? n : tc->testcase.nodes);
}

/* Waits for as many workers as a run must have, and a little for as many as it may have. */
static int wait_for_workers(struct dml_runner *r, const struct dml_testcase *tc,
                            struct dml_err *err)
{
    unsigned nodes = (unsigned)tc->testcase.nodes, need = min_workers(tc);
    uint64_t begin = dml_clock_now_us(), enough_us = 0;
    for (;;) {
        unsigned idle = dml_roster_wait(r->o.roster, nodes, SLICE_US);
        uint64_t now = dml_clock_now_us();
        if (atomic_load(&r->cancel))
            return dml_err_set(err, -ECANCELED, "stopped while waiting for workers");
        if (idle >= nodes)
            return 0;
        if (idle < need)
            enough_us = 0;
        else if (!enough_us)
            enough_us = now;
        else if (now - enough_us > GRACE_US)
            return 0;
        if (tc->cluster.wait_us && idle < need && now - begin > tc->cluster.wait_us)
            return dml_err_set(err, -ETIMEDOUT,
                               "%u workers are needed, %u are here after %.0f s of waiting", need,
                               idle, (double)tc->cluster.wait_us / 1e6);
    }
}

static void set_comm(struct dml_runner *r, struct dml_comm *comm)
{
    pthread_mutex_lock(&r->lock);
    r->comm = comm;
    if (comm && atomic_load(&r->cancel))
        dml_comm_cancel(comm);
    pthread_mutex_unlock(&r->lock);
}

static void set_seats(struct dml_runner *r, struct dml_seats *seats)
{
    pthread_mutex_lock(&r->seats_lock);
    r->seats = seats;
    pthread_mutex_unlock(&r->seats_lock);
}

/* As rank 0, with workers seated. */
static int lead(struct dml_runner *r, const struct dml_testcase *tc, struct dml_comm *comm,
                const char *testcase, const char *model, const struct dml_event_run *event,
                struct dml_err *err)
{
    struct dml_seats *seats = NULL;
    struct dml_seats_options so = {
        .roster = r->o.roster,
        .comm = comm,
        .events = r->o.events,
        .run_id = event->run_id,
        .n_seats = (uint32_t)tc->testcase.nodes,
        .testcase = testcase,
        .model = model,
    };
    int ret = dml_seats_new(&so, &seats);
    if (ret) {
        dml_event_run_failed(r->o.events, event, ret, err);
        return ret;
    }
    set_seats(r, seats);
    _cleanup_(dml_mem_freep) char *path = dml_models_path(r->o.results_dir, event, r->stamp);
    r->env.describe_arg = seats;
    struct dml_run_args args = {
        .tc = tc,
        .model_text = model,
        .comm = comm,
        .cancel = &r->cancel,
        .event = *event,
        .checkpoint_path = path,
    };
    ret = dml_run(&r->env, &args, NULL, err);
    set_seats(r, NULL);
    dml_seats_free(seats);
    return ret;
}

/* What there is before workers are needed: the test case as all ranks get it. */
struct order {
    struct dml_testcase tc; /* borrows all but … */
    char *cut;
    char *text;
    struct dml_model *model;
};

static void order_done(struct order *o)
{
    free(o->cut);
    free(o->text);
    dml_model_free(o->model);
}

static int prepare(struct dml_runner *r, const struct dml_event_run *event, struct order *io_order,
                   struct dml_comm **ret_comm, struct dml_err *err)
{
    struct dml_testcase *tc = &io_order->tc;
    int ret = wait_for_workers(r, tc, err);
    if (!ret)
        ret = dml_fit_model(tc, r->model_dirs, &io_order->model, err);
    if (!ret)
        ret = dml_cuts_settle(&r->cuts, tc, io_order->model, &r->cancel, r->o.events, event,
                              &io_order->cut, err);
    if (io_order->cut)
        tc->parallel.cut = io_order->cut;
    if (!ret)
        ret = dml_testcase_print(tc, &io_order->text);
    if (!ret)
        ret = dml_server_comm_new(r->server, event->run_id, (uint32_t)tc->testcase.nodes + 1,
                                  ret_comm);
    if (!ret)
        dml_server_comm_limit(*ret_comm, dml_plan_longest_answer(tc, io_order->model));
    return ret;
}

/*
 * Keeps what there is so far, at most once a minute: a power cut in the night should cost a run and
 * not the whole matrix. What is written is a copy, since nobody who tells an event may have to wait
 * for an SD card. A failure is told at the end, when all is saved once more.
 */
static void keep_results(struct dml_runner *r)
{
    struct dml_err ignored = {0};
    _cleanup_(dml_mem_freep) char *json = NULL, *path = NULL;
    _cleanup_(dml_results_freep) struct dml_results *copy = NULL;
    if (dml_clock_now_us() < r->kept_us + KEEP_US)
        return;
    pthread_mutex_lock(&r->results_lock);
    int ret = dml_results_to_json(r->results, &json);
    pthread_mutex_unlock(&r->results_lock);
    if (!ret)
        ret = dml_results_from_json(json, strlen(json), "results", &copy, &ignored);
    if (!ret && !r->archived)
        ret = dml_archive_old(copy, r->o.results_dir, &ignored);
    if (ret)
        return;
    r->archived = true;
    (void)dml_results_save(copy, r->o.results_dir, &path, &ignored);
    r->kept_us = dml_clock_now_us();
}

/* A dml_matrix_fn: one run. Only a stop ends the walk. */
static int run_one(void *arg, const struct dml_testcase *tc, const struct dml_event_run *given)
{
    struct dml_runner *r = arg;
    struct dml_event_run event = *given;
    const struct dml_paradigm *paradigm = dml_paradigm_get(tc->parallel.paradigm);
    struct dml_err err = {0};
    struct order order = {.tc = *tc};
    struct dml_comm *comm = NULL;

    if (atomic_load(&r->cancel))
        return -ECANCELED;
    pthread_mutex_lock(&r->seats_lock);
    event.run_id = ++r->run_id;
    pthread_mutex_unlock(&r->seats_lock);
    event.paradigm = paradigm->name;
    event.strategy = tc->strategy;
    event.model = tc->model.name;
    event.dataset = tc->data.dataset;
    event.n_rounds = tc->train.rounds;
    if (event.i_repeat == 0)
        dml_event_case_started(r->o.events, &event, dml_roster_count(r->o.roster));

    int ret = prepare(r, &event, &order, &comm, &err);
    if (ret) {
        dml_event_run_failed(r->o.events, &event, ret, &err);
    } else {
        set_comm(r, comm);
        ret = lead(r, &order.tc, comm, order.text, dml_model_text(order.model), &event, &err);
        set_comm(r, NULL);
        dml_server_comm_stop(comm);
        dml_comm_free(comm);
        /* What cannot be removed stays; the disk that it fills is told of when a model is not
         * saved. */
        (void)dml_models_prune(r->o.results_dir, r->o.keep_models, r->stamp);
    }
    order_done(&order);
    if (atomic_load(&r->cancel))
        return -ECANCELED;
    r->n_failed += ret != 0;
    keep_results(r);
    return 0;
}

static void run_job(struct dml_runner *r, const struct dml_testcases *cases)
{
    struct dml_err err = {0};
    struct dml_results *results = dml_results_new(cases->cases[0].testcase.name);
    pthread_mutex_lock(&r->results_lock);
    r->results = results;
    pthread_mutex_unlock(&r->results_lock);
    dml_models_stamp(r->o.results_dir, r->stamp, &r->n_same_stamp);
    r->n_failed = 0;
    r->kept_us = dml_clock_now_us();
    r->archived = false;

    int ret = results ? dml_results_prepare(r->o.results_dir, &err) : -ENOMEM;
    if (!ret)
        ret = dml_matrix_walk(cases, run_one, r);
    /* The data set was kept for this matrix; by the next one its files may be others. */
    dml_run_env_done(&r->env);
    dml_cuts_done(&r->cuts);

    pthread_mutex_lock(&r->results_lock);
    r->results = NULL;
    pthread_mutex_unlock(&r->results_lock);
    _cleanup_(dml_mem_freep) char *path = NULL;
    _cleanup_(dml_mem_freep) char *json = NULL;
    if (results && results->n_cases) {
        int saved = r->archived ? 0 : dml_archive_old(results, r->o.results_dir, &err);
        if (!saved)
            saved = dml_results_save(results, r->o.results_dir, &path, &err);
        if (saved && (!ret || ret == -ECANCELED))
            ret = saved;
        (void)dml_results_to_json(results, &json);
        if (path)
            dml_event_results_saved(r->o.events, results->name, path);
    }
    dml_results_free(results);
    struct dml_runner_outcome outcome = {
        .job = r->job,
        .r = ret,
        .results = json,
        .path = path,
        .n_failed = r->n_failed,
        .err = &err,
    };

    pthread_mutex_lock(&r->lock);
    r->busy = false;
    r->stopped_us = 0;
    pthread_mutex_unlock(&r->lock);
    if (r->o.finished)
        r->o.finished(r->o.arg, &outcome);
}

static void *live(void *arg)
{
    struct dml_runner *r = arg;
    for (;;) {
        pthread_mutex_lock(&r->lock);
        while (!r->next && !r->closing)
            pthread_cond_wait(&r->wake, &r->lock);
        _cleanup_(dml_testcases_freep) struct dml_testcases *cases = r->next;
        r->next = NULL;
        pthread_mutex_unlock(&r->lock);
        if (!cases)
            return NULL;
        run_job(r, cases);
    }
}

int dml_runner_start(struct dml_runner *r, struct dml_server *server)
{
    r->server = server;
    int ret = -pthread_create(&r->thread, NULL, live, r);
    r->has_thread = !ret;
    return ret;
}

void dml_runner_close(struct dml_runner *r)
{
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->lock);
    (void)dml_runner_stop(r);
    if (r->has_thread)
        (void)pthread_join(r->thread, NULL);
    r->has_thread = false;
}

int dml_runner_check(const char *model_dir, const struct dml_testcases *cases, struct dml_err *err)
{
    const char *dirs[] = {model_dir, NULL};
    for (size_t i = 0; i < cases->n_cases; i++) {
        _cleanup_(dml_model_freep) struct dml_model *model = NULL;
        struct dml_plan plan;
        int r = dml_fit_model(&cases->cases[i], dirs, &model, err);
        if (!r)
            r = dml_plan_make(&cases->cases[i], model, 0, &plan, err);
        if (r)
            return r;
    }
    return 0;
}

int dml_runner_submit(struct dml_runner *r, struct dml_testcases **io_cases, uint64_t *ret_job,
                      struct dml_err *err)
{
    int ret = 0;
    pthread_mutex_lock(&r->lock);
    if (r->closing) {
        ret = dml_err_set(err, -ECANCELED, "the master is about to stop");
    } else if (r->busy) {
        ret = dml_err_set(err, -EBUSY,
                          "another test case is running: wait for it (dmlctl watch) or end it "
                          "(dmlctl stop)");
    } else {
        r->busy = true;
        atomic_store(&r->cancel, false);
        r->next = *io_cases;
        *io_cases = NULL;
        *ret_job = ++r->job;
        pthread_cond_broadcast(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    return ret;
}

bool dml_runner_stop(struct dml_runner *r)
{
    pthread_mutex_lock(&r->lock);
    bool busy = r->busy;
    if (busy) {
        atomic_store(&r->cancel, true);
        if (!r->stopped_us)
            r->stopped_us = dml_clock_now_us();
        if (r->comm)
            dml_comm_cancel(r->comm);
    }
    pthread_mutex_unlock(&r->lock);
    return busy;
}

bool dml_runner_is_busy(struct dml_runner *r)
{
    pthread_mutex_lock(&r->lock);
    bool busy = r->busy;
    pthread_mutex_unlock(&r->lock);
    return busy;
}

bool dml_runner_is_live(struct dml_runner *r)
{
    pthread_mutex_lock(&r->lock);
    bool hangs = r->stopped_us && dml_clock_now_us() - r->stopped_us > STOP_US;
    pthread_mutex_unlock(&r->lock);
    return !hangs;
}

void dml_runner_ended(struct dml_runner *r, const struct dml_session *session, uint64_t run_id,
                      int result, const char *text)
{
    dml_roster_release(r->o.roster, session, result && result != -ECANCELED && result != -EPIPE);
    pthread_mutex_lock(&r->seats_lock);
    if (r->seats && run_id == r->run_id)
        dml_seats_ended(r->seats, session, result, text);
    pthread_mutex_unlock(&r->seats_lock);
}
