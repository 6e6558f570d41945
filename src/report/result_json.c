/*
 * Results as JSON. The figures of a case (t_s, w_share, …) are for scripts and are written only;
 * reading takes the runs, from which the summary is computed again, so a file cannot contradict
 * itself.
 *
 * Numbers are written with 17 significant digits and counts as integers, so reading gives back
 * every bit; a loss that is not finite becomes null and comes back as NAN.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "report/flow.h"
#include "report/json.h"
#include "report/result.h"

/* A key and a value made on the spot; the first failure sticks. */
struct writer {
    json_t *object;
    int r;
};

static struct writer writer_new(void)
{
    json_t *object = json_object();
    return (struct writer){.object = object, .r = object ? 0 : -ENOMEM};
}

static void put(struct writer *w, const char *key, json_t *value)
{
    if (w->r == 0)
        w->r = dml_json_set(w->object, key, value);
    else
        json_decref(value);
}

static void put_uint(struct writer *w, const char *key, uint64_t value)
{
    put(w, key, json_integer((json_int_t)value));
}

static void put_real(struct writer *w, const char *key, double value)
{
    put(w, key, dml_json_real(value));
}

static json_t *writer_done(struct writer *w)
{
    if (w->r == 0)
        return w->object;
    json_decref(w->object);
    return NULL;
}

static json_t *worker_json(const struct dml_round_worker *worker)
{
    struct writer w = writer_new();
    put_uint(&w, "rank", worker->rank);
    put(&w, "id", dml_json_text(worker->id));
    put_uint(&w, "work_us", worker->work_us);
    put_uint(&w, "idle_us", worker->idle_us);
    put_uint(&w, "sending_us", worker->sending_us);
    if (worker->exposed_us != DML_EVENT_UNKNOWN)
        put_uint(&w, "exposed_us", worker->exposed_us);
    put_uint(&w, "sent_bytes", worker->sent_bytes);
    put_uint(&w, "received_bytes", worker->received_bytes);
    put_uint(&w, "samples", worker->n_samples);
    put_uint(&w, "steps", worker->n_steps);
    if (worker->layers[0])
        put(&w, "layers", dml_json_text(worker->layers));
    put_real(&w, "loss", worker->loss);
    put(&w, "temperature_c",
        worker->temperature_c >= 0 ? dml_json_real(worker->temperature_c) : json_null());
    put(&w, "throttled", worker->throttled >= 0 ? json_integer(worker->throttled) : json_null());
    return writer_done(&w);
}

/* An array of n values made by fn; NULL when out of memory. */
#define ARRAY_JSON(name, type, fn)                                                                 \
    static json_t *name(const type *items, size_t n)                                               \
    {                                                                                              \
        json_t *array = json_array();                                                              \
        for (size_t i = 0; array && i < n; i++)                                                    \
            if (json_array_append_new(array, fn(&items[i])) < 0) {                                 \
                json_decref(array);                                                                \
                return NULL;                                                                       \
            }                                                                                      \
        return array;                                                                              \
    }

ARRAY_JSON(workers_json, struct dml_round_worker, worker_json)

static json_t *round_json(const struct dml_round *round)
{
    struct writer w = writer_new();
    put_uint(&w, "round", round->round);
    put_uint(&w, "n_rounds", round->n_rounds);
    put_uint(&w, "participants", round->n_participants);
    put_uint(&w, "expected", round->n_expected);
    put_uint(&w, "t_us", round->t_us);
    put_uint(&w, "w_us", round->work_us);
    put(&w, "o_us", json_integer(round->overhead_us));
    put_uint(&w, "sending_us", round->sending_us);
    put_uint(&w, "sent_bytes", round->sent_bytes);
    put_uint(&w, "received_bytes", round->received_bytes);
    if (round->unfiltered_bytes)
        put_uint(&w, "unfiltered_bytes", round->unfiltered_bytes);
    put_real(&w, "loss", round->loss);
    put(&w, "evaluated", json_boolean(round->evaluated));
    if (round->evaluated) {
        put_real(&w, "eval_loss", round->eval_loss);
        put_real(&w, "accuracy", round->accuracy);
        put_uint(&w, "eval_us", round->eval_us);
    }
    if (round->workers)
        put(&w, "workers", workers_json(round->workers, round->n_participants));
    return writer_done(&w);
}

ARRAY_JSON(rounds_json, struct dml_round, round_json)

static json_t *run_json(const struct dml_result_run *run)
{
    const struct dml_run_totals *t = &run->totals;
    struct writer w = writer_new();
    put_uint(&w, "repeat", (uint64_t)run->repeat + 1);
    put(&w, "failed", json_boolean(run->failed));
    put(&w, "error", dml_json_text(run->error));
    put_uint(&w, "t_us", t->t_us);
    put_uint(&w, "w_us", t->work_us);
    put(&w, "o_us", json_integer(t->overhead_us));
    put_uint(&w, "setup_us", t->setup_us);
    put_uint(&w, "n_rounds", t->n_rounds);
    put_uint(&w, "n_lost", t->n_lost);
    put_real(&w, "loss", t->loss);
    put_real(&w, "accuracy", t->accuracy);
    put_uint(&w, "sent_bytes", t->sent_bytes);
    put_uint(&w, "received_bytes", t->received_bytes);
    put(&w, "rounds", rounds_json(run->rounds, run->n_rounds));
    return writer_done(&w);
}

ARRAY_JSON(runs_json, struct dml_result_run, run_json)

static json_t *node_json(const struct dml_flow_node *node)
{
    struct writer w = writer_new();
    put_uint(&w, "rank", node->rank);
    put(&w, "id", dml_json_text(node->id));
    put(&w, "layers", dml_json_text(node->layers));
    put_real(&w, "compute_s", node->compute_s);
    put_real(&w, "transfer_s", node->transfer_s);
    put_real(&w, "idle_s", node->idle_s);
    put_real(&w, "exposed_s", node->exposed_s);
    put_real(&w, "overlap", node->overlap);
    put_real(&w, "sent_bytes", node->sent_bytes);
    put_real(&w, "received_bytes", node->received_bytes);
    put_real(&w, "throttled", node->throttled);
    return writer_done(&w);
}

ARRAY_JSON(nodes_json, struct dml_flow_node, node_json)

static void put_flow(struct writer *w, const struct dml_result_case *c)
{
    struct dml_flow flow;
    int e = dml_flow_make(c, &flow);
    if (e < 0) {
        w->r = w->r < 0 ? w->r : e;
        return;
    }
    put_real(w, "step_s", flow.step_s);
    put_real(w, "samples_per_s", flow.samples_per_s);
    if (flow.passes) {
        put_real(w, "node_bytes_per_step", flow.node_bytes);
        put_real(w, "master_bytes_per_step", flow.master_bytes);
        put_real(w, "saved_share", flow.saved);
        put_real(w, "compute_s", flow.compute_s);
        put_real(w, "transfer_s", flow.transfer_s);
        put(w, "per_node", nodes_json(flow.nodes, flow.n_nodes));
    }
    dml_flow_done(&flow);
}

static json_t *case_json(const struct dml_results *r, size_t i_case)
{
    const struct dml_result_case *c = &r->cases[i_case];
    struct dml_result_summary s;
    dml_results_summary(r, i_case, &s);
    struct writer w = writer_new();
    put(&w, "name", dml_json_text(r->name));
    put(&w, "label", dml_json_text(c->label));
    put_uint(&w, "nodes", c->nodes);
    put_real(&w, "cores", c->cores);
    put(&w, "paradigm", dml_json_text(c->paradigm));
    put(&w, "strategy", dml_json_text(c->strategy));
    put(&w, "model", dml_json_text(c->model));
    put(&w, "dataset", dml_json_text(c->dataset));
    if (c->cut)
        put(&w, "cut", dml_json_text(c->cut));
    put_real(&w, "t_s", s.t_s);
    put_real(&w, "t_s_sd", s.t_s_sd);
    put_real(&w, "w_s", s.w_s);
    put_real(&w, "w_s_sd", s.w_s_sd);
    put_real(&w, "o_s", s.o_s);
    put_real(&w, "o_s_sd", s.o_s_sd);
    put_real(&w, "w_share", s.w_share);
    put_real(&w, "w_share_sd", s.w_share_sd);
    put_real(&w, "o_share", s.o_share);
    put_real(&w, "o_share_sd", s.o_share_sd);
    put_real(&w, "speedup", s.speedup);
    put_real(&w, "speedup_sd", s.speedup_sd);
    put_real(&w, "accuracy", s.accuracy);
    put_real(&w, "accuracy_sd", s.accuracy_sd);
    put_real(&w, "loss", s.loss);
    put_real(&w, "loss_sd", s.loss_sd);
    put_uint(&w, "n_runs", s.n_runs);
    put_uint(&w, "n_failed", s.n_failed);
    put_flow(&w, c);
    put(&w, "runs", runs_json(c->runs, c->n_runs));
    return writer_done(&w);
}

static json_t *cases_json(const struct dml_results *r)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < r->n_cases; i++)
        if (json_array_append_new(array, case_json(r, i)) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

int dml_results_cases_json(const struct dml_results *r, char **ret_json)
{
    _cleanup_(dml_json_unrefp) json_t *array = cases_json(r);
    return array ? dml_json_print(array, 1, ret_json) : -ENOMEM;
}

int dml_results_to_json(const struct dml_results *r, char **ret_json)
{
    struct writer w = writer_new();
    put(&w, "name", dml_json_text(r->name));
    put(&w, "started", dml_json_text(r->started));
    put(&w, "cases", cases_json(r));
    _cleanup_(dml_json_unrefp) json_t *object = writer_done(&w);
    return object ? dml_json_print(object, 1, ret_json) : -ENOMEM;
}

static uint64_t get_count(const json_t *object, const char *key)
{
    return dml_json_get_uint(object, key, INT64_MAX, 0);
}

static unsigned get_unsigned(const json_t *object, const char *key)
{
    return (unsigned)dml_json_get_uint(object, key, INT32_MAX, 0);
}

/* "o_us" of older versions was no less than 0, and its sums were no O. Both are counts: at most
 * INT64_MAX. */
static int64_t overhead(uint64_t t_us, uint64_t work_us)
{
    return (int64_t)t_us - (int64_t)work_us;
}

static void read_worker(const json_t *object, struct dml_round_worker *ret)
{
    *ret = (struct dml_round_worker){
        .rank = get_unsigned(object, "rank"),
        .work_us = get_count(object, "work_us"),
        .idle_us = get_count(object, "idle_us"),
        .sending_us = get_count(object, "sending_us"),
        .sent_bytes = get_count(object, "sent_bytes"),
        .received_bytes = get_count(object, "received_bytes"),
        .exposed_us = dml_json_get_uint(object, "exposed_us", INT64_MAX, DML_EVENT_UNKNOWN),
        .n_samples = get_count(object, "samples"),
        .n_steps = get_count(object, "steps"),
        .loss = dml_json_get_real(object, "loss", NAN),
        .temperature_c = dml_json_get_real(object, "temperature_c", -1.0),
        .throttled = (int32_t)dml_json_get_uint(object, "throttled", INT32_MAX, UINT64_MAX),
    };
    dml_json_get_text(object, "id", ret->id, sizeof(ret->id));
    dml_json_get_text(object, "layers", ret->layers, sizeof(ret->layers));
}

static int read_round(const json_t *object, struct dml_result_run *run)
{
    const json_t *list = json_object_get(object, "workers");
    struct dml_round round = {
        .round = get_count(object, "round"),
        .n_rounds = get_count(object, "n_rounds"),
        .n_participants = get_unsigned(object, "participants"),
        .n_expected = get_unsigned(object, "expected"),
        .t_us = get_count(object, "t_us"),
        .work_us = get_count(object, "w_us"),
        .sent_bytes = get_count(object, "sent_bytes"),
        .received_bytes = get_count(object, "received_bytes"),
        .sending_us = get_count(object, "sending_us"),
        .unfiltered_bytes = get_count(object, "unfiltered_bytes"),
        .loss = dml_json_get_real(object, "loss", NAN),
        .evaluated = json_is_true(json_object_get(object, "evaluated")),
        .eval_us = get_count(object, "eval_us"),
    };
    round.overhead_us = overhead(round.t_us, round.work_us);
    if (round.evaluated) {
        round.eval_loss = dml_json_get_real(object, "eval_loss", NAN);
        round.accuracy = dml_json_get_real(object, "accuracy", NAN);
    }
    /* A list of another length than the count says would be read beyond its end later. */
    size_t n = json_array_size(list);
    _cleanup_(dml_mem_freep) struct dml_round_worker *workers = NULL;
    if (n > 0 && n == round.n_participants) {
        workers = calloc(n, sizeof(*workers));
        if (!workers)
            return -ENOMEM;
        for (size_t i = 0; i < n; i++)
            read_worker(json_array_get(list, i), &workers[i]);
        round.workers = workers;
    }
    return dml_results_add_round(run, &round);
}

static int read_run(const json_t *object, struct dml_result_case *c)
{
    unsigned repeat = get_unsigned(object, "repeat");
    struct dml_result_run *run = dml_results_add_run(c, repeat > 0 ? repeat - 1 : 0);
    if (!run)
        return -ENOMEM;
    run->totals = (struct dml_run_totals){
        .t_us = get_count(object, "t_us"),
        .work_us = get_count(object, "w_us"),
        .setup_us = get_count(object, "setup_us"),
        .n_rounds = get_count(object, "n_rounds"),
        .n_lost = get_unsigned(object, "n_lost"),
        .loss = dml_json_get_real(object, "loss", NAN),
        .accuracy = dml_json_get_real(object, "accuracy", NAN),
        .sent_bytes = get_count(object, "sent_bytes"),
        .received_bytes = get_count(object, "received_bytes"),
    };
    run->totals.overhead_us = overhead(run->totals.t_us, run->totals.work_us);
    run->failed = json_is_true(json_object_get(object, "failed"));
    const char *error = json_string_value(json_object_get(object, "error"));
    if (run->failed && !(run->error = strdup(error ? error : "no reason was recorded")))
        return -ENOMEM;
    const json_t *rounds = json_object_get(object, "rounds");
    for (size_t i = 0; i < json_array_size(rounds); i++) {
        int r = read_round(json_array_get(rounds, i), run);
        if (r < 0)
            return r;
    }
    return 0;
}

static const char *get_word(const json_t *object, const char *key)
{
    const char *word = json_string_value(json_object_get(object, key));
    return word ? word : "";
}

static int read_case(const json_t *object, struct dml_results *r)
{
    struct dml_result_case *c = dml_results_add_case(
        r, get_word(object, "label"), get_word(object, "paradigm"), get_word(object, "strategy"),
        get_word(object, "model"), get_word(object, "dataset"), get_unsigned(object, "nodes"),
        dml_json_get_real(object, "cores", 0.0));
    if (!c)
        return -ENOMEM;
    const char *cut = json_string_value(json_object_get(object, "cut"));
    c->cut = cut ? strdup(cut) : NULL;
    if (cut && !c->cut)
        return -ENOMEM;
    const json_t *runs = json_object_get(object, "runs");
    for (size_t i = 0; i < json_array_size(runs); i++) {
        int e = read_run(json_array_get(runs, i), c);
        if (e < 0)
            return e;
    }
    return 0;
}

int dml_results_from_json(const char *json, size_t len, const char *file, struct dml_results **ret,
                          struct dml_err *err)
{
    _cleanup_(dml_json_unrefp) json_t *object = NULL;
    int e = dml_json_parse(json, len, file, &object, err);
    if (e < 0)
        return e;
    const json_t *name = json_object_get(object, "name");
    const json_t *cases = json_object_get(object, "cases");
    if (!json_is_string(name) || !json_is_array(cases))
        return dml_err_at(err, -EBADMSG, file, 0,
                          "not a file of results: it lacks \"name\" or the list \"cases\"");
    _cleanup_(dml_results_freep) struct dml_results *r = dml_results_new(json_string_value(name));
    char *started = strdup(get_word(object, "started"));
    if (!r || !started) {
        free(started);
        return -ENOMEM;
    }
    free(r->started);
    r->started = started;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        e = read_case(json_array_get(cases, i), r);
        if (e < 0)
            return e;
    }
    *ret = r;
    r = NULL;
    return 0;
}
