/*
 * A round on a Raspberry Pi takes minutes; a line that stands still looks dead. So a thread redraws
 * it once a second with the time that passed.
 *
 * Escape sequences: CR to the start of the line and CSI K (ECMA-48, erase to the end of it), which
 * every terminal since the VT100 knows; TERM=dumb gets lines instead.
 */
#include "ctl/display.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/clock.h"
#include "ctl/live.h"

#define COLUMNS_DFLT 80
#define COLUMNS_MAX  200 /* a longer line is not read at a glance */

struct dml_display {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool ticking, closing;
    bool tty, quiet, drawn;
    char failure[1024]; /* why the last run failed that has been told */
    unsigned n_same;    /* runs after it that failed for the same reason, not yet told */
    struct dml_live live;
};

static size_t columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
        return size.ws_col - 1u < COLUMNS_MAX ? size.ws_col - 1u : COLUMNS_MAX;
    return COLUMNS_DFLT - 1;
}

static void erase(struct dml_display *d)
{
    if (d->drawn)
        (void)fputs("\r\033[K", stderr);
    d->drawn = false;
}

/* A matrix may fail as a whole: its reason is told once, and how often it came again. */
static void tell_same(struct dml_display *d)
{
    if (!d->n_same)
        return;
    erase(d);
    (void)fprintf(stderr, "%u more run%s failed for the same reason\n", d->n_same,
                  d->n_same == 1 ? "" : "s");
    d->n_same = 0;
}

static bool is_same_failure(struct dml_display *d, const char *message)
{
    static const char before[] = " failed: ";
    const char *reason = strstr(message, before);
    if (!reason)
        return false;
    if (d->failure[0] && !strcmp(reason, d->failure))
        return true;
    tell_same(d);
    (void)snprintf(d->failure, sizeof(d->failure), "%s", reason);
    return false;
}

static void draw(struct dml_display *d)
{
    char line[4 * COLUMNS_MAX + 1];
    if (!d->tty || d->quiet)
        return;
    (void)fprintf(stderr, "\r%s\033[K", dml_live_line(&d->live, columns(), line, sizeof(line)));
    (void)fflush(stderr);
    d->drawn = true;
}

static void *tick(void *arg)
{
    struct dml_display *d = arg;
    (void)pthread_mutex_lock(&d->lock);
    while (!d->closing) {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec++;
        int r = 0;
        while (!d->closing && r != ETIMEDOUT)
            r = pthread_cond_timedwait(&d->wake, &d->lock, &until);
        if (!d->closing && d->live.status.testcase[0]) {
            dml_live_tick(&d->live, dml_clock_now_us());
            draw(d);
        }
    }
    (void)pthread_mutex_unlock(&d->lock);
    return NULL;
}

struct dml_display *dml_display_new(bool quiet)
{
    struct dml_display *d = calloc(1, sizeof(*d));
    pthread_condattr_t attr;
    if (!d)
        return NULL;
    const char *term = getenv("TERM");
    d->tty = isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb");
    d->quiet = quiet;
    dml_live_init(&d->live);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&d->lock, NULL);
    (void)pthread_cond_init(&d->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    d->ticking = d->tty && !quiet && pthread_create(&d->thread, NULL, tick, d) == 0;
    return d;
}

struct dml_display *dml_display_free(struct dml_display *d)
{
    if (!d)
        return NULL;
    (void)pthread_mutex_lock(&d->lock);
    d->closing = true;
    (void)pthread_cond_signal(&d->wake);
    (void)pthread_mutex_unlock(&d->lock);
    if (d->ticking)
        (void)pthread_join(d->thread, NULL);
    tell_same(d);
    erase(d);
    (void)fflush(stderr);
    (void)pthread_cond_destroy(&d->wake);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
    return NULL;
}

void dml_display_status(struct dml_display *d, const struct dml_status *status)
{
    (void)pthread_mutex_lock(&d->lock);
    dml_live_begin(&d->live, status, dml_clock_now_us());
    draw(d);
    (void)pthread_mutex_unlock(&d->lock);
}

/* On a terminal the line shows rounds already; what went wrong and what ended stays above it. */
static bool worth_a_line(const struct dml_display *d, enum dml_event_kind kind)
{
    switch (kind) {
    case DML_EVENT_WORKER_LOST:
    case DML_EVENT_WORKER_REFUSED:
    case DML_EVENT_WORKER_WARNING:
    case DML_EVENT_RUN_FAILED:
        return true;
    case DML_EVENT_MODEL_UNSAVED:
        return true;
    case DML_EVENT_CUT:
    case DML_EVENT_RUN_ENDED:
        return !d->quiet;
    case DML_EVENT_MASTER_STARTED:
    case DML_EVENT_CASE_STARTED:
    case DML_EVENT_RUN_STARTED:
    case DML_EVENT_WORKER_JOINED:
    case DML_EVENT_ROUND:
        return !d->quiet && !d->tty;
    case DML_EVENT_WORKER_READY:
    case DML_EVENT_EVALUATION:
    case DML_EVENT_RESULTS_SAVED:
    case DML_EVENT_MODEL_SAVED:
    case DML_EVENT_MAX_:
        return false;
    }
    return false;
}

void dml_display_record(struct dml_display *d, const char *json)
{
    char message[1024];
    (void)pthread_mutex_lock(&d->lock);
    enum dml_event_kind kind =
        dml_live_feed(&d->live, json, dml_clock_now_us(), message, sizeof(message));
    if (kind == DML_EVENT_RUN_FAILED && is_same_failure(d, message)) {
        d->n_same++;
    } else if (worth_a_line(d, kind)) {
        if (kind == DML_EVENT_RUN_ENDED)
            tell_same(d);
        erase(d);
        (void)fprintf(stderr, "%s\n", message);
    }
    draw(d);
    (void)pthread_mutex_unlock(&d->lock);
}

void dml_display_say(struct dml_display *d, const char *sentence)
{
    (void)pthread_mutex_lock(&d->lock);
    erase(d);
    (void)fprintf(stderr, "%s\n", sentence);
    draw(d);
    (void)pthread_mutex_unlock(&d->lock);
}
