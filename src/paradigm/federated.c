/*
 * Federated learning in rounds: the master sends the global vector, every worker trains E epochs
 * on its own shard, the strategy makes the new vector of the answers.
 *
 * Source: McMahan et al. 2017, Algorithm 1, with all clients in every round.
 *
 * Answers are handed to the strategy in order of rank, each as soon as all lower ranks have
 * answered or are known not to: so the strategy works while others still train, and the same
 * answers give the same bits in whatever order the network brings them.
 *
 * A worker may vanish and come back at any moment. The round goes on without it; when it is ready
 * again it takes part in the next one. A worker that missed the deadline stays busy with its old
 * round until its late answer comes, which is dropped.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"

/* One rank's part in the current round. */
enum part { PART_NONE, PART_PENDING, PART_ANSWERED };

struct federation {
    struct dml_task *task;
    const struct dml_strategy *strategy;
    void *state; /* the strategy's */
    struct dml_provision provision;
    struct dml_buf *global;    /* what the last round sent */
    enum part *part;           /* [size] */
    bool *busy;                /* [size] still training for some round */
    struct dml_comm_msg *held; /* [size] answers that wait for a lower rank */
    uint32_t next;             /* lowest rank the strategy has not passed */
    unsigned n_pending;
    struct dml_rounds rounds;
};

static void federation_done(struct federation *f)
{
    for (uint32_t rank = 0; f->held && rank < f->task->comm->size; rank++)
        dml_message_done(&f->held[rank]);
    free(f->held);
    free(f->busy);
    free(f->part);
    f->global = dml_buf_unref(f->global);
    if (f->state)
        f->strategy->done(f->state);
    dml_rounds_done(&f->rounds);
    dml_provision_done(&f->provision);
}

static int federation_init(struct federation *f, struct dml_task *task, struct dml_err *err)
{
    uint32_t size = task->comm->size;
    *f = (struct federation){
        .task = task,
        .strategy = dml_loader_strategy(task->tc->plugin),
    };
    f->part = calloc(size, sizeof(*f->part));
    f->busy = calloc(size, sizeof(*f->busy));
    f->held = calloc(size, sizeof(*f->held));
    if (!f->part || !f->busy || !f->held)
        return -ENOMEM;
    int r = dml_rounds_init(&f->rounds, task);
    if (r == 0)
        r = dml_provision_init(&f->provision, task);
    if (r == 0)
        r = f->strategy->init(task->tc->strategy_options, dml_model_n_params(task->model),
                              dml_model_n_vec(task->model), task->vec, &f->state);
    if (r < 0)
        return dml_err_set(err, r, "strategy %s cannot begin: %s", f->strategy->name, strerror(-r));
    return 0;
}

/* Sends the global vector to every worker that is ready and idle. */
static int open_round(struct federation *f, uint64_t round)
{
    struct dml_task *task = f->task;
    size_t n_vec = dml_model_n_vec(task->model);
    if (!f->global || !dml_buf_is_sole(f->global)) {
        /* Somebody slow still reads the last one. */
        f->global = dml_buf_unref(f->global);
        f->global = dml_buf_new_floats(n_vec);
        if (!f->global)
            return -ENOMEM;
    }
    memcpy(f->global->data, task->vec, n_vec * sizeof(float));

    int r = f->strategy->begin(f->state, round, task->vec);
    if (r < 0)
        return r;
    f->next = 1;
    f->n_pending = 0;
    dml_rounds_begin(&f->rounds, round);
    struct dml_comm_msg fit = {.kind = DML_MESSAGE_FIT, .seq = round, .body = f->global};
    for (uint32_t rank = 1; rank < task->comm->size; rank++) {
        f->part[rank] = PART_NONE;
        if (f->provision.state[rank] != DML_PROVISION_READY || f->busy[rank])
            continue;
        r = dml_comm_send(task->comm, rank, &fit);
        if (r == -EPIPE)
            continue;
        if (r < 0)
            return r;
        f->part[rank] = PART_PENDING;
        f->busy[rank] = true;
        f->n_pending++;
    }
    return 0;
}

/* Hands over whatever is next in rank order. */
static int fold(struct federation *f)
{
    for (; f->next < f->task->comm->size; f->next++) {
        uint32_t rank = f->next;
        if (f->part[rank] == PART_PENDING)
            return 0;
        struct dml_comm_msg *msg = &f->held[rank];
        if (!msg->body)
            continue;
        struct dml_strategy_update update = {
            .rank = rank,
            .n_samples = (uint64_t)msg->meta[DML_UPDATE_SHARD],
            .n_steps = (uint64_t)msg->meta[DML_UPDATE_STEPS],
            .loss = msg->meta[DML_UPDATE_LOSS],
            .vec = dml_buf_floats(msg->body),
        };
        int r = f->strategy->add(f->state, &update);
        dml_message_done(msg);
        if (r < 0)
            return r;
    }
    return 0;
}

static void settle(struct federation *f, uint32_t rank, enum part part)
{
    if (f->part[rank] == PART_PENDING)
        f->n_pending--;
    f->part[rank] = part;
}

/* Keeps an answer to the current round for fold(). */
static int take_update(struct federation *f, struct dml_comm_msg *io_msg)
{
    uint32_t rank = io_msg->from;
    f->busy[rank] = false;
    if (io_msg->seq != f->rounds.record.round || f->part[rank] != PART_PENDING)
        return 0; /* the late answer to a round that is over */
    if (!dml_rounds_update_is_sound(&f->rounds, io_msg, dml_model_n_vec(f->task->model))) {
        settle(f, rank, PART_NONE);
        return 0;
    }
    settle(f, rank, PART_ANSWERED);
    dml_rounds_answer(&f->rounds, io_msg);
    f->held[rank] = *io_msg;
    io_msg->body = NULL;
    return 0;
}

/* Whatever arrives. */
static int take(struct federation *f, struct dml_comm_msg *io_msg)
{
    if (io_msg->kind == DML_MESSAGE_UPDATE)
        return take_update(f, io_msg);
    if (io_msg->kind == DML_COMM_LOST || io_msg->kind == DML_MESSAGE_FAILED) {
        if (f->part[io_msg->from] == PART_PENDING)
            settle(f, io_msg->from, PART_NONE);
        f->busy[io_msg->from] = false;
    }
    return dml_provision_handle(&f->provision, io_msg);
}

static int collect(struct federation *f, uint64_t deadline_us)
{
    while (f->n_pending > 0) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        int r = dml_message_next(f->task, deadline_us, &msg);
        if (r == -ETIMEDOUT)
            break;
        if (r == 0)
            r = take(f, &msg);
        if (r == 0)
            r = fold(f);
        if (r < 0)
            return r;
    }
    for (uint32_t rank = 1; rank < f->task->comm->size; rank++)
        if (f->part[rank] == PART_PENDING)
            settle(f, rank, PART_NONE);
    return fold(f);
}

/* How many answers make a round count. At least one. */
static unsigned quorum(const struct dml_testcase *tc)
{
    double need = ceil(tc->cluster.quorum * (double)tc->testcase.nodes - 1e-9);
    return need < 1.0 ? 1 : (unsigned)need;
}

static bool enough_idle(const struct federation *f, unsigned n)
{
    unsigned idle = 0;
    for (uint32_t rank = 1; rank < f->task->comm->size; rank++)
        idle += f->provision.state[rank] == DML_PROVISION_READY && !f->busy[rank];
    return idle >= n;
}

/* After a loss: waits until enough workers for a quorum are back. */
static int wait_for_quorum(struct federation *f, uint64_t round, struct dml_err *err)
{
    unsigned need = quorum(f->task->tc);
    uint64_t deadline = dml_rounds_deadline(f->task);
    while (!enough_idle(f, need)) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        int r = dml_message_next(f->task, deadline, &msg);
        if (r == -ETIMEDOUT)
            return dml_err_set(
                err, -ENOLINK,
                "round %llu cannot begin: a quorum needs %u workers, %u are ready%s%s",
                (unsigned long long)round, need, f->provision.n_ready,
                f->provision.last_failure[0] ? "; " : "", f->provision.last_failure);
        if (r == 0)
            r = take(f, &msg);
        if (r < 0)
            return r;
    }
    return 0;
}

static int run_round(struct federation *f, uint64_t round, struct dml_err *err)
{
    struct dml_task *task = f->task;
    int r = wait_for_quorum(f, round, err);
    if (r == 0)
        r = open_round(f, round);
    if (r == 0)
        r = collect(f, dml_rounds_deadline(task));
    if (r < 0)
        return r;

    unsigned need = quorum(task->tc);
    if (f->rounds.record.n_participants < need)
        return dml_err_set(err, -ENOLINK,
                           "round %llu: %u of %llu workers answered, a quorum is %u%s%s",
                           (unsigned long long)round, f->rounds.record.n_participants,
                           (unsigned long long)task->tc->testcase.nodes, need,
                           f->provision.last_failure[0] ? "; " : "", f->provision.last_failure);
    r = f->strategy->end(f->state, task->vec);
    if (r < 0)
        return dml_err_set(err, r, "round %llu: strategy %s failed: %s", (unsigned long long)round,
                           f->strategy->name, strerror(-r));
    return dml_rounds_end(&f->rounds, true, f->strategy->name, err);
}

static int federated_master(struct dml_task *task, struct dml_err *err)
{
    struct federation f;
    uint64_t begin = dml_clock_now_us();
    int r = federation_init(&f, task, err);
    uint64_t n = task->tc->cluster.min_workers;
    if (n == 0 || n > task->tc->testcase.nodes)
        n = task->tc->testcase.nodes;
    if (r == 0)
        r = dml_provision_wait(&f.provision, (unsigned)n, dml_rounds_setup_deadline(task), err);
    task->totals.setup_us = dml_clock_now_us() - begin;
    for (uint64_t round = 1; r == 0 && round <= task->tc->train.rounds; round++)
        r = run_round(&f, round, err);
    if (r == 0) {
        struct dml_comm_msg finish = {.kind = DML_MESSAGE_FINISH};
        (void)dml_comm_bcast(task->comm, &finish);
        dml_rounds_totals(&f.rounds, f.provision.n_lost);
    }
    federation_done(&f);
    return r;
}

static int send_update(struct dml_task *task, struct dml_trainer *trainer, uint64_t round,
                       size_t n_shard, const struct dml_trainer_result *fit,
                       struct dml_buf **io_body)
{
    size_t n_vec = dml_model_n_vec(task->model);
    if (!*io_body || !dml_buf_is_sole(*io_body)) {
        (void)dml_buf_unref(*io_body);
        *io_body = dml_buf_new_floats(n_vec);
        if (!*io_body)
            return -ENOMEM;
    }
    memcpy((*io_body)->data, dml_trainer_vec(trainer), n_vec * sizeof(float));
    struct dml_comm_msg msg = {.kind = DML_MESSAGE_UPDATE, .seq = round, .body = *io_body};
    dml_rounds_fill_update(&msg, n_shard, fit);
    return dml_comm_send(task->comm, 0, &msg);
}

static int work(struct dml_task *task, struct dml_trainer *trainer, size_t n_shard)
{
    const struct dml_train_options *train = &task->tc->train;
    size_t vec_len = dml_model_n_vec(task->model) * sizeof(float);
    _cleanup_(dml_buf_unrefp) struct dml_buf *body = NULL;
    for (;;) {
        uint64_t round;
        {
            _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
            int r = dml_comm_recv(task->comm, 0, DML_CLOCK_NEVER, &msg);
            if (r < 0)
                return r;
            if (msg.kind == DML_MESSAGE_FINISH)
                return 0;
            if (msg.kind == DML_COMM_LOST)
                return -EPIPE;
            if (msg.kind != DML_MESSAGE_FIT)
                continue;
            if (!msg.body || msg.body->len != vec_len || msg.seq < 1 || msg.seq > train->rounds)
                return -EPROTO;
            memcpy(dml_trainer_vec(trainer), msg.body->data, vec_len);
            round = msg.seq;
        }
        /* Momentum belongs to a trajectory that averaging has just ended. */
        dml_trainer_reset_optimizer(trainer);
        struct dml_trainer_result fit;
        int r = dml_trainer_fit(trainer, (round - 1) * train->local_epochs, train->local_epochs,
                                train->rounds * train->local_epochs, task->cancel, &fit);
        if (r == 0)
            r = send_update(task, trainer, round, n_shard, &fit, &body);
        if (r < 0)
            return r;
    }
}

static int federated_worker(struct dml_task *task, struct dml_err *err)
{
    return dml_provision_serve(task, work, err);
}

const struct dml_paradigm dml_paradigm_federated = {
    .name = "federated",
    .summary = "workers train on their own shards; the master aggregates parameters each round",
    .master = federated_master,
    .worker = federated_worker,
};
