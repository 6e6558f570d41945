/*
 * recompute = blocks means the same to every paradigm: the trained model is the same to the last
 * bit, batch-norm's statistics and dropout included.
 */
#include <stdio.h>

#include "lab.h"
#include "tests/tap.h"

#define MODEL                                                                                      \
    "name norms\ninput 3 16 16\nconv 8 kernel 3 padding 1 bias no\nbatch-norm\nrelu\nrepeat 2\n"   \
    "residual\nconv 16 kernel 1 bias no\nbatch-norm\nrelu6\nconv 8 kernel 3 padding 1 bias no\n"   \
    "batch-norm\nend\nend\nglobal-avg-pool\nlinear 12\ndropout 0.2\nrelu\nlinear 4\n"

#define REST                                                                                       \
    "[data]\ndataset = synth-images\nsynth-samples = 90\nsynth-features = 768\nsynth-classes = "   \
    "4\n"                                                                                          \
    "[train]\nrounds = 3\nbatch-size = 16\noptimizer = adam\n"

static const struct {
    const char *name, *keys;
} cases[] = {
    {"standalone", "[testcase]\nnodes = 1\ncores = 2\n[parallel]\nparadigm = standalone\n"},
    {"federated", "[testcase]\nnodes = 2\ncores = 4\n[parallel]\nparadigm = federated\n"},
    {"allreduce", "[testcase]\nnodes = 2\ncores = 4\n[parallel]\nparadigm = allreduce\n"},
    {"server", "[testcase]\nnodes = 2\ncores = 4\n[parallel]\nparadigm = server\n"},
    {"pipeline", "[testcase]\nnodes = 2\ncores = 4\n[parallel]\nparadigm = pipeline\n"},
    {"ring", "[testcase]\nnodes = 2\ncores = 4\n[parallel]\nparadigm = ring\nchunks = 2\n"},
    {"hybrid", "[testcase]\nnodes = 4\ncores = 4\n[parallel]\nparadigm = hybrid\nreplicas = 2\n"},
};

static void test_case(const char *name, const char *keys)
{
    struct lab labs[2];
    int r[2];
    for (int on = 0; on < 2; on++) {
        char text[1024];
        (void)snprintf(text, sizeof(text), "%s" REST "recompute = %s\n", keys,
                       on ? "blocks" : "off");
        lab_init_model(&labs[on], MODEL, text);
        r[on] = lab_run(&labs[on]);
    }
    const struct dml_checkpoint *off = labs[0].trained, *on = labs[1].trained;
    bool both = r[0] == 0 && r[1] == 0 && off && on &&
                dml_model_n_vec(off->model) == dml_model_n_vec(on->model);
    size_t n = both ? dml_model_n_vec(off->model) : 0;
    size_t differ = both ? lab_differs(off->vec, on->vec, n) : 0;
    tap_ok(both && differ == 0, "%s: %zu of %zu numbers differ; %d and %d: %s", name, differ, n,
           r[0], r[1], labs[1].err.text);
    for (int i = 0; i < 2; i++)
        lab_done(&labs[i]);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        test_case(cases[i].name, cases[i].keys);
    return tap_done();
}
