/*
 * One worker trains alone: the source paper's standalone client, and the baseline every other
 * paradigm is compared with. Nothing moves during training; the worker says after each round how
 * far it is, and sends its parameters once, at the end. The optimiser is never reset, so this is
 * plain SGD (or Adam) over rounds × local-epochs epochs.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"

/* The only worker. */
#define RANK 1

static struct dml_buf *copy_vec(const struct dml_task *task, const float *vec)
{
    return dml_buf_new_copy(vec, dml_model_n_vec(task->model) * sizeof(float));
}

/* Waits for the answer to `round`: PROGRESS, or for the last one UPDATE, left in *ret. */
static int await_round(struct dml_provision *p, struct dml_rounds *rounds, uint64_t round,
                       struct dml_comm_msg *ret, struct dml_err *err)
{
    struct dml_task *task = p->task;
    bool last = round == task->tc->train.rounds;
    uint32_t want = last ? DML_MESSAGE_UPDATE : DML_MESSAGE_PROGRESS;
    size_t n_vec = last ? dml_model_n_vec(task->model) : 0;
    uint64_t deadline = dml_rounds_deadline(task);
    for (;;) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        int r = dml_message_next(task, deadline, &msg);
        if (r == -ETIMEDOUT)
            return dml_err_set(err, r, "round %llu did not end within round-deadline",
                               (unsigned long long)round);
        if (r < 0)
            return r;
        if (msg.kind == DML_COMM_LOST || msg.kind == DML_MESSAGE_FAILED) {
            (void)dml_provision_handle(p, &msg);
            return dml_err_set(
                err, -ENOLINK, "the worker was lost in round %llu, and standalone has no other%s%s",
                (unsigned long long)round, p->last_failure[0] ? "; " : "", p->last_failure);
        }
        if (msg.kind != want || msg.seq != round)
            continue;
        if (!dml_rounds_update_is_sound(rounds, &msg, n_vec))
            return dml_err_set(err, -EPROTO, "the worker's report of round %llu makes no sense",
                               (unsigned long long)round);
        *ret = msg;
        msg.body = NULL;
        return 0;
    }
}

static int follow(struct dml_provision *p, struct dml_rounds *rounds, struct dml_err *err)
{
    struct dml_task *task = p->task;
    _cleanup_(dml_message_donep) struct dml_comm_msg fit = {
        .kind = DML_MESSAGE_FIT,
        .body = copy_vec(task, task->vec),
    };
    if (!fit.body)
        return -ENOMEM;
    dml_rounds_begin(rounds, 1);
    int r = dml_comm_send(task->comm, RANK, &fit);
    for (uint64_t round = 1; r == 0 && round <= task->tc->train.rounds; round++) {
        if (round > 1)
            dml_rounds_go_on(rounds, round); /* as the worker does */
        _cleanup_(dml_message_donep) struct dml_comm_msg answer = {0};
        r = await_round(p, rounds, round, &answer, err);
        if (r < 0)
            return r;
        dml_rounds_answer(rounds, &answer);
        if (answer.body)
            memcpy(task->vec, answer.body->data, answer.body->len);
        r = dml_rounds_end(rounds, answer.body != NULL, "", err);
    }
    return r;
}

static int standalone_master(struct dml_task *task, struct dml_err *err)
{
    struct dml_provision provision;
    struct dml_rounds rounds = {0};
    uint64_t begin = dml_clock_now_us();
    int r = dml_provision_init(&provision, task);
    if (r == 0)
        r = dml_rounds_init(&rounds, task);
    if (r == 0)
        r = dml_provision_wait(&provision, 1, dml_rounds_setup_deadline(task), err);
    task->totals.setup_us = dml_clock_now_us() - begin;
    if (r == 0)
        r = follow(&provision, &rounds, err);
    if (r == 0) {
        (void)dml_message_send(task->comm, RANK, DML_MESSAGE_FINISH, 0);
        dml_rounds_totals(&rounds, provision.n_lost);
    }
    dml_rounds_done(&rounds);
    dml_provision_done(&provision);
    return r;
}

static int work(struct dml_task *task, struct dml_trainer *trainer, size_t n_shard)
{
    const struct dml_train_options *train = &task->tc->train;
    size_t vec_len = dml_model_n_vec(task->model) * sizeof(float);
    {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        int r = dml_comm_recv(task->comm, 0, DML_CLOCK_NEVER, &msg);
        if (r < 0)
            return r;
        if (msg.kind != DML_MESSAGE_FIT || !msg.body || msg.body->len != vec_len)
            return msg.kind == DML_COMM_LOST ? -EPIPE : -EPROTO;
        memcpy(dml_trainer_vec(trainer), msg.body->data, vec_len);
    }
    for (uint64_t round = 1; round <= train->rounds; round++) {
        struct dml_trainer_result fit;
        int r = dml_trainer_fit(trainer, (round - 1) * train->local_epochs, train->local_epochs,
                                train->rounds * train->local_epochs, task->cancel, &fit);
        if (r < 0)
            return r;
        bool last = round == train->rounds;
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
            .kind = last ? DML_MESSAGE_UPDATE : DML_MESSAGE_PROGRESS,
            .seq = round,
            .body = last ? copy_vec(task, dml_trainer_vec(trainer)) : NULL,
        };
        if (last && !msg.body)
            return -ENOMEM;
        dml_rounds_fill_update(&msg, n_shard, &fit);
        r = dml_comm_send(task->comm, 0, &msg);
        if (r < 0)
            return r;
    }
    _cleanup_(dml_message_donep) struct dml_comm_msg finish = {0};
    int r = dml_comm_recv(task->comm, 0, DML_CLOCK_NEVER, &finish);
    return r < 0 ? r : finish.kind == DML_MESSAGE_FINISH ? 0 : -EPIPE;
}

static int standalone_worker(struct dml_task *task, struct dml_err *err)
{
    return dml_provision_serve(task, work, err);
}

const struct dml_paradigm dml_paradigm_standalone = {
    .name = "standalone",
    .summary = "one worker trains alone: the baseline",
    .master = standalone_master,
    .worker = standalone_worker,
};
