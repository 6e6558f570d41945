/* Test cases: what is read, how a matrix expands, that printing and parsing agree. */
#include <errno.h>

#include "base/err.h"
#include "base/fileio.h"
#include "conf/testcase.h"
#include "tests/tap.h"
#include "tests/unit/testcase_dirs.h"

#define SMALL "[data]\ndataset = synth\n[model]\nname = softmax\n"

static struct dml_err err;

static struct dml_testcases *parse(const char *text)
{
    struct dml_testcases *t = NULL;
    memset(&err, 0, sizeof(err));
    int r = dml_testcase_parse(text, strlen(text), "/etc/some case.conf", plugin_dir, &t, &err);
    if (!tap_int(r, 0, "parsed"))
        tap_note("line %u: %s", err.line, err.text);
    return t;
}

static void test_defaults(void)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = parse(SMALL);
    if (!t || !tap_int((long long)t->n_cases, 1, "dataset and model are enough for a test case"))
        return;
    const struct dml_testcase *tc = &t->cases[0];
    tap_str(tc->testcase.name, "some-case", "named after its file");
    tap_int((long long)tc->testcase.nodes, 1, "nodes");
    tap_int((long long)tc->testcase.repeats, 1, "repeats");
    tap_near(tc->testcase.cores, 0, 0, "all cores");
    tap_near(dml_testcase_cores_per_node(tc), 0, 0, "of every worker");
    tap_int(tc->parallel.paradigm, DML_PARADIGM_FEDERATED, "paradigm");
    tap_str(tc->strategy, "fedavg", "strategy");
    tap_ok(tc->plugin && !strcmp(dml_loader_strategy(tc->plugin)->name, "fedavg"), "its plugin");
    tap_ok(tc->strategy_options == NULL, "that has no options");
    tap_str(tc->label, "1", "label");
    tap_near(tc->cluster.quorum, 0.5, 0, "quorum");
    tap_int((long long)tc->cluster.round_deadline_us, 3600LL * 1000000, "deadline");
    tap_ok(tc->train.rounds >= 1 && tc->train.batch_size >= 1, "the other tables' defaults");
}

static void labels(const char *text, const char *const *want, size_t n)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = parse(text);
    if (!t || !tap_int((long long)t->n_cases, (long long)n, "number of cases"))
        return;
    for (size_t i = 0; i < n; i++)
        tap_str(t->cases[i].label, want[i], "label");
}

#define LABELS(text, ...)                                                                          \
    do {                                                                                           \
        static const char *const want[] = {__VA_ARGS__};                                           \
        labels(text, want, ARRAY_SIZE(want));                                                      \
    } while (0)

static void test_matrix(void)
{
    /* The source paper's Table 1 and Table 2. */
    LABELS(SMALL "[testcase]\nnodes = 1:2 2:4 3:6\n", "1:2", "2:4", "3:6");
    LABELS(SMALL "[testcase]\nnodes = 3\ncores = 1 2 3 4 5 6\n", "3:1", "3:2", "3:3", "3:4", "3:5",
           "3:6");
    LABELS(SMALL "[testcase]\nnodes = 1:0.5\t2:1   3:1.5\n", "1:0.5", "2:1", "3:1.5");
    LABELS(SMALL "[testcase]\nnodes = 1 2\ncores = 4 8\n", "1:4", "1:8", "2:4", "2:8");
    /* Row-major in the order of the file: the last list varies fastest. */
    LABELS("[train]\nlearning-rate = 0.1 0.01\n" SMALL "[testcase]\nnodes = 1 2\n",
           "1 learning-rate=0.1", "2 learning-rate=0.1", "1 learning-rate=0.01",
           "2 learning-rate=0.01");
    LABELS("[data]\ndataset = synth\n[model]\nname = softmax sdss-mlp\n[train]\nbatch-size = 4 8\n",
           "1 model=softmax batch-size=4", "1 model=softmax batch-size=8",
           "1 model=sdss-mlp batch-size=4", "1 model=sdss-mlp batch-size=8");
    LABELS(SMALL "[cluster]\nround-deadline = 90 s 5 min 120\n", "1 round-deadline=90 s",
           "1 round-deadline=5 min", "1 round-deadline=120");
    LABELS("[data]\ndataset = csv\nfeatures = u g r\npath = /a b\n[model]\nname = m\n", "1");
    LABELS(SMALL "[strategy]\nname = fedavg twokeys\n", "1 strategy=fedavg", "1 strategy=twokeys");
    LABELS(SMALL "[strategy]\nname = twokeys\nmu = 0 1\n", "1 mu=0", "1 mu=1");
    /* A paradigm without strategy is not repeated for each strategy. */
    LABELS(SMALL "[parallel]\nparadigm = standalone federated\n[strategy]\nname = fedavg twokeys\n",
           "1 paradigm=standalone", "1 paradigm=federated strategy=fedavg",
           "1 paradigm=federated strategy=twokeys");

    /* Nor for each word of a key that it does not know, nor called after one. */
    LABELS(SMALL
           "[parallel]\nparadigm = allreduce server\naccumulate = 1 3\nstaleness = 0 unbounded\n",
           "1 paradigm=allreduce accumulate=1", "1 paradigm=allreduce accumulate=3",
           "1 paradigm=server staleness=0", "1 paradigm=server staleness=unbounded");
    LABELS(SMALL "[parallel]\nparadigm = federated ring\n[strategy]\nname = fedavg\n"
                 "[cluster]\non-loss = wait\n", "1 paradigm=federated", "1 paradigm=ring");

    _cleanup_(dml_testcases_freep) struct dml_testcases *t =
        parse(SMALL "[testcase]\nnodes = 1:2 3:4.5\nrepeats = 3\n");
    if (!t)
        return;
    tap_int((long long)t->cases[1].testcase.nodes, 3, "nodes of a pair");
    tap_near(t->cases[1].testcase.cores, 4.5, 0, "its cores");
    tap_near(dml_testcase_cores_per_node(&t->cases[1]), 1.5, 0, "cores of each node");
    tap_int((long long)t->cases[1].testcase.repeats, 3, "repeats");
}

/* Sections for one paradigm. */
static void test_override(void)
{
    /* Wherever they stand, and whatever blanks there are. */
    _cleanup_(dml_testcases_freep) struct dml_testcases *t =
        parse("[testcase  standalone]\nnodes = 1:1\n[train server]\nbatch-size = 16\n" SMALL
              "[testcase]\nnodes = 4:8\n[train]\nbatch-size = 48\nrounds = 7\n"
              "[parallel]\nparadigm = standalone server hybrid\nreplicas = 2\n"
              "[train hybrid]\nrounds = 5\n");
    if (!t || !tap_int((long long)t->n_cases, 3, "three paradigms, three cases"))
        return;
    static const struct {
        const char *label;
        uint64_t nodes, batch, rounds;
        double cores;
    } is[] = {{"1:1 paradigm=standalone", 1, 48, 7, 1.0},
              {"4:8 paradigm=server", 4, 16, 7, 8.0},
              {"4:8 paradigm=hybrid", 4, 48, 5, 8.0}};
    for (size_t i = 0; i < ARRAY_SIZE(is); i++) {
        const struct dml_testcase *tc = &t->cases[i];
        tap_str(tc->label, is[i].label, "label");
        tap_int((long long)tc->testcase.nodes, (long long)is[i].nodes, "nodes");
        tap_near(tc->testcase.cores, is[i].cores, 0, "cores");
        tap_int((long long)tc->train.batch_size, (long long)is[i].batch, "batch-size");
        tap_int((long long)tc->train.rounds, (long long)is[i].rounds, "rounds");
    }
    /* Lists there are lists of that paradigm, and a list it has its own word for is none. */
    LABELS(SMALL "[train]\nbatch-size = 8 16\n[parallel]\nparadigm = standalone allreduce\n"
                 "[train standalone]\nbatch-size = 32\n",
           "1 paradigm=standalone", "1 batch-size=8 paradigm=allreduce",
           "1 batch-size=16 paradigm=allreduce");
    LABELS(SMALL "[parallel]\nparadigm = standalone allreduce\n[train allreduce]\nseed = 1 2\n",
           "1 paradigm=standalone", "1 paradigm=allreduce seed=1", "1 paradigm=allreduce seed=2");
    /* Cores of the plain section go with its nodes alone. */
    LABELS(SMALL "[testcase]\nnodes = 2:4\n[testcase standalone]\nnodes = 1\ncores = 2\n"
                 "[parallel]\nparadigm = standalone allreduce\n",
           "1:2 paradigm=standalone", "2:4 paradigm=allreduce");
}

struct twokeys {
    double mu;
    char *note;
    uint64_t patience_us;
};

static void test_strategies(void)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *t =
        parse(SMALL "[strategy]\nmu = 0.5 2\nname = twokeys\nnote = several words\n"
                    "[testcase]\nname = x\n");
    if (t) {
        const struct twokeys *o = t->cases[1].strategy_options;
        tap_near(o->mu, 2, 0, "a plugin's key in a matrix");
        tap_str(o->note, "several words", "a plugin's words are one value");
        tap_int((long long)o->patience_us, 1000000, "a plugin's default");
    }
    _cleanup_(dml_testcases_freep) struct dml_testcases *alone =
        parse(SMALL "[parallel]\nparadigm = standalone\n");
    tap_str(alone ? alone->cases[0].strategy : NULL, "", "standalone has no strategy");
    tap_ok(alone && !alone->cases[0].plugin, "and no plugin");

    /* A worker has no plugins and needs none. */
    const char *text = SMALL "[strategy]\nname = unheard-of\nmu = 3\n";
    struct dml_testcases *w = NULL;
    tap_int(dml_testcase_parse(text, strlen(text), "order", NULL, &w, &err), 0,
            "without a folder of plugins their keys are not looked at");
    tap_str(w ? w->cases[0].strategy : NULL, "unheard-of", "but the name is kept");
    tap_ok(w && !w->cases[0].plugin && !w->cases[0].strategy_options, "and nothing is opened");
    dml_testcases_free(w);
}

/* Prints a case, parses that, prints it again: the same text, hence the same case. */
static void round_trip(const char *text, const char *what)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = parse(text), *again = NULL;
    for (size_t i = 0; t && i < t->n_cases; i++) {
        _cleanup_(dml_mem_freep) char *one = NULL, *two = NULL;
        tap_int(dml_testcase_print(&t->cases[i], &one), 0, what);
        again = parse(one ? one : "");
        if (!again || !tap_int((long long)again->n_cases, 1, "one case"))
            return;
        (void)dml_testcase_print(&again->cases[0], &two);
        tap_str(two, one, "printing, parsing and printing again gives the same text");
        tap_ok(again->cases[0].testcase.cores == t->cases[i].testcase.cores &&
                   again->cases[0].train.learning_rate == t->cases[i].train.learning_rate &&
                   again->cases[0].cluster.wait_us == t->cases[i].cluster.wait_us,
               "and the same bits");
        again = dml_testcases_free(again);
    }
}

static void test_print(void)
{
    round_trip(SMALL, "defaults");
    round_trip(SMALL
               "[testcase]\nname = t.1\nnodes = 1:0.3 2:1.1\n[train]\nlearning-rate = 0.1 1e-5"
               "\n[cluster]\nwait = 90 s\nquorum = 0.6666666666666666\n",
               "a matrix");
    round_trip(SMALL
               "[strategy]\nname = twokeys\nnote = several words\nmu = 0.1\npatience = 5 min\n",
               "a strategy's own keys");
    round_trip(SMALL "[strategy]\nname = twokeys\nnote =\n", "an empty text");
    round_trip(SMALL "[parallel]\nparadigm = standalone\n", "standalone");
    round_trip(SMALL "[parallel]\nparadigm = allreduce\naccumulate = 3\nbucket = 64 KiB\n"
                     "overlap = no\ncheckpoint-steps = 20\n[cluster]\non-loss = wait\n"
                     "step-deadline = 2 s\n", "allreduce");
    round_trip(SMALL "[parallel]\nparadigm = server\nstaleness = unbounded\nsignificance = 0.01\n",
               "server");
    round_trip(SMALL "[parallel]\nparadigm = pipeline\ncut = 2 3\nstages = 3\n"
                     "[testcase]\nnodes = 3\n", "pipeline");
    round_trip(SMALL "[parallel]\nparadigm = ring\nchunks = 3\nmicro-batches = 6\n"
                     "cut = estimated\nnode-memory = 1.5 GiB\n", "ring");
    round_trip(SMALL "[parallel]\nparadigm = hybrid\nreplicas = 2\n[testcase]\nnodes = 4\n",
               "hybrid");
    round_trip("[data]\ndataset = csv\npath = /x y/z.csv\nfeatures = u g r i z redshift\n"
               "[model]\nname = sdss-mlp\n",
               "words");
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = parse(SMALL);
    _cleanup_(dml_mem_freep) char *text = NULL;
    (void)dml_testcase_print(&t->cases[0], &text);
    for (const struct dml_opt *o = dml_train_opts; o->name; o++)
        tap_has(text, o->name, "every key is written out");
}

static void test_files(void)
{
    char dir[] = "/tmp/dml-test-case.XXXXXX";
    if (!mkdtemp(dir))
        return;
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/first.conf", dir);
    _cleanup_(dml_mem_freep) char *folder = dml_mem_printf("%s.d", path);
    _cleanup_(dml_mem_freep) char *dropin = dml_mem_printf("%s/10.conf", folder);
    _cleanup_(dml_mem_freep) char *clean = dml_mem_printf("rm -rf %s", dir);
    struct dml_testcases *t = NULL;
    tap_int(dml_testcase_load(path, plugin_dir, &t, &err), -ENOENT, "no such file");
    tap_str(err.file, path, "named");
    const char *more = "[train]\nrounds = 7\n[model]\nname = sdss-mlp\n";
    (void)dml_fileio_write(path, SMALL, strlen(SMALL), 0644, NULL);
    (void)dml_fileio_mkdirs(folder, 0755, NULL);
    (void)dml_fileio_write(dropin, more, strlen(more), 0644, NULL);
    tap_int(dml_testcase_load(path, plugin_dir, &t, &err), 0, "a file and a drop-in");
    tap_str(t ? t->cases[0].testcase.name : NULL, "first", "name");
    tap_str(t ? t->cases[0].model.name : NULL, "sdss-mlp", "replaced by the drop-in");
    tap_int(t ? (long long)t->cases[0].train.rounds : 0, 7, "added by the drop-in");
    dml_testcases_free(t);
    tap_int(system(clean), 0, "cleaned up");
}

static void test_help(void)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    dml_testcase_help(f);
    (void)fclose(f);
    static const char *const heads[] = {"[testcase]\n", "[data]\n",     "[model]\n",  "[train]\n",
                                        "[parallel]\n", "[strategy]\n", "[cluster]\n"};
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        tap_has(text, heads[i], "every section");
    tap_has(text, "  repeats = 1", "keys with their defaults");
    free(text);
}

int main(void)
{
    if (!make_plugin_dir())
        return 99;
    test_defaults();
    test_matrix();
    test_override();
    test_strategies();
    test_print();
    test_files();
    test_help();
    drop_plugin_dir();
    return tap_done();
}
