/*
 * Where a model is cut changes times and memory, and no bit: so a cut may be chosen by measuring,
 * and a run repeats wherever it is repeated.
 */
#include <errno.h>
#include <string.h>

#include "lab.h"
#include "nn/model_cut.h"
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

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(models); i++)
        for (size_t k = 0; k < ARRAY_SIZE(ways); k++)
            test_bits(models[i].name, models[i].text, ways[k].name, ways[k].keys);
    return tap_done();
}
