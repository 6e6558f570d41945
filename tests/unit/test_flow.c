/* What flows between nodes: figures per step and node, the columns of labels, the tables. */
#include <errno.h>
#include <math.h>

#include "base/err.h"
#include "report/flow.h"
#include "report/label.h"
#include "report/result.h"
#include "tests/tap.h"
#include "tests/unit/results_sample.h"

/* A run of two rounds of ten steps each on two nodes, which take 4 s and 6 s. */
static struct dml_result_run *add_run(struct dml_result_case *c, unsigned repeat, uint64_t more_us)
{
    struct dml_result_run *run = dml_results_add_run(c, repeat);
    if (!run)
        return NULL;
    bool has_parts = !strcmp(c->paradigm, "ring"), filtered = !strcmp(c->paradigm, "server");
    for (uint64_t i = 1; i <= 2; i++) {
        struct dml_round_worker workers[2] = {
            {.rank = 1,
             .id = "pi1",
             .work_us = 1500000 * i,
             .idle_us = 500000,
             .n_samples = 0,
             .sending_us = 1000000,
             .exposed_us = 250000,
             .sent_bytes = 4000000,
             .n_steps = 10,
             .received_bytes = 3000000,
             .throttled = -1,
             .temperature_c = -1.0},
            {.rank = 2,
             .id = "pi2",
             .work_us = 1000000,
             .idle_us = 2000000,
             .n_samples = 480,
             .sending_us = 1750000 * i,
             .exposed_us = 1750000 * i,
             .sent_bytes = 3000000,
             .n_steps = 9,
             .received_bytes = 4000000,
             .throttled = -1,
             .temperature_c = -1.0},
        };
        if (has_parts) {
            (void)strcpy(workers[0].layers, "1-3 7");
            (void)strcpy(workers[1].layers, "4-6 8-9");
        }
        struct dml_round round = {.round = i,
                                  .n_rounds = 2,
                                  .n_participants = 2,
                                  .n_expected = 2,
                                  .t_us = 2000000 * (i + 1) + more_us,
                                  .sent_bytes = 100000,
                                  .received_bytes = 300000,
                                  .sending_us = 250000,
                                  .unfiltered_bytes = filtered ? 1000000 : 0,
                                  .workers = workers};
        round.overhead_us = (int64_t)round.t_us;
        if (dml_results_add_round(run, &round) < 0)
            return NULL;
        run->totals.t_us += round.t_us;
        run->totals.work_us += 1500000;
    }
    run->totals.overhead_us = run->totals.t_us - run->totals.work_us;
    run->totals.accuracy = 0.5;
    run->totals.n_rounds = 2;
    return run;
}

static struct dml_results *sample(void)
{
    static const struct {
        const char *label, *paradigm;
    } cases[] = {{"2:2 paradigm=ring", "ring"},
                 {"2:2 paradigm=server staleness=0 significance=0.01", "server"}};
    struct dml_results *r = dml_results_new("rings");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct dml_result_case *c = dml_results_add_case(r, cases[i].label, cases[i].paradigm, "",
                                                         "resnet-20", "cifar10", 2, 2.0);
        if (!c || !add_run(c, 0, 0))
            tap_ok(false, "out of memory");
    }
    return r;
}

static void test_figures(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample();
    _cleanup_(dml_flow_done) struct dml_flow ring = {0}, server = {0};
    tap_int(dml_flow_make(&r->cases[0], &ring), 0, "a ring");
    tap_ok(ring.passes, "hands data on");
    tap_near(ring.t_s, 10.0, 1e-12, "T");
    tap_near(ring.n_steps, 20.0, 1e-12, "a round has the steps of the node that made most");
    tap_near(ring.step_s, 0.5, 1e-12, "time of a step");
    tap_near(ring.samples_per_s, 96.0, 1e-12, "samples of all nodes by T");
    tap_near(ring.node_bytes, 14e6 / 2 / 20, 1e-6, "what a node sends in a step");
    tap_near(ring.master_bytes, 8e5 / 20, 1e-6, "what the master sends and receives in a step");
    tap_ok(isnan(ring.saved), "no filter, nothing saved");
    tap_int((long long)ring.n_nodes, 2, "nodes, the master not among them");
    if (ring.n_nodes == 2) {
        const struct dml_flow_node *a = &ring.nodes[0], *b = &ring.nodes[1];
        tap_str(a->id, "pi1", "name");
        tap_str(b->layers, "4-6 8-9", "layers");
        tap_near(a->compute_s, 4.5, 1e-12, "compute");
        tap_near(a->transfer_s, 2.0, 1e-12, "transfer");
        tap_near(a->idle_s, 1.0, 1e-12, "idle");
        tap_near(a->overlap, 0.75, 1e-12, "three quarters of the transfer were hidden");
        tap_near(b->overlap, 0.0, 1e-12, "nothing was");
        tap_near(b->received_bytes, 8e6, 1e-6, "received");
    }
    tap_near(ring.compute_s, 4.5, 1e-12, "c is the largest compute");
    tap_near(ring.transfer_s, 5.25, 1e-12, "T the largest transfer, of another node");

    tap_int(dml_flow_make(&r->cases[1], &server), 0, "a server");
    tap_near(server.saved, 0.6, 1e-12, "saved by the filter");
    tap_int((long long)server.n_nodes, 3, "nodes, the master among them");
    if (server.n_nodes == 3) {
        tap_str(server.nodes[0].id, "master", "which is the first");
        tap_near(server.nodes[0].transfer_s, 0.5, 1e-12, "its transfer");
        tap_ok(isnan(server.nodes[0].compute_s) && isnan(server.nodes[0].overlap), "no more");
    }
}

static void test_repeats(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample();
    _cleanup_(dml_flow_done) struct dml_flow flow = {0}, none = {0};
    (void)add_run(&r->cases[0], 1, 1000000);
    struct dml_result_run *failed = add_run(&r->cases[0], 2, 7);
    failed->failed = true;
    tap_int(dml_flow_make(&r->cases[0], &flow), 0, "two runs and a failed one");
    tap_near(flow.t_s, 11.0, 1e-12, "the mean T of the two");
    tap_near(flow.n_steps, 20.0, 1e-12, "steps of one");
    tap_near(flow.step_s, 0.55, 1e-12, "time of a step");
    tap_near(flow.nodes[0].compute_s, 4.5, 1e-12, "compute of one");
    tap_near(flow.node_bytes, 14e6 / 2 / 20, 1e-6, "bytes of a step");
    for (size_t i = 0; i < r->cases[0].n_runs; i++)
        r->cases[0].runs[i].failed = true;
    tap_int(dml_flow_make(&r->cases[0], &none), 0, "only failed ones");
    tap_ok(none.n_nodes == 0 && isnan(none.step_s) && isnan(none.compute_s), "say nothing");
}

/* Results of threads have no times of transfers, those of older versions no steps either. */
static void test_unknown(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample();
    _cleanup_(dml_flow_done) struct dml_flow threads = {0}, old = {0}, odd = {0};
    struct dml_round *rounds = r->cases[0].runs[0].rounds;
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            struct dml_round_worker *w = (struct dml_round_worker *)&rounds[i].workers[k];
            w->sending_us = w->exposed_us = 0;
        }
    tap_int(dml_flow_make(&r->cases[0], &threads), 0, "threads");
    tap_ok(isnan(threads.transfer_s) && isnan(threads.nodes[0].overlap), "measured no transfer");
    tap_near(threads.compute_s, 4.5, 1e-12, "but what was computed");
    tap_near(threads.node_bytes, 14e6 / 2 / 20, 1e-6, "and sent");
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            struct dml_round_worker *w = (struct dml_round_worker *)&rounds[i].workers[k];
            w->sending_us = 1000000;
            w->exposed_us = DML_EVENT_UNKNOWN;
            w->n_steps = 0;
        }
    tap_int(dml_flow_make(&r->cases[0], &old), 0, "an old file");
    tap_near(old.transfer_s, 2.0, 1e-12, "has transfers");
    tap_ok(isnan(old.nodes[0].overlap) && isnan(old.step_s) && isnan(old.node_bytes),
           "but no overlap and no steps");
    ((struct dml_round_worker *)&rounds[0].workers[0])->rank = 1000000;
    ((struct dml_round_worker *)&rounds[0].workers[1])->exposed_us = 999999999;
    tap_int(dml_flow_make(&r->cases[0], &odd), 0, "what no dml writes");
    tap_int((long long)odd.n_nodes, 2, "is left out");
}

static void test_tables(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample();
    _cleanup_(dml_mem_freep) char *text = table_of(r, false);
    tap_str(text,
            "rings: resnet-20 on cifar10, nodes:cores 2:2\n"
            "\n"
            "paradigm staleness significance T [s] W [s] O [s]   W%   O%    S accuracy%\n"
            "ring     –         –            10.00  3.00  7.00 30.0 70.0 1.00      50.0\n"
            "server   0         0.01         10.00  3.00  7.00 30.0 70.0 1.00      50.0\n"
            "\n"
            "T total, W mean work of the nodes, O = T - W; S = T of 2:2 paradigm=ring / T of\n"
            "the case.\n"
            "\n"
            "paradigm staleness significance step [ms] samples/s sent [MB] master [MB] saved%\n"
            "ring     –         –                500.0     96.00     0.350       0.040      –\n"
            "server   0         0.01             500.0     96.00     0.350       0.040   60.0\n"
            "\n"
            "Per step: T / steps; what a node sends on average, what the master sends and\n"
            "receives.\n"
            "saved: share of the master's bytes that the filter (significance) kept back.\n"
            "\n"
            "node    layers   compute [s]  transfer [s]  idle [s]  overlap%  sent [MB]\n"
            "2:2 paradigm=ring\n"
            "pi1     1-3 7           4.50          2.00      1.00      75.0       8.00\n"
            "pi2     4-6 8-9         2.00          5.25      4.00       0.0       6.00\n"
            "2:2 paradigm=server staleness=0 significance=0.01\n"
            "master  –                  –          0.50         –         –       0.20\n"
            "pi1     –               4.50          2.00      1.00      75.0       8.00\n"
            "pi2     –               2.00          5.25      4.00       0.0       6.00\n"
            "\n"
            "paradigm  staleness  significance  c [s]  T [s]  max(c, T)  c + T  measured\n"
            "ring      –          –              4.50   5.25       5.25   9.75     10.00\n"
            "server    0          0.01           4.50   5.25       5.25   9.75     10.00\n"
            "\n"
            "The law: time → max(c, T); c the largest compute of a node, T here its largest\n"
            "transfer. overlap: share of the transfer during which the node was not idle.\n",
            "the tables of two paradigms");

    /* 12 rings of 3 rows: 24 at most are shown unasked. */
    for (int i = 0; i < 12; i++) {
        char label[40];
        (void)snprintf(label, sizeof(label), "2:2 paradigm=ring chunks=%d", i);
        (void)add_run(dml_results_add_case(r, label, "ring", "", "resnet-20", "cifar10", 2, 2.0), 0,
                      0);
    }
    _cleanup_(dml_mem_freep) char *few = table_of(r, false), *all = table_of(r, true);
    tap_ok(!strstr(few, "compute [s]"), "many nodes are not shown");
    tap_has(few, "What each node did: dmlctl report --nodes.\n", "but how to see them");
    tap_has(all, "compute [s]", "asked for, they are");
}

/* Nothing of this for a paradigm that exchanges once a round. */
static void test_others(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = dml_results_new("x");
    (void)add_run(dml_results_add_case(r, "2:2", "federated", "fedavg", "m", "d", 2, 2.0), 0, 0);
    _cleanup_(dml_mem_freep) char *text = table_of(r, true);
    tap_ok(!strstr(text, "step [ms]") && !strstr(text, "compute"), "federated has one table");
    /* Beside one that does, it has its speed there. */
    (void)add_run(dml_results_add_case(r, "3:1.5", "allreduce", "", "m", "d", 3, 1.5), 0, 0);
    _cleanup_(dml_mem_freep) char *both = table_of(r, true);
    tap_has(both,
            "case   nodes  step [ms]  samples/s  sent [MB]  master [MB]\n"
            "2:2      2×1      500.0      96.00          –            –\n"
            "3:1.5  3×0.5      500.0      96.00      0.350        0.040\n",
            "both paradigms");
    tap_ok(!strstr(both, "Break-even"), "they do not lie on one curve");
}

static void columns(const char *const *labels, size_t n, const char *want)
{
    _cleanup_(dml_results_freep) struct dml_results *r = dml_results_new("x");
    _cleanup_(dml_labels_done) struct dml_labels l = {0};
    char text[500] = "";
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        (void)dml_results_add_case(r, labels[i], "ring", "", "", "", 1, 1.0);
    tap_int(dml_labels_init(&l, r), 0, "columns");
    if (l.nodes)
        used += (size_t)snprintf(text, sizeof(text), "(%s) ", l.nodes);
    for (size_t k = 0; k < l.n_columns; k++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s:", l.titles[k]);
        for (size_t i = 0; i < n; i++) {
            const char *cell = l.cells[i * DML_LABEL_COLUMNS_MAX + k];
            used += (size_t)snprintf(text + used, sizeof(text) - used, " [%s]", cell ? cell : "–");
        }
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s",
                                 k + 1 < l.n_columns ? ", " : "");
    }
    tap_str(text, want, labels[0]);
}

#define COLUMNS(want, ...)                                                                         \
    do {                                                                                           \
        static const char *const labels[] = {__VA_ARGS__};                                         \
        columns(labels, ARRAY_SIZE(labels), want);                                                 \
    } while (0)

static void test_labels(void)
{
    COLUMNS("case: [1:2] [2:4]", "1:2", "2:4");
    COLUMNS("case: [3:3]", "3:3");
    COLUMNS("case: [1:1] [4:4], paradigm: [standalone] [hybrid]", "1:1 paradigm=standalone",
            "4:4 paradigm=hybrid");
    COLUMNS("(3:3) paradigm: [ring] [server], chunks: [2] [–], staleness: [–] [4]",
            "3:3 paradigm=ring chunks=2", "3:3 paradigm=server staleness=4");
    COLUMNS("(1) round-deadline: [90 s] [5 min], mu: [1] [2]", "1 round-deadline=90 s mu=1",
            "1 round-deadline=5 min mu=2");
    COLUMNS("case: [3:6 größer] [3:6]", "3:6 größer", "3:6");
    COLUMNS("(1) model: [/a=b/c] [d]", "1 model=/a=b/c", "1 model=d");
    COLUMNS("case: [] [ ] [=]", "", " ", "=");
    COLUMNS("case: [1 a=1 b=1 c=1 d=1 e=1 f=1] [1]", "1 a=1 b=1 c=1 d=1 e=1 f=1", "1");
}

static void test_files(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample(), *back = NULL, *old = NULL;
    _cleanup_(dml_mem_freep) char *json = NULL, *again = NULL, *csv = NULL;
    tap_int(dml_results_to_json(r, &json), 0, "written");
    tap_int(dml_results_from_json(json, strlen(json), "x.json", &back, NULL), 0, "read");
    tap_int(back ? dml_results_to_json(back, &again) : -EINVAL, 0, "written again");
    tap_str(again, json, "byte for byte the same");
    if (back) {
        const struct dml_round_worker *w = &back->cases[0].runs[0].rounds[1].workers[1];
        tap_int((long long)w->n_steps, 9, "steps");
        tap_int((long long)w->exposed_us, 3500000, "exposed");
        tap_str(w->layers, "4-6 8-9", "layers");
        tap_int((long long)back->cases[0].runs[0].rounds[0].sending_us, 250000, "the master's");
    }
    static const char *const keys[] = {"step_s",     "samples_per_s", "node_bytes_per_step",
                                       "transfer_s", "compute_s",     "master_bytes_per_step",
                                       "overlap",    "saved_share",   "per_node"};
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "\"%s\":", keys[i]);
        tap_has(json, key, "scripts find it");
    }
    static const char before[] =
        "{\"name\":\"x\",\"cases\":[{\"label\":\"1\",\"paradigm\":\"ring\",\"runs\":[{\"t_us\":9,"
        "\"rounds\":[{\"participants\":1,\"workers\":[{\"rank\":1,\"sending_us\":5}]}]}]}]}";
    tap_int(dml_results_from_json(before, strlen(before), "old.json", &old, NULL), 0,
            "an old file");
    tap_ok(old && old->cases[0].runs[0].rounds[0].workers[0].exposed_us == DML_EVENT_UNKNOWN,
           "does not say that nothing was exposed");

    tap_int(dml_results_nodes_csv(r, &csv), 0, "CSV of the nodes");
    tap_str(
        csv,
        "name,label,nodes,cores,paradigm,rank,node,layers,compute_s,transfer_s,idle_s,exposed_s,"
        "overlap,sent_bytes,received_bytes,run_t_s,throttled\r\n"
        "rings,2:2 paradigm=ring,2,2,ring,1,pi1,1-3 7,4.5,2,1,0.5,0.75,8000000,6000000,10,\r\n"
        "rings,2:2 paradigm=ring,2,2,ring,2,pi2,4-6 8-9,2,5.25,4,5.25,0,6000000,8000000,10,\r\n"
        "rings,2:2 paradigm=server staleness=0 significance=0.01,2,2,server,0,master,,,0.5,,,,"
        "200000,600000,10,\r\n"
        "rings,2:2 paradigm=server staleness=0 significance=0.01,2,2,server,1,pi1,,4.5,2,1,0.5,"
        "0.75,8000000,6000000,10,\r\n"
        "rings,2:2 paradigm=server staleness=0 significance=0.01,2,2,server,2,pi2,,2,5.25,4,5.25,"
        "0,6000000,8000000,10,\r\n",
        "a row per case and node");
}

int main(void)
{
    test_figures();
    test_repeats();
    test_unknown();
    test_tables();
    test_others();
    test_labels();
    test_files();
    return tap_done();
}
