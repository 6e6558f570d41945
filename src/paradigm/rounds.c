/*
 * T of a round is from sending the vector to having the new one; evaluation on the test set is the
 * experimenter's wish and no part of training, so it is measured apart. Nobody may train
 * meanwhile, or W would count what T does not. W is the mean of the work times the participants
 * report, O what is left of T: sending, waiting for the slowest, averaging.
 *
 * O = T - W to the microsecond, so that sums of rounds agree with totals. It is below 0 in a round
 * whose reports tell of work of the time before: where workers run ahead of each other.
 */
#include "paradigm/rounds.h"

#include <errno.h>
#include <math.h>

#include "base/err.h"

/* Threads of the master for evaluation: it may share its board with a worker. */
#define EVAL_THREADS 1

int dml_rounds_init(struct dml_rounds *r, struct dml_task *task)
{
    *r = (struct dml_rounds){.task = task};
    r->workers = calloc(task->comm->size, sizeof(*r->workers));
    return r->workers ? 0 : -ENOMEM;
}

void dml_rounds_done(struct dml_rounds *r)
{
    free(r->workers);
    r->workers = NULL;
}

void dml_rounds_go_on(struct dml_rounds *r, uint64_t round)
{
    r->record = (struct dml_round){
        .round = round,
        .n_rounds = r->task->tc->train.rounds,
        .n_expected = (unsigned)r->task->tc->testcase.nodes,
        .workers = r->workers,
    };
    r->loss_sum = r->sample_sum = 0.0;
    r->work_sum_us = r->saved_bytes = 0;
}

void dml_rounds_begin(struct dml_rounds *r, uint64_t round)
{
    dml_rounds_go_on(r, round);
    dml_comm_stats(r->task->comm, &r->before);
    r->begin_us = dml_clock_now_us();
}

uint64_t dml_rounds_next_evaluated(const struct dml_rounds *r, uint64_t round)
{
    uint64_t every = r->task->tc->train.eval_every, last = r->task->tc->train.rounds;
    if (!r->task->test || round > last)
        return UINT64_MAX;
    uint64_t ahead = every ? (every - round % every) % every : last;
    return ahead < last - round ? round + ahead : last;
}

bool dml_rounds_update_is_sound(const struct dml_rounds *r, const struct dml_comm_msg *msg,
                                size_t n_vec)
{
    size_t body_len = msg->body ? msg->body->len : 0;
    if (msg->n_meta < DML_UPDATE_N_ || body_len != n_vec * sizeof(float))
        return false;
    /* A worker trains on the shard it was given; what it says of it may not tilt the mean. One shard
     * each: paradigms that share them out otherwise look for themselves. */
    if (msg->meta[DML_UPDATE_SHARD] != (double)r->task->shards->n[msg->from - 1])
        return false;
    for (int k = DML_UPDATE_WORK_US; k < DML_UPDATE_N_; k++)
        if (!dml_message_is_count(msg->meta[k], 0))
            return false;
    return dml_message_is_count(msg->meta[DML_UPDATE_SAMPLES], 1) &&
           dml_message_is_count(msg->meta[DML_UPDATE_STEPS], 1);
}

/* The round's row of a worker; a new one at its first answer. */
static struct dml_round_worker *row_of(struct dml_rounds *r, uint32_t rank)
{
    for (unsigned i = 0; i < r->record.n_participants; i++)
        if (r->workers[i].rank == rank)
            return &r->workers[i];
    struct dml_round_worker *w = &r->workers[r->record.n_participants++];
    *w = (struct dml_round_worker){.rank = rank, .temperature_c = -1.0, .throttled = -1};
    if (r->task->describe)
        r->task->describe(r->task->describe_arg, rank, w);
    return w;
}

struct dml_round_worker *dml_rounds_answer(struct dml_rounds *r, const struct dml_comm_msg *msg)
{
    struct dml_round_worker *w = row_of(r, msg->from);
    uint64_t work_us = (uint64_t)msg->meta[DML_UPDATE_WORK_US];
    double n = msg->meta[DML_UPDATE_SAMPLES], loss = n > 0.0 ? msg->meta[DML_UPDATE_LOSS] : 0.0;
    double before = (double)w->n_samples;
    w->loss = before > 0.0 ? (w->loss * before + loss * n) / (before + n) : loss;
    w->n_samples += (uint64_t)n;
    w->work_us += work_us;
    w->n_steps += (uint64_t)msg->meta[DML_UPDATE_STEPS];
    w->idle_us += (uint64_t)msg->meta[DML_UPDATE_IDLE_US];
    w->sending_us += (uint64_t)msg->meta[DML_UPDATE_SENDING_US];
    w->exposed_us += (uint64_t)msg->meta[DML_UPDATE_EXPOSED_US];
    w->sent_bytes += (uint64_t)msg->meta[DML_UPDATE_SENT_BYTES];
    w->received_bytes += (uint64_t)msg->meta[DML_UPDATE_RECEIVED_BYTES];
    r->work_sum_us += work_us;
    r->loss_sum += loss * n;
    r->sample_sum += n;
    return w;
}

static bool is_finite(const float *x, size_t n)
{
    /* A sum is finite only if every term is; large finite terms cannot overflow a double. */
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    return isfinite(sum);
}

static int diverged(const struct dml_rounds *r, struct dml_err *err)
{
    return dml_err_set(err, -ERANGE,
                       "training diverged in round %llu (the loss is no longer a number): "
                       "lower learning-rate (now %g)",
                       (unsigned long long)r->record.round, r->task->tc->train.learning_rate);
}

/* After the last step nothing else looks at the loss: training saw the one before it. */
static int evaluate(struct dml_rounds *r, struct dml_err *err)
{
    struct dml_task *task = r->task;
    if (dml_rounds_next_evaluated(r, r->record.round) != r->record.round)
        return 0;
    uint64_t begin = dml_clock_now_us();
    struct dml_eval_result result;
    int ret = dml_trainer_evaluate(task->model, task->vec, task->test, EVAL_THREADS, task->cancel,
                                   &result);
    if (ret < 0)
        return ret;
    if (!isfinite(result.loss))
        return diverged(r, err);
    r->record.evaluated = true;
    r->record.eval_loss = result.loss;
    r->record.accuracy = result.accuracy;
    r->record.eval_us = dml_clock_now_us() - begin;
    r->totals.loss = result.loss;
    r->totals.accuracy = result.accuracy;
    return 0;
}

int dml_rounds_end(struct dml_rounds *r, bool vec_is_new, const char *strategy, struct dml_err *err)
{
    struct dml_task *task = r->task;
    struct dml_round *record = &r->record;
    uint64_t end_us = dml_clock_now_us();
    record->t_us = end_us - r->begin_us;
    r->begin_us = end_us;
    record->work_us = record->n_participants ? r->work_sum_us / record->n_participants : 0;
    record->overhead_us = (int64_t)record->t_us - (int64_t)record->work_us;
    record->loss = r->sample_sum > 0.0 ? r->loss_sum / r->sample_sum : 0.0;
    record->strategy = strategy;
    record->paradigm = dml_paradigm_get(task->tc->parallel.paradigm)->name;

    struct dml_comm_stats now;
    dml_comm_stats(task->comm, &now);
    record->sent_bytes = now.sent_bytes - r->before.sent_bytes;
    record->received_bytes = now.received_bytes - r->before.received_bytes;
    record->sending_us = now.sending_us - r->before.sending_us;
    r->before = now;
    if (r->saved_bytes)
        record->unfiltered_bytes = record->sent_bytes + record->received_bytes + r->saved_bytes;

    r->totals.t_us += record->t_us;
    r->totals.work_us += record->work_us;
    r->totals.overhead_us = (int64_t)r->totals.t_us - (int64_t)r->totals.work_us;
    r->totals.n_rounds++;

    if (!isfinite(record->loss) || !is_finite(task->vec, dml_model_n_vec(task->model)))
        return diverged(r, err);
    int ret = vec_is_new ? evaluate(r, err) : 0;
    if (ret < 0)
        return ret;
    dml_event_round(task->events, task->run, record);
    return 0;
}

void dml_rounds_totals(struct dml_rounds *r, unsigned n_lost)
{
    uint64_t setup_us = r->task->totals.setup_us;
    struct dml_comm_stats stats;
    dml_comm_stats(r->task->comm, &stats);
    r->task->totals = r->totals;
    r->task->totals.setup_us = setup_us;
    r->task->totals.n_lost = n_lost;
    r->task->totals.sent_bytes = stats.sent_bytes;
    r->task->totals.received_bytes = stats.received_bytes;
}

void dml_rounds_fill_update(struct dml_comm_msg *io_msg, size_t n_shard,
                            const struct dml_trainer_result *fit)
{
    io_msg->n_meta = DML_UPDATE_N_;
    io_msg->meta[DML_UPDATE_SAMPLES] = (double)fit->n_samples;
    io_msg->meta[DML_UPDATE_SHARD] = (double)n_shard;
    io_msg->meta[DML_UPDATE_STEPS] = (double)fit->n_steps;
    io_msg->meta[DML_UPDATE_LOSS] = fit->loss;
    io_msg->meta[DML_UPDATE_ACCURACY] = fit->accuracy;
    io_msg->meta[DML_UPDATE_WORK_US] = (double)fit->work_us;
}

static uint64_t from_now(uint64_t us)
{
    return us ? dml_clock_now_us() + us : DML_CLOCK_NEVER;
}

uint64_t dml_rounds_deadline(const struct dml_task *task)
{
    return from_now(task->tc->cluster.round_deadline_us);
}

uint64_t dml_rounds_setup_deadline(const struct dml_task *task)
{
    return from_now(task->tc->cluster.wait_us);
}
