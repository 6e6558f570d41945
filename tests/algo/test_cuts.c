/*
 * Where a model is cut changes times and memory, and no bit: so a cut may be chosen by measuring,
 * and a run repeats wherever it is repeated.
 */
#include <errno.h>
#include <string.h>

#include "cuts.h"
#include "lab.h"
#include "nn/model_cut.h"
#include "paradigm/plan.h"
#include "tests/tap.h"

#define DATA                                                                                       \
    "[data]\ndataset = synth-images\nsynth-samples = 70\nsynth-features = 768\n"                   \
    "synth-classes = 5\n[train]\nrounds = 1\nbatch-size = 32\noptimizer = adam\n"                  \
    "learning-rate = 0.002\n"

/* Enough work for two threads in all, but not in each piece; statistics that meet and dropout. */
static const struct {
    const char *name, *text;
} models[] = {
    {"a CNN", "name cnn\ninput 3 16 16\nconv 16 kernel 5\nrelu\nmax-pool 2\nconv 24 kernel 3\nrelu\n"
              "linear 40\nrelu\ndropout 0.2\nlinear 20\ntanh\nlinear 5\n"},
    {"batch-norm",
     "name norms\ninput 3 16 16\nconv 16 kernel 3 stride 2 padding 1 bias no\nbatch-norm\nrelu6\n"
     "repeat 2\nresidual\nconv 48 kernel 1 bias no\nbatch-norm\nrelu6\nconv 48 kernel 3 padding 1 "
     "groups 48 bias no\nbatch-norm\nrelu6\nconv 16 kernel 1 bias no\nbatch-norm\nend\nend\n"
     "global-avg-pool\ndropout 0.2\nlinear 5\n"},
};

static const struct {
    const char *name, *keys;
} ways[] = {
    {"one thread", "nodes = 2\ncores = 2\n"},
    {"two threads", "nodes = 2\ncores = 4\n"},
    {"strictly", "nodes = 2\ncores = 2\n[train]\ndeterministic = strict\n"},
};

static void init(struct lab *lab, const char *model, const char *keys, const char *parallel)
{
    _cleanup_(dml_mem_freep) char *text =
        dml_mem_printf(DATA "[testcase]\n%s[parallel]\nparadigm = pipeline\nmicro-batches = 3\n%s",
                       keys, parallel);
    lab_init_model(lab, model, text);
}

static void test_bits(const char *name, const char *model, const char *way, const char *keys)
{
    struct lab first;
    init(&first, model, keys, "");
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(&first);
    size_t n = dml_model_n_cuts(m), n_vec = dml_model_n_vec(m), differ = 0;
    int r = lab_run(&first);
    if (r < 0 && strstr(first.err.text, "cores")) {
        tap_skip("two threads per worker need two cores: %s", first.err.text);
        lab_done(&first);
        return;
    }
    tap_int(r, 0, "a pipeline of two");
    unsigned tried = 0;
    for (size_t at = 1; r == 0 && at < n; at++) {
        struct lab lab;
        char cut[40];
        snprintf(cut, sizeof(cut), "cut = %u\n", dml_model_cut_layer(m, at));
        init(&lab, model, keys, cut);
        r = lab_run(&lab);
        size_t d = r == 0 ? lab_differs(lab.trained->vec, first.trained->vec, n_vec) : 0;
        if (d > 0)
            tap_note("cut before layer %u: %zu of %zu floats differ", dml_model_cut_layer(m, at), d,
                     n_vec);
        differ += d;
        tried++;
        lab_done(&lab);
    }
    tap_int(r, 0, "and cut anywhere else");
    tap_int((long long)tried, (long long)n - 1, "in every place");
    char what[120];
    snprintf(what, sizeof(what), "%s, %s: comes to the same bits", name, way);
    tap_int((long long)differ, 0, what);
    lab_done(&first);
}

/* ---- who says where ------------------------------------------------------------------------ */

struct seen {
    unsigned n;
    char by[20], cut[200], layers[200];
};

static void text_of(const char *json, const char *key, char *ret, size_t ret_len)
{
    char pattern[60];
    snprintf(pattern, sizeof(pattern), "\"%s\":\"", key);
    const char *at = strstr(json, pattern);
    at = at ? at + strlen(pattern) : "";
    snprintf(ret, ret_len, "%.*s", (int)strcspn(at, "\""), at);
}

static void look(void *arg, enum dml_event_kind kind, const char *json,
                 const struct dml_event_run *run, const struct dml_round *round,
                 const struct dml_run_totals *totals)
{
    struct seen *seen = arg;
    (void)run, (void)round, (void)totals;
    if (kind != DML_EVENT_CUT)
        return;
    seen->n++;
    text_of(json, "DML_CUT_BY", seen->by, sizeof(seen->by));
    text_of(json, "DML_CUT", seen->cut, sizeof(seen->cut));
    text_of(json, "DML_STAGE_LAYERS", seen->layers, sizeof(seen->layers));
}

/* The cut of the lab's case, settled as its driver does; NULL: none, or err says why. */
static char *settle(struct dml_cuts *cuts, struct lab *lab, unsigned i_repeat, struct seen *seen)
{
    const struct dml_testcase *tc = &lab->cases->cases[0];
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(lab);
    _cleanup_(dml_events_freep) struct dml_events *events = dml_events_new();
    struct dml_event_run run = {.testcase = "lab", .label = tc->label, .i_repeat = i_repeat};
    char *cut = NULL;
    lab->err = (struct dml_err){0};
    if (!events || dml_events_listen(events, look, seen) < 0)
        return NULL;
    int r = dml_cuts_settle(cuts, tc, m, NULL, events, &run, &cut, &lab->err);
    if (r < 0)
        tap_note("%s", lab->err.text);
    return cut;
}

static void test_settled(void)
{
    struct dml_cuts cuts = {0};
    struct seen seen = {0};
    struct lab lab;
    init(&lab, models[0].text, ways[0].keys, "");
    _cleanup_(dml_mem_freep) char *first = settle(&cuts, &lab, 0, &seen);
    tap_int(seen.n, 1, "who gets which layers is told");
    tap_str(seen.by, "measured", "that it was measured");
    tap_str(first, seen.cut, "and where it is cut");
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(&lab);
    tap_int((long long)cuts.n, (long long)dml_model_n_cuts(m), "piece by piece");
    tap_int((long long)cuts.batch, 11, "in micro-batches as the run has them: 32 in 3");
    const double *us = cuts.us;
    _cleanup_(dml_mem_freep) char *second = settle(&cuts, &lab, 1, &seen);
    tap_str(second, first, "a repeat is cut alike");
    tap_ok(cuts.us == us, "because it is not measured again");
    tap_int(seen.n, 1, "nor told again");
    tap_ok(!cuts.recompute, "forward counts once");
    lab_done(&lab);

    struct seen again = {0};
    init(&lab, models[0].text, ways[0].keys, "[train]\nrecompute = blocks\n");
    _cleanup_(dml_mem_freep) char *twice = settle(&cuts, &lab, 0, &again);
    tap_str(again.by, "measured", "with recompute it is measured anew");
    tap_ok(twice && cuts.recompute, "forward counts twice");
    lab_done(&lab);

    char keys[240];
    snprintf(keys, sizeof(keys), "cut = %s\n", first ? first : "");
    init(&lab, models[0].text, ways[0].keys, keys);
    _cleanup_(dml_mem_freep) char *given = settle(&cuts, &lab, 0, &seen);
    tap_str(given, first, "what was told, as the key, cuts there");
    tap_str(seen.by, "given", "and is told to be given");
    lab_done(&lab);

    init(&lab, models[0].text, ways[0].keys, "cut = estimated\n");
    _cleanup_(dml_mem_freep) char *a = settle(&cuts, &lab, 0, &seen);
    _cleanup_(dml_mem_freep) char *b = settle(&cuts, &lab, 0, &seen);
    tap_str(seen.by, "estimated", "it need not be measured");
    tap_ok(a && b && !strcmp(a, b), "an estimate is always the same: %s", a ? a : "none");
    lab_done(&lab);

    lab_init(&lab, "[parallel]\nparadigm = allreduce\n");
    seen.n = 0;
    tap_ok(!settle(&cuts, &lab, 0, &seen) && !lab.err.text[0] && seen.n == 0,
           "a paradigm that cuts nothing is left alone");
    lab_done(&lab);
    dml_cuts_done(&cuts);
}

/* Three replicas add up in an order that depends on the cut: strictly, nothing is measured then. */
static void test_strict(void)
{
    static const char keys[] = "[testcase]\nnodes = 6\ncores = 6\n[parallel]\nparadigm = hybrid\n"
                               "replicas = 3\n";
    struct dml_cuts cuts = {0};
    struct seen seen = {0};
    struct lab lab;
    lab_init(&lab, keys);
    free(settle(&cuts, &lab, 0, &seen));
    tap_str(seen.by, "measured", "three replicas");
    lab_done(&lab);
    _cleanup_(dml_mem_freep) char *strict =
        dml_mem_printf("%s[train]\ndeterministic = strict\n", keys);
    lab_init(&lab, strict);
    free(settle(&cuts, &lab, 0, &seen));
    tap_str(seen.by, "estimated", "strictly");
    lab_done(&lab);
    dml_cuts_done(&cuts);
}

/* ---- memory -------------------------------------------------------------------------------- */

/* Many parameters at the end, much to compute at the beginning. */
static const char lopsided[] = "name lopsided\ninput 3 16 16\nconv 24 kernel 5\nrelu\n"
                               "conv 24 kernel 5\nrelu\nconv 16 kernel 5\nrelu\nlinear 1000\ntanh\n"
                               "linear 500\ntanh\nlinear 200\ntanh\nlinear 5\n";

/* MiB of the largest stage. */
static double largest(struct lab *lab, int *ret_r)
{
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(lab);
    struct dml_plan plan = {0};
    lab->err = (struct dml_err){0};
    *ret_r = dml_plan_make(&lab->cases->cases[0], m, 0, &plan, &lab->err);
    return (double)plan.worker_bytes / 1048576.0;
}

static void test_memory(const char *name, const char *keys)
{
    struct dml_cuts cuts = {0};
    struct seen seen = {0};
    struct lab lab;
    char text[400], what[120], limit[60];
    int r;
    snprintf(text, sizeof(text), DATA "[testcase]\n%scut = estimated\n", keys);
    lab_init_model(&lab, lopsided, text);
    double most = largest(&lab, &r);
    snprintf(what, sizeof(what), "%s: without a limit", name);
    tap_int(r, 0, what);
    _cleanup_(dml_mem_freep) char *freely = settle(&cuts, &lab, 0, &seen);
    lab_done(&lab);

    unsigned kib = (unsigned)(most * 1024.0) - 1;
    snprintf(text, sizeof(text), DATA "[testcase]\n%scut = estimated\nnode-memory = %u KiB\n", keys,
             kib);
    lab_init_model(&lab, lopsided, text);
    double less = largest(&lab, &r);
    snprintf(what, sizeof(what), "%s: a little less than its %.2f MiB", name, most);
    if (!tap_int(r, 0, what))
        tap_note("%s", lab.err.text);
    tap_ok(less > 0.0 && less < most, "makes the largest stage need %.2f MiB", less);
    _cleanup_(dml_mem_freep) char *bound = settle(&cuts, &lab, 0, &seen);
    tap_ok(freely && bound && strcmp(freely, bound), "by another cut: %s, not %s",
           bound ? bound : "none", freely ? freely : "none");
    tap_int(lab_run(&lab), 0, "which trains");
    lab_done(&lab);

    snprintf(text, sizeof(text), DATA "[testcase]\n%snode-memory = 600 KiB\n", keys);
    lab_init_model(&lab, lopsided, text);
    (void)largest(&lab, &r);
    tap_int(r, -ENOMEM, "what is too little for any cut is refused by the plan");
    tap_has(lab.err.text, "the largest stage needs ", "which says what is needed");
    tap_has(lab.err.text, "parallel.node-memory allows 0.6 MiB", "and what is allowed");
    tap_ok(!settle(&cuts, &lab, 0, &seen) && strstr(lab.err.text, "node-memory"),
           "and so it is when it is measured");
    tap_int(lab_run(&lab), -ENOMEM, "and by the run");
    lab_done(&lab);

    snprintf(limit, sizeof(limit), "cut = %s\nnode-memory = %u KiB\n", freely ? freely : "", kib);
    snprintf(text, sizeof(text), DATA "[testcase]\n%s%s", keys, limit);
    lab_init_model(&lab, lopsided, text);
    (void)largest(&lab, &r);
    tap_int(r, -ENOMEM, "a cut by hand is held to it too");
    tap_has(lab.err.text, "parallel.cut: stage ", "the stage is named");
    lab_done(&lab);
    dml_cuts_done(&cuts);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(models); i++)
        for (size_t k = 0; k < ARRAY_SIZE(ways); k++)
            test_bits(models[i].name, models[i].text, ways[k].name, ways[k].keys);
    test_settled();
    test_strict();
    test_memory("pipeline", "nodes = 3\ncores = 3\n[parallel]\nparadigm = pipeline\n");
    test_memory("hybrid", "nodes = 4\ncores = 4\n[parallel]\nparadigm = hybrid\nreplicas = 2\n");
    test_memory("ring", "nodes = 2\ncores = 2\n[parallel]\nparadigm = ring\nchunks = 2\n");
    return tap_done();
}
