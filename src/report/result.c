/*
 * The recorder turns events into results; the summary turns results into the source paper's
 * figures.
 *
 * Metrics: T total training time, W mean of the nodes' work times, O = T - W, shares of T, and
 * S = T(base)/T(case). S divides two means, so its deviation is propagated from theirs: for
 * independent a and b, sd(a/b) ≈ |a/b| sqrt((sd a / a)² + (sd b / b)²). The base case compared with
 * itself is 1 without a deviation.
 *
 * A run counts as failed from its start until its end was seen: results that are saved in between,
 * or after a crash, never show a half run as a whole one.
 */
#include "report/result.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/stat.h"
#include "report/json.h"

struct dml_results *dml_results_new(const char *name)
{
    char wall[32];
    struct dml_results *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->name = strdup(name);
    r->started = strdup(dml_clock_wall_text(wall, sizeof(wall)));
    return r->name && r->started ? r : dml_results_free(r);
}

static void run_done(struct dml_result_run *run)
{
    for (size_t i = 0; i < run->n_rounds; i++)
        free((void *)run->rounds[i].workers);
    free(run->rounds);
    free(run->error);
    *run = (struct dml_result_run){0};
}

static void case_done(struct dml_result_case *c)
{
    for (size_t i = 0; i < c->n_runs; i++)
        run_done(&c->runs[i]);
    free(c->runs);
    free(c->label);
    free(c->paradigm);
    free(c->strategy);
    free(c->model);
    free(c->dataset);
    free(c->cut);
}

struct dml_results *dml_results_free(struct dml_results *r)
{
    if (!r)
        return NULL;
    for (size_t i = 0; i < r->n_cases; i++)
        case_done(&r->cases[i]);
    free(r->cases);
    free(r->name);
    free(r->started);
    free(r);
    return NULL;
}

/* Room for one more element behind n, zeroed. NULL: out of memory, nothing changed. */
static void *grow(void **io_array, size_t n, size_t size)
{
    char *array = reallocarray(*io_array, n + 1, size);
    if (!array)
        return NULL;
    *io_array = array;
    return memset(array + n * size, 0, size);
}

struct dml_result_case *dml_results_add_case(struct dml_results *r, const char *label,
                                             const char *paradigm, const char *strategy,
                                             const char *model, const char *dataset, unsigned nodes,
                                             double cores)
{
    struct dml_result_case *c = grow((void **)&r->cases, r->n_cases, sizeof(*c));
    if (!c)
        return NULL;
    *c = (struct dml_result_case){
        .label = strdup(label ? label : ""),
        .paradigm = strdup(paradigm ? paradigm : ""),
        .strategy = strdup(strategy ? strategy : ""),
        .model = strdup(model ? model : ""),
        .dataset = strdup(dataset ? dataset : ""),
        .nodes = nodes,
        .cores = cores,
    };
    if (!c->label || !c->paradigm || !c->strategy || !c->model || !c->dataset) {
        case_done(c);
        return NULL;
    }
    r->n_cases++;
    return c;
}

struct dml_result_run *dml_results_add_run(struct dml_result_case *c, unsigned repeat)
{
    struct dml_result_run *run = grow((void **)&c->runs, c->n_runs, sizeof(*run));
    if (run) {
        run->repeat = repeat;
        c->n_runs++;
    }
    return run;
}

int dml_results_add_round(struct dml_result_run *run, const struct dml_round *round)
{
    struct dml_round_worker *workers = NULL;
    if (round->workers && round->n_participants > 0) {
        workers = calloc(round->n_participants, sizeof(*workers));
        if (!workers)
            return -ENOMEM;
        memcpy(workers, round->workers, round->n_participants * sizeof(*workers));
    }
    struct dml_round *copy = grow((void **)&run->rounds, run->n_rounds, sizeof(*copy));
    if (!copy) {
        free(workers);
        return -ENOMEM;
    }
    *copy = *round;
    copy->workers = workers;
    copy->strategy = copy->paradigm = NULL;
    run->n_rounds++;
    return 0;
}

static struct dml_result_case *case_of(struct dml_results *r, const struct dml_event_run *run)
{
    for (size_t i = 0; i < r->n_cases; i++)
        if (!strcmp(r->cases[i].label, run->label ? run->label : ""))
            return &r->cases[i];
    return dml_results_add_case(r, run->label, run->paradigm, run->strategy, run->model,
                                run->dataset, run->nodes, run->cores);
}

static void fail(struct dml_result_run *run, const char *why)
{
    free(run->error);
    run->error = strdup(why);
    run->failed = true;
}

static struct dml_result_run *run_of(struct dml_results *r, const struct dml_event_run *run)
{
    struct dml_result_case *c = case_of(r, run);
    for (size_t i = 0; c && i < c->n_runs; i++)
        if (c->runs[i].repeat == run->i_repeat)
            return &c->runs[i];
    struct dml_result_run *added = c ? dml_results_add_run(c, run->i_repeat) : NULL;
    if (added)
        fail(added, "the run did not end");
    return added;
}

/* The reason is only in the record: the listener's structs have no place for it. */
static void fail_with_record(struct dml_result_run *run, const char *json)
{
    char why[1100] = "";
    _cleanup_(dml_json_unrefp) json_t *record = NULL;
    if (!dml_json_parse(json, strlen(json), "record", &record, NULL))
        dml_json_get_text(record, "DML_ERROR", why, sizeof(why));
    fail(run, why[0] ? why : "no reason was recorded");
}

/* Where the model of a case is cut. Only the record says it. */
static void take_cut(struct dml_results *r, const struct dml_event_run *run, const char *json)
{
    char cut[2048];
    _cleanup_(dml_json_unrefp) json_t *record = NULL;
    struct dml_result_case *c = case_of(r, run);
    if (!c || dml_json_parse(json, strlen(json), "record", &record, NULL) < 0)
        return;
    dml_json_get_text(record, "DML_CUT", cut, sizeof(cut));
    free(c->cut);
    c->cut = strdup(cut);
}

void dml_results_listen(void *arg, enum dml_event_kind kind, const char *json,
                        const struct dml_event_run *event_run, const struct dml_round *round,
                        const struct dml_run_totals *totals)
{
    struct dml_results *r = arg;
    if (event_run && kind == DML_EVENT_CUT)
        take_cut(r, event_run, json);
    if (!event_run || (kind != DML_EVENT_RUN_STARTED && kind != DML_EVENT_ROUND &&
                       kind != DML_EVENT_RUN_ENDED && kind != DML_EVENT_RUN_FAILED))
        return;
    struct dml_result_run *run = run_of(r, event_run);
    if (!run)
        return; /* out of memory: the journal still has it */
    if (kind == DML_EVENT_RUN_STARTED) {
        /* Tried again after a failure: the first attempt does not count. */
        run_done(run);
        run->repeat = event_run->i_repeat;
        fail(run, "the run did not end");
    } else if (kind == DML_EVENT_ROUND && round) {
        (void)dml_results_add_round(run, round);
    } else if (kind == DML_EVENT_RUN_ENDED && totals) {
        run->totals = *totals;
        run->failed = false;
        free(run->error);
        run->error = NULL;
    } else if (kind == DML_EVENT_RUN_FAILED) {
        fail_with_record(run, json);
    }
}

/* One figure of one run, in the units of the summary. */
enum figure { T, W, O, W_SHARE, O_SHARE, ACCURACY, LOSS };

static double figure(const struct dml_run_totals *t, enum figure f)
{
    switch (f) {
    case T:
        return (double)t->t_us / 1e6;
    case W:
        return (double)t->work_us / 1e6;
    case O:
        return (double)t->overhead_us / 1e6;
    case W_SHARE:
        return t->t_us ? (double)t->work_us / (double)t->t_us : NAN;
    case O_SHARE:
        return t->t_us ? (double)t->overhead_us / (double)t->t_us : NAN;
    case ACCURACY:
        return t->accuracy;
    case LOSS:
        return t->loss;
    }
    return NAN;
}

/* x: room for n_runs. NAN when no run counts. */
static void mean_sd(const struct dml_result_case *c, enum figure f, double *x, double *ret_mean,
                    double *ret_sd)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_runs; i++)
        if (!c->runs[i].failed)
            x[n++] = figure(&c->runs[i].totals, f);
    *ret_mean = n > 0 ? dml_stat_mean(x, n) : NAN;
    *ret_sd = n > 0 ? dml_stat_sd(x, n) : NAN;
}

static void summarise(const struct dml_result_case *c, struct dml_result_summary *s)
{
    _cleanup_(dml_mem_freep) double *x = calloc(c->n_runs ? c->n_runs : 1, sizeof(*x));
    *s = (struct dml_result_summary){.speedup = NAN, .speedup_sd = NAN};
    for (size_t i = 0; i < c->n_runs; i++)
        c->runs[i].failed ? s->n_failed++ : s->n_runs++;
    if (!x) /* some bytes: then the machine has other worries */
        return;
    mean_sd(c, T, x, &s->t_s, &s->t_s_sd);
    mean_sd(c, W, x, &s->w_s, &s->w_s_sd);
    mean_sd(c, O, x, &s->o_s, &s->o_s_sd);
    mean_sd(c, W_SHARE, x, &s->w_share, &s->w_share_sd);
    mean_sd(c, O_SHARE, x, &s->o_share, &s->o_share_sd);
    mean_sd(c, ACCURACY, x, &s->accuracy, &s->accuracy_sd);
    mean_sd(c, LOSS, x, &s->loss, &s->loss_sd);
}

void dml_results_summary(const struct dml_results *r, size_t i_case, struct dml_result_summary *ret)
{
    summarise(&r->cases[i_case], ret);
    if (ret->n_runs == 0 || !(ret->t_s > 0.0))
        return;
    if (i_case == 0) {
        ret->speedup = 1.0;
        ret->speedup_sd = 0.0;
        return;
    }
    struct dml_result_summary base;
    summarise(&r->cases[0], &base);
    if (base.n_runs == 0)
        return;
    ret->speedup = base.t_s / ret->t_s;
    ret->speedup_sd =
        base.t_s > 0.0 ? ret->speedup * hypot(base.t_s_sd / base.t_s, ret->t_s_sd / ret->t_s) : 0.0;
}

/* The text all cases have in that place, or NULL. */
static const char *shared(const struct dml_results *r, size_t offset)
{
    const char *first = NULL;
    for (size_t i = 0; i < r->n_cases; i++) {
        const char *text = *(char *const *)(const void *)((const char *)&r->cases[i] + offset);
        if (i > 0 && strcmp(first, text))
            return NULL;
        first = text;
    }
    return first && *first ? first : NULL;
}

void dml_results_shared(const struct dml_results *r, char *buf, size_t buf_len)
{
    const char *model = shared(r, offsetof(struct dml_result_case, model));
    const char *dataset = shared(r, offsetof(struct dml_result_case, dataset));
    const char *paradigm = shared(r, offsetof(struct dml_result_case, paradigm));
    const char *strategy = shared(r, offsetof(struct dml_result_case, strategy));
    bool both = model && dataset, more = both && (paradigm || strategy);
    (void)snprintf(buf, buf_len, "%s%s%s%s%s%s%s", both ? model : "", both ? " on " : "",
                   both ? dataset : "", more ? ", " : "", paradigm ? paradigm : "",
                   paradigm && strategy ? ", " : "", strategy ? strategy : "");
}
