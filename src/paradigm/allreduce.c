/*
 * Synchronous data-parallel SGD. Every worker has the whole model and a shard; in each step it
 * computes the gradient of a minibatch of its own, the gradients are summed over all workers, and
 * everybody makes the same step with the same bits. R workers with minibatches of B samples do so
 * what one would with minibatches of R·B.
 *
 * Loss and gradient are divided by the samples of the whole step over all workers and, with
 * `accumulate`, over all minibatches of the step: so the last step of an epoch, in which workers
 * have fewer samples or none at all, weighs each sample like any other mean does, and workers
 * without samples take part in the exchange with zeros.
 *
 * The gradient travels in buckets, from the end of the block on: those of the last layers are on
 * their way while the compute threads are still busy with the first.
 *
 * Source: the ring and the overlap, Sergeev & Del Balso 2018, Horovod; buckets, Li et al. 2020,
 * PyTorch Distributed, section 3.2.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "nn/stage.h"
#include "paradigm/collective.h"
#include "paradigm/feed.h"
#include "paradigm/group.h"
#include "paradigm/legs.h"

struct trainee {
    struct dml_task *task;
    struct dml_group group;
    struct dml_collective all;
    struct dml_stage *stage;
    struct dml_feed *feed;
    size_t n_params, n_vec, n_whole; /* P, P+Q, and with the optimiser's moments */
    size_t bucket, n_buckets;        /* floats of a bucket; buckets of a gradient */
    uint64_t epoch_batches, epoch_steps, optim_step;
    struct dml_group_result result;  /* of this leg */
};

static struct dml_stage_options stage_options(const struct dml_testcase *tc,
                                              const struct dml_model *model,
                                              const struct dml_trainer_cpu *cpu, size_t most)
{
    size_t batch = tc->train.batch_size < most ? (size_t)tc->train.batch_size : most;
    return (struct dml_stage_options){
        .model = model, .train = &tc->train, .cpu = *cpu, .batch = batch};
}

static void trainee_done(struct trainee *t)
{
    t->feed = dml_feed_free(t->feed); /* reads the group's shard */
    t->stage = dml_stage_free(t->stage);
    dml_group_done(&t->group);
}

static int trainee_init(struct trainee *t, struct dml_task *task, struct dml_err *err)
{
    *t = (struct trainee){.task = task};
    int r = dml_group_init(&t->group, task, err);
    if (r < 0)
        return r;
    const struct dml_dataset *ds = t->group.shard;
    r = dml_model_check_data(task->model, ds->channels, ds->height, ds->width, ds->n_classes, err);
    if (r < 0)
        return r;
    struct dml_stage_options o =
        stage_options(task->tc, task->model, &task->cpu, ds->n_samples ? ds->n_samples : 1);
    o.cancel = task->cancel;
    r = dml_stage_new(&o, &t->stage, err);
    if (r < 0)
        return r;
    t->group.stage = t->stage;
    t->n_params = dml_model_n_params(task->model);
    t->n_vec = dml_model_n_vec(task->model);
    t->n_whole = dml_legs_n_state(task);
    t->bucket = task->tc->parallel.bucket / sizeof(float);
    t->n_buckets = (t->n_params + t->bucket - 1) / t->bucket;
    return 0;
}

/* A tag for exchange k of a step: one for each bucket, and one for the running statistics. */
static uint64_t tag(const struct trainee *t, uint64_t step, size_t k)
{
    return (step * (t->n_buckets + 1) + k) * DML_COLLECTIVE_TAGS;
}

/* Samples of minibatches [first, last) of an epoch, of all members. */
static uint64_t samples(const struct trainee *t, uint64_t first, uint64_t last)
{
    uint64_t n = 0;
    for (unsigned m = 0; m < t->group.n; m++)
        for (uint64_t b = first; b < last; b++)
            n += dml_group_batch(&t->group, m, b);
    return n;
}

/* Sums the gradient over all members, bucket by bucket as they become final. */
static int exchange(struct trainee *t, uint64_t step)
{
    float *grad = dml_stage_grad(t->stage);
    size_t end = t->n_params;
    int r = 0;
    for (size_t k = 0; r == 0 && k < t->n_buckets; k++) {
        size_t at = end > t->bucket ? end - t->bucket : 0;
        dml_stage_wait(t->stage, at);
        r = dml_collective_sum(&t->all, tag(t, step, k), grad + at, end - at);
        end = at;
    }
    return r;
}

/* Minibatch b of an epoch; the gradient is exchanged behind the last one of a step. */
static int learn(struct trainee *t, uint64_t step, uint64_t epoch, uint64_t b, uint64_t divisor,
                 bool last)
{
    bool overlap = t->task->tc->parallel.overlap;
    uint64_t at = epoch * t->epoch_batches + b;
    const struct dml_feed_batch *batch = dml_feed_get(t->feed, at);
    struct dml_stage_at where = {.rank = t->task->comm->rank, .step = at};
    double loss;
    size_t correct;
    int r = 0;
    dml_stage_learn_begin(t->stage, batch->x, batch->labels, batch->targets, batch->n,
                          (double)divisor, where);
    (void)dml_feed_get(t->feed, at + 1); /* while the compute threads are busy */
    if (last && overlap)
        r = exchange(t, step);
    dml_stage_learn_end(t->stage, &loss, &correct);
    if (last && !overlap)
        r = exchange(t, step);
    t->result.n_samples += batch->n;
    t->result.loss += loss;
    t->result.n_correct += correct;
    return r;
}

/* One step of the optimiser; `step` counts over the whole run. */
static int train_step(struct trainee *t, uint64_t step)
{
    const struct dml_train_options *train = &t->task->tc->train;
    uint64_t n = t->task->tc->parallel.accumulate;
    uint64_t epoch = step / t->epoch_steps, i = step % t->epoch_steps;
    uint64_t first = i * n, last = first + n < t->epoch_batches ? first + n : t->epoch_batches;
    uint64_t divisor = samples(t, first, last);
    int r = 0;
    if (divisor == 0) /* those who had samples left are not there */
        return 0;
    for (uint64_t b = first; r == 0 && b < last; b++)
        r = learn(t, step, epoch, b, divisor, b + 1 == last);
    if (r < 0)
        return r;
    dml_stage_apply(t->stage,
                    dml_optim_rate(train, (double)epoch + (double)i / (double)t->epoch_steps,
                                   (double)(train->rounds * train->local_epochs)));
    t->optim_step++;
    return 0;
}

/* A sum over all bits of the parameters, below 2^52: FNV-1a by words. */
static uint64_t check_of(const float *x, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        h = (h ^ bits) * UINT64_C(0x100000001b3);
    }
    h = (h ^ h >> 52) & ((UINT64_C(1) << 52) - 1);
    return h ? h : 1;
}

/* What a leg begins with. */
static int begin(struct trainee *t, const struct dml_group_leg *leg)
{
    const struct dml_testcase *tc = t->task->tc;
    dml_stage_clear(t->stage);
    t->result = (struct dml_group_result){0};
    if (leg->fresh)
        dml_collective_all(&t->all, &t->group);
    if (leg->part) {
        if (leg->part_len != t->n_whole)
            return -EPROTO;
        memcpy(dml_stage_vec(t->stage), leg->part, t->n_vec * sizeof(float));
        dml_stage_set_moments(t->stage, leg->part + t->n_vec, leg->optim_step);
        t->optim_step = leg->optim_step;
    }
    if (t->feed && t->epoch_batches == leg->epoch_batches)
        return 0;
    t->epoch_batches = leg->epoch_batches;
    t->epoch_steps = dml_group_epoch_steps(tc, leg->epoch_batches);
    t->feed = dml_feed_free(t->feed);
    return dml_feed_new(t->group.shard, &tc->train, &tc->data, t->task->comm->rank,
                        leg->epoch_batches, &t->feed);
}

/* Running statistics are the mean of the members'; the first one sends what all agree upon. */
static int end(struct trainee *t, const struct dml_group_leg *leg, uint64_t last_step)
{
    float *vec = dml_stage_vec(t->stage);
    int r = dml_collective_mean(&t->all, tag(t, last_step, t->n_buckets), vec + t->n_params,
                                t->n_vec - t->n_params);
    if (r < 0)
        return r;
    struct dml_buf *body = NULL;
    if (t->group.i == 0) {
        body = dml_group_buf(&t->group, t->n_whole);
        if (!body)
            return -ENOMEM;
        uint64_t ignored;
        memcpy(body->data, vec, t->n_vec * sizeof(float));
        dml_stage_get_moments(t->stage, dml_buf_floats(body) + t->n_vec, &ignored);
    }
    t->result.check = check_of(vec, t->n_vec);
    t->result.optim_step = t->optim_step;
    return dml_group_answer(&t->group, leg, &t->result, body);
}

static int train_leg(struct trainee *t, const struct dml_group_leg *leg)
{
    uint64_t before = dml_stage_work_us(t->stage);
    int r = begin(t, leg);
    uint64_t step = (leg->round - 1) * t->task->tc->train.local_epochs * t->epoch_steps + leg->first;
    for (uint64_t i = 0; r == 0 && i < leg->n_steps; i++)
        r = dml_group_cancelled(&t->group) ? -ECANCELED : train_step(t, step + i);
    t->result.compute_us = dml_stage_work_us(t->stage) - before;
    return r < 0 ? r : end(t, leg, step + leg->n_steps - 1);
}

static int allreduce_worker(struct dml_task *task, struct dml_err *err)
{
    struct trainee t;
    struct dml_group_leg leg = {0};
    int r = trainee_init(&t, task, err);
    if (r == 0)
        r = dml_group_ready(&t.group);
    while (r == 0) {
        r = dml_group_next(&t.group, &leg, err);
        if (r == 0)
            r = train_leg(&t, &leg);
        if (r == -ERESTART)
            r = 0;
    }
    dml_group_leg_done(&leg);
    trainee_done(&t);
    return r < 0 ? r : 0;
}

static int allreduce_master(struct dml_task *task, struct dml_err *err)
{
    static const struct dml_legs_ops whole = {0};
    return dml_legs_lead(task, &whole, NULL, err);
}

/* The stage, two minibatches, the gradient on its way, and the whole state coming or going. */
static int allreduce_plan(const struct dml_testcase *tc, const struct dml_model *model,
                          const struct dml_trainer_cpu *cpu, uint64_t *ret_bytes,
                          struct dml_err *err)
{
    (void)err;
    struct dml_stage_options o = stage_options(tc, model, cpu, SIZE_MAX);
    uint64_t params = dml_model_n_params(model);
    uint64_t feed = 2 * tc->train.batch_size * (dml_model_n_inputs(model) + 2);
    uint64_t state =
        dml_model_n_vec(model) + dml_legs_n_moments(&tc->train) * params;
    *ret_bytes = dml_stage_memory(&o) + (feed + 2 * params + state) * sizeof(float);
    return 0;
}

const struct dml_paradigm dml_paradigm_allreduce = {
    .name = "allreduce",
    .summary = "workers sum their gradients round a ring before every step",
    .plan = allreduce_plan,
    .master = allreduce_master,
    .worker = allreduce_worker,
};
