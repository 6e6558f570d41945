/*
 * The keys that belong to no module below: what an experiment is called, how large the cluster is,
 * which model, which paradigm, and what to do when workers are late.
 *
 * Defaults make `[data] dataset` and `[model] name` a complete test case: one worker, all its
 * cores, once. A worker that is gone is noticed by its stream or its heartbeats; the deadline of a
 * round is only for one that beats and never answers, so it can be long.
 */
#include "conf/sections.h"

#include <assert.h>
#include <string.h>

#include "conf/parallel.h"
#include "rpc/comm.h"

#define CASE(key, type_, field, ...)                                                               \
    {                                                                                              \
        .section = "testcase", .name = key, .type = type_,                                         \
        .offset = offsetof(struct dml_case_options, field), __VA_ARGS__                            \
    }
#define CLUSTER(key, type_, field, ...)                                                            \
    {                                                                                              \
        .section = "cluster", .name = key, .type = type_,                                          \
        .offset = offsetof(struct dml_cluster_options, field), __VA_ARGS__                         \
    }

#define WORKERS_MAX (DML_COMM_RANKS_MAX - 1) /* rank 0 is the master */

static const struct dml_opt case_opts[] = {
    CASE("name", DML_OPT_TEXT, name, .dflt = "", .max = 64, .flags = DML_OPT_WORDS,
         .help = "Name of the experiment and of its results; empty: the file's name"),
    CASE("nodes", DML_OPT_UINT, nodes, .min = 1, .max = WORKERS_MAX, .dflt = "1", .unit = "workers",
         .help = "Number of workers; N:C is N workers with C cores together"),
    CASE("cores", DML_OPT_REAL, cores, .min = 0, .max = 65536, .dflt = "0", .unit = "cores",
         .help = "Cores of all workers together, divided evenly, also fractions; 0: all they have"),
    CASE("repeats", DML_OPT_UINT, repeats, .min = 1, .max = 1000, .dflt = "1", .unit = "runs",
         .flags = DML_OPT_WORDS, .help = "How often each case is run, with seed, seed + 1, …"),
    {0},
};

static const struct dml_opt model_opts[] = {
    {"model", "name", DML_OPT_TEXT, offsetof(struct dml_model_options, name), .dflt = "",
     .max = 4096, .help = "A shipped model (dmlctl models) or the path of a .model file"},
    {0},
};

static const struct dml_opt strategy_opts[] = {
    {"strategy", "name", DML_OPT_TEXT, offsetof(struct dml_testcase, strategy), .dflt = "fedavg",
     .max = 63, .help = "How the master aggregates (dmlctl strategies); other keys are its own"},
    {0},
};

static const struct dml_opt cluster_opts[] = {
    CLUSTER("min-workers", DML_OPT_UINT, min_workers, .max = WORKERS_MAX, .dflt = "0",
            .unit = "workers", .help = "A run starts with at least so many; 0: all its nodes"),
    CLUSTER("wait", DML_OPT_DURATION, wait_us, .max = 1e7, .dflt = "0",
            .help = "How long to wait for them; 0: for ever"),
    CLUSTER("round-deadline", DML_OPT_DURATION, round_deadline_us, .max = 1e7, .dflt = "1 h",
            .help = "A round ends then with whoever has answered; 0: never"),
    CLUSTER("quorum", DML_OPT_REAL, quorum, .min = 0, .max = 1, .dflt = "0.5",
            .help = "Share of the nodes that must have answered, else the run fails"),
    CLUSTER("on-loss", DML_OPT_CHOICE, on_loss, .dflt = "continue", .choices = "continue wait",
            .help = "Without a lost node: go on with the others, or wait until it is back"),
    CLUSTER("step-deadline", DML_OPT_DURATION, step_deadline_us, .min = 0.1, .max = 1e6,
            .dflt = "60 s", .help = "A node that keeps the others waiting so long is left out"),
    {0},
};

const struct dml_section dml_sections[] = {
    {case_opts, offsetof(struct dml_testcase, testcase)},
    {dml_data_opts, offsetof(struct dml_testcase, data)},
    {model_opts, offsetof(struct dml_testcase, model)},
    {dml_train_opts, offsetof(struct dml_testcase, train)},
    {dml_parallel_opts, offsetof(struct dml_testcase, parallel)},
    {strategy_opts, 0},
    {cluster_opts, offsetof(struct dml_testcase, cluster)},
    {0},
};

static_assert(sizeof(dml_sections) / sizeof(dml_sections[0]) == DML_SECTIONS_N + 1,
              "DML_SECTIONS_N counts the rows");

void dml_sections_tables(const struct dml_opt *plugin,
                         const struct dml_opt *ret_tables[DML_SECTIONS_N + 2])
{
    size_t n = 0;
    for (const struct dml_section *s = dml_sections; s->opts; s++)
        ret_tables[n++] = s->opts;
    ret_tables[n++] = plugin;
    ret_tables[DML_SECTIONS_N + 1] = NULL;
}

int dml_sections_set(struct dml_testcase *tc, const struct dml_opt *row, const char *value,
                     const char *file, unsigned line, struct dml_err *err)
{
    const struct dml_section *s = dml_sections;
    while (s->opts && strcmp(s->opts->section, row->section))
        s++;
    assert(s->opts);
    return dml_opt_set(row, (char *)tc + s->offset, value, file, line, err);
}
