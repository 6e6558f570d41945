/* Results for tests: three cases of two runs, figures chosen so that the table can be checked by
 * hand. */
#pragma once

#include <assert.h>
#include <stdio.h>

#include "report/result.h"

__attribute__((unused)) static void sample_run(struct dml_result_case *c, unsigned repeat,
                                               uint64_t t_ms, uint64_t w_ms, double accuracy)
{
    struct dml_result_run *run = dml_results_add_run(c, repeat);
    assert(run);
    run->totals = (struct dml_run_totals){
        .t_us = t_ms * 1000,
        .work_us = w_ms * 1000,
        .overhead_us = (t_ms - w_ms) * 1000,
        .n_rounds = 4,
        .loss = 2.0 * (1.0 - accuracy),
        .accuracy = accuracy,
        .sent_bytes = 1000000,
        .received_bytes = 900000,
    };
    struct dml_round_worker workers[2] = {
        {.rank = 1,
         .id = "pi1",
         .work_us = w_ms * 250,
         .n_samples = 500,
         .loss = 0.1,
         .temperature_c = 55.25,
         .throttled = 0},
        {.rank = 2,
         .id = "pi\"2,",
         .work_us = w_ms * 250,
         .n_samples = 501,
         .loss = 1.0 / 3.0,
         .temperature_c = -1.0,
         .throttled = -1},
    };
    for (uint64_t i = 1; i <= 4; i++) {
        struct dml_round round = {
            .round = i,
            .n_rounds = 4,
            .n_participants = 2,
            .n_expected = 2,
            .t_us = t_ms * 250,
            .work_us = w_ms * 250,
            .overhead_us = (t_ms - w_ms) * 250,
            .sent_bytes = 250000,
            .received_bytes = 225000,
            .unfiltered_bytes = i % 2 == 0 ? 500000 : 0,
            .loss = 2.3 / (double)i + 0.01 * repeat,
            .evaluated = i % 2 == 0,
            .eval_loss = i % 2 == 0 ? 2.5 / (double)i : 0.0,
            .accuracy = i % 2 == 0 ? accuracy * (double)i / 4.0 : 0.0,
            .eval_us = i % 2 == 0 ? 12345 : 0,
            .workers = workers,
        };
        int e = dml_results_add_round(run, &round);
        assert(e == 0);
        (void)e;
    }
}

/* The paper's three cases in round numbers: W falls with the nodes, O grows. */
__attribute__((unused)) static struct dml_results *sample_results(void)
{
    static const struct {
        const char *label;
        unsigned nodes;
        double cores;
        uint64_t t_ms[2], w_ms[2];
        double accuracy[2];
    } cases[] = {
        {"1:2", 1, 2.0, {90000, 92000}, {89000, 91000}, {0.570, 0.580}},
        {"2:4", 2, 4.0, {48000, 48200}, {45000, 45000}, {0.560, 0.565}},
        {"3:6", 3, 6.0, {35000, 36000}, {30000, 31000}, {0.555, 0.550}},
    };
    struct dml_results *r = dml_results_new("cifar10-nodes");
    assert(r);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct dml_result_case *c =
            dml_results_add_case(r, cases[i].label, "federated", "fedavg", "cifar-cnn", "cifar10",
                                 cases[i].nodes, cases[i].cores);
        assert(c);
        for (unsigned k = 0; k < 2; k++)
            sample_run(c, k, cases[i].t_ms[k], cases[i].w_ms[k], cases[i].accuracy[k]);
    }
    return r;
}

/* The table for people. Caller frees. */
__attribute__((unused)) static char *table_of(const struct dml_results *r, bool all_nodes)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    dml_results_print_table(r, all_nodes, f);
    (void)fclose(f);
    return text;
}
