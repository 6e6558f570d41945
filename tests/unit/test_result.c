/* Results: the recorder, the summary, the golden tables, JSON and CSV. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"
#include "report/result.h"
#include "report/table.h"
#include "tests/tap.h"
#include "tests/unit/results_sample.h"

static void test_summary(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    struct dml_result_summary s;
    dml_results_summary(r, 0, &s);
    tap_near(s.t_s, 91.0, 1e-12, "T is the mean of the runs");
    tap_near(s.t_s_sd, sqrt(2.0), 1e-12, "its deviation is the sample's (n - 1)");
    tap_near(s.w_s, 90.0, 1e-12, "W");
    tap_near(s.o_s, 1.0, 1e-12, "O");
    tap_near(s.w_share, (89.0 / 90.0 + 91.0 / 92.0) / 2, 1e-12, "W% is the mean of the shares");
    tap_near(s.w_share + s.o_share, 1.0, 1e-12, "the shares make one");
    tap_near(s.speedup, 1.0, 0.0, "the base case is as fast as itself");
    tap_near(s.speedup_sd, 0.0, 0.0, "without a deviation");
    dml_results_summary(r, 2, &s);
    tap_near(s.speedup, 91.0 / 35.5, 1e-12, "S = T(base)/T(case)");
    double rel = sqrt(2.0 / (91.0 * 91.0) + 0.5 / (35.5 * 35.5));
    tap_near(s.speedup_sd, 91.0 / 35.5 * rel, 1e-12, "its deviation is propagated");

    r->cases[2].runs[0].failed = true;
    dml_results_summary(r, 2, &s);
    tap_int((long long)s.n_runs, 1, "a failed run does not count");
    tap_int((long long)s.n_failed, 1, "but is counted");
    tap_near(s.t_s, 36.0, 1e-12, "the mean is over the others");
    tap_near(s.t_s_sd, 0.0, 0.0, "one run has no deviation");
    r->cases[2].runs[1].failed = true;
    dml_results_summary(r, 2, &s);
    tap_ok(isnan(s.t_s) && isnan(s.speedup), "no run, no figures");
}

static void test_break_even(void)
{
    /* W: 90, 45, 30.5 over 1, 1/2, 1/3 → slope 21.52777…/0.24074074… = 89.423076…, intercept
     * 0.51923076…; O: 1, 3.1, 5 over 1, 2, 3 → -0.9666… + 2 n. */
    const double b = 21.5277777777777777 / 0.240740740740740741, a = 165.5 / 3.0 - b * 11.0 / 18.0;
    const double half = (-2.9 / 3.0 - a) / 4.0, want = -half + sqrt(half * half + b / 2.0);
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    struct dml_result_break_even even;
    tap_int(dml_results_break_even(r, &even), 0, "there is a break-even");
    tap_near(even.nodes, want, 1e-9, "where the fitted curves meet");
    tap_near(even.nodes, 7.07, 0.01, "which is about 7 nodes");
    r->cases[0].nodes = r->cases[1].nodes = 3;
    tap_int(dml_results_break_even(r, &even), -EDOM, "one node count says nothing");
}

/* Four cases of one run each, given W and O in seconds; what is said of them. */
static void check_even(const double w_s[4], const double o_s[4], enum dml_result_even kind,
                       double nodes, const char *sentence)
{
    static const unsigned n_nodes[] = {1, 2, 4, 8};
    static const char *const labels[] = {"1:1", "2:2", "4:4", "8:8"};
    _cleanup_(dml_results_freep) struct dml_results *r = dml_results_new("even");
    for (size_t i = 0; r && i < 4; i++) {
        struct dml_result_case *c =
            dml_results_add_case(r, labels[i], "federated", "", "m", "d", n_nodes[i], 1.0);
        struct dml_result_run *run = c ? dml_results_add_run(c, 0) : NULL;
        if (!run)
            return;
        run->totals.work_us = (uint64_t)(w_s[i] * 1e6);
        run->totals.overhead_us = (int64_t)(o_s[i] * 1e6);
        run->totals.t_us = run->totals.work_us + (uint64_t)run->totals.overhead_us;
    }
    struct dml_result_break_even even;
    tap_int(dml_results_break_even(r, &even), 0, sentence);
    tap_int(even.kind, kind, "its kind");
    if (kind == DML_RESULT_EVEN_FROM)
        tap_near(even.nodes, nodes, 1e-3, "nodes");
    _cleanup_(dml_mem_freep) char *text = table_of(r, false);
    for (char *c = text; c && *c; c++)
        *c = *c == '\n' ? ' ' : *c;
    tap_has(text, sentence, "what is printed");
    tap_ok(!strstr(text, "never"), "nothing is said for ever");
}

static void test_other_laws(void)
{
    static const double halving[] = {8, 4, 2, 1}, rising[] = {1, 1.1, 1.2, 1.3};
    check_even(halving, (double[]){3, 3, 3, 3}, DML_RESULT_EVEN_FROM, 8.0 / 3.0,
               "exceeds the work W from about 2.7 nodes on.");
    /* 8/n = 3.2 - 0.1 n at n = (3.2 - √7.04) / 0.2 = 2.7335. */
    check_even(halving, (double[]){3.1, 3.0, 2.8, 2.4}, DML_RESULT_EVEN_FROM, 2.7335,
               "from about 2.7 nodes on, as far as was measured.");
    check_even(halving, (double[]){0.4, 0.38, 0.34, 0.26}, DML_RESULT_EVEN_BELOW, 0.0,
               "the overhead O stays below the work W in every measured case");
    check_even(rising, (double[]){2, 2, 2, 2}, DML_RESULT_EVEN_ABOVE, 0.0,
               "the overhead O exceeds the work W in every measured case.");
    check_even(rising, (double[]){3, 2.5, 2.2, 2.1}, DML_RESULT_EVEN_ABOVE, 0.0,
               "the overhead O exceeds the work W in every measured case.");
    check_even((double[]){0.4, 0.2, 0.1, 0.05}, (double[]){1, 2, 4, 8}, DML_RESULT_EVEN_ABOVE, 0.0,
               "the overhead O exceeds the work W in every measured case.");
    /* A line is no law of work: its fit, A + B / n, never goes below 3. */
    check_even((double[]){9, 8, 6, 2}, (double[]){3, 3, 3, 3}, DML_RESULT_EVEN_UNKNOWN, 0.0,
               "the overhead O exceeds the work W in 1 of 4 measured cases");
    /* 0.1 + 0.4 n = 1.3 - 0.32 / n. */
    check_even(rising, (double[]){0.5, 0.9, 1.7, 3.3}, DML_RESULT_EVEN_FROM, 2.7042,
               "exceeds the work W from about 2.7 nodes on.");
    check_even(rising, (double[]){2, 0.5, 2, 0.5}, DML_RESULT_EVEN_UNKNOWN, 0.0,
               "the overhead O exceeds the work W in 2 of 4 measured cases");
}

static void test_golden_tables(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    _cleanup_(dml_mem_freep) char *with_sd = table_of(r, false);
    tap_str(with_sd,
            "cifar10-nodes: cifar-cnn on cifar10, federated, fedavg, mean ± sd of 2 runs\n"
            "\n"
            "case      T [s]      W [s]     O [s]       W%       O%         S accuracy%\n"
            "1:2  91.00±1.41 90.00±1.41 1.00±0.00 98.9±0.0  1.1±0.0      1.00  57.5±0.7\n"
            "2:4  48.10±0.14 45.00±0.00 3.10±0.14 93.6±0.3  6.4±0.3 1.89±0.03  56.2±0.4\n"
            "3:6  35.50±0.71 30.50±0.71 5.00±0.00 85.9±0.3 14.1±0.3 2.56±0.06  55.2±0.4\n"
            "\n"
            "Break-even: by the fits W = a + b/nodes and O = c + d nodes, the overhead O\n"
            "exceeds the work W from about 7.1 nodes on.\n"
            "T total, W mean work of the nodes, O = T - W; S = T of 1:2 / T of the case.\n",
            "the table of repeated cases");

    /* One run each: nothing after ±; one of them failed; a label of another alphabet. */
    for (size_t i = 0; i < r->n_cases; i++)
        r->cases[i].n_runs = 1;
    struct dml_result_run *failed = &r->cases[1].runs[0];
    failed->failed = true;
    failed->error = strdup("only 1 of 2 workers answered by the deadline of round 3, which is less "
                           "than the quorum of 0.9");
    free(r->cases[2].label);
    r->cases[2].label = strdup("3:6 größer");
    _cleanup_(dml_mem_freep) char *single = table_of(r, false);
    tap_str(single,
            "cifar10-nodes: cifar-cnn on cifar10, federated, fedavg\n"
            "\n"
            "case        T [s]  W [s]  O [s]    W%    O%     S  accuracy%\n"
            "1:2         90.00  89.00   1.00  98.9   1.1  1.00       57.0\n"
            "2:4             –      –      –     –     –     –          –\n"
            "3:6 größer  35.00  30.00   5.00  85.7  14.3  2.57       55.5\n"
            "\n"
            "2:4, run 1 failed: only 1 of 2 workers answered by the deadline of round 3,\n"
            "    which is less than the quorum of 0.9\n"
            "\n"
            "Break-even: by the fits W = a + b/nodes and O = c + d nodes, the overhead O\n"
            "exceeds the work W from about 7.0 nodes on.\n"
            "T total, W mean work of the nodes, O = T - W; S = T of 1:2 / T of the case.\n",
            "the table of single runs, one of which failed");
    for (size_t i = 0; i < r->n_cases; i++)
        r->cases[i].n_runs = 2;

    _cleanup_(dml_results_freep) struct dml_results *empty = dml_results_new("nothing");
    _cleanup_(dml_mem_freep) char *none = table_of(empty, false);
    tap_has(none, "nothing", "a table without cases has its name");
}

/* Every line of the table, not of the sentences, fits the terminal. */
static void test_width(void)
{
    tap_int((long long)dml_table_text_width("±"), 1, "± is one character");
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    _cleanup_(dml_mem_freep) char *text = table_of(r, false);
    size_t widest = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (dml_table_text_width(line) > widest)
            widest = dml_table_text_width(line);
    tap_ok(widest <= 80, "no line is wider than 80 characters: %zu", widest);
}

static void test_recorder(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = dml_results_new("t");
    struct dml_event_run run = {.testcase = "t",
                                .label = "1:1",
                                .nodes = 1,
                                .paradigm = "federated",
                                .n_repeats = 2,
                                .n_rounds = 2};
    struct dml_round_worker worker = {.rank = 1, .id = "a", .work_us = 5};
    struct dml_round round = {.round = 1,
                              .n_rounds = 2,
                              .n_participants = 1,
                              .n_expected = 1,
                              .t_us = 7,
                              .work_us = 5,
                              .overhead_us = 2,
                              .workers = &worker,
                              .strategy = "fedavg"};
    struct dml_run_totals totals = {.t_us = 14, .work_us = 10, .overhead_us = 4, .accuracy = 0.5};

    dml_results_listen(r, DML_EVENT_WORKER_JOINED, "{}", NULL, NULL, NULL);
    tap_int((long long)r->n_cases, 0, "workers that come are not results");
    dml_results_listen(r, DML_EVENT_RUN_STARTED, "{}", &run, NULL, NULL);
    dml_results_listen(r, DML_EVENT_ROUND, "{}", &run, &round, NULL);
    tap_int((long long)r->n_cases, 1, "a run makes a case");
    tap_ok(r->cases[0].runs[0].failed, "a run without an end counts as failed");
    worker.work_us = 99;
    tap_int((long long)r->cases[0].runs[0].rounds[0].workers[0].work_us, 5, "workers are copied");
    tap_str(r->cases[0].strategy, "", "a missing strategy is empty");
    dml_results_listen(r, DML_EVENT_RUN_ENDED, "{}", &run, NULL, &totals);
    tap_ok(!r->cases[0].runs[0].failed && !r->cases[0].runs[0].error, "its end was seen");

    run.i_repeat = 1;
    dml_results_listen(r, DML_EVENT_RUN_STARTED, "{}", &run, NULL, NULL);
    dml_results_listen(r, DML_EVENT_ROUND, "{}", &run, &round, NULL);
    dml_results_listen(r, DML_EVENT_RUN_FAILED, "{\"DML_ERROR\":\"too few workers\"}", &run, NULL,
                       NULL);
    tap_int((long long)r->cases[0].n_runs, 2, "another repeat is another run of the case");
    tap_str(r->cases[0].runs[1].error, "too few workers", "the record says why");
    dml_results_listen(r, DML_EVENT_RUN_STARTED, "{}", &run, NULL, NULL);
    dml_results_listen(r, DML_EVENT_RUN_ENDED, "{}", &run, NULL, &totals);
    tap_int((long long)r->cases[0].n_runs, 2, "a second attempt replaces the first");
    tap_int((long long)r->cases[0].runs[1].n_rounds, 0, "with its rounds");
    tap_ok(!r->cases[0].runs[1].failed, "and its failure");
    run.label = "2:2";
    dml_results_listen(r, DML_EVENT_CUT, "{\"DML_CUT\":\"4 7\"}", &run, NULL, NULL);
    tap_str(r->cases[1].cut, "4 7", "where the model is cut");
    tap_int((long long)r->cases[1].n_runs, 0, "is known before a run begins");
    dml_results_listen(r, DML_EVENT_RUN_STARTED, "{}", &run, NULL, NULL);
    tap_int((long long)r->n_cases, 2, "another label is another case");
}

/* O = T - W wherever it is told: in a round that reports more work than it took, too, and when an
 * older version has written something else. */
static void test_overhead(void)
{
    static const char old[] =
        "{\"name\":\"t\",\"cases\":[{\"label\":\"1:1\",\"runs\":[{\"repeat\":1,\"failed\":false,"
        "\"t_us\":9000,\"w_us\":7500,\"o_us\":2500,\"rounds\":["
        "{\"round\":1,\"t_us\":5000,\"w_us\":2500,\"o_us\":2500},"
        "{\"round\":2,\"t_us\":4000,\"w_us\":5000,\"o_us\":0}]}]}]}";
    _cleanup_(dml_results_freep) struct dml_results *r = NULL;
    _cleanup_(dml_mem_freep) char *json = NULL, *csv = NULL;
    if (!tap_int(dml_results_from_json(old, strlen(old), "t.json", &r, NULL), 0, "read"))
        return;
    const struct dml_result_run *run = &r->cases[0].runs[0];
    tap_int(run->totals.overhead_us, 1500, "O of the run");
    tap_int(run->rounds[1].overhead_us, -1000, "O of a round with work of the time before");
    struct dml_result_summary s;
    dml_results_summary(r, 0, &s);
    tap_near(s.t_s - s.w_s - s.o_s, 0.0, 1e-12, "T = W + O in the table");
    tap_int(dml_results_to_json(r, &json), 0, "JSON");
    tap_has(json, "\"o_us\": -1000", "has it");
    tap_int(dml_results_to_csv(r, &csv), 0, "CSV");
    tap_has(csv, ",4000,5000,-1000,", "has it");
}

static void test_json(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results(), *back = NULL;
    r->cases[1].runs[1].failed = true;
    r->cases[1].runs[1].error = strdup("lost \"everything\"");
    r->cases[1].runs[0].totals.loss = NAN;
    r->cases[1].cut = strdup("4 7");
    _cleanup_(dml_mem_freep) char *json = NULL, *again = NULL;
    tap_int(dml_results_to_json(r, &json), 0, "written");
    tap_int(dml_results_from_json(json, strlen(json), "x.json", &back, NULL), 0, "read");
    if (!back)
        return;
    tap_int(dml_results_to_json(back, &again), 0, "written again");
    tap_str(again, json, "byte for byte the same");
    tap_str(back->cases[1].cut, "4 7", "where the second case was cut");
    tap_ok(!back->cases[0].cut, "the first was not");
    tap_str(back->cases[2].label, "3:6", "label");
    tap_near(back->cases[2].runs[1].rounds[3].loss, 2.3 / 4.0 + 0.01, 0.0, "every bit of a loss");
    tap_str(back->cases[0].runs[0].rounds[0].workers[1].id, "pi\"2,", "a worker's name");
    tap_int(back->cases[0].runs[0].rounds[0].workers[1].throttled, -1, "unknown stays unknown");
    tap_ok(isnan(back->cases[1].runs[0].totals.loss), "a loss that is no number");
    static const char *const keys[] = {
        "name",       "nodes",       "cores",   "paradigm", "strategy",   "t_s",
        "w_s",        "o_s",         "w_share", "o_share",  "speedup",    "accuracy",
        "loss",       "t_s_sd",      "w_s_sd",  "o_s_sd",   "w_share_sd", "o_share_sd",
        "speedup_sd", "accuracy_sd", "loss_sd", "runs",     "rounds",
    };
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "\"%s\":", keys[i]);
        tap_ok(strstr(json, key) != NULL, "scripts find %s", key);
    }
    _cleanup_(dml_mem_freep) char *cases = NULL;
    tap_int(dml_results_cases_json(r, &cases), 0, "the cases alone");
    tap_ok(cases && cases[0] == '[', "are an array");
}

static void test_bad_json(void)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"name\":1,\"cases\":[]}",
        "{\"name\":\"x\",\"cases\":{}}",
        "{\"name\":\"x\",\"cases\":[}",
        "{\"name\":\"\\u0000\",\"cases\":[]}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct dml_results *r = NULL;
        struct dml_err err = {0};
        tap_int(dml_results_from_json(bad[i], strlen(bad[i]), "bad.json", &r, &err), -EBADMSG,
                bad[i]);
        tap_str(err.file, "bad.json", "the file is named");
    }
    /* Says two workers, lists one: the list must not be read beyond its end. */
    static const char odd[] =
        "{\"name\":\"x\",\"cases\":[3,{\"runs\":[null,{\"rounds\":[{\"participants\":2,"
        "\"workers\":[{\"rank\":-1}]},{\"participants\":1,\"workers\":[7]}]}]}]}";
    _cleanup_(dml_results_freep) struct dml_results *r = NULL;
    tap_int(dml_results_from_json(odd, strlen(odd), "odd.json", &r, NULL), 0, "odd but readable");
    if (!r)
        return;
    tap_ok(!r->cases[1].runs[1].rounds[0].workers, "a list of the wrong length is dropped");
    tap_ok(r->cases[1].runs[1].rounds[1].workers, "one of the right length is kept");
    _cleanup_(dml_mem_freep) char *table = table_of(r, false);
    tap_ok(table != NULL, "and the table of it can be printed");
}

static void test_csv(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    free(r->name);
    r->name = strdup("=a,\"b\"");
    struct dml_result_run *run = dml_results_add_run(&r->cases[0], 2);
    run->failed = true;
    _cleanup_(dml_mem_freep) char *csv = NULL;
    tap_int(dml_results_to_csv(r, &csv), 0, "written");
    size_t rows = 0, commas = 0, first = 0;
    bool quoted = false, same = true;
    for (const char *p = csv; *p; p++) {
        if (*p == '"')
            quoted = !quoted;
        else if (*p == ',' && !quoted)
            commas++;
        else if (*p == '\n' && !quoted) {
            if (rows == 0)
                first = commas;
            same = same && commas == first && p[-1] == '\r';
            rows++;
            commas = 0;
        }
    }
    tap_int((long long)rows, 1 + 3 * 2 * 4 + 1, "a header, a row per round, one for no round");
    tap_ok(same, "every row has the header's %zu commas and ends with CRLF", first);
    tap_has(csv, "\r\n\"'=a,\"\"b\"\"\",1:2,1,2,", "texts are quoted, formulas are not run");
}

/* Other results with another time beside those at `path`, which were saved first. */
static void test_newest(const char *dir, const char *path)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    _cleanup_(dml_mem_freep) char *second = NULL, *found = NULL, *copied = NULL, *again = NULL;
    _cleanup_(dml_mem_freep) char *csv = dml_mem_printf("%s/second.csv", dir), *by_time = NULL;
    _cleanup_(dml_mem_freep) char *latest = dml_mem_printf("%s/.latest", dir), *outside = NULL;
    struct dml_err err = {0};
    const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    free(r->name);
    r->name = strdup("second");
    tap_int(dml_results_save(r, dir, &second, &err), 0, "saved after it");
    tap_int(utimensat(AT_FDCWD, second, old, 0), 0, "while the clock stood in 1970");
    tap_int(dml_results_newest(dir, &found, &err), 0, "the newest");
    tap_str(found, second, "is what was saved last, whatever the clock said");
    copied = dml_mem_printf("%s/copied.json", dir);
    tap_int(dml_fileio_write(copied, "{}", 2, 0644, &err), 0, "a file that comes from elsewhere");
    tap_int(dml_results_newest(dir, &again, &err), 0, "the newest");
    tap_str(again, second, "is not that");
    (void)unlink(copied);
    tap_int(dml_fileio_write(latest, "../second.json\n", 15, 0644, &err), 0,
            "a name that leads out");
    tap_int(dml_results_newest(dir, &outside, &err), 0, "is not followed");
    tap_str(outside, path, "but the time of the files, then");
    tap_int(dml_fileio_write(latest, "second.json\n", 12, 0644, &err), 0, "when what it names");
    (void)unlink(second);
    (void)unlink(csv);
    tap_int(dml_results_newest(dir, &by_time, &err), 0, "is gone");
    tap_str(by_time, path, "it is the newest of those that are there");
}

static void test_files(void)
{
    char dir[] = "/tmp/dml-result-XXXXXX";
    if (!mkdtemp(dir)) {
        tap_skip("no temporary folder");
        return;
    }
    _cleanup_(dml_mem_freep) char *none = NULL;
    struct dml_err err = {0};
    tap_int(dml_results_newest(dir, &none, &err), -ENOENT, "an empty folder has no results");
    tap_has(err.text, dir, "and the sentence names it");

    _cleanup_(dml_mem_freep) char *deep = dml_mem_printf("%s/a/b", dir);
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results(), *back = NULL;
    free(r->name);
    r->name = strdup("../x y");
    _cleanup_(dml_mem_freep) char *path = NULL, *newest = NULL, *csv = NULL;
    tap_int(dml_results_prepare(deep, &err), 0, "a folder is made beforehand");
    tap_ok(access(deep, F_OK) == 0 && rmdir(deep) == 0, "and left empty");
    tap_ok(dml_results_prepare("/proc/self", &err) < 0, "where nothing can be written");
    tap_has(err.text, "cannot write", "it is said at once");
    tap_int(dml_results_save(r, deep, &path, &err), 0, "saved, the folder is made");
    _cleanup_(dml_mem_freep) char *want = dml_mem_printf("%s/_._x_y.json", deep);
    tap_str(path, want, "a name cannot leave the folder");
    tap_int(dml_results_load(path, &back, &err), 0, "loaded");
    tap_str(back ? back->name : NULL, "../x y", "the name is kept inside");
    tap_int(dml_results_newest(deep, &newest, &err), 0, "found");
    tap_str(newest, path, "as the newest");
    test_newest(deep, path);
    csv = dml_mem_printf("%s/_._x_y.csv", deep);
    tap_int(unlink(csv), 0, "the CSV lies beside it");
    (void)unlink(path);
    _cleanup_(dml_mem_freep) char *latest = dml_mem_printf("%s/.latest", deep);
    tap_int(unlink(latest), 0, "and which was saved last is written down");
    (void)rmdir(deep);
    deep[strlen(deep) - 2] = '\0';
    (void)rmdir(deep);
    tap_int(rmdir(dir), 0, "no temporary file is left");
}

/* A matrix that fails as a whole does not say so in every row. */
static void test_failures(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 2; k++) {
            struct dml_result_run *run = &r->cases[i].runs[k];
            run->failed = true;
            run->error = strdup(i == 1 && k == 0 ? "a worker left" : "no data");
        }
    _cleanup_(dml_mem_freep) char *text = table_of(r, false);
    tap_has(text,
            "\n1:2, run 1 failed: no data (4 more runs failed for the same reason)\n"
            "2:4, run 1 failed: a worker left\n\n",
            "equal failures are told once");
}

int main(void)
{
    test_summary();
    test_break_even();
    test_other_laws();
    test_golden_tables();
    test_width();
    test_recorder();
    test_overhead();
    test_json();
    test_bad_json();
    test_csv();
    test_files();
    test_failures();
    return tap_done();
}
