/*
 * One thread lives through the life of a worker, as straight-line code: connect, wait for an order,
 * take part, and again. Everything that may break it out of a wait goes through two flags and
 * dml_join_cancel(): `stop` (the program ends, sticky) and `interrupt` (this run ends).
 *
 * Pauses between attempts double from half a second up to backoff-max, and each is drawn from
 * [pause/2, pause], because the workers of a cluster lose their master all at the same moment and
 * must not all come back at the same moment. A refusal (another protocol, a name already taken)
 * is no accident of the network, so it is asked again only at the longest pause.
 *
 * A sentence is logged when it differs from the one before: an SD card is no place for the same
 * line every minute.
 */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fileio.h"
#include "base/log.h"
#include "conf/testcase.h"
#include "nn/trainer.h"
#include "rpc/join.h"
#include "run.h"
#include "worker/board.h"
#include "worker/quota.h"

#define SECOND         UINT64_C(1000000)
#define BACKOFF_MIN_US (SECOND / 2)
#define CONNECT_US     (10 * SECOND) /* name lookup, TCP and hello over a bad WLAN */
#define TICK_US        SECOND        /* how often the idle run thread comes round */
#define SLICE_US       (SECOND / 10) /* a pause notices `stop` within this time */

/* After so long without a sign of life something hangs. A step of a large model on a throttled
 * Pi Zero takes seconds, a connection attempt CONNECT_US. */
#define LIVE_US (60 * SECOND)

struct dml_worker {
    const struct dml_worker_options *options;
    struct dml_hello hello;
    struct dml_join *join;
    struct dml_quota *quota; /* NULL where nothing was delegated */
    struct dml_run_env env;
    const char *model_dirs[2];
    pthread_t thread;
    bool has_thread;

    atomic_bool stop, interrupt;
    atomic_bool training;
    _Atomic uint64_t tick_us; /* the run thread came round */
    _Atomic uint64_t beat_us; /* the heartbeat thread asked for health */

    pthread_mutex_t lock; /* of status */
    char status[256];
};

__attribute__((format(printf, 3, 4))) static void say(struct dml_worker *w, int priority,
                                                      const char *fmt, ...)
{
    char text[sizeof(w->status)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    pthread_mutex_lock(&w->lock);
    bool differs = strcmp(text, w->status) != 0;
    snprintf(w->status, sizeof(w->status), "%s", text);
    pthread_mutex_unlock(&w->lock);
    if (differs)
        dml_log(priority, "%s", text);
}

static int limit_cores(void *arg, double cores)
{
    return dml_quota_set(arg, cores);
}

static void tick(struct dml_worker *w)
{
    atomic_store(&w->tick_us, dml_clock_now_us());
}

static void health(void *arg, struct dml_health *ret)
{
    struct dml_worker *w = arg;
    atomic_store(&w->beat_us, dml_clock_now_us());
    dml_board_health("", ret);
}

static void pause_us(struct dml_worker *w, uint64_t us)
{
    uint64_t end = dml_clock_now_us() + us;
    while (!atomic_load(&w->stop) && dml_clock_now_us() < end) {
        dml_clock_sleep_us(SLICE_US);
        tick(w);
    }
}

/* Anything in [us/2, us]. */
static uint64_t jitter(uint64_t us)
{
    uint32_t x = 0;
    (void)!getrandom(&x, sizeof(x), GRND_NONBLOCK);
    return us / 2 + (uint64_t)((double)us / 2.0 * ((double)x / (double)UINT32_MAX));
}

/* Takes part in one run. */
static int take_part(struct dml_worker *w, const struct dml_run_order *order, struct dml_err *err)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    char name[64];
    snprintf(name, sizeof(name), "the master's order %llu", (unsigned long long)order->run_id);
    int r = dml_testcase_parse(order->testcase, strlen(order->testcase), name, NULL, &cases, err);
    if (r)
        return r;
    if (cases->n_cases != 1)
        return dml_err_at(err, -EPROTO, name, 0, "holds %zu test cases instead of one.",
                          cases->n_cases);

    const struct dml_testcase *tc = &cases->cases[0];
    say(w, LOG_INFO, "training %s (%s), worker %u of %u", tc->testcase.name, tc->label, order->rank,
        order->size - 1);
    _cleanup_(dml_comm_freep) struct dml_comm *comm = NULL;
    r = dml_join_comm(w->join, order, &comm);
    if (r)
        return dml_err_set(err, r, "The connection broke before the run began.");
    struct dml_run_args args = {
        .tc = tc,
        .model_text = order->model,
        .comm = comm,
        .slot = order->slot,
        .cancel = &w->interrupt,
    };
    return dml_run(&w->env, &args, NULL, err);
}

static void obey(struct dml_worker *w, const struct dml_run_order *order)
{
    struct dml_err err = {0};
    char text[1200];
    atomic_store(&w->training, true);
    int r = take_part(w, order, &err);
    tick(w);
    atomic_store(&w->training, false);

    if (r && r != -ECANCELED && r != -EPIPE)
        dml_log(LOG_ERR, "Run %llu failed here: %s", (unsigned long long)order->run_id,
                dml_err_format(&err, r, text, sizeof(text)));
    (void)dml_join_ended(w->join, order->run_id, r,
                         r ? dml_err_format(&err, r, text, sizeof(text)) : "");
}

/* Obeys orders until the connection breaks or the worker is to stop. */
static void serve(struct dml_worker *w)
{
    for (;;) {
        say(w, LOG_INFO, "connected to %s, waiting for work", w->options->master);
        struct dml_run_order order = {0};
        int r;
        do {
            tick(w);
            r = dml_join_wait(w->join, dml_clock_now_us() + TICK_US, &order);
        } while (r == -ETIMEDOUT && !atomic_load(&w->stop));
        if (r)
            return;
        obey(w, &order);
        dml_run_order_done(&order);
        atomic_store(&w->interrupt, false);
    }
}

static void *live(void *arg)
{
    struct dml_worker *w = arg;
    const struct dml_worker_options *o = w->options;
    uint64_t longest = o->backoff_max_us > BACKOFF_MIN_US ? o->backoff_max_us : BACKOFF_MIN_US;
    uint64_t pause = BACKOFF_MIN_US;

    w->hello.gflops = dml_trainer_calibrate_gflops();
    say(w, LOG_INFO, "trying to reach %s", o->master);
    while (!atomic_load(&w->stop)) {
        struct dml_err err = {0};
        char text[1200];
        tick(w);
        int r = dml_join_connect(w->join, &w->hello, dml_clock_now_us() + CONNECT_US, &err);
        if (!r) {
            serve(w);
            atomic_store(&w->interrupt, false);
            if (!atomic_load(&w->stop))
                say(w, LOG_WARNING, "lost the connection to %s, trying again", o->master);
            pause = BACKOFF_MIN_US;
        } else if (r == -EPROTO) {
            say(w, LOG_ERR, "refused by %s: %s", o->master,
                dml_err_format(&err, r, text, sizeof(text)));
            pause = longest;
        } else if (r != -ECANCELED) {
            say(w, LOG_WARNING, "trying to reach %s: %s", o->master,
                dml_err_format(&err, r, text, sizeof(text)));
        }
        pause_us(w, jitter(pause));
        pause = pause * 2 < longest ? pause * 2 : longest;
    }
    return NULL;
}

static int start(struct dml_worker *w, struct dml_err *err)
{
    const struct dml_worker_options *o = w->options;
    int r = dml_board_hello("", o->id, (unsigned)o->max_cores, &w->hello, err);
    if (r)
        return r;
    struct dml_join_options jo = {
        .master = o->master,
        .heartbeat_us = o->heartbeat_us,
        .peer_listen = o->peer_listen,
        .peer_address = o->peer_address,
        .health = health,
        .arg = w,
        .interrupt = &w->interrupt,
    };
    r = dml_join_new(&jo, &w->join, err);
    if (r)
        return r;
    w->model_dirs[0] = o->model_dir;
    w->env = (struct dml_run_env){
        .model_dirs = w->model_dirs,
        .plugin_dir = o->plugin_dir,
        .cache_dir = o->cache_dir[0] ? o->cache_dir : NULL,
        .cache_max = o->cache_max,
        .data_dir = o->data_dir[0] ? o->data_dir : NULL,
        .max_cores = (unsigned)o->max_cores,
        .affinity = o->affinity != 0,
    };
    if (w->env.cache_dir) /* what cannot be removed is in nobody's way */
        (void)dml_fileio_sweep(w->env.cache_dir);
    if (dml_quota_open(NULL, NULL, &w->quota) == 0) {
        w->env.limit_cores = limit_cores;
        w->env.limit_arg = w->quota;
    }
    tick(w);
    r = -pthread_create(&w->thread, NULL, live, w);
    w->has_thread = !r;
    return r;
}

int dml_worker_new(const struct dml_worker_options *o, struct dml_worker **ret, struct dml_err *err)
{
    struct dml_worker *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->options = o;
    pthread_mutex_init(&w->lock, NULL);
    int r = start(w, err);
    if (r) {
        dml_worker_free(w);
        return r;
    }
    *ret = w;
    return 0;
}

struct dml_worker *dml_worker_free(struct dml_worker *w)
{
    if (!w)
        return NULL;
    atomic_store(&w->stop, true);
    atomic_store(&w->interrupt, true);
    if (w->join)
        dml_join_cancel(w->join);
    if (w->has_thread)
        (void)pthread_join(w->thread, NULL);
    dml_join_free(w->join);
    dml_run_env_done(&w->env);
    dml_quota_close(w->quota);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

bool dml_worker_is_live(struct dml_worker *w)
{
    uint64_t now = dml_clock_now_us(), tick_us = atomic_load(&w->tick_us);
    if (!atomic_load(&w->training))
        return now < tick_us + LIVE_US;
    uint64_t beat_us = atomic_load(&w->beat_us), silence = LIVE_US + 3 * w->options->heartbeat_us;
    return now < (beat_us > tick_us ? beat_us : tick_us) + silence;
}

const char *dml_worker_status(struct dml_worker *w, char *buf, size_t buf_len)
{
    pthread_mutex_lock(&w->lock);
    snprintf(buf, buf_len, "%s", w->status);
    pthread_mutex_unlock(&w->lock);
    return buf;
}
