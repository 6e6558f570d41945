/* What a master says of itself while the events of a test case go by. */
#include "master/progress.h"
#include "tests/tap.h"

static void tell(struct dml_progress *p, enum dml_event_kind kind, const struct dml_event_run *run,
                 const struct dml_round *round, const struct dml_run_totals *totals)
{
    dml_progress_listen(p, kind, "{}", run, round, totals);
}

static const char *text(struct dml_progress *p, unsigned n_workers, struct dml_status *ret)
{
    static char buf[256];
    dml_progress_get(p, n_workers, ret);
    return dml_progress_text(ret, buf, sizeof(buf));
}

static void test_run(struct dml_progress *p)
{
    struct dml_status s;
    struct dml_event_run run = {
        .testcase = "t", .label = "3:6", .n_cases = 2, .n_repeats = 5, .nodes = 3, .n_rounds = 50};
    tap_str(text(p, 1, &s), "idle, 1 worker", "nothing to do");
    tap_int(s.state, DML_STATUS_IDLE, "is idle");

    tell(p, DML_EVENT_CASE_STARTED, &run, NULL, NULL);
    tap_str(text(p, 2, &s), "t: waiting for workers, 2 of 3 here", "waits");
    tell(p, DML_EVENT_RUN_STARTED, &run, NULL, NULL);
    dml_progress_get(p, 9, &s);
    tap_int(s.workers, 3, "in a run the workers of the run count, not those around");
    tap_ok(isnan(s.remaining_s), "no guess before the first round");

    struct dml_round round = {.round = 7, .n_rounds = 50, .n_participants = 2, .loss = 1.5};
    tell(p, DML_EVENT_ROUND, &run, &round, NULL);
    const char *line = text(p, 9, &s);
    tap_has(line, "t: case 1/2, run 1/5, round 7/50, 2 workers, ", "a round is over");
    tap_ok(isfinite(s.remaining_s) && isfinite(s.elapsed_s), "%s", line);
    tap_near(s.loss, 1.5, 0, "its loss");
    tap_ok(isnan(s.accuracy), "not evaluated yet");
    round.round = 8;
    round.evaluated = true;
    round.accuracy = 0.25;
    tell(p, DML_EVENT_ROUND, &run, &round, NULL);
    round.evaluated = false;
    tell(p, DML_EVENT_ROUND, &run, &round, NULL);
    dml_progress_get(p, 9, &s);
    tap_near(s.accuracy, 0.25, 0, "the accuracy is kept between evaluations");
}

static void test_end(struct dml_progress *p)
{
    struct dml_status s;
    struct dml_event_run run = {.testcase = "t",
                                .label = "3:6",
                                .i_case = 1,
                                .n_cases = 2,
                                .i_repeat = 4,
                                .n_repeats = 5,
                                .nodes = 3,
                                .n_rounds = 50};
    struct dml_round round = {.round = 50, .n_rounds = 50, .n_participants = 3};
    tell(p, DML_EVENT_RUN_STARTED, &run, NULL, NULL);
    tell(p, DML_EVENT_ROUND, &run, &round, NULL);
    dml_progress_get(p, 3, &s);
    tap_near(s.remaining_s, 0.0, 0, "nothing is left after the last round of the last run");
    struct dml_run_totals totals = {.accuracy = 0.5, .loss = 1.0};
    tell(p, DML_EVENT_RUN_ENDED, &run, NULL, &totals);
    dml_progress_get(p, 3, &s);
    tap_near(s.accuracy, 0.5, 0, "the final accuracy");
    dml_progress_idle(p, "/x/t.json");
    tap_str(text(p, 3, &s), "idle, 3 workers", "idle again");
    tap_str(s.results, "/x/t.json", "knows its last results");
    tap_str(s.testcase, "", "and no test case");
    dml_progress_idle(p, NULL);
    dml_progress_get(p, 3, &s);
    tap_str(s.results, "/x/t.json", "also when the next one leaves none");
}

int main(void)
{
    struct dml_progress *p = dml_progress_new();
    test_run(p);
    test_end(p);
    dml_progress_free(p);
    return tap_done();
}
