/*
 * A worker of the parameter server: gradients go up, parameters come down, and what is not
 * significant yet stays here until it is.
 */
#include "paradigm/server_client.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "nn/stage.h"
#include "nn/vec.h"
#include "paradigm/feed.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"
#include "paradigm/sparse.h"

#define STEPS_MAX 0x1p40

struct client {
    struct dml_task *task;
    const struct dml_dataset *shard;
    struct dml_stage *stage;
    struct dml_feed *feed;
    size_t n_params;
    uint64_t steps_per_epoch, steps_per_round, n_steps;
    uint64_t step, grant, taken; /* next one; last one allowed; first one the master has not */
    float *change;               /* [P] gradients not sent yet; NULL: no filter */
    uint64_t *mask;
    struct dml_buf *body;        /* of the last push */
    struct dml_trainer_result round;
    double loss, correct;        /* sums over the round */
    uint64_t idle_us, exposed_us, work_before_us;
    uint64_t since_us;                       /* it listens */
    struct dml_comm_stats before, listening; /* at the begin of the round; since_us */
    bool is_over;
};

static int client_init(struct client *c, struct dml_task *task, const struct dml_dataset *shard,
                       struct dml_err *err)
{
    const struct dml_testcase *tc = task->tc;
    *c = (struct client){.task = task, .shard = shard};
    c->n_params = dml_model_n_params(task->model);
    /* The optimiser is the master's: ours needs no memory. */
    struct dml_train_options train = tc->train;
    train.optimizer = DML_OPTIM_SGD;
    train.momentum = 0.0;
    size_t batch = train.batch_size < shard->n_samples ? (size_t)train.batch_size
                                                       : shard->n_samples;
    const struct dml_stage_options o = {
        .model = task->model,
        .train = &train,
        .cpu = task->cpu,
        .batch = batch ? batch : 1,
        .cancel = task->cancel,
    };
    c->mask = dml_mem_array(dml_sparse_words(c->n_params) + 1, sizeof(uint64_t));
    if (tc->parallel.significance > 0.0)
        c->change = dml_mem_floats(c->n_params);
    if (!c->mask || (tc->parallel.significance > 0.0 && !c->change))
        return -ENOMEM;
    return dml_stage_new(&o, &c->stage, err);
}

static void client_done(struct client *c)
{
    dml_stage_free(c->stage);
    dml_feed_free(c->feed);
    free(c->change);
    free(c->mask);
    (void)dml_buf_unref(c->body);
}

/* What was before is no idleness of this round. */
static void listen_from_now(struct client *c)
{
    dml_comm_stats(c->task->comm, &c->listening);
    c->since_us = dml_clock_now_us();
}

/* From the master's parameters and step on; also again, when it had given us up. */
static int begin(struct client *c, const struct dml_comm_msg *fit)
{
    const struct dml_testcase *tc = c->task->tc;
    double steps = fit->n_meta == DML_FIT_N_ ? fit->meta[DML_FIT_EPOCH_STEPS] : 0.0;
    size_t len = dml_model_n_vec(c->task->model) * sizeof(float);
    if (!fit->body || fit->body->len != len || !(steps >= 1.0 && steps <= STEPS_MAX))
        return -EPROTO;
    c->steps_per_epoch = (uint64_t)steps;
    c->steps_per_round = c->steps_per_epoch * tc->train.local_epochs;
    c->n_steps = c->steps_per_round * tc->train.rounds;
    if (fit->seq > c->n_steps)
        return -EPROTO;
    c->step = c->taken = c->grant = fit->seq;
    memcpy(dml_stage_vec(c->stage), fit->body->data, len);
    if (c->change)
        memset(c->change, 0, c->n_params * sizeof(float));
    c->round = (struct dml_trainer_result){0};
    c->loss = c->correct = 0.0;
    c->idle_us = c->exposed_us = 0;
    listen_from_now(c);
    c->before = c->listening;
    c->feed = dml_feed_free(c->feed);
    return dml_feed_new(c->shard, &tc->train, &tc->data, c->task->comm->rank, c->steps_per_epoch,
                        &c->feed);
}

static int take_params(struct client *c, const struct dml_comm_msg *msg)
{
    bool whole = msg->n_meta == DML_PARAMS_N_;
    double taken = whole ? msg->meta[DML_PARAMS_TAKEN] : -1.0;
    double pause = whole ? msg->meta[DML_PARAMS_PAUSE_US] : -1.0;
    if (!c->feed || !msg->body || !(taken >= 0.0 && taken <= (double)c->step) || !(pause >= 0.0) ||
        dml_sparse_check(msg->body->data, msg->body->len, c->n_params) < 0)
        return -EPROTO;
    dml_sparse_set(msg->body->data, c->n_params, dml_stage_vec(c->stage));
    c->taken = (uint64_t)taken;
    c->grant = msg->seq;
    /* No idleness: nobody trains while the master evaluates. */
    uint64_t waited = dml_clock_now_us() - c->since_us;
    c->since_us += pause < (double)waited ? (uint64_t)pause : waited;
    return 0;
}

/* The next message, if one comes until then. Returns 0, -ETIMEDOUT, … */
static int take(struct client *c, uint64_t deadline_us)
{
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
    int r = dml_comm_recv(c->task->comm, 0, deadline_us, &msg);
    if (r < 0)
        return r;
    if (msg.kind == DML_MESSAGE_FIT)
        return begin(c, &msg);
    if (msg.kind == DML_MESSAGE_PARAMS)
        return take_params(c, &msg);
    c->is_over = msg.kind == DML_MESSAGE_FINISH;
    return 0;
}

static bool may_begin(const struct client *c)
{
    uint64_t under_way = c->task->tc->parallel.staleness == 0 ? 0 : 1;
    return c->feed && c->step < c->n_steps && c->step <= c->grant &&
           c->step - c->taken <= under_way;
}

/* Takes what has arrived, and waits as long as the next step may not begin. */
static int listen(struct client *c)
{
    struct dml_comm_stats now;
    int r = 0;
    listen_from_now(c);
    while (r == 0 && !c->is_over)
        r = take(c, may_begin(c) ? 0 : DML_CLOCK_NEVER);
    dml_comm_stats(c->task->comm, &now);
    c->idle_us += dml_clock_now_us() - c->since_us;
    c->exposed_us += now.sending_us - c->listening.sending_us;
    return r == -ETIMEDOUT ? 0 : r;
}

/* Sum of the minibatch's gradients / batch-size into the stage's gradient. */
static void compute(struct client *c)
{
    const struct dml_train_options *train = &c->task->tc->train;
    const struct dml_feed_batch *b = dml_feed_get(c->feed, c->step);
    struct dml_stage_at at = {.rank = c->task->comm->rank, .step = c->step};
    double loss = 0.0;
    size_t correct = 0;
    if (b->n > 0) {
        dml_stage_learn_begin(c->stage, b->x, b->labels, b->targets, b->n,
                              (double)train->batch_size, at);
        (void)dml_feed_get(c->feed, c->step + 1);
        dml_stage_learn_end(c->stage, &loss, &correct);
    }
    c->loss += loss;
    c->correct += (double)correct;
    c->round.n_samples += b->n;
    c->round.n_steps++;
}

static uint64_t *choose(struct client *c, const float *change)
{
    const struct dml_testcase *tc = c->task->tc;
    double epoch = (double)c->step / (double)c->steps_per_epoch;
    double rate = dml_optim_rate(&tc->train, epoch,
                                 (double)(tc->train.rounds * tc->train.local_epochs));
    bool is_last = c->step + 1 == c->n_steps; /* nothing is left behind */
    (void)dml_sparse_choose(change, dml_stage_vec(c->stage), c->n_params, rate,
                            is_last ? 0.0 : tc->parallel.significance, c->mask);
    return c->mask;
}

static int push(struct client *c)
{
    float *grad = dml_stage_grad(c->stage);
    size_t n = c->n_params;
    if (!c->body || !dml_buf_is_sole(c->body)) {
        (void)dml_buf_unref(c->body);
        c->body = dml_buf_new(dml_sparse_room(n));
        if (!c->body)
            return -ENOMEM;
    }
    if (c->change) {
        dml_vec_axpy(c->change, 1.0f, grad, n);
        c->body->len = dml_sparse_pack(c->change, choose(c, c->change), n, c->body->data);
        dml_sparse_clear(c->change, c->mask, n);
    } else {
        memset(c->mask, 0xff, dml_sparse_words(n) * sizeof(uint64_t));
        c->body->len = dml_sparse_pack(grad, c->mask, n, c->body->data);
    }
    dml_stage_clear(c->stage);
    struct dml_comm_msg msg = {.kind = DML_MESSAGE_PUSH, .seq = c->step, .body = c->body};
    return dml_comm_send(c->task->comm, 0, &msg);
}

/* What the round was, and the state that batch-norm keeps. */
static int report(struct client *c)
{
    size_t n_state = dml_model_n_state(c->task->model);
    if (c->round.n_samples) {
        c->round.loss = c->loss / (double)c->round.n_samples;
        c->round.accuracy = c->correct / (double)c->round.n_samples;
    }
    c->round.work_us = dml_stage_work_us(c->stage) - c->work_before_us;
    c->work_before_us += c->round.work_us;
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_UPDATE,
        .seq = c->step / c->steps_per_round,
    };
    if (n_state) {
        const float *state = dml_stage_vec(c->stage) + c->n_params;
        msg.body = dml_buf_new_copy(state, n_state * sizeof(float));
        if (!msg.body)
            return -ENOMEM;
    }
    dml_rounds_fill_update(&msg, c->shard->n_samples, &c->round);
    struct dml_comm_stats now;
    dml_comm_stats(c->task->comm, &now);
    msg.meta[DML_UPDATE_IDLE_US] = (double)c->idle_us;
    msg.meta[DML_UPDATE_SENDING_US] = (double)(now.sending_us - c->before.sending_us);
    msg.meta[DML_UPDATE_EXPOSED_US] = (double)c->exposed_us;
    msg.meta[DML_UPDATE_SENT_BYTES] = (double)(now.sent_bytes - c->before.sent_bytes);
    msg.meta[DML_UPDATE_RECEIVED_BYTES] = (double)(now.received_bytes - c->before.received_bytes);
    c->before = now;
    c->round = (struct dml_trainer_result){0};
    c->loss = c->correct = 0.0;
    c->idle_us = c->exposed_us = 0;
    return dml_comm_send(c->task->comm, 0, &msg);
}

static int work(struct client *c)
{
    for (;;) {
        int r = listen(c);
        if (r < 0 || c->is_over)
            return r;
        compute(c);
        r = push(c);
        c->step++;
        if (r == 0 && c->step % c->steps_per_round == 0)
            r = report(c);
        if (r < 0)
            return r;
    }
}

int dml_server_client(struct dml_task *task, struct dml_err *err)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *shard = NULL;
    struct client c = {0};
    bool cached = false;
    int r = dml_provision_fetch(task, &shard, &cached, err);
    if (r == 0)
        r = client_init(&c, task, shard, err);
    if (r == 0)
        r = dml_provision_ready(task, shard, cached);
    if (r == 0)
        r = work(&c);
    client_done(&c);
    return r;
}
