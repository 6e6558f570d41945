/*
 * The same records come from a master (as JSON over the wire) and from a run in this process (as
 * the JSON a listener gets), so there is one way from a record to a line.
 *
 * Time left: what is done is counted in runs, cases × repeats, the current one by its rounds; the
 * rest takes as long per run as it did so far. Cases differ, so it is an estimate, and it is only
 * given once a round has ended.
 */
#include "ctl/live.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ctl/out.h"
#include "report/json.h"

void dml_live_init(struct dml_live *live)
{
    memset(live, 0, sizeof(*live));
    dml_status_init(&live->status);
}

void dml_live_begin(struct dml_live *live, const struct dml_status *status, uint64_t now_us)
{
    live->status = *status;
    live->run_ended = false;
    live->seen_us = now_us;
    live->start_us = 0;
    if (status->elapsed_s >= 0.0 && status->elapsed_s * 1e6 < (double)now_us)
        live->start_us = now_us - (uint64_t)(status->elapsed_s * 1e6);
}

/* 1-based in the record, 0-based here. */
static unsigned get_index(const json_t *record, const char *key, unsigned dflt)
{
    uint64_t x = dml_json_get_uint(record, key, INT32_MAX, 0);
    return x > 0 ? (unsigned)x - 1 : dflt;
}

static unsigned get_count(const json_t *record, const char *key, unsigned dflt)
{
    return (unsigned)dml_json_get_uint(record, key, INT32_MAX, dflt);
}

static void take_run(struct dml_live *live, const json_t *record)
{
    struct dml_status *s = &live->status;
    dml_json_get_text(record, "DML_TESTCASE", s->testcase, sizeof(s->testcase));
    dml_json_get_text(record, "DML_CASE", s->label, sizeof(s->label));
    s->i_case = get_index(record, "DML_CASE_NUMBER", s->i_case);
    s->n_cases = get_count(record, "DML_CASES", s->n_cases);
    s->i_repeat = get_index(record, "DML_REPEAT", s->i_repeat);
    s->n_repeats = get_count(record, "DML_REPEATS", s->n_repeats);
    s->nodes = get_count(record, "DML_NODES", s->nodes);
    s->n_rounds = dml_json_get_uint(record, "DML_ROUNDS", INT64_MAX, s->n_rounds);
}

static void take_accuracy(struct dml_status *s, const json_t *record)
{
    double accuracy = dml_json_get_real(record, "DML_ACCURACY", NAN);
    if (isfinite(accuracy))
        s->accuracy = accuracy;
}

static void take(struct dml_live *live, enum dml_event_kind kind, const json_t *record,
                 uint64_t now_us)
{
    struct dml_status *s = &live->status;
    if (json_object_get(record, "DML_TESTCASE") && kind != DML_EVENT_RESULTS_SAVED)
        take_run(live, record);
    switch (kind) {
    case DML_EVENT_CASE_STARTED:
        s->state = DML_STATUS_WAITING;
        s->workers = get_count(record, "DML_WORKERS_THERE", s->workers);
        if (live->start_us == 0)
            live->start_us = now_us;
        live->run_ended = false;
        s->round = 0;
        s->loss = s->accuracy = NAN;
        break;
    case DML_EVENT_RUN_STARTED:
        s->state = DML_STATUS_RUNNING;
        if (live->start_us == 0)
            live->start_us = now_us;
        live->run_ended = false;
        s->round = 0;
        s->loss = s->accuracy = NAN;
        break;
    case DML_EVENT_ROUND:
        s->state = DML_STATUS_RUNNING;
        s->round = dml_json_get_uint(record, "DML_ROUND", INT64_MAX, s->round);
        s->workers = get_count(record, "DML_PARTICIPANTS", s->workers);
        s->loss = dml_json_get_real(record, "DML_LOSS", NAN);
        take_accuracy(s, record);
        break;
    case DML_EVENT_EVALUATION:
        take_accuracy(s, record);
        return;
    case DML_EVENT_RUN_ENDED:
    case DML_EVENT_RUN_FAILED:
        take_accuracy(s, record);
        live->run_ended = true;
        break;
    case DML_EVENT_CUT:
    case DML_EVENT_WORKER_READY:
    case DML_EVENT_MASTER_STARTED:
    case DML_EVENT_WORKER_JOINED:
    case DML_EVENT_WORKER_LOST:
    case DML_EVENT_WORKER_REFUSED:
    case DML_EVENT_WORKER_WARNING:
    case DML_EVENT_RESULTS_SAVED:
    case DML_EVENT_MODEL_SAVED:
    case DML_EVENT_MODEL_UNSAVED:
    case DML_EVENT_MAX_:
        return;
    }
    live->seen_us = now_us;
}

enum dml_event_kind dml_live_feed(struct dml_live *live, const char *json, uint64_t now_us,
                                  char *message, size_t message_len)
{
    _cleanup_(dml_json_unrefp) json_t *record = NULL;
    char name[32];
    message[0] = '\0';
    if (dml_json_parse(json, strlen(json), "record", &record, NULL) < 0)
        return DML_EVENT_MAX_;
    dml_json_get_text(record, "DML_EVENT", name, sizeof(name));
    enum dml_event_kind kind = dml_event_find(name);
    if (kind == DML_EVENT_MAX_)
        return kind;
    dml_json_get_text(record, "MESSAGE", message, message_len);
    /* It comes from outside and goes to a terminal. */
    for (char *p = message; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    take(live, kind, record, now_us);
    dml_live_tick(live, now_us);
    return kind;
}

/* Runs that are done, the current one in part; of how many. */
static double done(const struct dml_live *live, double *ret_all)
{
    const struct dml_status *s = &live->status;
    double part = live->run_ended   ? 1.0
                  : s->n_rounds > 0 ? (double)s->round / (double)s->n_rounds
                                    : 0.0;
    *ret_all = (double)s->n_cases * s->n_repeats;
    return (double)s->i_case * s->n_repeats + s->i_repeat + fmin(part, 1.0);
}

void dml_live_tick(struct dml_live *live, uint64_t now_us)
{
    struct dml_status *s = &live->status;
    if (live->start_us == 0 || now_us < live->start_us)
        return;
    s->elapsed_s = (double)(now_us - live->start_us) / 1e6;
    double all, so_far = done(live, &all);
    s->remaining_s = NAN;
    if (!(so_far > 0.0) || !(all >= so_far) || live->seen_us <= live->start_us)
        return;
    /* Estimated when the last round ended, counted down since. */
    double took = (double)(live->seen_us - live->start_us) / 1e6;
    double since = (double)(now_us - live->seen_us) / 1e6;
    s->remaining_s = fmax(took * (all - so_far) / so_far - since, 0.0);
}

/* One line under construction. A part that does not fit is left out and remembered. */
struct line {
    char *buf;
    size_t buf_len, columns, used;
    int gap;
    bool cut;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *fmt, ...)
{
    char part[320];
    size_t bytes = strlen(l->buf), chars = 0;
    int gap = bytes > 0 ? l->gap : 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(part, sizeof(part), fmt, ap);
    va_end(ap);
    for (const char *p = part; *p; p++)
        chars += ((unsigned char)*p & 0xc0) != 0x80;
    if (l->used + (size_t)gap + chars > l->columns ||
        bytes + (size_t)gap + strlen(part) >= l->buf_len) {
        l->cut = true;
        return;
    }
    (void)snprintf(l->buf + bytes, l->buf_len - bytes, "%*s%s", gap, "", part);
    l->used += (size_t)gap + chars;
}

/* name_max: characters of the test case's name; accuracy: the word for it. */
static void add_parts(struct line *l, const struct dml_status *s, int name_max,
                      const char *accuracy)
{
    char text[32];
    if (!s->testcase[0])
        add(l, "starting");
    else if (strlen(s->testcase) > (size_t)name_max)
        add(l, "%s", s->label);
    else
        add(l, "%s%s%s", s->testcase, s->label[0] ? " " : "", s->label);
    if (s->n_cases > 1 || s->n_repeats > 1)
        add(l, "run %u/%u", s->i_case * s->n_repeats + s->i_repeat + 1, s->n_cases * s->n_repeats);
    if (s->state == DML_STATUS_RUNNING) {
        add(l, "round %llu/%llu", (unsigned long long)s->round, (unsigned long long)s->n_rounds);
        add(l, "%u/%u workers", s->round ? s->workers : s->nodes, s->nodes);
    } else if (s->state == DML_STATUS_WAITING && s->workers < s->nodes) {
        add(l, "waiting: %u/%u workers", s->workers, s->nodes);
    }
    if (isfinite(s->loss))
        add(l, "loss %.3f", s->loss);
    if (isfinite(s->accuracy))
        add(l, "%s %.1f %%", accuracy, 100.0 * s->accuracy);
    if (s->elapsed_s >= 0.0)
        add(l, "%s", dml_out_seconds(s->elapsed_s, text, sizeof(text)));
    if (s->remaining_s >= 0.0 && s->state != DML_STATUS_WAITING) /* nobody knows for whom */
        add(l, "%s left", dml_out_seconds(s->remaining_s, text, sizeof(text)));
}

const char *dml_live_line(const struct dml_live *live, size_t columns, char *buf, size_t buf_len)
{
    /* From airy to tight, until nothing is left out. */
    static const struct {
        int gap, name_max;
        const char *accuracy;
    } forms[] = {{2, 127, "accuracy"}, {1, 127, "acc."}, {1, 0, "acc."}};
    struct line l = {.cut = true};
    for (size_t i = 0; l.cut && i < ARRAY_SIZE(forms); i++) {
        buf[0] = '\0';
        l = (struct line){.buf = buf, .buf_len = buf_len, .columns = columns, .gap = forms[i].gap};
        add_parts(&l, &live->status, forms[i].name_max, forms[i].accuracy);
    }
    return buf;
}
