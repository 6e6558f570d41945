/*
 * Most keys of a distributed training mean something to one or two paradigms. Which is a property
 * of the key and stands in one table, from which the refusals, the labels of a matrix and what a
 * worker is told are derived.
 */
#include "conf/parallel.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/text.h"
#include "rpc/comm.h"

#define NAMES "standalone federated allreduce server pipeline ring hybrid"

#define BIT(kind)  (1u << DML_PARADIGM_##kind)
#define STAGED     (BIT(PIPELINE) | BIT(RING) | BIT(HYBRID)) /* layers are dealt to nodes */
#define LEGS       (BIT(ALLREDUCE) | STAGED)                 /* all nodes make every step together */
#define STRATEGIES BIT(FEDERATED)
#define DEPTH_MAX  4096 /* micro-batches: more than a minibatch of these machines has samples */

#define MEASURED  "measured" /* values of `cut` */
#define ESTIMATED "estimated"

#define PARALLEL(key, type_, field, ...)                                                           \
    {                                                                                              \
        .section = "parallel", .name = key, .type = type_,                                         \
        .offset = offsetof(struct dml_parallel_options, field), __VA_ARGS__                        \
    }

const struct dml_opt dml_parallel_opts[] = {
    PARALLEL("paradigm", DML_OPT_CHOICE, paradigm, .dflt = "federated", .choices = NAMES,
             .help = "How the nodes train together (testcase.conf(5) explains each)"),
    PARALLEL("accumulate", DML_OPT_UINT, accumulate, .min = 1, .max = 1000000, .dflt = "1",
             .unit = "minibatches",
             .help = "allreduce: gradients that are added up before one is exchanged"),
    PARALLEL("bucket", DML_OPT_BYTES, bucket, .min = 4096, .max = 1 << 30, .dflt = "1 MiB",
             .help = "allreduce, hybrid: size of the pieces in which a gradient travels"),
    PARALLEL("staleness", DML_OPT_UINT, staleness, .min = 0, .max = 1000000, .dflt = "0",
             .unit = "steps", .choices = "unbounded",
             .help = "server: how far a worker may run ahead of the slowest; 0: synchronous"),
    PARALLEL("significance", DML_OPT_REAL, significance, .min = 0, .max = 1, .dflt = "0",
             .help = "server: a parameter is sent once it has changed by this share; 0: always"),
    PARALLEL("replicas", DML_OPT_UINT, replicas, .min = 1, .max = DML_COMM_RANKS_MAX - 1,
             .dflt = "1", .help = "hybrid: whole models that are trained side by side"),
    PARALLEL("stages", DML_OPT_UINT, stages, .min = 0, .max = DML_COMM_RANKS_MAX - 1, .dflt = "0",
             .help = "pipeline, ring, hybrid: nodes that share a model; 0: nodes / replicas"),
    PARALLEL("chunks", DML_OPT_UINT, chunks, .min = 1, .max = 64, .dflt = "2",
             .help = "ring: runs of layers on each node"),
    PARALLEL("micro-batches", DML_OPT_UINT, micro_batches, .min = 1, .max = DEPTH_MAX, .dflt = "4",
             .help = "pipeline, ring, hybrid: parts in which a minibatch passes the stages"),
    PARALLEL("cut", DML_OPT_TEXT, cut, .dflt = MEASURED, .max = 2048, .flags = DML_OPT_WORDS,
             .help = "pipeline, ring, hybrid: stages of even cost, measured or estimated, or the "
                     "numbers of the layers that begin them from the second on"),
    PARALLEL("node-memory", DML_OPT_BYTES, node_memory, .min = 0, .max = 9007199254740992.0,
             .dflt = "0",
             .help = "pipeline, ring, hybrid: most that a stage may need, its data apart; 0: no "
                     "limit"),
    PARALLEL("overlap", DML_OPT_BOOL, overlap, .dflt = "yes",
             .help = "allreduce, pipeline, ring, hybrid: no: nothing is computed during a transfer"),
    PARALLEL("checkpoint-steps", DML_OPT_UINT, checkpoint_steps, .min = 0, .max = 1000000000,
             .dflt = "0", .unit = "steps",
             .help = "allreduce, pipeline, ring, hybrid: steps a loss can cost; 0: a round"),
    {0},
};

/* Keys that not every paradigm knows. */
static const struct {
    const char *section, *key;
    unsigned paradigms;
} used_by[] = {
    {"parallel", "accumulate", BIT(ALLREDUCE)},
    {"parallel", "bucket", BIT(ALLREDUCE) | BIT(HYBRID)},
    {"parallel", "staleness", BIT(SERVER)},
    {"parallel", "significance", BIT(SERVER)},
    {"parallel", "replicas", BIT(HYBRID)},
    {"parallel", "stages", STAGED},
    {"parallel", "chunks", BIT(RING)},
    {"parallel", "micro-batches", STAGED},
    {"parallel", "cut", STAGED},
    {"parallel", "node-memory", STAGED},
    {"parallel", "overlap", LEGS},
    {"parallel", "checkpoint-steps", LEGS},
    {"cluster", "on-loss", LEGS | BIT(SERVER)},
    {"cluster", "step-deadline", LEGS | BIT(SERVER)},
};

static const char *const names[] = {
    [DML_PARADIGM_STANDALONE] = "standalone", [DML_PARADIGM_FEDERATED] = "federated",
    [DML_PARADIGM_ALLREDUCE] = "allreduce",   [DML_PARADIGM_SERVER] = "server",
    [DML_PARADIGM_PIPELINE] = "pipeline",     [DML_PARADIGM_RING] = "ring",
    [DML_PARADIGM_HYBRID] = "hybrid",
};

const char *dml_parallel_name(int kind)
{
    return kind >= 0 && (size_t)kind < ARRAY_SIZE(names) ? names[kind] : "?";
}

bool dml_parallel_takes_strategy(int kind)
{
    return STRATEGIES >> kind & 1u;
}

/* Bit k: paradigm k knows the key. */
static unsigned users(const char *section, const char *key)
{
    if (!strcmp(section, "strategy"))
        return STRATEGIES;
    for (size_t i = 0; i < ARRAY_SIZE(used_by); i++)
        if (!strcmp(used_by[i].section, section) && !strcmp(used_by[i].key, key))
            return used_by[i].paradigms;
    return UINT_MAX;
}

bool dml_parallel_uses(int kind, const char *section, const char *key)
{
    return users(section, key) >> kind & 1u;
}

/* "pipeline, ring and hybrid" */
static const char *list(unsigned paradigms, const char *last, char *buf, size_t buf_len)
{
    size_t used = 0;
    buf[0] = '\0';
    for (unsigned kind = 0; kind < ARRAY_SIZE(names); kind++) {
        if (!(paradigms >> kind & 1u))
            continue;
        bool is_last = !(paradigms >> kind >> 1);
        used += (size_t)snprintf(buf + used, buf_len - used, "%s%s",
                                 used == 0 ? ""
                                 : is_last ? last
                                           : ", ",
                                 names[kind]);
    }
    return buf;
}

int dml_parallel_check_keys(unsigned paradigms, const struct dml_ini *ini, struct dml_err *err)
{
    char chosen[100], others[100];
    for (size_t i = 0; i < ini->n_entries; i++) {
        const struct dml_ini_entry *e = &ini->entries[i];
        unsigned by = users(e->section, e->key);
        if (by & paradigms)
            continue;
        (void)list(paradigms, " or ", chosen, sizeof(chosen));
        (void)list(by, " and ", others, sizeof(others));
        if (!strcmp(e->section, "strategy"))
            return dml_err_at(err, -EINVAL, e->file, e->line,
                              "paradigm = %s takes no strategy, so [strategy] has no effect: remove "
                              "it, or write paradigm = %s",
                              chosen, others);
        return dml_err_at(err, -EINVAL, e->file, e->line,
                          "%s.%s means nothing to paradigm = %s: it is a key of %s", e->section,
                          e->key, chosen, others);
    }
    return 0;
}

uint64_t dml_parallel_replicas(const struct dml_testcase *tc)
{
    if (!(STAGED >> tc->parallel.paradigm & 1u))
        return tc->testcase.nodes;
    return tc->parallel.paradigm == DML_PARADIGM_HYBRID ? tc->parallel.replicas : 1;
}

uint64_t dml_parallel_stages(const struct dml_testcase *tc)
{
    if (!(STAGED >> tc->parallel.paradigm & 1u))
        return 1;
    if (tc->parallel.stages > 0)
        return tc->parallel.stages;
    return tc->testcase.nodes / dml_parallel_replicas(tc);
}

const char *dml_parallel_cut_layers(const struct dml_testcase *tc)
{
    const char *cut = tc->parallel.cut;
    bool finds = !cut[0] || !strcmp(cut, MEASURED) || !strcmp(cut, ESTIMATED);
    return finds ? NULL : cut;
}

bool dml_parallel_measures(const struct dml_testcase *tc)
{
    const char *cut = tc->parallel.cut;
    if (!(STAGED >> tc->parallel.paradigm & 1u) || (cut[0] && strcmp(cut, MEASURED)))
        return false;
    /* Three or more replicas add up their gradients in an order that depends on the cut. */
    return tc->train.deterministic != DML_DETERMINISTIC_STRICT || dml_parallel_replicas(tc) < 3;
}

static int refuse(const struct dml_ini *ini, const char *file, const char *key, struct dml_err *err,
                  const char *text)
{
    const struct dml_ini_entry *e = dml_ini_find(ini, "parallel", key);
    if (!e)
        e = dml_ini_find(ini, "testcase", "nodes");
    return dml_err_at(err, -EINVAL, e ? e->file : file, e ? e->line : 0, "%s", text);
}

/* replicas × stages = nodes. */
static int check_grid(const struct dml_testcase *tc, const struct dml_ini *ini, const char *file,
                      struct dml_err *err)
{
    uint64_t nodes = tc->testcase.nodes, replicas = dml_parallel_replicas(tc);
    uint64_t stages = dml_parallel_stages(tc);
    const char *name = names[tc->parallel.paradigm];
    char text[300];
    if (replicas * stages == nodes && stages > 0)
        return 0;
    if (tc->parallel.paradigm != DML_PARADIGM_HYBRID)
        (void)snprintf(text, sizeof(text),
                       "paradigm = %s with stages = %" PRIu64 " needs as many nodes, not nodes = "
                       "%" PRIu64 ": leave stages away, or write paradigm = hybrid for several "
                       "replicas",
                       name, stages, nodes);
    else if (tc->parallel.stages == 0)
        (void)snprintf(text, sizeof(text),
                       "nodes = %" PRIu64 " cannot be dealt evenly to replicas = %" PRIu64
                       ": nodes must be a multiple of replicas",
                       nodes, replicas);
    else
        (void)snprintf(text, sizeof(text),
                       "replicas = %" PRIu64 " of stages = %" PRIu64 " take %" PRIu64
                       " nodes, not nodes = %" PRIu64,
                       replicas, stages, replicas * stages, nodes);
    return refuse(ini, file, tc->parallel.stages ? "stages" : "replicas", err, text);
}

/* Ascending layers, one less than there are runs. */
static int check_cut(const struct dml_testcase *tc, const struct dml_ini *ini, const char *file,
                     struct dml_err *err)
{
    bool is_ring = tc->parallel.paradigm == DML_PARADIGM_RING;
    uint64_t chunks = is_ring ? tc->parallel.chunks : 1;
    uint64_t before = 1, n = 0, runs = dml_parallel_stages(tc) * chunks;
    const char *cut = dml_parallel_cut_layers(tc);
    char text[300], word[24];
    for (const char *p = cut; p && *p;) {
        size_t len = strcspn(p, " \t");
        uint64_t layer;
        (void)snprintf(word, sizeof(word), "%.*s", (int)(len < 20 ? len : 20), p);
        if (!dml_text_to_uint(word, &layer) || layer <= before) {
            (void)snprintf(text, sizeof(text),
                           "parallel.cut = %.60s: %s is not the number of a layer behind layer "
                           "%" PRIu64 ": write " MEASURED ", " ESTIMATED ", or ascending numbers "
                           "as dmlctl models NAME shows them",
                           cut, word, before);
            return refuse(ini, file, "cut", err, text);
        }
        before = layer;
        n++;
        p += len;
        p += strspn(p, " \t");
    }
    if (n == 0 || n + 1 == runs)
        return 0;
    (void)snprintf(text, sizeof(text),
                   "parallel.cut = %.60s makes %" PRIu64 " %s, but there are %" PRIu64, cut, n + 1,
                   is_ring ? "runs of layers" : "stages", runs);
    return refuse(ini, file, "cut", err, text);
}

int dml_parallel_check_case(const struct dml_testcase *tc, const struct dml_ini *ini,
                            const char *file, struct dml_err *err)
{
    char text[200];
    if (!(STAGED >> tc->parallel.paradigm & 1u))
        return 0;
    int r = check_grid(tc, ini, file, err);
    if (r == 0)
        r = check_cut(tc, ini, file, err);
    if (r < 0)
        return r;
    if (tc->parallel.micro_batches <= tc->train.batch_size)
        return 0;
    (void)snprintf(text, sizeof(text),
                   "micro-batches = %" PRIu64 " cannot be made of batch-size = %" PRIu64
                   ": each has at least one sample",
                   tc->parallel.micro_batches, tc->train.batch_size);
    return refuse(ini, file, "micro-batches", err, text);
}
