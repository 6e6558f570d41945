/*
 * Parameter server: the master holds the parameters and the optimiser, workers hand in gradients.
 *
 *     master                                    worker
 *     FIT(parameters, first step)         →
 *                                         ←     PUSH(step, gradient)        every step
 *     PARAMS(how far it may go, changes)  →
 *                                         ←     UPDATE(statistics, state)   every round
 *     FINISH                              →
 *
 * The ledger decides who waits for whom. With staleness a worker goes on while its answer is under
 * way, one push ahead of it at most, so that a slow network slows it down instead of filling its
 * memory. A worker that is lost costs nothing but its share: the master has everything.
 *
 * Nobody begins a step behind a round that is evaluated before the evaluation is over: it is no
 * part of T, so nobody may work meanwhile. Rounds that are not evaluated go over into each other.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "nn/vec.h"
#include "paradigm/feed.h"
#include "paradigm/ledger.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"
#include "paradigm/server_client.h"

/* What the master knows of a worker besides the ledger's. */
struct seat {
    uint64_t due_us;  /* when it must be heard of; DML_CLOCK_NEVER: it waits for us */
    uint64_t n_told;  /* rounds it has reported */
    bool is_new;      /* its FIT is owed until the limit is raised */
    bool is_held;     /* its answer was not given before the limit was raised */
};

struct server {
    struct dml_task *task;
    struct dml_provision provision;
    struct dml_rounds rounds;
    struct dml_ledger *ledger;
    struct seat *seats;           /* [size] */
    struct dml_comm_msg *reports; /* [n_reports] UPDATE of rounds that are not over */
    size_t n_reports, reports_room;
    uint64_t steps_per_epoch, steps_per_round;
    uint64_t limit; /* the first step that may not begin yet */
    uint64_t pause_us; /* of the evaluation before this round */
    uint64_t saved;    /* bytes that the filter has saved in the rounds before */
};

static int server_init(struct server *s, struct dml_task *task)
{
    const struct dml_train_options *train = &task->tc->train;
    const struct dml_shards *shards = task->shards;
    uint32_t n_ranks = task->comm->size - 1;
    *s = (struct server){.task = task};
    size_t largest = 0;
    for (uint32_t i = 0; i < n_ranks; i++)
        largest = shards->n[i] > largest ? shards->n[i] : largest;
    s->steps_per_epoch = dml_feed_steps(largest, train->batch_size);
    s->steps_per_round = s->steps_per_epoch * train->local_epochs;
    s->seats = calloc((size_t)n_ranks + 1, sizeof(*s->seats));
    int r = s->seats ? dml_provision_init(&s->provision, task) : -ENOMEM;
    if (r == 0)
        r = dml_rounds_init(&s->rounds, task);
    const struct dml_ledger_options o = {
        .n_ranks = n_ranks,
        .n_params = dml_model_n_params(task->model),
        .train = train,
        .n_samples = shards->n,
        .vec = task->vec,
        .steps_per_epoch = s->steps_per_epoch,
        .n_epochs = train->rounds * train->local_epochs,
        .staleness = task->tc->parallel.staleness,
        .significance = task->tc->parallel.significance,
    };
    return r < 0 ? r : dml_ledger_new(&o, &s->ledger);
}

static void server_done(struct server *s)
{
    for (size_t i = 0; i < s->n_reports; i++)
        dml_message_done(&s->reports[i]);
    free(s->reports);
    free(s->seats);
    dml_ledger_free(s->ledger);
    dml_rounds_done(&s->rounds);
    dml_provision_done(&s->provision);
}

static unsigned needed(const struct server *s)
{
    const struct dml_testcase *tc = s->task->tc;
    if (tc->cluster.on_loss == DML_ON_LOSS_WAIT)
        return (unsigned)tc->testcase.nodes;
    double n = ceil(tc->cluster.quorum * (double)tc->testcase.nodes - 1e-9);
    return n < 1.0 ? 1 : (unsigned)n;
}

static uint64_t step_deadline(const struct server *s)
{
    uint64_t us = s->task->tc->cluster.step_deadline_us;
    return us ? dml_clock_now_us() + us : DML_CLOCK_NEVER;
}

/* Tells a new one where to begin. */
static int begin(struct server *s, uint32_t rank)
{
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_FIT,
        .seq = dml_ledger_clock(s->ledger, rank),
        .n_meta = DML_FIT_N_,
        .meta = {[DML_FIT_EPOCH_STEPS] = (double)s->steps_per_epoch},
        .body = dml_buf_new_copy(s->task->vec, dml_model_n_vec(s->task->model) * sizeof(float)),
    };
    if (!msg.body)
        return -ENOMEM;
    s->seats[rank].is_new = false;
    s->seats[rank].due_us = step_deadline(s);
    int r = dml_comm_send(s->task->comm, rank, &msg);
    return r == -EPIPE ? 0 : r; /* its LOST will come */
}

/* Takes a worker that has its shard into the training. */
static int admit(struct server *s, uint32_t rank)
{
    int r = dml_ledger_admit(s->ledger, rank);
    if (r < 0)
        return r;
    uint64_t clock = dml_ledger_clock(s->ledger, rank);
    s->seats[rank] = (struct seat){
        .due_us = DML_CLOCK_NEVER, .n_told = clock / s->steps_per_round, .is_new = true};
    return clock < s->limit ? begin(s, rank) : 0;
}

/* Answers everybody who may go on. */
static int answer(struct server *s)
{
    unsigned need = needed(s);
    (void)dml_ledger_settle(s->ledger, need);
    if (dml_ledger_n_members(s->ledger) < need)
        return 0;
    uint32_t rank;
    while ((rank = dml_ledger_answerable(s->ledger)) != 0) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
            .kind = DML_MESSAGE_PARAMS,
            .seq = dml_ledger_grant(s->ledger),
            .n_meta = DML_PARAMS_N_,
            .meta = {[DML_PARAMS_TAKEN] = (double)dml_ledger_clock(s->ledger, rank),
                     [DML_PARAMS_PAUSE_US] = s->seats[rank].is_held ? (double)s->pause_us : 0.0},
        };
        int r = dml_ledger_answer(s->ledger, rank, &msg.body);
        if (r == 0)
            r = dml_comm_send(s->task->comm, rank, &msg);
        if (r < 0 && r != -EPIPE)
            return r;
        s->seats[rank].due_us = step_deadline(s);
        s->seats[rank].is_held = false;
    }
    return 0;
}

static void drop(struct server *s, uint32_t rank)
{
    dml_ledger_drop(s->ledger, rank);
    s->seats[rank] = (struct seat){.due_us = DML_CLOCK_NEVER};
}

static int take_push(struct server *s, const struct dml_comm_msg *msg)
{
    uint32_t rank = msg->from;
    if (!dml_ledger_has(s->ledger, rank))
        return s->provision.state[rank] == DML_PROVISION_READY ? admit(s, rank) : 0;
    if (dml_ledger_push(s->ledger, rank, msg->seq, msg->body) < 0)
        return 0; /* what it had under way when it was left out */
    /* At the limit its report is still to come, and nothing else until the limit is raised. */
    bool is_held = dml_ledger_handed_in(s->ledger, rank) >= s->limit;
    s->seats[rank].is_held = is_held;
    s->seats[rank].due_us = is_held ? step_deadline(s) : DML_CLOCK_NEVER;
    return 0;
}

/* Keeps a worker's report until its round is over. */
static int take_report(struct server *s, struct dml_comm_msg *io_msg)
{
    size_t n_state = dml_model_n_state(s->task->model);
    struct seat *seat = &s->seats[io_msg->from];
    if (!dml_ledger_has(s->ledger, io_msg->from) || io_msg->seq != seat->n_told + 1 ||
        dml_ledger_handed_in(s->ledger, io_msg->from) < io_msg->seq * s->steps_per_round)
        return 0;
    seat->n_told++;
    if (io_msg->seq * s->steps_per_round >= s->limit)
        seat->due_us = DML_CLOCK_NEVER;
    /* One that came back for the last steps of a round may have no samples to tell of. */
    if (!dml_rounds_update_is_sound(&s->rounds, io_msg, n_state))
        return 0;
    if (s->n_reports == s->reports_room) {
        size_t room = 2 * s->reports_room + 16;
        void *more = reallocarray(s->reports, room, sizeof(*s->reports));
        if (!more)
            return -ENOMEM;
        s->reports = more;
        s->reports_room = room;
    }
    s->reports[s->n_reports++] = *io_msg;
    io_msg->body = NULL;
    return 0;
}

static int take(struct server *s, struct dml_comm_msg *io_msg)
{
    uint32_t rank = io_msg->from;
    if (io_msg->kind == DML_MESSAGE_PUSH)
        return take_push(s, io_msg);
    if (io_msg->kind == DML_MESSAGE_UPDATE)
        return take_report(s, io_msg);
    if (io_msg->kind == DML_COMM_LOST || io_msg->kind == DML_MESSAGE_FAILED)
        drop(s, rank);
    int r = dml_provision_handle(&s->provision, io_msg);
    if (r == 0 && io_msg->kind == DML_MESSAGE_READY &&
        s->provision.state[rank] == DML_PROVISION_READY && !dml_ledger_has(s->ledger, rank))
        r = admit(s, rank);
    return r;
}

static bool all_told(const struct server *s, uint64_t round)
{
    for (uint32_t rank = 1; rank < s->task->comm->size; rank++)
        if (dml_ledger_has(s->ledger, rank) && s->seats[rank].n_told < round)
            return false;
    return dml_ledger_n_members(s->ledger) >= needed(s);
}

/* It is there, but of no use. */
static void leave_out(struct server *s, uint32_t rank, const char *why)
{
    struct dml_round_worker who = {.rank = rank};
    if (s->task->describe)
        s->task->describe(s->task->describe_arg, rank, &who);
    if (!who.id[0])
        (void)snprintf(who.id, sizeof(who.id), "worker %u", rank);
    dml_event_worker_lost(s->task->events, who.id, why);
    drop(s, rank);
}

/* Whoever has kept the others waiting for too long is left out until it is heard of. */
static void look_for_silent(struct server *s)
{
    uint64_t now = dml_clock_now_us();
    for (uint32_t rank = 1; rank < s->task->comm->size; rank++) {
        if (dml_ledger_has(s->ledger, rank) && s->seats[rank].due_us <= now)
            leave_out(s, rank, "no gradient for step-deadline; the run goes on without it");
    }
}

static uint64_t next_due(const struct server *s)
{
    uint64_t due = DML_CLOCK_NEVER;
    for (uint32_t rank = 1; rank < s->task->comm->size; rank++)
        if (dml_ledger_has(s->ledger, rank) && s->seats[rank].due_us < due)
            due = s->seats[rank].due_us;
    return due;
}

/* Means over the reports of this round: the state that batch-norm keeps, the round's numbers. */
static void close_round(struct server *s, uint64_t round)
{
    size_t n_state = dml_model_n_state(s->task->model), kept = 0;
    float *state = s->task->vec + dml_model_n_params(s->task->model);
    unsigned n = 0;
    for (uint32_t rank = 1; rank < s->task->comm->size; rank++)
        for (size_t i = 0; i < s->n_reports; i++) {
            struct dml_comm_msg *msg = &s->reports[i];
            if (msg->seq != round || msg->from != rank)
                continue;
            if (n++ == 0)
                memset(state, 0, n_state * sizeof(float));
            if (msg->body)
                dml_vec_axpy(state, 1.0f, dml_buf_floats(msg->body), n_state);
            dml_rounds_answer(&s->rounds, msg);
            break;
        }
    dml_vec_scale(state, n ? 1.0f / (float)n : 1.0f, n_state);
    for (size_t i = 0; i < s->n_reports; i++) {
        if (s->reports[i].seq > round)
            s->reports[kept++] = s->reports[i];
        else
            dml_message_done(&s->reports[i]);
    }
    s->n_reports = kept;
}

/* The clock starts, then those who were held back, if they were. */
static int open_round(struct server *s, uint64_t round)
{
    uint64_t n_rounds = s->task->tc->train.rounds;
    s->pause_us = s->rounds.record.eval_us;
    if (s->limit > (round - 1) * s->steps_per_round) {
        dml_rounds_go_on(&s->rounds, round);
        return answer(s);
    }
    dml_rounds_begin(&s->rounds, round);
    uint64_t last = dml_rounds_next_evaluated(&s->rounds, round);
    s->limit = (last < n_rounds ? last : n_rounds) * s->steps_per_round;
    dml_ledger_limit(s->ledger, s->limit);
    for (uint32_t rank = 1; rank < s->task->comm->size; rank++) {
        int r = s->seats[rank].is_new ? begin(s, rank) : 0;
        if (r < 0)
            return r;
    }
    return answer(s);
}

static int run_round(struct server *s, uint64_t round, struct dml_err *err)
{
    int r = open_round(s, round);
    uint64_t end = dml_rounds_deadline(s->task);
    while (r == 0 && !all_told(s, round)) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        uint64_t due = next_due(s);
        r = dml_message_next(s->task, due < end ? due : end, &msg);
        if (r == -ETIMEDOUT && due < end) {
            look_for_silent(s);
            r = 0;
        } else if (r == -ETIMEDOUT) {
            return dml_err_set(
                err, -ENOLINK,
                "round %llu did not end within round-deadline: %u workers train, %u are needed%s%s",
                (unsigned long long)round, dml_ledger_n_members(s->ledger), needed(s),
                s->provision.last_failure[0] ? "; " : "", s->provision.last_failure);
        } else if (r == 0) {
            r = take(s, &msg);
        }
        if (r == 0)
            r = answer(s);
    }
    if (r < 0)
        return r;
    close_round(s, round);
    uint64_t saved = dml_ledger_saved(s->ledger);
    s->rounds.saved_bytes = saved - s->saved;
    s->saved = saved;
    return dml_rounds_end(&s->rounds, true, "", err);
}

static int server_master(struct dml_task *task, struct dml_err *err)
{
    struct server s;
    uint64_t begin = dml_clock_now_us();
    int r = server_init(&s, task);
    uint64_t n = task->tc->cluster.min_workers;
    if (n == 0 || n > task->tc->testcase.nodes)
        n = task->tc->testcase.nodes;
    if (r == 0)
        r = dml_provision_wait(&s.provision, (unsigned)n, dml_rounds_setup_deadline(task), err);
    task->totals.setup_us = dml_clock_now_us() - begin;
    for (uint32_t rank = 1; r == 0 && rank < task->comm->size; rank++)
        if (s.provision.state[rank] == DML_PROVISION_READY)
            r = admit(&s, rank);
    for (uint64_t round = 1; r == 0 && round <= task->tc->train.rounds; round++)
        r = run_round(&s, round, err);
    if (r == 0) {
        struct dml_comm_msg finish = {.kind = DML_MESSAGE_FINISH};
        (void)dml_comm_bcast(task->comm, &finish);
        dml_rounds_totals(&s.rounds, s.provision.n_lost);
    }
    server_done(&s);
    return r;
}

const struct dml_paradigm dml_paradigm_server = {
    .name = "server",
    .summary = "workers hand gradients to the master, which updates and hands out parameters",
    .master = server_master,
    .worker = dml_server_client,
};
