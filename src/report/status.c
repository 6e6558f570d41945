/*
 * One table per struct says which field is which key; packing and unpacking walk the same table, so
 * a field cannot be written under one name and read under another.
 *
 * Unpacking is lenient on purpose: a dmlctl of one version talks to a master of another, and a key
 * that one of them lacks is no reason to say nothing.
 */
#include "report/status.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "config.h"
#include "report/json.h"

enum kind { TEXT, U32, U64, I32, I64, REAL, GAUGE, STATE, WORKER_STATE };

struct field {
    const char *key;
    enum kind kind;
    size_t offset, size;
};

#define STATUS(k, m, key)                                                                          \
    {                                                                                              \
        key, k, offsetof(struct dml_status, m), sizeof(((struct dml_status *)NULL)->m)             \
    }
#define WORKER(k, m)                                                                               \
    {                                                                                              \
#m, k, offsetof(struct dml_status_worker, m),                                              \
            sizeof(((struct dml_status_worker *)NULL)->m)                                          \
    }

static const struct field status_fields[] = {
    STATUS(TEXT, version, "version"),     STATUS(STATE, state, "state"),
    STATUS(TEXT, testcase, "testcase"),   STATUS(TEXT, label, "label"),
    STATUS(U32, i_case, "i_case"),        STATUS(U32, n_cases, "n_cases"),
    STATUS(U32, i_repeat, "i_repeat"),    STATUS(U32, n_repeats, "n_repeats"),
    STATUS(U64, round, "round"),          STATUS(U64, n_rounds, "n_rounds"),
    STATUS(U32, nodes, "nodes"),          STATUS(U32, workers, "workers"),
    STATUS(REAL, loss, "loss"),           STATUS(REAL, accuracy, "accuracy"),
    STATUS(REAL, elapsed_s, "elapsed_s"), STATUS(REAL, remaining_s, "remaining_s"),
    STATUS(TEXT, results, "results"),
};

static const struct field worker_fields[] = {
    WORKER(TEXT, id),
    WORKER(TEXT, host),
    WORKER(TEXT, peer),
    WORKER(TEXT, board),
    WORKER(TEXT, arch),
    WORKER(U32, cores),
    WORKER(U64, memory_bytes),
    WORKER(REAL, gflops),
    WORKER(TEXT, version),
    WORKER(WORKER_STATE, state),
    WORKER(GAUGE, temperature_c),
    WORKER(I32, throttled),
    WORKER(I64, rss_bytes),
    WORKER(REAL, last_beat_s),
    WORKER(REAL, joined_s),
};

static const char *const state_names[DML_STATUS_MAX_] = {"idle", "waiting", "running"};
static const char *const worker_state_names[DML_STATUS_WORKER_MAX_] = {"idle", "busy", "silent"};

static json_t *state_json(int state, const char *const *names, int n)
{
    return json_string(state >= 0 && state < n ? names[state] : "unknown");
}

static json_t *field_json(const struct field *f, const void *base)
{
    const void *p = (const char *)base + f->offset;
    switch (f->kind) {
    case TEXT:
        return dml_json_text(p);
    case U32:
        return json_integer(*(const uint32_t *)p);
    case U64:
        return json_integer((json_int_t) * (const uint64_t *)p);
    case I32:
        return *(const int32_t *)p < 0 ? json_null() : json_integer(*(const int32_t *)p);
    case I64:
        return *(const int64_t *)p < 0 ? json_null() : json_integer(*(const int64_t *)p);
    case REAL:
        return dml_json_real(*(const double *)p);
    case GAUGE:
        return *(const double *)p >= 0.0 ? dml_json_real(*(const double *)p) : json_null();
    case STATE:
        return state_json((int)*(const enum dml_status_state *)p, state_names, DML_STATUS_MAX_);
    case WORKER_STATE:
        return state_json((int)*(const enum dml_status_worker_state *)p, worker_state_names,
                          DML_STATUS_WORKER_MAX_);
    }
    return NULL;
}

/* Index of the word under key, or 0. */
static int get_state(const json_t *object, const char *key, const char *const *names, int n)
{
    const char *word = json_string_value(json_object_get(object, key));
    for (int i = 0; word && i < n; i++)
        if (!strcmp(word, names[i]))
            return i;
    return 0;
}

static void get_field(const struct field *f, const json_t *object, void *base)
{
    void *p = (char *)base + f->offset;
    switch (f->kind) {
    case TEXT:
        dml_json_get_text(object, f->key, p, f->size);
        break;
    case U32:
        *(uint32_t *)p = (uint32_t)dml_json_get_uint(object, f->key, UINT32_MAX, *(uint32_t *)p);
        break;
    case U64:
        *(uint64_t *)p = dml_json_get_uint(object, f->key, UINT64_MAX, *(uint64_t *)p);
        break;
    case I32: {
        uint64_t x = dml_json_get_uint(object, f->key, INT32_MAX, UINT64_MAX);
        *(int32_t *)p = x == UINT64_MAX ? -1 : (int32_t)x;
        break;
    }
    case I64: {
        uint64_t x = dml_json_get_uint(object, f->key, INT64_MAX, UINT64_MAX);
        *(int64_t *)p = x == UINT64_MAX ? -1 : (int64_t)x;
        break;
    }
    case REAL:
        *(double *)p = dml_json_get_real(object, f->key, *(double *)p);
        break;
    case GAUGE:
        *(double *)p = dml_json_get_real(object, f->key, -1.0);
        break;
    case STATE:
        *(enum dml_status_state *)p =
            (enum dml_status_state)get_state(object, f->key, state_names, DML_STATUS_MAX_);
        break;
    case WORKER_STATE:
        *(enum dml_status_worker_state *)p = (enum dml_status_worker_state)get_state(
            object, f->key, worker_state_names, DML_STATUS_WORKER_MAX_);
        break;
    }
}

/* NULL when out of memory. */
static json_t *struct_json(const struct field *fields, size_t n, const void *base)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < n; i++)
        if (dml_json_set(object, fields[i].key, field_json(&fields[i], base)) < 0) {
            json_decref(object);
            return NULL;
        }
    return object;
}

void dml_status_init(struct dml_status *ret)
{
    *ret = (struct dml_status){
        .version = PACKAGE_VERSION,
        .loss = NAN,
        .accuracy = NAN,
        .elapsed_s = NAN,
        .remaining_s = NAN,
    };
}

int dml_status_pack(const struct dml_status *s, char **ret_json)
{
    _cleanup_(dml_json_unrefp) json_t *object =
        struct_json(status_fields, ARRAY_SIZE(status_fields), s);
    return object ? dml_json_print(object, 0, ret_json) : -ENOMEM;
}

int dml_status_workers_pack(const struct dml_status_worker *w, size_t n, char **ret_json)
{
    _cleanup_(dml_json_unrefp) json_t *array = json_array();
    if (!array)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(array,
                                  struct_json(worker_fields, ARRAY_SIZE(worker_fields), &w[i])) < 0)
            return -ENOMEM;
    return dml_json_print(array, 0, ret_json);
}

int dml_status_results_pack(const char *results, const char *path, char **ret_json)
{
    _cleanup_(dml_json_unrefp) json_t *value = NULL;
    int r = dml_json_parse(results, strlen(results), "results", &value, NULL);
    if (r < 0)
        return r == -EBADMSG ? -EINVAL : r;
    _cleanup_(dml_json_unrefp) json_t *object = json_object();
    if (!object || dml_json_set(object, "results", json_incref(value)) < 0 ||
        dml_json_set(object, "path", dml_json_text(path)) < 0)
        return -ENOMEM;
    return dml_json_print(object, 0, ret_json);
}

static int parse_reply(const char *json, size_t len, json_t **ret, struct dml_err *err)
{
    if (len > DML_STATUS_JSON_MAX)
        return dml_err_set(err, -EBADMSG, "the master's answer is longer than %u MiB",
                           DML_STATUS_JSON_MAX >> 20);
    return dml_json_parse(json, len, "the master's answer", ret, err);
}

int dml_status_unpack(const char *json, size_t len, struct dml_status *ret, struct dml_err *err)
{
    _cleanup_(dml_json_unrefp) json_t *object = NULL;
    int r = parse_reply(json, len, &object, err);
    if (r < 0)
        return r;
    if (!json_is_object(object))
        return dml_err_set(err, -EBADMSG, "the master's answer is not a JSON object");
    dml_status_init(ret);
    for (size_t i = 0; i < ARRAY_SIZE(status_fields); i++)
        get_field(&status_fields[i], object, ret);
    return 0;
}

int dml_status_workers_unpack(const char *json, size_t len, struct dml_status_worker **ret,
                              size_t *ret_n, struct dml_err *err)
{
    _cleanup_(dml_json_unrefp) json_t *array = NULL;
    int r = parse_reply(json, len, &array, err);
    if (r < 0)
        return r;
    size_t n = json_array_size(array);
    if (!json_is_array(array) || n > DML_STATUS_WORKERS_MAX)
        return dml_err_set(err, -EBADMSG,
                           "the master's answer is not a JSON array of at most %d workers",
                           DML_STATUS_WORKERS_MAX);
    struct dml_status_worker *workers = calloc(n ? n : 1, sizeof(*workers));
    if (!workers)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < ARRAY_SIZE(worker_fields); k++)
            get_field(&worker_fields[k], json_array_get(array, i), &workers[i]);
    *ret = workers;
    *ret_n = n;
    return 0;
}

int dml_status_results_unpack(const char *json, size_t len, char **ret_results, char **ret_path,
                              struct dml_err *err)
{
    _cleanup_(dml_json_unrefp) json_t *object = NULL;
    int r = parse_reply(json, len, &object, err);
    if (r < 0)
        return r;
    const json_t *results = json_object_get(object, "results");
    const char *path = json_string_value(json_object_get(object, "path"));
    if (!json_is_object(results))
        return dml_err_set(err, -EBADMSG, "the master's answer has no results");
    _cleanup_(dml_mem_freep) char *own_path = strdup(path ? path : "");
    if (!own_path)
        return -ENOMEM;
    r = dml_json_print(results, 0, ret_results);
    if (r < 0)
        return r;
    *ret_path = own_path;
    own_path = NULL;
    return 0;
}
