/*
 * Measuring takes shares, not seconds: how the pieces of a model compare differs less from machine
 * to machine than how long they take (a MobileNetV2 with vectors of 4 and of 8 floats: times by a
 * factor of 2.4, no piece's share by more than 3 % of the whole), so rank 0 may speak for its
 * workers. Were one of them to measure, its loss would have to be waited out before anything begins.
 */
#include "cuts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "conf/parallel.h"
#include "nn/bench_cuts.h"
#include "nn/model.h"
#include "nn/model_cut.h"
#include "paradigm/layout.h"

/* What a run that takes minutes does not notice. */
#define MEASURE_S 0.5

void dml_cuts_done(struct dml_cuts *c)
{
    free(c->us);
    free(c->model);
    *c = (struct dml_cuts){0};
}

static int measure(struct dml_cuts *c, const struct dml_testcase *tc, const struct dml_model *model,
                   const atomic_bool *cancel, struct dml_err *err)
{
    uint64_t micro = tc->parallel.micro_batches;
    size_t batch = (size_t)((tc->train.batch_size + micro - 1) / micro);
    const char *text = dml_model_text(model);
    bool recompute = tc->train.recompute != DML_RECOMPUTE_OFF;
    if (c->model && c->batch == batch && c->recompute == recompute && !strcmp(c->model, text))
        return 0;
    dml_cuts_done(c);
    uint64_t began = dml_clock_now_us();
    size_t n = dml_model_n_cuts(model);
    double *us = dml_mem_array(n, sizeof(*us));
    int r = us ? dml_bench_cuts(model, batch, recompute, MEASURE_S, cancel, us, err) : -ENOMEM;
    char *copy = r == 0 ? strdup(text) : NULL;
    if (!copy) {
        free(us);
        if (r == -ECANCELED)
            return dml_err_set(err, r, "stopped");
        if (r < 0 && r != -ENOMEM)
            return r;
        return dml_err_set(err, -ENOMEM,
                           "there is no memory here to measure what the layers of model %s cost: "
                           "write cut = estimated",
                           dml_model_name(model));
    }
    *c = (struct dml_cuts){.us = us,
                           .model = copy,
                           .n = n,
                           .batch = batch,
                           .recompute = recompute,
                           .took_us = dml_clock_now_us() - began};
    return 0;
}

/* "1-3,7-9": the runs of a node, from the words of all runs. Returns 0 or -ENOMEM. Caller frees. */
static int node_layers(const struct dml_layout *l, unsigned stage, const char *words, char **ret)
{
    char *text = NULL;
    size_t len, i = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    for (const char *p = words; *p; p += strspn(p, " "), i++) {
        size_t word = strcspn(p, " ");
        if (i % l->n_stages == stage)
            fprintf(f, "%s%.*s", i >= l->n_stages ? "," : "", (int)word, p);
        p += word;
    }
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        free(text);
        return -ENOMEM;
    }
    *ret = text;
    return 0;
}

static int tell(const struct dml_layout *l, const struct dml_model *model, const char *cut,
                const char *by, uint64_t took_us, struct dml_events *events,
                const struct dml_event_run *run)
{
    _cleanup_(dml_mem_freep) char *words = NULL;
    _cleanup_(dml_mem_freep) struct dml_event_stage *stages =
        calloc(l->n_stages, sizeof(*stages));
    int r = stages ? dml_cut_print(l->cut, model, &words) : -ENOMEM;
    for (unsigned i = 0; r == 0 && i < l->n_stages; i++) {
        for (size_t k = i; k < l->n_runs; k += l->n_stages)
            stages[i].share += l->cut->share[k];
        r = node_layers(l, i, words, &stages[i].layers);
    }
    if (r == 0)
        dml_event_cut(events, run,
                      &(struct dml_event_cut){.layers = cut,
                                              .by = by,
                                              .took_us = took_us,
                                              .stages = stages,
                                              .n_stages = l->n_stages});
    for (unsigned i = 0; stages && i < l->n_stages; i++)
        free(stages[i].layers);
    return r;
}

int dml_cuts_settle(struct dml_cuts *c, const struct dml_testcase *tc,
                    const struct dml_model *model, const atomic_bool *cancel,
                    struct dml_events *events, const struct dml_event_run *run, char **ret_cut,
                    struct dml_err *err)
{
    _cleanup_(dml_layout_freep) struct dml_layout *l = NULL;
    _cleanup_(dml_mem_freep) char *cut = NULL;
    *ret_cut = NULL;
    if (!dml_parallel_uses(tc->parallel.paradigm, "parallel", "cut"))
        return 0;
    bool measures = dml_parallel_measures(tc);
    int r = measures ? measure(c, tc, model, cancel, err) : 0;
    if (r == 0)
        r = measures ? dml_layout_make_measured(tc, model, c->us, &l, err)
                     : dml_layout_make(tc, model, (unsigned)tc->testcase.nodes, &l, err);
    if (r == 0)
        r = dml_cut_print_key(l->cut, model, &cut);
    const char *by = measures                      ? "measured"
                     : dml_parallel_cut_layers(tc) ? "given"
                                                   : "estimated";
    if (r == 0 && run->i_repeat == 0)
        r = tell(l, model, cut, by, measures ? c->took_us : 0, events, run);
    if (r < 0)
        return r;
    *ret_cut = cut;
    cut = NULL;
    return 0;
}
