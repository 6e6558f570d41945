/* Events: each has its own MESSAGE_ID, its fields, and one catalog entry that names only fields the
 * event has. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <syslog.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/log.h"
#include "report/event.h"
#include "report/json.h"
#include "tests/tap.h"

/* The last record of each kind. */
struct seen {
    json_t *records[DML_EVENT_MAX_];
    unsigned n;
    const struct dml_round *round;
    const struct dml_run_totals *totals;
};

static void listen(void *arg, enum dml_event_kind kind, const char *json,
                   const struct dml_event_run *run, const struct dml_round *round,
                   const struct dml_run_totals *totals)
{
    struct seen *seen = arg;
    json_decref(seen->records[kind]);
    seen->records[kind] = json_loads(json, 0, NULL);
    seen->n++;
    seen->round = round;
    seen->totals = totals;
    (void)run;
}

static const char *text_of(const struct seen *seen, enum dml_event_kind kind, const char *key)
{
    return json_string_value(json_object_get(seen->records[kind], key));
}

static double number_of(const struct seen *seen, enum dml_event_kind kind, const char *key)
{
    return dml_json_get_real(seen->records[kind], key, -12345.0);
}

static const struct dml_event_run run = {
    .testcase = "cifar10-nodes",
    .label = "3:6",
    .run_id = 77,
    .i_case = 2,
    .n_cases = 3,
    .i_repeat = 1,
    .n_repeats = 5,
    .nodes = 3,
    .cores = 6.0,
    .paradigm = "federated",
    .strategy = "fedavg",
    .model = "cifar-cnn",
    .dataset = "cifar10",
    .n_params = 62006,
    .n_train = 50000,
    .n_test = 10000,
    .n_rounds = 10,
};

static void emit_all(struct dml_events *ev)
{
    static struct dml_round_worker workers[3] = {
        {.rank = 1,
         .id = "pi1",
         .work_us = 2200000,
         .n_samples = 100,
         .temperature_c = 61.5,
         .throttled = 0},
        {.rank = 2,
         .id = "pi2",
         .work_us = 2240000,
         .n_samples = 200,
         .temperature_c = -1,
         .throttled = -1},
        {.rank = 3,
         .id = "pi3",
         .work_us = 2280000,
         .n_samples = 300,
         .temperature_c = 60,
         .throttled = 5},
    };
    static const struct dml_round round = {
        .round = 3,
        .n_rounds = 10,
        .n_participants = 3,
        .n_expected = 3,
        .t_us = 2310000,
        .work_us = 2240700,
        .overhead_us = 69300,
        .sent_bytes = 744072,
        .received_bytes = 744072,
        .loss = 0.412,
        .evaluated = true,
        .eval_loss = 0.43,
        .accuracy = 0.863,
        .eval_us = 210000,
        .strategy = "fedavg",
        .paradigm = "federated",
        .workers = workers,
    };
    static const struct dml_run_totals totals = {
        .t_us = 23100000,
        .work_us = 22407000,
        .overhead_us = 693000,
        .setup_us = 5,
        .n_rounds = 10,
        .n_lost = 1,
        .loss = 0.4,
        .accuracy = 0.87,
        .sent_bytes = 1,
        .received_bytes = 2,
    };
    struct dml_err err = {0};
    (void)dml_err_at(&err, -ETIMEDOUT, "x.conf", 7, "too few workers");
    dml_event_master_started(ev, "[::]:7077", "0.1.0");
    dml_event_case_started(ev, &run, 2);
    static char first[] = "1-3,7-9", second[] = "4-6,10-";
    static const struct dml_event_stage stages[] = {{first, 0.52}, {second, 0.48}};
    dml_event_cut(ev, &run,
                  &(struct dml_event_cut){.layers = "4 7 10",
                                          .by = "measured",
                                          .took_us = 420000,
                                          .stages = stages,
                                          .n_stages = ARRAY_SIZE(stages)});
    dml_event_run_started(ev, &run);
    dml_event_worker_joined(ev, "pi3", "pi3.local", "192.168.1.7:40312", "Raspberry Pi 4", 4);
    dml_event_worker_lost(ev, "pi3", "connection broke");
    dml_event_worker_refused(ev, "pi4", "protocol 2, this master speaks 1");
    dml_event_worker_ready(ev, &run, 2, 16667, true, "duty cycle");
    dml_event_worker_warning(ev, "pi3", "throttled at 82.1 °C");
    dml_event_round(ev, &run, &round);
    dml_event_evaluation(ev, &run, 3, 0.43, 0.863, 210000);
    dml_event_run_ended(ev, &run, &totals);
    dml_event_run_failed(ev, &run, -ETIMEDOUT, &err);
    dml_event_model_unsaved(ev, &run, -ENOSPC, &err);
    dml_event_model_saved(ev, &run, "/var/lib/dml/results/cifar10-nodes-3-6-r2.dmlmodel");
    dml_event_results_saved(ev, "cifar10-nodes", "/var/lib/dml/results/cifar10-nodes.json");
}

static void test_records(const struct seen *seen)
{
    tap_int(seen->n, DML_EVENT_MAX_, "every kind of event came once");
    for (int kind = 0; kind < DML_EVENT_MAX_; kind++) {
        enum dml_event_kind k = (enum dml_event_kind)kind;
        const char *name = dml_event_name(k);
        tap_str(text_of(seen, k, "DML_EVENT"), name, "the record says what it is");
        tap_str(text_of(seen, k, "MESSAGE_ID"), dml_event_message_id(k), "and has its id");
        tap_int(dml_event_find(name), kind, "the name is found again");
    }
    tap_int(dml_event_find("nonsense"), DML_EVENT_MAX_, "an unknown name is not");

    const enum dml_event_kind c = DML_EVENT_CUT;
    tap_str(text_of(seen, c, "MESSAGE"),
            "cifar10-nodes 3:6: layers 1-3,7-9 (52 %), 4-6,10- (48 %); cut = 4 7 10, measured in "
            "0.42 s",
            "a cut in words");
    tap_str(text_of(seen, c, "DML_CUT"), "4 7 10", "as the key takes it");
    tap_str(text_of(seen, c, "DML_CUT_BY"), "measured", "how it was found");
    tap_str(text_of(seen, c, "DML_STAGE_LAYERS"), "1-3,7-9 4-6,10-", "what each node has");
    tap_str(text_of(seen, c, "DML_STAGE_SHARES"), "0.5200 0.4800", "and its share");

    const enum dml_event_kind r = DML_EVENT_ROUND;
    tap_str(text_of(seen, r, "MESSAGE"),
            "round 3/10: 3 of 3 workers, T 2.31 s, W 2.24 s (97.0 %), loss 0.412, accuracy 86.3 %",
            "a round in words");
    tap_str(text_of(seen, r, "DML_TESTCASE"), "cifar10-nodes", "test case");
    tap_str(text_of(seen, r, "DML_CASE"), "3:6", "case");
    static const struct {
        const char *key;
        double want;
    } numbers[] = {
        {"DML_CASE_NUMBER", 3},
        {"DML_CASES", 3},
        {"DML_RUN", 77},
        {"DML_REPEAT", 2},
        {"DML_REPEATS", 5},
        {"DML_NODES", 3},
        {"DML_CORES", 6},
        {"DML_ROUND", 3},
        {"DML_ROUNDS", 10},
        {"DML_PARTICIPANTS", 3},
        {"DML_EXPECTED", 3},
        {"DML_T_US", 2310000},
        {"DML_W_US", 2240700},
        {"DML_O_US", 69300},
        {"DML_LOSS", 0.412},
        {"DML_EVAL_LOSS", 0.43},
        {"DML_ACCURACY", 0.863},
        {"DML_EVAL_US", 210000},
        {"DML_SENT_BYTES", 744072},
        {"DML_RECEIVED_BYTES", 744072},
        {"DML_WORKER_1_WORK_US", 2200000},
        {"DML_WORKER_2_SAMPLES", 200},
        {"DML_WORKER_1_TEMPERATURE", 61.5},
        {"DML_WORKER_3_THROTTLED", 5},
        {"PRIORITY", LOG_INFO},
    };
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        tap_near(number_of(seen, r, numbers[i].key), numbers[i].want, 0.0, numbers[i].key);
    tap_str(text_of(seen, r, "DML_WORKER_3_ID"), "pi3", "a worker's name");
    tap_ok(!json_object_get(seen->records[r], "DML_WORKER_2_TEMPERATURE"),
           "what is not known is not there");
    tap_near(number_of(seen, DML_EVENT_WORKER_LOST, "PRIORITY"), LOG_WARNING, 0, "lost: warning");
    tap_near(number_of(seen, DML_EVENT_WORKER_REFUSED, "PRIORITY"), LOG_WARNING, 0,
             "refused: warning");
    tap_near(number_of(seen, DML_EVENT_RUN_FAILED, "PRIORITY"), LOG_ERR, 0, "failed: error");
    tap_str(text_of(seen, DML_EVENT_RUN_FAILED, "DML_ERROR"), "x.conf:7: too few workers",
            "the sentence of a failure");
    tap_str(text_of(seen, DML_EVENT_RUN_FAILED, "MESSAGE"),
            "cifar10-nodes 3:6, run 2/5 failed: x.conf:7: too few workers", "and its message");
    tap_str(text_of(seen, DML_EVENT_MODEL_SAVED, "DML_CASE"), "3:6", "a model is of one run");
    tap_str(text_of(seen, DML_EVENT_RESULTS_SAVED, "DML_TESTCASE"), "cifar10-nodes",
            "results are of the experiment");
    tap_ok(!json_object_get(seen->records[DML_EVENT_RESULTS_SAVED], "DML_CASE"), "and of no case");
}

static void test_limits(struct dml_events *ev, struct seen *seen)
{
    static struct dml_round_worker workers[100];
    for (unsigned i = 0; i < ARRAY_SIZE(workers); i++)
        workers[i] = (struct dml_round_worker){.rank = i + 1, .id = "x", .throttled = 1};
    const struct dml_round round = {.round = 1,
                                    .n_rounds = 1,
                                    .n_participants = 100,
                                    .n_expected = 100,
                                    .loss = NAN,
                                    .evaluated = true,
                                    .workers = workers};
    dml_event_round(ev, &run, &round);
    const json_t *record = seen->records[DML_EVENT_ROUND];
    tap_ok(json_object_get(record, "DML_WORKER_64_ID") != NULL, "64 workers are listed");
    tap_ok(!json_object_get(record, "DML_WORKER_65_ID"), "no more");
    tap_near(dml_json_get_real(record, "DML_WORKERS_OMITTED", 0), 36, 0, "the others are counted");
    tap_str(json_string_value(json_object_get(record, "DML_LOSS")), "nan",
            "a loss that diverged is seen");
    tap_ok(seen->round == &round, "the listener has the round itself, with all workers");
    dml_event_round(NULL, &run, &round);
    dml_event_worker_lost(NULL, "x", "y");
    dml_event_run_failed(ev, &run, -ENOMEM, NULL);
    tap_str(text_of(seen, DML_EVENT_RUN_FAILED, "DML_ERROR"), strerror(ENOMEM),
            "without a sentence the error's name");
    dml_event_worker_lost(ev, NULL, "\xff\xfe");
    tap_ok(seen->records[DML_EVENT_WORKER_LOST] != NULL, "odd texts make a record too");
}

/* What journalctl -x says of a model is not what it says of a table. */
static void test_saved_entries(const char *text)
{
    static const struct {
        enum dml_event_kind kind;
        const char *wanted, *unwanted;
    } sayings[] = {
        {DML_EVENT_RESULTS_SAVED, "CSV", "evaluate"},
        {DML_EVENT_MODEL_SAVED, "dmlctl evaluate", "CSV"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(sayings); i++) {
        const char *entry = strstr(text, dml_event_message_id(sayings[i].kind));
        const char *end = entry ? strstr(entry, "\n-- ") : NULL;
        _cleanup_(dml_mem_freep) char *said =
            entry ? strndup(entry, end ? (size_t)(end - entry) : strlen(entry)) : NULL;
        tap_has(said ? said : "", sayings[i].wanted, dml_event_name(sayings[i].kind));
        tap_ok(said && !strstr(said, sayings[i].unwanted), "and not of \"%s\"",
               sayings[i].unwanted);
    }
}

/* Every @FIELD@ of an entry is one the event has. */
static bool fields_exist(const char *entry, const char *end, const json_t *record, const char *name)
{
    bool good = true;
    for (const char *p = entry; (p = memchr(p, '@', (size_t)(end - p))); p++) {
        const char *close = memchr(p + 1, '@', (size_t)(end - p - 1));
        char key[64];
        if (!close)
            return false;
        (void)snprintf(key, sizeof(key), "%.*s", (int)(close - p - 1), p + 1);
        if (!json_object_get(record, key)) {
            tap_note("%s has no field %s", name, key);
            good = false;
        }
        p = close;
    }
    return good;
}

static void test_catalog(const struct seen *seen)
{
    const char *top = getenv("top_srcdir");
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/etc/dml.catalog", top ? top : ".");
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len = 0;
    struct dml_err err = {0};
    if (!tap_int(dml_fileio_read(path, 1 << 20, &text, &len, &err), 0, path))
        return;
    unsigned n_entries = 0;
    for (const char *p = text; (p = strstr(p, "\n-- ")); p++)
        n_entries++;
    tap_int(n_entries, DML_EVENT_MAX_, "as many entries as events");
    for (int kind = 0; kind < DML_EVENT_MAX_; kind++) {
        enum dml_event_kind k = (enum dml_event_kind)kind;
        const char *name = dml_event_name(k), *id = dml_event_message_id(k);
        char line[64];
        (void)snprintf(line, sizeof(line), "\n-- %s\nSubject: ", id);
        const char *entry = strstr(text, line);
        if (!tap_ok(entry != NULL, "%s (%s) has an entry with a subject", name, id))
            continue;
        tap_ok(!strstr(entry + 1, line), "only one");
        tap_ok(strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32, "the id is 128 bits");
        const char *end = strstr(entry + 1, "\n-- ");
        if (!end)
            end = text + len;
        /* Header, blank, what it means, blank, what to do. */
        const char *body = strstr(entry, "\n\n");
        const char *remedy = body ? strstr(body + 2, "\n\n") : NULL;
        tap_ok(remedy && remedy + 20 < end, "says what it means and what to do");
        tap_ok(fields_exist(entry, end, seen->records[k], name), "names only its own fields");
    }
    test_saved_entries(text);
    /* Reasons and errors are sentences: they bring their own full stop. */
    tap_ok(!strstr(text, "@DML_ERROR@."), "no second full stop behind an error");
    tap_ok(!strstr(text, "ended: @DML_REASON@.") && !strstr(text, "no: @DML_REASON@."),
           "nor behind a reason");
}

int main(void)
{
    struct seen seen = {0};
    _cleanup_(dml_events_freep) struct dml_events *ev = dml_events_new();
    dml_log_init(DML_LOG_NONE, "test", LOG_DEBUG);
    tap_int(dml_events_listen(ev, listen, &seen), 0, "somebody listens");
    emit_all(ev);
    test_records(&seen);
    test_catalog(&seen);
    test_limits(ev, &seen);
    for (int kind = 0; kind < DML_EVENT_MAX_; kind++)
        json_decref(seen.records[kind]);
    return tap_done();
}
