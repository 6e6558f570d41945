/*
 * Slips in a test case: each is answered with its file, its line, the word in question and, where
 * there is one, the right word. The sentences are what people read, so they are compared in full
 * where they are ours alone.
 */
#include <errno.h>

#include "base/err.h"
#include "conf/testcase.h"
#include "tests/tap.h"
#include "tests/unit/testcase_dirs.h"

/* Four lines, so that what follows begins in line 5. */
#define SMALL "[data]\ndataset = synth\n[model]\nname = softmax\n"

static const struct {
    const char *text;
    unsigned line;
    const char *words;
} slips[] = {
    /* Form. */
    {SMALL "nodes\n", 5, "\"nodes\" is neither [section] nor key = value"},
    {SMALL "name = other\n", 5, "model.name is already set in line 4"},
    /* Names of sections and keys. */
    {SMALL "[trian]\nrounds = 3\n", 6, "unknown section [trian]; did you mean [train]?"},
    {SMALL "[zzzzzzzz]\nx = 3\n", 6,
     "unknown section [zzzzzzzz]; known are: testcase data model train parallel strategy cluster"},
    {SMALL "[train]\nbatchsize = 3\n", 6,
     "unknown key \"batchsize\" in [train]; did you mean batch-size?"},
    {SMALL "[train]\nlocal_epochs = 3\n", 6,
     "unknown key \"local_epochs\" in [train]; did you mean local-epochs?"},
    {SMALL "[train]\nnodes = 3\n", 6, "unknown key \"nodes\" in [train]; it belongs to [testcase]"},
    {SMALL "[cluster]\nlerning-rate = 3\n", 6,
     "unknown key \"lerning-rate\" in [cluster]; did you mean learning-rate in [train]?"},
    {SMALL "[cluster]\ncolour-of-case = 3\n", 6,
     "[cluster] knows: min-workers wait round-deadline quorum on-loss step-deadline"},
    {SMALL "[strategy]\nmu = 3\n", 6, "unknown key \"mu\" in [strategy]; [strategy] knows: name"},
    {SMALL "[strategy]\nname = twokeys\nmuu = 3\n", 7,
     "unknown key \"muu\" in [strategy]; did you mean mu?"},
    {SMALL "[strategy]\nname = twokeys fedavg\nmu = 3\n", 7, "unknown key \"mu\" in [strategy]"},
    {SMALL "[strategy]\nname = fedvg\n", 6, "did you mean fedavg?"},
    {SMALL "[strategy]\nmu = 1\nname = fedvg\n", 7, "did you mean fedavg?"},
    {SMALL "[strategy]\nname = ../fedavg\n", 6, "strategy.name = ../fedavg: "},
    /* Values. */
    {SMALL "[train]\nrounds = ten\n", 6, "train.rounds = ten: must be a whole number, 1 to "},
    {SMALL "[train]\nbatch-size = 0\n", 6, "train.batch-size = 0: must be a whole number, 1 to "},
    {SMALL "[train]\nbatch-size = 4 8 0\n", 6, "train.batch-size = 0: must be a whole number"},
    {SMALL "[train]\noptimizer = amad\n", 6,
     "train.optimizer = amad: must be one of sgd adam adamw; did you mean adam?"},
    {SMALL "[parallel]\nparadigm = federate\n", 6,
     "parallel.paradigm = federate: must be one of standalone federated allreduce server "
     "pipeline ring hybrid; did you mean federated?"},
    {SMALL "[testcase]\nnodes =\n", 6, "testcase.nodes = : must be a whole number, 1 to 255"},
    {SMALL "[testcase]\nnodes = 256\n", 6, "must be a whole number, 1 to 255 workers"},
    {SMALL "[testcase]\nnodes = 1:2 3:x\n", 6, "testcase.cores = x: must be a number"},
    {SMALL "[testcase]\nnodes = 1:2 :4\n", 6, "testcase.nodes = : must be a whole number"},
    {SMALL "[testcase]\nnodes = 1:2 3:4:5\n", 6, "testcase.cores = 4:5: must be a number"},
    {SMALL "[testcase]\nrepeats = 1 3\n", 6, "testcase.repeats = 1 3: must be a whole number"},
    {SMALL "[strategy]\nname = twokeys\nmu = 11\n", 7,
     "strategy.mu = 11: must be a number, 0 to 10"},
    {SMALL "[cluster]\nwait = soon\n", 6, "cluster.wait = soon: must be a time such as 250 ms"},
    /* What does not fit together. */
    {SMALL "[testcase]\ncores = 2\nnodes = 1:2 2:4\n", 6,
     "cores is set twice: nodes = 1:2 2:4 in line 7 says it already"},
    {SMALL "[testcase]\nnodes = 1:2 2\n", 6,
     "testcase.nodes = 1:2 2: 2 has no cores; write N:C for all or for none"},
    {SMALL "[testcase]\nnodes = 3\ncores = 0.1\n", 7,
     "cores = 0.1 for nodes = 3 is 0.033 of a core for each worker; at least 0.05 is needed"},
    {SMALL "[testcase]\nnodes = 3:0.1\n", 6, "cores = 0.1 for nodes = 3 is 0.033 of a core"},
    {SMALL "[testcase]\nnodes = 1 2 1\n", 6, "testcase.nodes: 1 occurs twice in the list"},
    {SMALL "[testcase]\nnodes = 1:2 1:2.0\n", 0, "the test case 1:2 occurs twice"},
    {SMALL "[testcase]\nname = a b\n", 6, "testcase.name = a b: results are filed under it"},
    {SMALL "[testcase]\nname = ../../etc/passwd\n", 6, "results are filed under it"},
    {SMALL "[testcase]\nname = .hidden\n", 6, "no . at its start"},
    {SMALL "[parallel]\nparadigm = standalone\n[testcase]\nnodes = 3\n", 8,
     "paradigm = standalone is one worker alone, not nodes = 3"},
    {SMALL "[parallel]\nparadigm = standalone\n[strategy]\nname = fedavg\n", 8,
     "paradigm = standalone takes no strategy, so [strategy] has no effect: remove it, or write "
     "paradigm = federated"},
    {SMALL "[parallel]\nparadigm = allreduce\n[strategy]\nname = fedavg\n", 8,
     "paradigm = allreduce takes no strategy"},
    {SMALL "[parallel]\nparadigm = ring pipeline\n[strategy]\nname = twokeys\nmu = 1\n", 8,
     "paradigm = pipeline or ring takes no strategy"},
    /* Keys that the paradigm would not look at. */
    {SMALL "[parallel]\naccumulate = 2\n", 6,
     "parallel.accumulate means nothing to paradigm = federated: it is a key of allreduce"},
    {SMALL "[parallel]\nparadigm = server\naccumulate = 2\n", 7,
     "parallel.accumulate means nothing to paradigm = server: it is a key of allreduce"},
    {SMALL "[parallel]\nparadigm = allreduce\nstaleness = 2\n", 7,
     "parallel.staleness means nothing to paradigm = allreduce: it is a key of server"},
    {SMALL "[parallel]\nparadigm = pipeline\nchunks = 2\n", 7,
     "parallel.chunks means nothing to paradigm = pipeline: it is a key of ring"},
    {SMALL "[parallel]\nparadigm = allreduce server\nmicro-batches = 2\n", 7,
     "parallel.micro-batches means nothing to paradigm = allreduce or server: it is a key of "
     "pipeline, ring and hybrid"},
    {SMALL "[parallel]\nparadigm = federated\n[cluster]\non-loss = wait\n", 8,
     "cluster.on-loss means nothing to paradigm = federated: it is a key of allreduce, server, "
     "pipeline, ring and hybrid"},
    {SMALL "[parallel]\nparadigm = server\nstaleness = for ever\n", 7,
     "parallel.staleness = for: must be a whole number, 0 to 1000000 steps, or unbounded"},
    {SMALL "[parallel]\nparadigm = server\nstaleness = 18446744073709551615\n", 7,
     "0 to 1000000 steps, or unbounded"},
    /* Nodes, replicas, stages, layers, samples. */
    {SMALL "[parallel]\nparadigm = hybrid\nreplicas = 2\n[testcase]\nnodes = 3\n", 7,
     "nodes = 3 cannot be dealt evenly to replicas = 2: nodes must be a multiple of replicas"},
    {SMALL "[parallel]\nparadigm = hybrid\nreplicas = 4\n[testcase]\nnodes = 2\n", 7,
     "nodes = 2 cannot be dealt evenly to replicas = 4"},
    {SMALL "[parallel]\nparadigm = hybrid\nreplicas = 2\nstages = 3\n[testcase]\nnodes = 4\n", 8,
     "replicas = 2 of stages = 3 take 6 nodes, not nodes = 4"},
    {SMALL "[parallel]\nparadigm = ring\nstages = 2\n[testcase]\nnodes = 4\n", 7,
     "paradigm = ring with stages = 2 needs as many nodes, not nodes = 4"},
    {SMALL "[parallel]\nparadigm = pipeline\nmicro-batches = 8\n[train]\nbatch-size = 4\n", 7,
     "micro-batches = 8 cannot be made of batch-size = 4"},
    {SMALL "[parallel]\nparadigm = ring\n[train]\nbatch-size = 2\n", 0,
     "micro-batches = 4 cannot be made of batch-size = 2"},
    {SMALL "[parallel]\nparadigm = pipeline\ncut = 3 2\n[testcase]\nnodes = 3\n", 7,
     "parallel.cut = 3 2: 2 is not the number of a layer behind layer 3"},
    {SMALL "[parallel]\nparadigm = pipeline\ncut = two\n[testcase]\nnodes = 3\n", 7,
     "parallel.cut = two: two is not the number of a layer behind layer 1"},
    {SMALL "[parallel]\nparadigm = pipeline\ncut = measured 3\n[testcase]\nnodes = 3\n", 7,
     "parallel.cut = measured 3: measured is not the number of a layer behind layer 1: write "
     "measured, estimated, or ascending numbers"},
    {SMALL "[parallel]\nparadigm = ring\ncut = 2 3\n[testcase]\nnodes = 2\n", 7,
     "parallel.cut = 2 3 makes 3 runs of layers, but there are 4"},
    {SMALL "[parallel]\nparadigm = hybrid\nreplicas = 2\ncut = 2 3\n[testcase]\nnodes = 4\n", 8,
     "parallel.cut = 2 3 makes 3 stages, but there are 2"},
    {SMALL "[parallel]\nparadigm = allreduce\nnode-memory = 1 MiB\n", 7,
     "parallel.node-memory means nothing to paradigm = allreduce: it is a key of pipeline, ring and "
     "hybrid"},
    {SMALL "[parallel]\nparadigm = ring\nnode-memory = little\n", 7,
     "parallel.node-memory = little: must be a size such as"},
    {SMALL "[parallel]\nparadigm = pipeline\ncut = 2\n[testcase]\nnodes = 3\n", 7,
     "parallel.cut = 2 makes 2 stages, but there are 3"},
    /* Sections for one paradigm. */
    {SMALL "[train sever]\nrounds = 3\n", 6,
     "section [train sever]: sever is no paradigm (did you mean server?); a section for one "
     "paradigm only is called like [train server]"},
    {SMALL "[train server ring]\nrounds = 3\n", 6, "server ring is no paradigm"},
    {SMALL "[trian ring]\nrounds = 3\n[parallel]\nparadigm = ring\n", 6, "unknown section [trian]"},
    {SMALL "[train ring]\nrounds = 3\n", 6,
     "train.rounds is for a paradigm that no test case of this file has"},
    {SMALL "[train]\nrounds = 3\n[train federated]\nrounds = 4\n", 6,
     "train.rounds has no effect: every paradigm of this file has its own"},
    {SMALL "[train federated]\nrounds = 4\n[train  federated]\nrounds = 4\n", 8,
     "train.rounds is already set for that paradigm in line 6"},
    {SMALL "[train federated]\nrounds = four\n", 6, "train.rounds = four: must be a whole number"},
    {SMALL "[testcase federated]\nrepeats = 2\n", 6,
     "repeats cannot differ between paradigms: it belongs to [testcase], not to [testcase "
     "federated]"},
    {SMALL "[parallel ring]\nparadigm = ring\n", 6, "paradigm cannot differ between paradigms"},
    {SMALL "[strategy federated]\nname = fedavg\n", 6, "name cannot differ between paradigms"},
    {SMALL "[parallel]\nparadigm = server ring\n[parallel server]\nchunks = 3\n", 8,
     "parallel.chunks means nothing to paradigm = server: it is a key of ring"},
    {SMALL "[parallel]\nparadigm = ring hybrid\n[testcase]\nnodes = 4\n[testcase hybrid]\nnodes = "
           "3\n[parallel hybrid]\nreplicas = 2\n",
     12, "nodes = 3 cannot be dealt evenly to replicas = 2"},
    {SMALL "[testcase]\nnodes = 2:4\n[testcase federated]\ncores = 2\n", 8,
     "cores is set twice: nodes = 2:4 in line 6 says it already"},
    {SMALL "[cluster]\nmin-workers = 4\n[testcase]\nnodes = 3\n", 6,
     "min-workers = 4 is more than nodes = 3: the run would never start"},
    {"[data]\ndataset = cifar\n[model]\nname = x\n", 2,
     "data.dataset = cifar: no such data set; did you mean cifar10?"},
    {"[data]\ndataset = zzzzzzzz\n[model]\nname = x\n", 2, "dmlctl datasets lists them"},
    {"[data]\ndataset = csv\n[model]\nname = x\n", 2,
     "data.dataset = csv has no usual place: say in [data] path = where its files are"},
    {"[data]\ndataset = synth\n", 0,
     "no model: say in [model] name = which; dmlctl models lists them"},
    {"[data]\ndataset = synth\n[model]\nname =\n", 4, "no model: say in [model] name = which"},
    {"", 0, "no model"},
};

/* One text per slip as it stands in the file, and as a worker would be told: the same sentence. */
static void test_slips(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(slips); i++) {
        struct dml_err err = {0};
        struct dml_testcases *t = NULL;
        tap_int(dml_testcase_parse(slips[i].text, strlen(slips[i].text), "my.conf", plugin_dir, &t,
                                   &err),
                -EINVAL, slips[i].words);
        tap_has(err.text, slips[i].words, "sentence");
        tap_str(err.file, "my.conf", "file");
        tap_int(err.line, slips[i].line, "line");
        tap_ok(t == NULL, "nothing is set");
        dml_testcases_free(t);
    }
}

static void test_sizes(void)
{
    static char text[300000];
    struct dml_err err = {0};
    struct dml_testcases *t = NULL;
    size_t len = (size_t)sprintf(text, SMALL "[train]\nseed =");
    for (int i = 0; i < 1001; i++)
        len += (size_t)sprintf(text + len, " %d", i);
    tap_int(dml_testcase_parse(text, len, "my.conf", plugin_dir, &t, &err), -EINVAL,
            "too long a list");
    tap_has(err.text, "train.seed has 1001 words; with the other lists that makes more than 1000",
            "sentence");
    tap_int(err.line, 6, "line");
    len -= strlen(" 1000");
    tap_int(dml_testcase_parse(text, len, "my.conf", NULL, &t, &err), 0, "as long as allowed");
    tap_int(t ? (long long)t->n_cases : 0, 1000, "cases");
    dml_testcases_free(t);
    t = NULL;

    /* A product that does not fit in any integer. */
    len = (size_t)sprintf(text, SMALL "[train]\n");
    for (const struct dml_opt *o = dml_train_opts; o->name; o++) {
        len += (size_t)sprintf(text + len, "%s =", o->name);
        for (int i = 0; i < 900; i++)
            len += (size_t)sprintf(text + len, " %d", i);
        len += (size_t)sprintf(text + len, "\n");
    }
    tap_int(dml_testcase_parse(text, len, "my.conf", plugin_dir, &t, &err), -EINVAL,
            "lists whose product overflows");
    tap_has(err.text, "more than 1000 test cases", "sentence");
}

static void test_without_plugins(void)
{
    struct dml_err err = {0};
    struct dml_testcases *t = NULL;
    tap_int(dml_testcase_parse(SMALL, strlen(SMALL), "my.conf", "/nonexistent", &t, &err), -EINVAL,
            "no folder of strategies");
    tap_has(err.text, "strategy.name = fedavg: ", "the default is named");
    tap_has(err.text, "/nonexistent", "and the folder");
}

int main(void)
{
    if (!make_plugin_dir())
        return 99;
    test_slips();
    test_sizes();
    test_without_plugins();
    drop_plugin_dir();
    return tap_done();
}
