/*
 * The time that is left is the rounds that are left, over all cases and repeats, times the mean
 * time of a round so far. It takes cases to be alike, which they are not (that is what a matrix is
 * for), so it is a guess for people, and there is none before the first round.
 */
#include "master/progress.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

struct dml_progress {
    pthread_mutex_t lock;
    struct dml_status status; /* elapsed_s, remaining_s and, idle, workers: see get() */
    uint64_t begin_us;        /* of the test case */
    uint64_t run_begin_us;    /* of the current run, 0 between runs */
    uint64_t training_us;     /* in the runs before */
    uint64_t n_rounds_done;   /* over all runs */
};

struct dml_progress *dml_progress_new(void)
{
    struct dml_progress *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    dml_status_init(&p->status);
    return p;
}

struct dml_progress *dml_progress_free(struct dml_progress *p)
{
    if (p)
        pthread_mutex_destroy(&p->lock);
    free(p);
    return NULL;
}

static void end_run(struct dml_progress *p)
{
    if (p->run_begin_us)
        p->training_us += dml_clock_now_us() - p->run_begin_us;
    p->run_begin_us = 0;
}

static void take_run(struct dml_progress *p, const struct dml_event_run *run)
{
    struct dml_status *s = &p->status;
    snprintf(s->testcase, sizeof(s->testcase), "%s", run->testcase);
    snprintf(s->label, sizeof(s->label), "%s", run->label ? run->label : "");
    s->i_case = run->i_case;
    s->n_cases = run->n_cases;
    s->i_repeat = run->i_repeat;
    s->n_repeats = run->n_repeats;
    s->nodes = run->nodes;
    s->n_rounds = run->n_rounds;
    s->round = 0;
    s->loss = s->accuracy = NAN;
}

static void take(struct dml_progress *p, enum dml_event_kind kind, const struct dml_event_run *run,
                 const struct dml_round *round, const struct dml_run_totals *totals)
{
    struct dml_status *s = &p->status;
    switch (kind) {
    case DML_EVENT_CASE_STARTED:
        take_run(p, run);
        s->state = DML_STATUS_WAITING;
        if (!p->begin_us)
            p->begin_us = dml_clock_now_us();
        break;
    case DML_EVENT_RUN_STARTED:
        take_run(p, run);
        s->state = DML_STATUS_RUNNING;
        s->workers = run->nodes;
        p->run_begin_us = dml_clock_now_us();
        break;
    case DML_EVENT_ROUND:
        s->round = round->round;
        s->workers = round->n_participants;
        s->loss = round->loss;
        if (round->evaluated)
            s->accuracy = round->accuracy;
        p->n_rounds_done++;
        break;
    case DML_EVENT_RUN_ENDED:
        s->loss = totals->loss;
        s->accuracy = totals->accuracy;
        end_run(p);
        break;
    case DML_EVENT_RUN_FAILED:
        end_run(p);
        break;
    default:
        break;
    }
}

void dml_progress_listen(void *arg, enum dml_event_kind kind, const char *json,
                         const struct dml_event_run *run, const struct dml_round *round,
                         const struct dml_run_totals *totals)
{
    struct dml_progress *p = arg;
    (void)json;
    pthread_mutex_lock(&p->lock);
    take(p, kind, run, round, totals);
    pthread_mutex_unlock(&p->lock);
}

void dml_progress_idle(struct dml_progress *p, const char *results)
{
    char last[sizeof(p->status.results)];
    pthread_mutex_lock(&p->lock);
    snprintf(last, sizeof(last), "%s", results ? results : p->status.results);
    dml_status_init(&p->status);
    snprintf(p->status.results, sizeof(p->status.results), "%s", last);
    p->begin_us = p->run_begin_us = p->training_us = p->n_rounds_done = 0;
    pthread_mutex_unlock(&p->lock);
}

static double remaining_s(const struct dml_progress *p, uint64_t now)
{
    const struct dml_status *s = &p->status;
    if (!p->n_rounds_done)
        return NAN;
    uint64_t runs = (uint64_t)s->n_cases * s->n_repeats;
    uint64_t run = (uint64_t)s->i_case * s->n_repeats + s->i_repeat + 1;
    uint64_t rounds = s->n_rounds - (s->round < s->n_rounds ? s->round : s->n_rounds) +
                      (runs > run ? runs - run : 0) * s->n_rounds;
    uint64_t spent = p->training_us + (p->run_begin_us ? now - p->run_begin_us : 0);
    return (double)rounds * (double)spent / (double)p->n_rounds_done / 1e6;
}

void dml_progress_get(struct dml_progress *p, unsigned n_workers, struct dml_status *ret)
{
    uint64_t now = dml_clock_now_us();
    pthread_mutex_lock(&p->lock);
    *ret = p->status;
    if (p->begin_us) {
        ret->elapsed_s = (double)(now - p->begin_us) / 1e6;
        ret->remaining_s = remaining_s(p, now);
    }
    pthread_mutex_unlock(&p->lock);
    if (ret->state != DML_STATUS_RUNNING)
        ret->workers = n_workers;
}

static void print_left(double s, char *buf, size_t buf_len)
{
    if (!isfinite(s))
        buf[0] = '\0';
    else if (s < 90.0)
        snprintf(buf, buf_len, ", %.0f s left", s);
    else if (s < 5400.0)
        snprintf(buf, buf_len, ", %.0f min left", s / 60.0);
    else
        snprintf(buf, buf_len, ", %.1f h left", s / 3600.0);
}

const char *dml_progress_text(const struct dml_status *s, char *buf, size_t buf_len)
{
    const char *plural = s->workers == 1 ? "" : "s";
    char left[64], where[96] = "";
    print_left(s->remaining_s, left, sizeof(left));
    if (s->n_cases > 1 || s->n_repeats > 1)
        snprintf(where, sizeof(where), "case %u/%u, run %u/%u, ", s->i_case + 1, s->n_cases,
                 s->i_repeat + 1, s->n_repeats);
    switch (s->state) {
    case DML_STATUS_WAITING:
        snprintf(buf, buf_len, "%s: waiting for workers, %u of %u here", s->testcase, s->workers,
                 s->nodes);
        break;
    case DML_STATUS_RUNNING:
        snprintf(buf, buf_len, "%s: %sround %llu/%llu, %u worker%s%s", s->testcase, where,
                 (unsigned long long)s->round, (unsigned long long)s->n_rounds, s->workers, plural,
                 left);
        break;
    default:
        snprintf(buf, buf_len, "idle, %u worker%s", s->workers, plural);
    }
    return buf;
}
