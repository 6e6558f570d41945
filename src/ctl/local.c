/*
 * The master's part without a master: walk the matrix, run each case with its workers as threads
 * (run.c), record the events, save the results after every run. What takes part is the same code
 * as on a cluster; only the messages do not leave the process.
 *
 * Everything that can be known before the first run is checked before it: an experiment that takes
 * hours should not end with a mistake in its last case.
 */
#include "ctl/local.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "conf/fit.h"
#include "cuts.h"
#include "matrix.h"
#include "paradigm/plan.h"
#include "run.h"

struct local {
    const struct dml_local_options *o;
    struct dml_run_env env;
    struct dml_cuts cuts;
    struct dml_results *results;
    const char *dir;
    uint64_t run_id;
    char *path;
    int saved; /* 0 or the errno of saving */
    struct dml_err *err;
};

static void show(void *arg, enum dml_event_kind kind, const char *json,
                 const struct dml_event_run *run, const struct dml_round *round,
                 const struct dml_run_totals *totals)
{
    (void)kind, (void)run, (void)round, (void)totals;
    dml_display_record(arg, json);
}

static int check(const struct dml_local_options *o, const struct dml_testcases *cases,
                 const char *const *model_dirs, struct dml_err *err)
{
    for (size_t i = 0; i < cases->n_cases; i++) {
        const struct dml_testcase *tc = &cases->cases[i];
        _cleanup_(dml_model_freep) struct dml_model *model = NULL;
        struct dml_plan plan;
        if (tc->testcase.nodes > o->workers)
            return dml_err_at(err, -EINVAL, o->file, 0,
                              "case %s wants %llu workers, --local gives %u", tc->label,
                              (unsigned long long)tc->testcase.nodes, o->workers);
        int r = dml_fit_model(tc, model_dirs, &model, err);
        if (r >= 0)
            r = dml_plan_make(tc, model, 0, &plan, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* DIR/NAME-LABEL-rREPEAT.dmlmodel, without letters that a shell would ask about. */
static char *model_path(const struct local *l, const struct dml_event_run *event)
{
    char what[160];
    if (l->o->save)
        return strdup(l->o->save);
    (void)snprintf(what, sizeof(what), "%s-r%u", event->label, event->i_repeat + 1);
    for (char *p = what; *p; p++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-", *p))
            *p = '-';
    return dml_results_path(l->results, l->dir, what, "dmlmodel");
}

static void save(struct local *l)
{
    char *path = NULL;
    l->saved = dml_results_save(l->results, l->dir, &path, l->err);
    if (l->saved >= 0) {
        free(l->path);
        l->path = path;
    }
}

static int settle(struct local *l, const struct dml_testcase *tc, const struct dml_event_run *event,
                  char **ret_cut, struct dml_err *err)
{
    _cleanup_(dml_model_freep) struct dml_model *model = NULL;
    int r = dml_fit_model(tc, l->env.model_dirs, &model, err);
    return r < 0 ? r
                 : dml_cuts_settle(&l->cuts, tc, model, l->o->cancel, l->env.events, event, ret_cut,
                                   err);
}

/* A dml_matrix_fn. A run that failed is a row of the results; only Ctrl-C and a full disk end the
 * walk. */
static int run_one(void *arg, const struct dml_testcase *tc, const struct dml_event_run *given)
{
    struct local *l = arg;
    const struct dml_paradigm *paradigm = dml_paradigm_get(tc->parallel.paradigm);
    struct dml_err err = {0};
    struct dml_testcase settled = *tc;
    struct dml_run_args args = {.tc = &settled, .cancel = l->o->cancel, .event = *given};
    if (atomic_load(l->o->cancel))
        return -ECANCELED;
    args.event.run_id = ++l->run_id;
    args.event.paradigm = paradigm->name;
    args.event.strategy = tc->strategy;
    args.event.model = tc->model.name;
    args.event.dataset = tc->data.dataset;
    args.event.n_rounds = tc->train.rounds;
    if (given->i_repeat == 0)
        dml_event_case_started(l->env.events, &args.event, l->o->workers);
    _cleanup_(dml_mem_freep) char *path = model_path(l, given);
    args.checkpoint_path = path;
    _cleanup_(dml_mem_freep) char *cut = NULL;
    int r = settle(l, tc, &args.event, &cut, &err);
    if (cut)
        settled.parallel.cut = cut;
    if (r < 0)
        dml_event_run_failed(l->env.events, &args.event, r, &err);
    else
        (void)dml_run_local(&l->env, &args, NULL, &err);
    save(l);
    if (atomic_load(l->o->cancel))
        return -ECANCELED;
    return l->saved;
}

int dml_local_run(const struct dml_local_options *o, struct dml_results **io_results,
                  char **io_path, struct dml_err *err)
{
    const char *const model_dirs[] = {o->model_dir, NULL};
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    int r = dml_testcase_load(o->file, o->plugin_dir, &cases, err);
    if (r >= 0)
        r = check(o, cases, model_dirs, err);
    if (r < 0)
        return r;
    _cleanup_(dml_mem_freep) char *dir =
        o->results_dir ? strdup(o->results_dir)
                       : dml_mem_printf("./results-%s", cases->cases[0].testcase.name);
    _cleanup_(dml_events_freep) struct dml_events *events = dml_events_new();
    struct local l = {
        .o = o,
        .env = {.model_dirs = model_dirs,
                .plugin_dir = o->plugin_dir,
                .affinity = true,
                .events = events},
        .results = dml_results_new(cases->cases[0].testcase.name),
        .dir = dir,
        .err = err,
    };
    *io_results = l.results;
    if (!dir || !events || !l.results)
        return -ENOMEM;
    r = dml_results_prepare(dir, err);
    if (r >= 0)
        r = dml_events_listen(events, dml_results_listen, l.results);
    if (r >= 0)
        r = dml_events_listen(events, show, o->display);
    if (r >= 0)
        r = dml_matrix_walk(cases, run_one, &l);
    dml_run_env_done(&l.env);
    dml_cuts_done(&l.cuts);
    *io_path = l.path;
    return r;
}
