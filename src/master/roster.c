/*
 * An array kept in order of id, so that the same workers get the same ranks in every run whatever
 * the order in which they joined: runs can then be compared, and repeat bit for bit.
 *
 * A worker is busy from the moment it is given out until the server says that its part has ended,
 * not until the run ends: a slow board may still be leaving the last run when the next one begins.
 */
#include "master/roster.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

/* A Pi's firmware begins to throttle at 80 °C (soft limit from 60 °C on a 3B+). */
#define HOT_C         80.0
#define THROTTLED_NOW 0xfu /* bits 0 … 3: now; 16 … 19: since boot */
#define UNDER_VOLTAGE 0x1u

struct worker {
    struct dml_session *session;
    char id[64];
    struct dml_health health;
    uint64_t joined_us, beat_us;
    uint64_t pause_us; /* between its beats, as seen */
    bool busy, warned, beaten;
    unsigned n_failed;
};

/* What a worker's pause is taken for until it has beaten twice: the default of `heartbeat` in
 * dmlworkerd.conf. */
#define USUAL_PAUSE_US UINT64_C(5000000)

struct dml_roster {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t beat_timeout_us;
    struct worker *workers; /* [n_workers], by id */
    size_t n_workers, room;
};

struct dml_roster *dml_roster_new(uint64_t beat_timeout_us)
{
    struct dml_roster *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&r->lock, NULL);
    r->beat_timeout_us = beat_timeout_us;
    return r;
}

struct dml_roster *dml_roster_free(struct dml_roster *r)
{
    if (!r)
        return NULL;
    for (size_t i = 0; i < r->n_workers; i++)
        dml_session_unref(r->workers[i].session);
    free(r->workers);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
    return NULL;
}

static struct worker *find(struct dml_roster *r, const struct dml_session *s)
{
    for (size_t i = 0; i < r->n_workers; i++)
        if (r->workers[i].session == s)
            return &r->workers[i];
    return NULL;
}

static void drop(struct dml_roster *r, size_t i)
{
    memmove(&r->workers[i], &r->workers[i + 1], (r->n_workers - i - 1) * sizeof(*r->workers));
    r->n_workers--;
}

/* Opens a gap at the place of `id`. Returns NULL when out of memory. */
static struct worker *insert(struct dml_roster *r, const char *id)
{
    if (r->n_workers == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        struct worker *more = realloc(r->workers, room * sizeof(*more));
        if (!more)
            return NULL;
        r->workers = more;
        r->room = room;
    }
    size_t i = 0;
    while (i < r->n_workers && strcmp(r->workers[i].id, id) < 0)
        i++;
    memmove(&r->workers[i + 1], &r->workers[i], (r->n_workers - i) * sizeof(*r->workers));
    r->n_workers++;
    return &r->workers[i];
}

uint64_t dml_roster_silence_us(uint64_t timeout_us, uint64_t pause_us)
{
    uint64_t silence_us = timeout_us / 2;
    if (silence_us / 2 < pause_us)
        silence_us = pause_us < timeout_us / 2 ? 2 * pause_us : timeout_us;
    return silence_us;
}

static bool is_silent(const struct dml_roster *r, const struct worker *w, uint64_t now)
{
    return now - w->beat_us >= dml_roster_silence_us(r->beat_timeout_us, w->pause_us);
}

/* The longest pause of late, forgotten by halves: beats that a network held back arrive together,
 * and are no reason to expect the next one at once. */
static uint64_t next_pause(uint64_t known_us, uint64_t seen_us)
{
    return seen_us > known_us ? seen_us : (known_us + seen_us) / 2;
}

static int add(struct dml_roster *r, struct dml_session *s, struct dml_session **ret_replaced,
               char *refusal, size_t refusal_len)
{
    const struct dml_hello *hello = dml_session_hello(s);
    uint64_t now = dml_clock_now_us();
    struct dml_session *replaced = NULL;
    for (size_t i = 0; i < r->n_workers; i++) {
        struct worker *w = &r->workers[i];
        if (strcmp(w->id, hello->worker_id) != 0)
            continue;
        if (!is_silent(r, w, now)) {
            snprintf(refusal, refusal_len,
                     "A worker named %s is already here, from %s. Give this one another id (option "
                     "id in dmlworkerd.conf).",
                     w->id, dml_session_peer(w->session));
            return -EEXIST;
        }
        replaced = w->session;
        drop(r, i);
        break;
    }
    struct worker *w = insert(r, hello->worker_id);
    if (!w) {
        dml_session_unref(replaced);
        snprintf(refusal, refusal_len, "The master is out of memory.");
        return -ENOMEM;
    }
    *w = (struct worker){
        .session = dml_session_ref(s),
        .health = {.temperature_c = -1.0, .throttled = -1, .mhz = -1.0, .rss_bytes = -1},
        .joined_us = now,
        .beat_us = now,
        .pause_us = USUAL_PAUSE_US,
    };
    snprintf(w->id, sizeof(w->id), "%s", hello->worker_id);
    *ret_replaced = replaced;
    return 0;
}

int dml_roster_add(struct dml_roster *r, struct dml_session *s, struct dml_session **ret_replaced,
                   char *refusal, size_t refusal_len)
{
    pthread_mutex_lock(&r->lock);
    int ret = add(r, s, ret_replaced, refusal, refusal_len);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return ret;
}

bool dml_roster_remove(struct dml_roster *r, const struct dml_session *s)
{
    struct dml_session *gone = NULL;
    pthread_mutex_lock(&r->lock);
    struct worker *w = find(r, s);
    if (w) {
        gone = w->session;
        drop(r, (size_t)(w - r->workers));
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    dml_session_unref(gone);
    return gone != NULL;
}

static bool in_trouble(const struct dml_health *h)
{
    return h->temperature_c >= HOT_C ||
           (h->throttled >= 0 && ((uint32_t)h->throttled & THROTTLED_NOW));
}

static void describe(const struct dml_health *h, char *buf, size_t buf_len)
{
    if (h->throttled >= 0 && ((uint32_t)h->throttled & UNDER_VOLTAGE))
        snprintf(buf, buf_len, "under-voltage: its power supply or cable is too weak");
    else if (h->throttled >= 0 && ((uint32_t)h->throttled & THROTTLED_NOW))
        snprintf(buf, buf_len, "its clock is throttled, at %.1f °C", h->temperature_c);
    else
        snprintf(buf, buf_len, "it is too hot, %.1f °C", h->temperature_c);
}

bool dml_roster_beat(struct dml_roster *r, const struct dml_session *s,
                     const struct dml_health *health, char *ret_warning, size_t warning_len)
{
    bool warn = false;
    pthread_mutex_lock(&r->lock);
    struct worker *w = find(r, s);
    if (w) {
        bool trouble = in_trouble(health);
        warn = trouble && !w->warned;
        w->warned = trouble;
        uint64_t now = dml_clock_now_us();
        if (w->beaten) /* the first one follows the welcome at once */
            w->pause_us = next_pause(w->pause_us, now - w->beat_us);
        w->beaten = true;
        w->beat_us = now;
        w->health = *health;
    }
    pthread_mutex_unlock(&r->lock);
    if (warn)
        describe(health, ret_warning, warning_len);
    return warn;
}

unsigned dml_roster_count(struct dml_roster *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned n = (unsigned)r->n_workers;
    pthread_mutex_unlock(&r->lock);
    return n;
}

bool dml_roster_health(struct dml_roster *r, const char *id, struct dml_health *ret)
{
    bool found = false;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n_workers && !found; i++) {
        found = !strcmp(r->workers[i].id, id);
        if (found)
            *ret = r->workers[i].health;
    }
    pthread_mutex_unlock(&r->lock);
    return found;
}

bool dml_roster_has(struct dml_roster *r, const struct dml_session *s)
{
    pthread_mutex_lock(&r->lock);
    bool there = find(r, s) != NULL;
    pthread_mutex_unlock(&r->lock);
    return there;
}

static unsigned count_idle(const struct dml_roster *r)
{
    unsigned n = 0;
    for (size_t i = 0; i < r->n_workers; i++)
        n += !r->workers[i].busy;
    return n;
}

unsigned dml_roster_wait(struct dml_roster *r, unsigned n, uint64_t slice_us)
{
    uint64_t end = dml_clock_now_us() + slice_us;
    struct timespec ts = {.tv_sec = (time_t)(end / 1000000),
                          .tv_nsec = (long)(end % 1000000) * 1000};
    pthread_mutex_lock(&r->lock);
    unsigned idle = count_idle(r);
    while (idle < n && pthread_cond_timedwait(&r->changed, &r->lock, &ts) != ETIMEDOUT)
        idle = count_idle(r);
    idle = count_idle(r);
    pthread_mutex_unlock(&r->lock);
    return idle;
}

bool dml_roster_pick(struct dml_roster *r, const char *wanted_id,
                     bool (*skip)(void *arg, const struct dml_session *s), void *arg,
                     struct dml_roster_pick *ret)
{
    struct worker *best = NULL;
    unsigned best_badness = 0;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n_workers; i++) {
        struct worker *w = &r->workers[i];
        if (w->busy || (skip && skip(arg, w->session)))
            continue;
        unsigned badness = w->n_failed * 2 + in_trouble(&w->health);
        if (wanted_id && !strcmp(w->id, wanted_id)) {
            best = w;
            break;
        }
        if (!best || badness < best_badness) {
            best = w;
            best_badness = badness;
        }
    }
    if (best) {
        best->busy = true;
        *ret = (struct dml_roster_pick){.session = dml_session_ref(best->session)};
        snprintf(ret->id, sizeof(ret->id), "%s", best->id);
        snprintf(ret->machine, sizeof(ret->machine), "%s",
                 dml_session_hello(best->session)->machine);
    }
    pthread_mutex_unlock(&r->lock);
    return best != NULL;
}

void dml_roster_release(struct dml_roster *r, const struct dml_session *s, bool failed)
{
    pthread_mutex_lock(&r->lock);
    struct worker *w = find(r, s);
    if (w) {
        w->busy = false;
        w->n_failed = failed ? w->n_failed + 1 : 0;
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void fill(const struct dml_roster *r, const struct worker *w, uint64_t now,
                 struct dml_status_worker *ret)
{
    const struct dml_hello *h = dml_session_hello(w->session);
    *ret = (struct dml_status_worker){
        .cores = h->cores,
        .memory_bytes = h->memory_bytes,
        .gflops = h->gflops,
        .state = w->busy ? DML_STATUS_WORKER_BUSY : DML_STATUS_WORKER_IDLE,
        .temperature_c = w->health.temperature_c,
        .throttled = w->health.throttled,
        .rss_bytes = w->health.rss_bytes,
        .last_beat_s = (double)(now - w->beat_us) / 1e6,
        .joined_s = (double)(now - w->joined_us) / 1e6,
    };
    if (is_silent(r, w, now))
        ret->state = DML_STATUS_WORKER_SILENT;
    snprintf(ret->id, sizeof(ret->id), "%s", w->id);
    snprintf(ret->host, sizeof(ret->host), "%s", h->host);
    snprintf(ret->peer, sizeof(ret->peer), "%s", dml_session_peer(w->session));
    snprintf(ret->board, sizeof(ret->board), "%s", h->board);
    snprintf(ret->arch, sizeof(ret->arch), "%s", h->arch);
    snprintf(ret->version, sizeof(ret->version), "%s", h->version);
}

int dml_roster_status(struct dml_roster *r, struct dml_status_worker **ret, size_t *ret_n)
{
    pthread_mutex_lock(&r->lock);
    uint64_t now = dml_clock_now_us();
    size_t n = r->n_workers;
    struct dml_status_worker *out = dml_mem_array(n, sizeof(*out));
    for (size_t i = 0; out && i < n; i++)
        fill(r, &r->workers[i], now, &out[i]);
    pthread_mutex_unlock(&r->lock);
    if (!out)
        return -ENOMEM;
    *ret = out;
    *ret_n = n;
    return 0;
}
