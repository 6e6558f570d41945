/*
 * One experiment as an INI file; expansion into test cases.
 *
 * Each section is described by the option table of the module that uses it; this module assembles
 * them. A value with several words makes a matrix (`nodes = 1 2 3`, `learning-rate = 0.1 0.01`),
 * except for keys flagged DML_OPT_WORDS. `nodes = 1:2 2:4 3:6` gives pairs of nodes and cores, the
 * source paper's N:C notation, and then excludes `cores`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/opt.h"
#include "data/dataset.h"
#include "nn/optim.h"
#include "strategy/loader.h"

struct dml_err;

#define DML_TESTCASE_CASES_MAX 1000

/* Section [testcase]. In an expanded case nodes and cores are single numbers. */
struct dml_case_options {
    char *name;
    uint64_t nodes; /* workers; 1 for standalone */
    double cores;   /* total over the cluster; 0 = all cores of every worker */
    uint64_t repeats;
};

/* Section [model]. */
struct dml_model_options {
    char *name; /* shipped model or path */
};

/* The text of a model file that came along with a test case: whoever runs it need not have it. */
struct dml_testcase_model {
    char *name, *text; /* as the test case names it */
};

enum dml_paradigm_kind {
    DML_PARADIGM_STANDALONE,
    DML_PARADIGM_FEDERATED,
    DML_PARADIGM_ALLREDUCE,
    DML_PARADIGM_SERVER,
    DML_PARADIGM_PIPELINE,
    DML_PARADIGM_RING,
    DML_PARADIGM_HYBRID,
    DML_PARADIGM_MAX_
};

#define DML_STALENESS_UNBOUNDED UINT64_MAX

/* Section [parallel]. */
struct dml_parallel_options {
    int paradigm;          /* enum dml_paradigm_kind */
    uint64_t accumulate;   /* allreduce: minibatches of one exchange */
    uint64_t bucket;       /* allreduce, hybrid: bytes of gradient that travel together */
    uint64_t staleness;    /* server: steps ahead of the slowest; DML_STALENESS_UNBOUNDED */
    double significance;   /* server: share of its value; 0: everything is sent */
    uint64_t replicas;     /* hybrid; see dml_parallel_replicas() */
    uint64_t stages;       /* 0: as many as there are; see dml_parallel_stages() */
    uint64_t chunks;       /* ring: runs of layers on each node */
    uint64_t micro_batches;
    char *cut;             /* "measured", "estimated", or layers that begin runs 2 … */
    uint64_t node_memory;  /* most bytes that a stage may need; 0: no limit */
    bool overlap;
    uint64_t checkpoint_steps; /* between two agreed states; 0: a round */
};

/* What a run does that has lost a node. */
enum dml_on_loss { DML_ON_LOSS_CONTINUE, DML_ON_LOSS_WAIT };

/* Section [cluster]. */
struct dml_cluster_options {
    uint64_t min_workers;       /* a run starts with at least so many; 0 = nodes */
    uint64_t wait_us;           /* how long to wait for them before giving up; 0 = for ever */
    uint64_t round_deadline_us; /* a round ends then with whoever has answered */
    double quorum;              /* share of the nodes that must have answered, else the run fails */
    int on_loss;                /* enum dml_on_loss */
    uint64_t step_deadline_us;  /* a node that keeps the others waiting so long is left out */
};

struct dml_testcase {
    struct dml_case_options testcase;
    struct dml_data_options data;
    struct dml_model_options model;
    const char *model_text; /* borrowed of the struct dml_testcases; NULL: it is looked up */
    struct dml_train_options train;
    struct dml_parallel_options parallel;
    struct dml_cluster_options cluster;
    char *strategy;            /* [strategy] name; "" when the paradigm takes none */
    struct dml_loader *plugin; /* open while the test case lives */
    void *strategy_options;    /* plugin's own struct, filled; NULL when it has none */
    char *label;               /* what tells this case from its siblings: "3:6", or
                                  "3:6 learning-rate=0.1" */
};

struct dml_testcases {
    struct dml_testcase *cases;
    size_t n_cases;
    struct dml_testcase_model *models;
    size_t n_models;
};

/*
 * Reads FILE and FILE.d / *.conf, checks every key against the tables, expands the matrix
 * (row-major in the order of the keys in the file) and checks each case as a whole.
 * plugin_dir: where strategies are. NULL: of [strategy] only `name` is looked at (plugin and
 * strategy_options stay NULL); a worker takes its order so, because only rank 0 aggregates.
 * Returns 0, -EINVAL (err: file, line, the offending word, the nearest right one), errno of
 * reading. Owner: caller, dml_testcases_free().
 */
int dml_testcase_load(const char *path, const char *plugin_dir, struct dml_testcases **ret,
                      struct dml_err *err);

/* The same for text in memory; `file` is for messages. Never crashes on any bytes. */
int dml_testcase_parse(const char *text, size_t len, const char *file, const char *plugin_dir,
                       struct dml_testcases **ret, struct dml_err *err);
struct dml_testcases *dml_testcases_free(struct dml_testcases *t);
DML_MEM_CLEANUP(struct dml_testcases, dml_testcases_free);

/* INI text of one expanded case, complete, such that parsing it gives one case that is equal but
 * for its label. Returns 0 or -ENOMEM. Caller frees. */
int dml_testcase_print(const struct dml_testcase *tc, char **ret_text);

/* Cores of one worker: cores / nodes, or 0 for all of them. */
double dml_testcase_cores_per_node(const struct dml_testcase *tc);

/* Every key with default and help, for `dmlctl check --help-keys` and the man page's test. A
 * strategy's own keys are in its dml_strategy.opts. */
void dml_testcase_help(FILE *f);
