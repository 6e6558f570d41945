/* Status and workers: what the master packs is what dmlctl unpacks, and bad bytes are refused. */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "report/status.h"
#include "tests/tap.h"

static void test_status_round_trip(void)
{
    struct dml_status s, back;
    dml_status_init(&s);
    s.state = DML_STATUS_RUNNING;
    (void)snprintf(s.testcase, sizeof(s.testcase), "cifar10-nodes");
    (void)snprintf(s.label, sizeof(s.label), "3:6 é");
    s.i_case = 2, s.n_cases = 3, s.i_repeat = 1, s.n_repeats = 5;
    s.round = 4, s.n_rounds = UINT64_C(1) << 40;
    s.nodes = 3, s.workers = 2;
    s.loss = 0.412;
    s.elapsed_s = 12.5;
    _cleanup_(dml_mem_freep) char *json = NULL;
    tap_int(dml_status_pack(&s, &json), 0, "a status is packed");
    tap_has(json, "\"state\":\"running\"", "states are words");
    tap_has(json, "\"accuracy\":null", "what is not known is null");
    tap_int(dml_status_unpack(json, strlen(json), &back, NULL), 0, "and unpacked");
    tap_int(back.state, DML_STATUS_RUNNING, "state");
    tap_str(back.label, "3:6 é", "label");
    tap_int((long long)back.n_rounds, 1LL << 40, "a count beyond 32 bits");
    tap_int(back.workers, 2, "workers");
    tap_near(back.loss, 0.412, 0.0, "a real keeps every bit");
    tap_ok(isnan(back.accuracy) && isnan(back.remaining_s), "what was not known is not known");
    tap_str(back.version, s.version, "version");
}

static void test_workers_round_trip(void)
{
    struct dml_status_worker w[2] = {
        {.id = "pi1",
         .board = "Raspberry Pi 4",
         .cores = 4,
         .memory_bytes = UINT64_C(4) << 30,
         .gflops = 7.5,
         .state = DML_STATUS_WORKER_BUSY,
         .temperature_c = 61.5,
         .throttled = 0,
         .rss_bytes = 123456789,
         .last_beat_s = 0.5,
         .joined_s = 3600},
        {.id = "pi2",
         .temperature_c = -1,
         .throttled = -1,
         .rss_bytes = -1,
         .state = DML_STATUS_WORKER_SILENT},
    };
    _cleanup_(dml_mem_freep) char *json = NULL;
    _cleanup_(dml_mem_freep) struct dml_status_worker *back = NULL;
    size_t n = 0;
    tap_int(dml_status_workers_pack(w, 2, &json), 0, "workers are packed");
    tap_int(dml_status_workers_unpack(json, strlen(json), &back, &n, NULL), 0, "and unpacked");
    if (!tap_int((long long)n, 2, "both of them"))
        return;
    tap_str(back[0].id, "pi1", "id");
    tap_int((long long)back[0].memory_bytes, 4LL << 30, "memory");
    tap_near(back[0].temperature_c, 61.5, 0.0, "temperature");
    tap_int(back[0].throttled, 0, "not throttled is known to be 0");
    tap_int(back[1].throttled, -1, "unknown stays unknown");
    tap_int(back[1].rss_bytes, -1, "unknown memory");
    tap_ok(back[1].temperature_c < 0, "unknown temperature");
    tap_int(back[1].state, DML_STATUS_WORKER_SILENT, "state");
}

static void test_bad_bytes(void)
{
    static const char *const bad[] = {"", "{", "[]", "3", "{\"a\":1,\"a\":2}", "\xff\xfe", "null"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct dml_status s;
        struct dml_err err = {0};
        tap_int(dml_status_unpack(bad[i], strlen(bad[i]), &s, &err), -EBADMSG, "refused");
        tap_ok(dml_err_is_set(&err), "with a sentence: %s", err.text);
    }
    struct dml_status s;
    const char *odd = "{\"state\":7,\"round\":-3,\"n_rounds\":1.5,\"workers\":1e30,\"loss\":\"x\","
                      "\"accuracy\":\"0.5\",\"nodes\":\"3\"}";
    tap_int(dml_status_unpack(odd, strlen(odd), &s, NULL), 0, "odd types are not fatal");
    tap_int((long long)s.round, 0, "a negative count counts as missing");
    tap_int((long long)s.n_rounds, 0, "so does a fraction");
    tap_int(s.workers, 0, "and a count beyond its field");
    tap_ok(isnan(s.loss), "and a word for a number");
    tap_near(s.accuracy, 0.5, 0.0, "a number as text is a number");
    tap_int(s.nodes, 3, "a count as text is a count");

    static char lots[4096];
    memset(lots, '[', sizeof(lots));
    tap_int(dml_status_unpack(lots, sizeof(lots), &s, NULL), -EBADMSG, "deep nesting is refused");
    char name[400] = "{\"testcase\":\"";
    for (int i = 0; i < 100; i++)
        strcat(name, "é");
    strcat(name, "\"}");
    tap_int(dml_status_unpack(name, strlen(name), &s, NULL), 0, "a long name is cut");
    tap_int((long long)strlen(s.testcase), 126, "at the boundary of a character");
}

static void test_results(void)
{
    _cleanup_(dml_mem_freep) char *json = NULL, *results = NULL, *path = NULL;
    tap_int(dml_status_results_pack("{\"name\":\"x\"}", "/tmp/x.json", &json), 0, "results packed");
    tap_int(dml_status_results_unpack(json, strlen(json), &results, &path, NULL), 0, "unpacked");
    tap_str(results, "{\"name\":\"x\"}", "results");
    tap_str(path, "/tmp/x.json", "path");
    tap_int(dml_status_results_pack("{", "x", &json), -EINVAL, "no JSON, no reply");
    char *a = NULL, *b = NULL;
    tap_int(dml_status_results_unpack("{}", 2, &a, &b, NULL), -EBADMSG, "no results in it");
}

int main(void)
{
    test_status_round_trip();
    test_workers_round_trip();
    test_bad_bytes();
    test_results();
    return tap_done();
}
