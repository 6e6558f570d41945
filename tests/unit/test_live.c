/* Progress: what the line says after each record, and when it is narrow. */
#include <stdlib.h>

#include "ctl/ctl.h"
#include "ctl/live.h"
#include "ctl/out.h"
#include "report/table.h"
#include "tests/tap.h"

#define SECOND UINT64_C(1000000)

static enum dml_event_kind feed(struct dml_live *live, uint64_t at_s, const char *json)
{
    char message[256];
    return dml_live_feed(live, json, at_s * SECOND, message, sizeof(message));
}

#define RUN                                                                                        \
    "\"DML_TESTCASE\":\"nodes\",\"DML_CASE\":\"3:6\",\"DML_CASE_NUMBER\":1,\"DML_CASES\":2,"       \
    "\"DML_REPEAT\":2,\"DML_REPEATS\":2,\"DML_NODES\":3,\"DML_ROUNDS\":10"

static void test_story(void)
{
    struct dml_live live;
    char line[400];
    dml_live_init(&live);
    tap_str(dml_live_line(&live, 200, line, sizeof(line)), "starting", "before anything");
    feed(&live, 100, "{\"DML_EVENT\":\"case-started\",\"DML_WORKERS_THERE\":1," RUN "}");
    tap_str(dml_live_line(&live, 200, line, sizeof(line)),
            "nodes 3:6  run 2/4  waiting: 1/3 workers  0 s", "waiting");
    feed(&live, 110, "{\"DML_EVENT\":\"run-started\"," RUN "}");
    tap_int(feed(&live, 130,
                 "{\"DML_EVENT\":\"round\",\"DML_ROUND\":5,\"DML_PARTICIPANTS\":2,"
                 "\"DML_LOSS\":0.4123,\"DML_ACCURACY\":0.863," RUN "}"),
            DML_EVENT_ROUND, "a round");
    /* 1.5 of 4 runs in 30 s: the other 2.5 take 50 s. */
    tap_str(dml_live_line(&live, 200, line, sizeof(line)),
            "nodes 3:6  run 2/4  round 5/10  2/3 workers  loss 0.412  accuracy 86.3 %  30 s  "
            "50 s left",
            "in a round");
    dml_live_tick(&live, 140 * SECOND);
    tap_has(dml_live_line(&live, 200, line, sizeof(line)), "  40 s  40 s left", "time goes on");
    dml_live_tick(&live, 999 * SECOND);
    tap_has(dml_live_line(&live, 200, line, sizeof(line)), "  14:59  0 s left", "never below 0");
    tap_str(dml_live_line(&live, 42, line, sizeof(line)),
            "3:6 run 2/4 round 5/10 2/3 workers 14:59",
            "a narrow terminal gets the parts that fit");
    tap_str(dml_live_line(&live, 79, line, sizeof(line)),
            "nodes 3:6 run 2/4 round 5/10 2/3 workers loss 0.412 acc. 86.3 % 14:59 0 s left",
            "a usual one all of them");
    tap_str(dml_live_line(&live, 72, line, sizeof(line)),
            "3:6 run 2/4 round 5/10 2/3 workers loss 0.412 acc. 86.3 % 14:59 0 s left",
            "the name goes first");
    for (size_t width = 0; width < 120; width++) {
        dml_live_line(&live, width, line, sizeof(line));
        if (dml_table_text_width(line) > width)
            tap_ok(false, "%zu characters fit %zu columns", dml_table_text_width(line), width);
    }
    feed(&live, 150, "{\"DML_EVENT\":\"run-ended\",\"DML_ACCURACY\":0.9," RUN "}");
    tap_near(live.status.remaining_s, 50.0, 1e-9, "two of four runs took 50 s");
    struct dml_live waiting = live;
    feed(&waiting, 150, "{\"DML_EVENT\":\"case-started\",\"DML_WORKERS_THERE\":1," RUN "}");
    dml_live_tick(&waiting, 9999 * SECOND);
    tap_str(dml_live_line(&waiting, 200, line, sizeof(line)),
            "nodes 3:6  run 2/4  waiting: 1/3 workers  2:44:59", "who waits does not say how long");
    feed(&live, 150, "{\"DML_EVENT\":\"results-saved\",\"DML_TESTCASE\":\"nodes\"}");
    tap_str(live.status.label, "3:6", "results of all cases do not hide which was the last");
}

static void test_late(void)
{
    struct dml_live live;
    struct dml_status status;
    dml_live_init(&live);
    dml_status_init(&status);
    status.state = DML_STATUS_RUNNING;
    status.elapsed_s = 60.0;
    status.n_cases = status.n_repeats = 1;
    dml_live_begin(&live, &status, 1000 * SECOND);
    feed(&live, 1060,
         "{\"DML_EVENT\":\"round\",\"DML_TESTCASE\":\"x\",\"DML_ROUND\":1,"
         "\"DML_ROUNDS\":2,\"DML_CASES\":1,\"DML_REPEATS\":1}");
    tap_near(live.status.elapsed_s, 120.0, 1e-9, "who comes late counts from the beginning");
    tap_near(live.status.remaining_s, 120.0, 1e-9, "and knows what is left");
}

static void test_bad_records(void)
{
    struct dml_live live;
    char message[64];
    dml_live_init(&live);
    static const char *const bad[] = {"", "{}", "[1]", "{\"DML_EVENT\":\"nonsense\"}",
                                      "{\"DML_EVENT\":7}"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        tap_int(dml_live_feed(&live, bad[i], 1, message, sizeof(message)), DML_EVENT_MAX_,
                "no record");
    tap_int(dml_live_feed(&live, "{\"DML_EVENT\":\"worker-lost\",\"MESSAGE\":\"a\\u001b[2Jb\"}", 1,
                          message, sizeof(message)),
            DML_EVENT_WORKER_LOST, "a record");
    tap_str(message, "a [2Jb", "whose message cannot command the terminal");
    tap_int(feed(&live, 5,
                 "{\"DML_EVENT\":\"round\",\"DML_TESTCASE\":\"x\",\"DML_ROUND\":99,"
                 "\"DML_ROUNDS\":2,\"DML_CASES\":1,\"DML_REPEATS\":1,\"DML_CASE_NUMBER\":7}"),
            DML_EVENT_ROUND, "counts beyond their ends");
    tap_ok(isnan(live.status.remaining_s), "give no time left");
}

static void test_words(void)
{
    char buf[32];
    tap_str(dml_out_seconds(59.4, buf, sizeof(buf)), "59 s", "seconds");
    tap_str(dml_out_seconds(245, buf, sizeof(buf)), "4:05", "minutes");
    tap_str(dml_out_seconds(7384, buf, sizeof(buf)), "2:03:04", "hours");
    tap_str(dml_out_seconds(273600, buf, sizeof(buf)), "3 d 4 h", "days");
    tap_str(dml_out_seconds(NAN, buf, sizeof(buf)), "?", "not known");
    tap_str(dml_out_bytes(1023, buf, sizeof(buf)), "1023 B", "bytes");
    tap_str(dml_out_bytes(1536, buf, sizeof(buf)), "1.5 KiB", "kibibytes");
    tap_str(dml_out_bytes(4294967296.0, buf, sizeof(buf)), "4.0 GiB", "gibibytes");
}

int main(void)
{
    test_story();
    test_late();
    test_bad_records();
    test_words();
    return tap_done();
}
