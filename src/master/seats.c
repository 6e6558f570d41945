/*
 * Locks: the roster asks may_sit() while it holds its own lock, so the order is roster, then seats:
 * nothing here calls the roster or the server with the seats' lock held. A worker is written into
 * its seat before the order goes out, because the answer may come at once, on another thread.
 *
 * Workers on one machine share its cores: each gets the lowest slot free there, and pins its
 * threads accordingly (run.c).
 */
#include "master/seats.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "master/roster.h"

#define LOOK_US 100000 /* between two looks for vacant seats */

struct seat {
    struct dml_session *session; /* NULL: vacant */
    char id[64], machine[64];    /* of who sits or sat there */
    uint32_t slot;
    bool done; /* this rank has done its part */
};

struct dml_seats {
    struct dml_seats_options o;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct seat *seats;           /* [n_seats]; rank - 1 */
    struct dml_session **retired; /* [n_retired] whose part in this run has ended */
    size_t n_retired;
    bool stop, has_thread;
    pthread_t thread;
};

static bool is_retired(void *arg, const struct dml_session *session)
{
    struct dml_seats *s = arg;
    bool found = false;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_retired && !found; i++)
        found = s->retired[i] == session;
    pthread_mutex_unlock(&s->lock);
    return found;
}

static uint32_t free_slot(const struct dml_seats *s, const char *machine)
{
    for (uint32_t slot = 0;; slot++) {
        bool used = false;
        for (uint32_t i = 0; i < s->o.n_seats && !used; i++)
            used = s->seats[i].session && s->seats[i].slot == slot &&
                   !strcmp(s->seats[i].machine, machine);
        if (!used)
            return slot;
    }
}

static void vacate(struct dml_seats *s, uint32_t i, const struct dml_session *session)
{
    struct dml_session *gone = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->seats[i].session == session) {
        gone = s->seats[i].session;
        s->seats[i].session = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    dml_session_unref(gone);
}

/* Gives seat i to a picked worker; takes over the pick's reference. */
static void seat(struct dml_seats *s, uint32_t i, const struct dml_roster_pick *pick)
{
    struct dml_session *session = dml_session_ref(pick->session);
    pthread_mutex_lock(&s->lock);
    struct seat *place = &s->seats[i];
    place->slot = free_slot(s, pick->machine);
    place->session = pick->session;
    snprintf(place->id, sizeof(place->id), "%s", pick->id);
    snprintf(place->machine, sizeof(place->machine), "%s", pick->machine);
    struct dml_run_order order = {
        .run_id = s->o.run_id,
        .rank = i + 1,
        .size = s->o.n_seats + 1,
        .slot = place->slot,
        .testcase = (char *)s->o.testcase,
        .model = (char *)s->o.model,
    };
    pthread_mutex_unlock(&s->lock);

    /* -EBUSY: the rank's loss has not been seen everywhere yet; the next look tries again. */
    if (dml_server_comm_attach(s->o.comm, session, &order)) {
        vacate(s, i, session);
        dml_roster_release(s->o.roster, session, false);
    }
    dml_session_unref(session);
}

static int by_id(const void *a, const void *b)
{
    const struct dml_roster_pick *x = a, *y = b;
    return strcmp(x->id, y->id);
}

static int seat_all(struct dml_seats *s)
{
    struct dml_roster_pick *picks = calloc(s->o.n_seats, sizeof(*picks));
    if (!picks)
        return -ENOMEM;
    uint32_t n = 0;
    while (n < s->o.n_seats && dml_roster_pick(s->o.roster, NULL, NULL, NULL, &picks[n]))
        n++;
    qsort(picks, n, sizeof(*picks), by_id);
    for (uint32_t i = 0; i < n; i++)
        seat(s, i, &picks[i]);
    free(picks);
    return 0;
}

/* Whether somebody is wanted there: nobody sits there, or somebody who has left the roster. */
static bool is_vacant(struct dml_seats *s, uint32_t i)
{
    pthread_mutex_lock(&s->lock);
    struct dml_session *session = s->seats[i].session;
    bool done = s->seats[i].done;
    if (session)
        dml_session_ref(session);
    pthread_mutex_unlock(&s->lock);
    if (!session)
        return !done;
    bool gone = !dml_roster_has(s->o.roster, session);
    if (gone)
        vacate(s, i, session);
    dml_session_unref(session);
    return gone;
}

/* Only this thread fills seats after the start, so `id` of a vacant one is its own to read. */
static void look(struct dml_seats *s)
{
    for (uint32_t i = 0; i < s->o.n_seats; i++) {
        struct dml_roster_pick pick;
        if (is_vacant(s, i) && dml_roster_pick(s->o.roster, s->seats[i].id, is_retired, s, &pick))
            seat(s, i, &pick);
    }
}

static void *usher(void *arg)
{
    struct dml_seats *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        uint64_t at = dml_clock_now_us() + LOOK_US;
        struct timespec ts = {.tv_sec = (time_t)(at / 1000000),
                              .tv_nsec = (long)(at % 1000000) * 1000};
        (void)pthread_cond_timedwait(&s->wake, &s->lock, &ts);
        if (s->stop)
            break;
        pthread_mutex_unlock(&s->lock);
        look(s);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int dml_seats_new(const struct dml_seats_options *o, struct dml_seats **ret)
{
    _cleanup_(dml_seats_freep) struct dml_seats *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->o = *o;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    s->seats = calloc(o->n_seats, sizeof(*s->seats));
    int r = s->seats ? seat_all(s) : -ENOMEM;
    if (!r)
        r = -pthread_create(&s->thread, NULL, usher, s);
    if (r)
        return r;
    s->has_thread = true;
    *ret = s;
    s = NULL;
    return 0;
}

struct dml_seats *dml_seats_free(struct dml_seats *s)
{
    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->has_thread)
        (void)pthread_join(s->thread, NULL);
    for (uint32_t i = 0; s->seats && i < s->o.n_seats; i++)
        dml_session_unref(s->seats[i].session);
    for (size_t i = 0; i < s->n_retired; i++)
        dml_session_unref(s->retired[i]);
    free(s->retired);
    free(s->seats);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

void dml_seats_ended(struct dml_seats *s, const struct dml_session *session, int r,
                     const char *text)
{
    char id[64] = "";
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->o.n_seats; i++) {
        struct seat *place = &s->seats[i];
        if (place->session != session)
            continue;
        struct dml_session **more =
            realloc(s->retired, (s->n_retired + 1) * sizeof(struct dml_session *));
        if (more) { /* its reference moves; otherwise it stays seated, which harms nobody */
            s->retired = more;
            s->retired[s->n_retired++] = place->session;
            place->session = NULL;
            place->done = r == 0;
        }
        snprintf(id, sizeof(id), "%s", place->id);
    }
    pthread_mutex_unlock(&s->lock);
    if (!id[0] || r == 0 || r == -ECANCELED)
        return;
    char what[1024];
    snprintf(what, sizeof(what), "its part of the run failed: %s", text);
    dml_event_worker_warning(s->o.events, id, what);
}

void dml_seats_describe(void *arg, uint32_t rank, struct dml_round_worker *io_worker)
{
    struct dml_seats *s = arg;
    if (rank < 1 || rank > s->o.n_seats)
        return;
    pthread_mutex_lock(&s->lock);
    snprintf(io_worker->id, sizeof(io_worker->id), "%s", s->seats[rank - 1].id);
    pthread_mutex_unlock(&s->lock);
    struct dml_health health;
    if (dml_roster_health(s->o.roster, io_worker->id, &health)) {
        io_worker->temperature_c = health.temperature_c;
        io_worker->throttled = health.throttled;
    }
}
