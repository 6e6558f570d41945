/*
 * One function per event. The journal is the log of record: whatever a table, a plot or a bug
 * report needs later must be a field here, because nothing else is kept of a run on a machine that
 * lost its power.
 *
 * A MESSAGE_ID never changes once it is released: people's filters and the catalog name it.
 * Counts that people read (case, repeat, round) start at 1 in the records, at 0 in the structs.
 *
 * Events come from the run's thread (rounds) and from the network's (workers that come and go); one
 * lock makes the order in the log the order that listeners see.
 */
#include "report/event.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/err.h"
#include "report/record.h"

#define LISTENERS_MAX 16 /* a watching dmlctl is not one: the master fans out by itself */

static const struct {
    const char *id, *name;
    int priority;
} kinds[DML_EVENT_MAX_] = {
    [DML_EVENT_MASTER_STARTED] = {"0a43bf2bb1914020a4d06ad12aa38304", "master-started", LOG_INFO},
    [DML_EVENT_CASE_STARTED] = {"8119d1b464c245d5a15146a32c6f4c11", "case-started", LOG_INFO},
    [DML_EVENT_CUT] = {"219b1df6af40421cbcb96a322563461a", "cut", LOG_INFO},
    [DML_EVENT_RUN_STARTED] = {"bb5c7f3d8b47425ba3acce2f66526273", "run-started", LOG_NOTICE},
    [DML_EVENT_WORKER_JOINED] = {"7010228c8458422ca2ba3d6eff5aebe4", "worker-joined", LOG_INFO},
    [DML_EVENT_WORKER_LOST] = {"1f289564ec6246a883c5474027add0c1", "worker-lost", LOG_WARNING},
    [DML_EVENT_WORKER_REFUSED] = {"cb4bb91e1e2246d3a565dabfc9134b8d", "worker-refused",
                                  LOG_WARNING},
    [DML_EVENT_WORKER_READY] = {"26ae195aed504bb89e3dffe57728db84", "worker-ready", LOG_INFO},
    [DML_EVENT_WORKER_WARNING] = {"34291bf3e33a44b687011903d20cfa1f", "worker-warning",
                                  LOG_WARNING},
    [DML_EVENT_ROUND] = {"44899f261d5a473d9dc03b54c1ce70f3", "round", LOG_INFO},
    [DML_EVENT_EVALUATION] = {"ef0ec981b7b14794b5cc5a5233e29ede", "evaluation", LOG_INFO},
    [DML_EVENT_RUN_ENDED] = {"51c8878705514980ac922eb3391aa6d7", "run-ended", LOG_NOTICE},
    [DML_EVENT_RUN_FAILED] = {"8dc2596cbc1d4254b12ce33a0d26f766", "run-failed", LOG_ERR},
    [DML_EVENT_MODEL_UNSAVED] = {"d5bca57abcdc4c2e9a02d985ba7214f9", "model-unsaved", LOG_ERR},
    [DML_EVENT_RESULTS_SAVED] = {"525c87c667c04b51af7b7304de366016", "results-saved", LOG_INFO},
    [DML_EVENT_MODEL_SAVED] = {"ef5d2af14b60450f9615fdd30b0f2045", "model-saved", LOG_INFO},
};

struct dml_events {
    pthread_mutex_t lock;
    struct {
        dml_event_fn fn;
        void *arg;
    } listeners[LISTENERS_MAX];
    unsigned n_listeners;
};

struct dml_events *dml_events_new(void)
{
    struct dml_events *ev = calloc(1, sizeof(*ev));
    if (ev && pthread_mutex_init(&ev->lock, NULL) != 0) {
        free(ev);
        return NULL;
    }
    return ev;
}

struct dml_events *dml_events_free(struct dml_events *ev)
{
    if (ev) {
        (void)pthread_mutex_destroy(&ev->lock);
        free(ev);
    }
    return NULL;
}

int dml_events_listen(struct dml_events *ev, dml_event_fn fn, void *arg)
{
    if (ev->n_listeners == LISTENERS_MAX)
        return -ENOSPC;
    ev->listeners[ev->n_listeners].fn = fn;
    ev->listeners[ev->n_listeners++].arg = arg;
    return 0;
}

const char *dml_event_message_id(enum dml_event_kind kind)
{
    return kinds[kind].id;
}

const char *dml_event_name(enum dml_event_kind kind)
{
    return kinds[kind].name;
}

enum dml_event_kind dml_event_find(const char *name)
{
    int kind = 0;
    while (kind < DML_EVENT_MAX_ && strcmp(kinds[kind].name, name))
        kind++;
    return (enum dml_event_kind)kind;
}

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

/* Share of part in whole, in percent; 0 of nothing is 0. */
static double percent(uint64_t part, uint64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0.0;
}

static void begin(struct dml_record *rec, enum dml_event_kind kind)
{
    rec->n = rec->n_names = 0;
    rec->message[0] = '\0';
    dml_record_text(rec, "DML_EVENT", kinds[kind].name);
}

static void emit(struct dml_events *ev, enum dml_event_kind kind, struct dml_record *rec,
                 const struct dml_event_run *run, const struct dml_round *round,
                 const struct dml_run_totals *totals)
{
    (void)pthread_mutex_lock(&ev->lock);
    dml_log_record(kinds[kind].priority, kinds[kind].id, rec->message, rec->fields, rec->n);
    if (ev->n_listeners > 0) {
        _cleanup_(dml_mem_freep) char *json =
            dml_log_json(kinds[kind].priority, kinds[kind].id, rec->message, rec->fields, rec->n);
        for (unsigned i = 0; i < ev->n_listeners; i++)
            ev->listeners[i].fn(ev->listeners[i].arg, kind, json ? json : "{}", run, round, totals);
    }
    (void)pthread_mutex_unlock(&ev->lock);
}

/* Which run: in every record that belongs to one. */
static void add_run(struct dml_record *rec, const struct dml_event_run *run)
{
    if (!run)
        return;
    dml_record_text(rec, "DML_TESTCASE", run->testcase);
    dml_record_text(rec, "DML_CASE", run->label);
    dml_record_int(rec, "DML_CASE_NUMBER", (int64_t)run->i_case + 1);
    dml_record_int(rec, "DML_CASES", run->n_cases);
    dml_record_int(rec, "DML_RUN", (int64_t)run->run_id);
    dml_record_int(rec, "DML_REPEAT", (int64_t)run->i_repeat + 1);
    dml_record_int(rec, "DML_REPEATS", run->n_repeats);
    dml_record_int(rec, "DML_NODES", run->nodes);
    dml_record_real(rec, "DML_CORES", run->cores);
    dml_record_text(rec, "DML_PARADIGM", run->paradigm);
    dml_record_text(rec, "DML_STRATEGY", run->strategy);
    dml_record_text(rec, "DML_MODEL", run->model);
    dml_record_text(rec, "DML_DATASET", run->dataset);
    dml_record_int(rec, "DML_ROUNDS", (int64_t)run->n_rounds);
}

static const char *or_dash(const char *text)
{
    return text && *text ? text : "-";
}

/* "cifar10-nodes 3:6, run 2/5" */
static void name_run(struct dml_record *rec, const struct dml_event_run *run)
{
    dml_record_message(rec, "%s %s, run %u/%u", or_dash(run->testcase), or_dash(run->label),
                       run->i_repeat + 1, run->n_repeats);
}

void dml_event_master_started(struct dml_events *ev, const char *listen, const char *version)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_MASTER_STARTED);
    dml_record_text(&rec, "DML_LISTEN", listen);
    dml_record_text(&rec, "DML_VERSION", version);
    dml_record_message(&rec, "master %s is ready for workers on %s", or_dash(version),
                       or_dash(listen));
    emit(ev, DML_EVENT_MASTER_STARTED, &rec, NULL, NULL, NULL);
}

void dml_event_case_started(struct dml_events *ev, const struct dml_event_run *run,
                            unsigned n_workers_there)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_CASE_STARTED);
    add_run(&rec, run);
    dml_record_int(&rec, "DML_WORKERS_THERE", n_workers_there);
    dml_record_message(&rec,
                       "%s %s (case %u of %u): %s%s%s, %s on %s; wants %u workers, %u are there",
                       or_dash(run->testcase), or_dash(run->label), run->i_case + 1, run->n_cases,
                       or_dash(run->paradigm), run->strategy && *run->strategy ? ", " : "",
                       run->strategy ? run->strategy : "", or_dash(run->model),
                       or_dash(run->dataset), run->nodes, n_workers_there);
    emit(ev, DML_EVENT_CASE_STARTED, &rec, run, NULL, NULL);
}

/* One word per stage, separated by blanks; what does not fit is left out. */
static const char *stage_words(const struct dml_event_cut *cut, bool shares, char *buf, size_t len)
{
    size_t used = 0;
    buf[0] = '\0';
    for (unsigned i = 0; i < cut->n_stages && used < len; i++) {
        const struct dml_event_stage *s = &cut->stages[i];
        const char *gap = i ? " " : "";
        int n = shares ? snprintf(buf + used, len - used, "%s%.4f", gap, s->share)
                       : snprintf(buf + used, len - used, "%s%s", gap, s->layers);
        used += n > 0 ? (size_t)n : 0;
    }
    return buf;
}

void dml_event_cut(struct dml_events *ev, const struct dml_event_run *run,
                   const struct dml_event_cut *cut)
{
    if (!ev)
        return;
    struct dml_record rec;
    char layers[2048], shares[2048];
    begin(&rec, DML_EVENT_CUT);
    add_run(&rec, run);
    dml_record_text(&rec, "DML_CUT", cut->layers);
    dml_record_text(&rec, "DML_CUT_BY", cut->by);
    dml_record_int(&rec, "DML_CUT_US", (int64_t)cut->took_us);
    dml_record_int(&rec, "DML_STAGES", cut->n_stages);
    dml_record_text(&rec, "DML_STAGE_LAYERS", stage_words(cut, false, layers, sizeof(layers)));
    dml_record_text(&rec, "DML_STAGE_SHARES", stage_words(cut, true, shares, sizeof(shares)));
    dml_record_message(&rec, "%s %s: layers", or_dash(run->testcase), or_dash(run->label));
    for (unsigned i = 0; i < cut->n_stages; i++)
        dml_record_append(&rec, "%s %s (%.0f %%)", i ? "," : "", cut->stages[i].layers,
                          100.0 * cut->stages[i].share);
    dml_record_append(&rec, "; cut = %s, %s", or_dash(cut->layers), cut->by);
    if (cut->took_us > 0)
        dml_record_append(&rec, " in %.2g s", seconds(cut->took_us));
    emit(ev, DML_EVENT_CUT, &rec, run, NULL, NULL);
}

void dml_event_run_started(struct dml_events *ev, const struct dml_event_run *run)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_RUN_STARTED);
    add_run(&rec, run);
    dml_record_int(&rec, "DML_PARAMS", (int64_t)run->n_params);
    dml_record_int(&rec, "DML_TRAIN_SAMPLES", (int64_t)run->n_train);
    dml_record_int(&rec, "DML_TEST_SAMPLES", (int64_t)run->n_test);
    name_run(&rec, run);
    dml_record_append(&rec, ": %u nodes, %llu rounds, %llu parameters, %llu + %llu samples",
                      run->nodes, (unsigned long long)run->n_rounds,
                      (unsigned long long)run->n_params, (unsigned long long)run->n_train,
                      (unsigned long long)run->n_test);
    emit(ev, DML_EVENT_RUN_STARTED, &rec, run, NULL, NULL);
}

void dml_event_worker_joined(struct dml_events *ev, const char *id, const char *host,
                             const char *peer, const char *board, uint32_t cores)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_WORKER_JOINED);
    dml_record_text(&rec, "DML_WORKER", id);
    dml_record_text(&rec, "DML_HOST", host);
    dml_record_text(&rec, "DML_PEER", peer);
    dml_record_text(&rec, "DML_BOARD", board);
    dml_record_int(&rec, "DML_WORKER_CORES", cores);
    dml_record_message(&rec, "worker %s joined: %s (%s), %s, %u cores", or_dash(id), or_dash(host),
                       or_dash(peer), or_dash(board), cores);
    emit(ev, DML_EVENT_WORKER_JOINED, &rec, NULL, NULL, NULL);
}

/* The three events that say something about a worker in one sentence. */
static void worker_sentence(struct dml_events *ev, enum dml_event_kind kind, const char *id,
                            const char *verb, const char *why)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, kind);
    dml_record_text(&rec, "DML_WORKER", id);
    dml_record_text(&rec, "DML_REASON", why);
    dml_record_message(&rec, "worker %s%s: %s", or_dash(id), verb, or_dash(why));
    emit(ev, kind, &rec, NULL, NULL, NULL);
}

void dml_event_worker_lost(struct dml_events *ev, const char *id, const char *why)
{
    worker_sentence(ev, DML_EVENT_WORKER_LOST, id, " lost", why);
}

void dml_event_worker_refused(struct dml_events *ev, const char *id, const char *why)
{
    worker_sentence(ev, DML_EVENT_WORKER_REFUSED, id, " refused", why);
}

void dml_event_worker_warning(struct dml_events *ev, const char *id, const char *what)
{
    worker_sentence(ev, DML_EVENT_WORKER_WARNING, id, "", what);
}

void dml_event_worker_ready(struct dml_events *ev, const struct dml_event_run *run, uint32_t rank,
                            uint64_t n_samples, bool from_cache, const char *cores_held)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_WORKER_READY);
    add_run(&rec, run);
    dml_record_int(&rec, "DML_RANK", rank);
    dml_record_int(&rec, "DML_SAMPLES", (int64_t)n_samples);
    dml_record_int(&rec, "DML_FROM_CACHE", from_cache);
    dml_record_text(&rec, "DML_CORES_HELD", cores_held);
    dml_record_message(&rec, "worker %u is ready with %llu samples%s%s%s%s", rank,
                       (unsigned long long)n_samples, from_cache ? " from its cache" : "",
                       cores_held[0] ? " (cores held by " : "", cores_held,
                       cores_held[0] ? ")" : "");
    emit(ev, DML_EVENT_WORKER_READY, &rec, run, NULL, NULL);
}

static void add_worker(struct dml_record *rec, const struct dml_round_worker *w)
{
    dml_record_text(rec, dml_record_worker_name(rec, w->rank, "ID"), w->id);
    dml_record_int(rec, dml_record_worker_name(rec, w->rank, "WORK_US"), (int64_t)w->work_us);
    dml_record_int(rec, dml_record_worker_name(rec, w->rank, "SAMPLES"), (int64_t)w->n_samples);
    dml_record_int(rec, dml_record_worker_name(rec, w->rank, "STEPS"), (int64_t)w->n_steps);
    if (w->layers[0])
        dml_record_text(rec, dml_record_worker_name(rec, w->rank, "LAYERS"), w->layers);
    dml_record_real(rec, dml_record_worker_name(rec, w->rank, "LOSS"), w->loss);
    if (w->sent_bytes > 0) {
        dml_record_int(rec, dml_record_worker_name(rec, w->rank, "IDLE_US"), (int64_t)w->idle_us);
        dml_record_int(rec, dml_record_worker_name(rec, w->rank, "SENDING_US"),
                       (int64_t)w->sending_us);
        if (w->exposed_us != DML_EVENT_UNKNOWN)
            dml_record_int(rec, dml_record_worker_name(rec, w->rank, "EXPOSED_US"),
                           (int64_t)w->exposed_us);
        dml_record_int(rec, dml_record_worker_name(rec, w->rank, "SENT_BYTES"),
                       (int64_t)w->sent_bytes);
        dml_record_int(rec, dml_record_worker_name(rec, w->rank, "RECEIVED_BYTES"),
                       (int64_t)w->received_bytes);
    }
    if (w->temperature_c >= 0.0)
        dml_record_real(rec, dml_record_worker_name(rec, w->rank, "TEMPERATURE"), w->temperature_c);
    if (w->throttled >= 0)
        dml_record_int(rec, dml_record_worker_name(rec, w->rank, "THROTTLED"), w->throttled);
}

static void add_times(struct dml_record *rec, uint64_t t_us, uint64_t work_us, int64_t overhead_us)
{
    dml_record_int(rec, "DML_T_US", (int64_t)t_us);
    dml_record_int(rec, "DML_W_US", (int64_t)work_us);
    dml_record_int(rec, "DML_O_US", overhead_us);
}

void dml_event_round(struct dml_events *ev, const struct dml_event_run *run,
                     const struct dml_round *round)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_ROUND);
    add_run(&rec, run);
    dml_record_int(&rec, "DML_ROUND", (int64_t)round->round);
    dml_record_int(&rec, "DML_PARTICIPANTS", round->n_participants);
    dml_record_int(&rec, "DML_EXPECTED", round->n_expected);
    add_times(&rec, round->t_us, round->work_us, round->overhead_us);
    dml_record_int(&rec, "DML_SENDING_US", (int64_t)round->sending_us);
    dml_record_int(&rec, "DML_SENT_BYTES", (int64_t)round->sent_bytes);
    dml_record_int(&rec, "DML_RECEIVED_BYTES", (int64_t)round->received_bytes);
    if (round->unfiltered_bytes)
        dml_record_int(&rec, "DML_UNFILTERED_BYTES", (int64_t)round->unfiltered_bytes);
    dml_record_real(&rec, "DML_LOSS", round->loss);
    if (round->evaluated) {
        dml_record_real(&rec, "DML_EVAL_LOSS", round->eval_loss);
        dml_record_real(&rec, "DML_ACCURACY", round->accuracy);
        dml_record_int(&rec, "DML_EVAL_US", (int64_t)round->eval_us);
    }
    unsigned n_listed = round->workers ? round->n_participants : 0;
    if (n_listed > DML_RECORD_WORKERS_MAX) {
        dml_record_int(&rec, "DML_WORKERS_OMITTED", n_listed - DML_RECORD_WORKERS_MAX);
        n_listed = DML_RECORD_WORKERS_MAX;
    }
    for (unsigned i = 0; i < n_listed; i++)
        add_worker(&rec, &round->workers[i]);

    dml_record_message(&rec,
                       "round %llu/%llu: %u of %u workers, T %.3g s, W %.3g s (%.1f %%), loss %.4g",
                       (unsigned long long)round->round, (unsigned long long)round->n_rounds,
                       round->n_participants, round->n_expected, seconds(round->t_us),
                       seconds(round->work_us), percent(round->work_us, round->t_us), round->loss);
    if (round->evaluated)
        dml_record_append(&rec, ", accuracy %.1f %%", 100.0 * round->accuracy);
    emit(ev, DML_EVENT_ROUND, &rec, run, round, NULL);
}

void dml_event_evaluation(struct dml_events *ev, const struct dml_event_run *run, uint64_t round,
                          double loss, double accuracy, uint64_t eval_us)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_EVALUATION);
    add_run(&rec, run);
    dml_record_int(&rec, "DML_ROUND", (int64_t)round);
    dml_record_real(&rec, "DML_EVAL_LOSS", loss);
    dml_record_real(&rec, "DML_ACCURACY", accuracy);
    dml_record_int(&rec, "DML_EVAL_US", (int64_t)eval_us);
    dml_record_message(&rec, "after round %llu: test loss %.4g, accuracy %.1f %% (%.3g s)",
                       (unsigned long long)round, loss, 100.0 * accuracy, seconds(eval_us));
    emit(ev, DML_EVENT_EVALUATION, &rec, run, NULL, NULL);
}

void dml_event_run_ended(struct dml_events *ev, const struct dml_event_run *run,
                         const struct dml_run_totals *totals)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_RUN_ENDED);
    add_run(&rec, run);
    add_times(&rec, totals->t_us, totals->work_us, totals->overhead_us);
    dml_record_int(&rec, "DML_SETUP_US", (int64_t)totals->setup_us);
    dml_record_int(&rec, "DML_ROUND", (int64_t)totals->n_rounds);
    dml_record_int(&rec, "DML_LOST", totals->n_lost);
    dml_record_real(&rec, "DML_EVAL_LOSS", totals->loss);
    dml_record_real(&rec, "DML_ACCURACY", totals->accuracy);
    dml_record_int(&rec, "DML_SENT_BYTES", (int64_t)totals->sent_bytes);
    dml_record_int(&rec, "DML_RECEIVED_BYTES", (int64_t)totals->received_bytes);
    name_run(&rec, run);
    dml_record_append(&rec,
                      " ended: T %.4g s, W %.4g s (%.1f %%), O %.3g s, test loss %.4g, "
                      "accuracy %.1f %%",
                      seconds(totals->t_us), seconds(totals->work_us),
                      percent(totals->work_us, totals->t_us), (double)totals->overhead_us / 1e6,
                      totals->loss, 100.0 * totals->accuracy);
    if (totals->n_lost > 0)
        dml_record_append(&rec, "; %u workers were lost on the way", totals->n_lost);
    emit(ev, DML_EVENT_RUN_ENDED, &rec, run, NULL, totals);
}

/* The record of something that went wrong in a run: the sentence behind "NAME OF THE RUN WHAT". */
static void tell_error(struct dml_events *ev, enum dml_event_kind kind,
                       const struct dml_event_run *run, const char *what, int r,
                       const struct dml_err *err)
{
    if (!ev)
        return;
    struct dml_record rec;
    static const struct dml_err nothing;
    char sentence[sizeof(err->file) + sizeof(err->text) + 16];
    begin(&rec, kind);
    add_run(&rec, run);
    dml_record_int(&rec, "DML_ERRNO", r < 0 ? -r : r);
    dml_record_text(&rec, "DML_ERROR",
                    dml_err_format(err ? err : &nothing, r, sentence, sizeof(sentence)));
    name_run(&rec, run);
    dml_record_append(&rec, " %s: %s", what, sentence);
    emit(ev, kind, &rec, run, NULL, NULL);
}

void dml_event_run_failed(struct dml_events *ev, const struct dml_event_run *run, int r,
                          const struct dml_err *err)
{
    tell_error(ev, DML_EVENT_RUN_FAILED, run, "failed", r, err);
}

void dml_event_model_unsaved(struct dml_events *ev, const struct dml_event_run *run, int r,
                             const struct dml_err *err)
{
    tell_error(ev, DML_EVENT_MODEL_UNSAVED, run, "ended, but its model could not be saved", r, err);
}

void dml_event_model_saved(struct dml_events *ev, const struct dml_event_run *run, const char *path)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_MODEL_SAVED);
    add_run(&rec, run);
    dml_record_text(&rec, "DML_PATH", path);
    dml_record_message(&rec, "its model is in %s", or_dash(path));
    emit(ev, DML_EVENT_MODEL_SAVED, &rec, run, NULL, NULL);
}

void dml_event_results_saved(struct dml_events *ev, const char *testcase, const char *path)
{
    if (!ev)
        return;
    struct dml_record rec;
    begin(&rec, DML_EVENT_RESULTS_SAVED);
    dml_record_text(&rec, "DML_TESTCASE", testcase);
    dml_record_text(&rec, "DML_PATH", path);
    dml_record_message(&rec, "results of %s are in %s", or_dash(testcase), or_dash(path));
    emit(ev, DML_EVENT_RESULTS_SAVED, &rec, NULL, NULL, NULL);
}
