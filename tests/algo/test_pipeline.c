/*
 * Pipeline, ring and hybrid against sequential training of the whole model in the same
 * micro-batches (sequential.c).
 *
 * Both add the same numbers, but not always in the same order: a stage takes a micro-batch in
 * chunks that stay in its cache, and replicas sum their gradients after the fact.
 */
#include <errno.h>
#include <string.h>

#include "lab.h"
#include "sequential.h"
#include "tests/tap.h"

struct subject {
    const char *name, *model, *data;
};

static const struct subject subjects[] = {
    {"an MLP",
     "name mlp\ninput 4\nlinear 16\ntanh\nlinear 16\nrelu\nlinear 12\ntanh\nlinear 8\nrelu\nlinear 3\n",
     "dataset = synth\nsynth-samples = 110\nsynth-features = 4\nsynth-classes = 3\n"},
    {"a regression",
     "name number\ninput 5\nlinear 9\ntanh\nlinear 9\ntanh\nlinear 4\ntanh\nlinear 1\nloss mse\n",
     "dataset = synth\ntask = regression\nsynth-samples = 110\nsynth-features = 5\n"},
    {"a CNN",
     "name cnn\ninput 3 8 8\nconv 6 kernel 3 padding 1\nrelu\nmax-pool 2\nconv 8 kernel 3\nrelu\n"
     "linear 16\ntanh\nlinear 12\nrelu\nlinear 4\n",
     "dataset = synth-images\nsynth-samples = 90\nsynth-features = 192\nsynth-classes = 4\n"
     "augment = flip-crop\ncrop-padding = 2\n"},
    {"a residual network",
     "name blocks\ninput 3 8 8\nconv 4 kernel 3 padding 1\nrelu\nresidual\nconv 4 kernel 3 padding 1\n"
     "relu\nconv 4 kernel 3 padding 1\nend\nrelu\nresidual\nconv 6 kernel 3 stride 2 padding 1\n"
     "relu\nconv 6 kernel 3 padding 1\nshortcut\nconv 6 kernel 1 stride 2\nend\nrelu\n"
     "global-avg-pool\nlinear 4\n",
     "dataset = synth-images\nsynth-samples = 90\nsynth-features = 192\nsynth-classes = 4\n"},
    {"batch-norm",
     "name norms\ninput 3 8 8\nconv 4 kernel 3 padding 1 bias no\nbatch-norm\nrelu\nresidual\n"
     "conv 4 kernel 3 padding 1 bias no\nbatch-norm\nend\nrelu\nconv 6 kernel 3 bias no\n"
     "batch-norm\nrelu6\nglobal-avg-pool\nlinear 4\n",
     "dataset = synth-images\nsynth-samples = 90\nsynth-features = 192\nsynth-classes = 4\n"},
    {"dropout",
     "name drops\ninput 4\nlinear 16\ndropout 0.2\nrelu\nlinear 16\ndropout 0.5\ntanh\nlinear 8\n"
     "dropout 0.1\nlinear 3\n",
     "dataset = synth\nsynth-samples = 110\nsynth-features = 4\nsynth-classes = 3\n"},
    {"sequences",
     "name words\ninput 8\ninit normal\nembedding 96 size 8\nposition\nresidual\nlayer-norm\n"
     "attention 2\nend\nresidual\nlayer-norm\nconv 16 kernel 1\ngelu\nconv 8 kernel 1\nend\n"
     "layer-norm\nconv 96 kernel 1\nloss next-token\n",
     "dataset = text\ntext-window = 8\ntrain-samples = 60\ntest-samples = 20\n"},
};

static const struct {
    const char *name, *keys;
    unsigned replicas;
} shapes[] = {
    {"pipeline of one node", "[testcase]\nnodes = 1\ncores = 1\n[parallel]\nparadigm = pipeline\n", 1},
    {"pipeline of two", "[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = pipeline\n", 1},
    {"pipeline of three", "[testcase]\nnodes = 3\ncores = 3\n[parallel]\nparadigm = pipeline\n", 1},
    {"ring of one node with two chunks",
     "[testcase]\nnodes = 1\ncores = 1\n[parallel]\nparadigm = ring\nchunks = 2\n", 1},
    {"ring of two with two chunks each",
     "[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = ring\nchunks = 2\n", 1},
    {"ring of two with three chunks each",
     "[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = ring\nchunks = 3\n", 1},
    {"hybrid of 2 × 2",
     "[testcase]\nnodes = 4\ncores = 4\n[parallel]\nparadigm = hybrid\nreplicas = 2\n", 2},
};

/* 16 of a minibatch of 16: at the end of an epoch some have no sample. */
static const unsigned micro[] = {1, 2, 4, 16};

static const char *const optimizers[] = {
    "optimizer = sgd\nmomentum = 0.9\nlearning-rate = 0.05\nweight-decay = 0.001\n",
    "optimizer = adam\nlearning-rate = 0.01\nschedule = step\nstep-epochs = 1\nstep-factor = 0.5\n",
};

static void init(struct lab *lab, const struct subject *subject, const char *keys,
                 const char *optimizer, unsigned n_micro)
{
    const char *top = getenv("top_srcdir");
    _cleanup_(dml_mem_freep) char *path =
        dml_mem_printf("path = %s/COPYING\n", top ? top : ".");
    bool is_text = strstr(subject->data, "dataset = text") != NULL;
    _cleanup_(dml_mem_freep) char *text =
        dml_mem_printf("%smicro-batches = %u\n[data]\n%s%s[train]\nrounds = 2\nlocal-epochs = 2\n"
                       "batch-size = 16\n%s",
                       keys, n_micro, subject->data, is_text ? path : "", optimizer);
    lab_init_model(lab, subject->model, text);
}

/* Largest difference of two vectors, as a share of the largest value of either. */
static double distance(const float *a, const float *b, size_t n)
{
    double most = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fmax(fabs((double)a[i]), fabs((double)b[i])));
    }
    return size > 0.0 ? most / size : 0.0;
}

static void test_shape(const struct subject *subject, size_t k)
{
    double most = 0.0, loss = 0.0;
    unsigned failed = 0;
    for (size_t i = 0; i < ARRAY_SIZE(optimizers); i++)
        for (size_t j = 0; j < ARRAY_SIZE(micro); j++) {
            unsigned n_micro = micro[j];
            struct lab lab;
            init(&lab, subject, shapes[k].keys, optimizers[i], n_micro);
            int r = lab_run(&lab);
            if (r < 0) {
                char text[1200];
                tap_note("M = %u: %s", n_micro, dml_err_format(&lab.err, r, text, sizeof(text)));
                failed++;
            } else {
                struct sequential want = sequential_train(&lab, shapes[k].replicas, n_micro);
                most = fmax(most, distance(lab.trained->vec, want.vec,
                                           dml_model_n_vec(lab.trained->model)));
                loss = fmax(loss, fabs(lab.rounds[lab.n_rounds - 1].loss / want.loss - 1.0));
                free(want.vec);
            }
            lab_done(&lab);
        }
    char what[200];
    snprintf(what, sizeof(what), "%s: %s runs", subject->name, shapes[k].name);
    tap_int(failed, 0, what);
    snprintf(what, sizeof(what), "%s: %s comes to the same (off by %.1e, loss %.1e)", subject->name,
             shapes[k].name, most, loss);
    tap_ok(most < 1e-5 && loss < 1e-6, "%s", what);
}

/* Whatever the threads and the network do. */
static void test_repeats(void)
{
    static const char *const keys[] = {
        "[testcase]\nnodes = 2\ncores = 4\n[parallel]\nparadigm = ring\nchunks = 2\n",
        "[testcase]\nnodes = 4\ncores = 8\n[parallel]\nparadigm = hybrid\nreplicas = 2\n",
    };
    for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
        struct lab a, b;
        init(&a, &subjects[2], keys[k], optimizers[1], 4);
        init(&b, &subjects[2], keys[k], optimizers[1], 4);
        int r = lab_run(&a);
        if (r < 0 && strstr(a.err.text, "cores")) {
            tap_skip("two threads per worker need two cores: %s", a.err.text);
        } else {
            tap_int(r, 0, "two threads on each node");
            tap_int(lab_run(&b), 0, "and again");
            tap_int((long long)lab_differs(a.trained->vec, b.trained->vec,
                                           dml_model_n_vec(a.trained->model)),
                    0, "give the same bits");
            struct sequential want = sequential_train(&a, k == 0 ? 1 : 2, 4);
            double off = distance(a.trained->vec, want.vec, dml_model_n_vec(a.trained->model));
            tap_ok(off < 1e-5, "and what one thread gives, to rounding (off by %.1e)", off);
            free(want.vec);
        }
        lab_done(&a);
        lab_done(&b);
    }
}

/* Waiting for transfers changes times, and no bit. */
static void test_overlap(void)
{
    static const char *const keys[] = {
        "[testcase]\nnodes = 3\ncores = 3\n[parallel]\nparadigm = pipeline\noverlap = no\n",
        "[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = ring\noverlap = no\n",
        "[testcase]\nnodes = 4\ncores = 4\n[parallel]\nparadigm = hybrid\nreplicas = 2\noverlap = no\n",
    };
    for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
        struct lab lab;
        init(&lab, &subjects[2], keys[k], optimizers[0], 4);
        if (tap_int(lab_run(&lab), 0, "every transfer is waited for")) {
            struct sequential want = sequential_train(&lab, k == 2 ? 2 : 1, 4);
            double off = distance(lab.trained->vec, want.vec, dml_model_n_vec(lab.trained->model));
            tap_ok(off < 1e-5, "with the same outcome (off by %.1e)", off);
            free(want.vec);
        }
        lab_done(&lab);
    }
}

/* What the records say of each node; numbers of layers as `dmlctl models` prints them. */
static void test_records(void)
{
    static const struct {
        const char *keys, *layers[4];
        unsigned nodes;
    } rows[] = {
        {"[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = pipeline\ncut = 6\n",
         {"1-5", "6-9"},
         2},
        {"[testcase]\nnodes = 3\ncores = 3\n[parallel]\nparadigm = pipeline\ncut = 3 9\n",
         {"1-2", "3-8", "9"},
         3},
        {"[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = ring\nchunks = 2\n"
         "checkpoint-steps = 3\n",
         {NULL, NULL},
         2},
        {"[testcase]\nnodes = 4\ncores = 4\n[parallel]\nparadigm = hybrid\nreplicas = 2\n",
         {NULL, NULL, NULL, NULL},
         4},
    };
    for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
        struct lab lab;
        init(&lab, &subjects[0], rows[k].keys, optimizers[0], 4);
        tap_int(lab_run(&lab), 0, "a run whose records are read");
        tap_int(lab.rounds[1].n_participants, (int)rows[k].nodes, "nodes");
        const struct dml_round_worker *w = lab.workers[1];
        uint64_t n_train = 88, shard = k == 3 ? n_train / 2 : n_train;
        for (unsigned i = 0; i < rows[k].nodes; i++) {
            tap_int((long long)w[i].n_steps, 2 * (long long)((shard + 15) / 16),
                    "steps of a node: those of two epochs");
            tap_ok(w[i].layers[0], "its layers: %s", w[i].layers);
            if (rows[k].layers[i])
                tap_str(w[i].layers, rows[k].layers[i], "which were told");
            tap_ok(w[i].exposed_us <= w[i].sending_us, "no more exposed than sent");
        }
        if (k == 2)
            tap_ok(strchr(w[0].layers, ' ') && strchr(w[1].layers, ' '), "two runs of each");
        if (k == 3)
            tap_ok(!strcmp(w[0].layers, w[2].layers) && !strcmp(w[1].layers, w[3].layers),
                   "replicas are alike");
        lab_done(&lab);
    }
}

/* Replicas that sum while they compute, and after it; minibatches end with empty micro-batches. Cut
 * in one place, since that decides how three of them add up. */
static void test_sums(void)
{
    static const struct {
        const char *name, *keys;
    } ways[] = {
        {"two replicas", "nodes = 4\ncores = 4\n[parallel]\nreplicas = 2\ncut = 6\n"},
        {"three", "nodes = 6\ncores = 6\n[parallel]\nreplicas = 3\ncut = 6\n"},
        {"three whole ones", "nodes = 3\ncores = 3\n[parallel]\nreplicas = 3\n"},
        {"two, with two threads", "nodes = 4\ncores = 8\n[parallel]\nreplicas = 2\ncut = 6\n"},
    };
    for (size_t k = 0; k < ARRAY_SIZE(ways); k++) {
        struct lab labs[2];
        int r[2];
        for (int i = 0; i < 2; i++) {
            char keys[300];
            snprintf(keys, sizeof(keys),
                     "[testcase]\n%sparadigm = hybrid\nbucket = 4 KiB\noverlap = %s\n",
                     ways[k].keys, i == 0 ? "no" : "yes");
            init(&labs[i], &subjects[2], keys, optimizers[1], 16);
            r[i] = lab_run(&labs[i]);
        }
        if (r[0] < 0 && strstr(labs[0].err.text, "cores")) {
            tap_skip("two threads per worker need two cores: %s", labs[0].err.text);
        } else {
            bool after = tap_int(r[0], 0, "after");
            bool during = tap_int(r[1], 0, "or while it is computed");
            if (after && during)
                tap_int((long long)lab_differs(labs[0].trained->vec, labs[1].trained->vec,
                                               dml_model_n_vec(labs[0].trained->model)),
                        0, ways[k].name);
        }
        lab_done(&labs[0]);
        lab_done(&labs[1]);
    }
}

/* One message of more than 64 MiB, of a model with few parameters. */
static void test_wide(void)
{
    struct lab lab;
    lab_init_model(&lab, "name wide\ninput 4\nlinear 8192\ntanh\nlinear 3\n",
                   "[testcase]\nnodes = 2\ncores = 2\n[parallel]\nparadigm = pipeline\ncut = 2\n"
                   "micro-batches = 1\n[train]\nrounds = 1\nbatch-size = 2500\n"
                   "[data]\ndataset = synth\nsynth-samples = 4000\nsynth-features = 4\n"
                   "synth-classes = 3\n");
    if (!tap_int(lab_run(&lab), 0, "activations larger than the model"))
        tap_note("%s", lab.err.text);
    tap_int(lab.rounds[0].n_participants, 2, "pass between two");
    lab_done(&lab);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(subjects); i++)
        for (size_t k = 0; k < ARRAY_SIZE(shapes); k++)
            test_shape(&subjects[i], k);
    test_repeats();
    test_overlap();
    test_sums();
    test_records();
    test_wide();
    return tap_done();
}
