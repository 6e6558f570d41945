/* What the table and the CSV say of workers that were lost or late, and of boards that were
 * throttled. */
#include <stdlib.h>
#include <string.h>

#include "report/result.h"
#include "report/table.h"
#include "tests/tap.h"
#include "tests/unit/results_sample.h"

static struct dml_round_worker *worker(struct dml_results *r, size_t i_case, size_t i_run,
                                       size_t i_round, size_t i)
{
    return (struct dml_round_worker *)&r->cases[i_case].runs[i_run].rounds[i_round].workers[i];
}

static void test_quiet(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    worker(r, 0, 0, 0, 0)->throttled = 0x50000; /* since boot: perhaps before the run */
    _cleanup_(dml_mem_freep) char *text = table_of(r, false);
    tap_ok(!strchr(text, '!'), "where nothing happened nothing is said");
}

static void test_table(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    for (size_t i = 0; i < r->n_cases; i++)
        r->cases[i].n_runs = 1;
    r->cases[1].runs[0].totals.n_lost = 1;
    r->cases[1].runs[0].rounds[2].n_participants = 1;
    r->cases[1].runs[0].rounds[3].n_participants = 1;
    r->cases[2].runs[0].totals.n_lost = 2;
    for (size_t i = 0; i < 4; i++) {
        worker(r, 2, 0, i, 0)->throttled = 0x50004;
        worker(r, 2, 0, i, 1)->throttled = i == 3 ? 0x50005 : 0;
    }
    _cleanup_(dml_mem_freep) char *text = table_of(r, false), *none = NULL;
    tap_has(text,
            "case  T [s]  W [s]  O [s]    W%    O%     S  accuracy%\n"
            "1:2   90.00  89.00   1.00  98.9   1.1  1.00       57.0\n"
            "2:4   48.00  45.00   3.00  93.8   6.2  1.88       56.0  !\n"
            "3:6   35.00  30.00   5.00  85.7  14.3  2.57       55.5  !\n"
            "\n"
            "! 2:4, run 1: 1 worker was lost, and 2 of 4 rounds had fewer than 2 workers\n"
            "! 3:6, run 1: 2 workers were lost\n"
            "! 3:6: pi1 was throttled in 4 of 4 rounds; pi\"2, throttled in 1 of 4 rounds (1\n"
            "    with too little voltage)\n"
            "\n"
            "Break-even",
            "lines below the table, marks in its rows");
    r->cases[1].runs[0].failed = r->cases[2].runs[0].failed = true;
    none = table_of(r, false);
    tap_ok(!strchr(none, '!'), "runs that failed do not count: %s", none);
    for (size_t i = 0; i < r->n_cases; i++) /* to be freed with the others */
        r->cases[i].n_runs = 2;
}

/* The mark gives way before the table becomes wider than a terminal. */
static void test_width(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    r->cases[1].runs[1].totals.n_lost = 1;
    /* Ten characters make 80 columns without the mark. */
    for (size_t n = 0; n < 10; n++) {
        free(r->cases[1].label);
        r->cases[1].label = dml_mem_printf("%.*s", (int)n + 1, "abcdefghijklmnop");
        _cleanup_(dml_mem_freep) char *text = table_of(r, false);
        size_t widest = 0;
        bool marked = strstr(text, "56.2±0.4 !\n") || strstr(text, "56.2±0.4  !\n");
        tap_ok(marked == (n + 1 <= 8), "a label of %zu characters: %s mark", n + 1,
               marked ? "a" : "no");
        tap_has(text, ", run 2: 1 worker was lost\n", "and the line");
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
            if (dml_table_text_width(line) > widest)
                widest = dml_table_text_width(line);
        tap_ok(widest <= 80, "in %zu columns", widest);
    }
}

static void test_csv(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    worker(r, 0, 0, 0, 0)->throttled = 0x4;
    worker(r, 0, 0, 0, 1)->throttled = 0x1;
    worker(r, 0, 0, 0, 1)->temperature_c = 81.5;
    worker(r, 0, 0, 1, 0)->throttled = -1;
    worker(r, 0, 0, 1, 0)->temperature_c = -1.0;
    _cleanup_(dml_mem_freep) char *csv = NULL;
    tap_int(dml_results_to_csv(r, &csv), 0, "CSV");
    tap_has(csv, "eval_us,throttled,temperature_c\r\n", "has columns");
    tap_has(csv, ",2,81.5\r\n", "two are throttled, the warmest has 81.5 °C");
    tap_has(csv, ",12345,,\r\n", "a dash where nothing is known");
    tap_has(csv, ",0,55.25\r\n", "none of those that say so");
}

static void test_nodes(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    free(r->cases[1].paradigm);
    r->cases[1].paradigm = strdup("ring");
    _cleanup_(dml_mem_freep) char *before = table_of(r, true), *after = NULL, *csv = NULL;
    tap_ok(!strstr(before, "throttled"), "no column where nobody is throttled");
    worker(r, 1, 0, 0, 0)->throttled = 0x8;
    worker(r, 1, 1, 2, 0)->throttled = 0x2;
    after = table_of(r, true);
    tap_has(after, "sent [kB]  throttled%\n", "a column where somebody is");
    tap_has(after, "       25.0\n", "in 2 of 8 rounds");
    tap_int(dml_results_nodes_csv(r, &csv), 0, "CSV of the nodes");
    tap_has(csv, "run_t_s,throttled\r\n", "has it too");
    tap_has(csv, ",0.25\r\n", "as a share");
}

int main(void)
{
    test_quiet();
    test_table();
    test_width();
    test_csv();
    test_nodes();
    return tap_done();
}
