/*
 * The trainer.
 *
 * All threads run the same loop over steps and meet twice in each: after the gradients, and after
 * the update; crew.c has both. While the others wait at the second barrier, thread 0 adds up the
 * step and pays for the duty cycle (duty.c).
 */
#include "nn/trainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "data/batch.h"
#include "nn/crew.h"

/* A chunk of samples as floats, of one thread. */
struct batch {
    float *x, *targets;
    int32_t *labels;
};

struct dml_trainer {
    const struct dml_dataset *ds;
    struct dml_train_options train;
    int augment;
    uint32_t crop_padding;
    uint64_t rank;
    struct dml_crew crew;
    struct batch *batches; /* [n_threads] */
    uint32_t *order;       /* [N] */
};

/* One call of fit, as all threads see it. */
struct fit {
    struct dml_trainer *t;
    uint64_t first_epoch, n_epochs, total_epochs;
    const atomic_bool *cancel;
    bool stop; /* written by thread 0 between the barriers */
    struct dml_trainer_result result;
    double loss;
    uint64_t correct;
};

static int make_batch(const struct dml_trainer *t, struct batch *b)
{
    size_t n = t->crew.chunk, x_len;
    if (!dml_mem_mul(n, dml_model_n_inputs(t->crew.m), &x_len))
        return -ENOMEM;
    b->x = dml_mem_floats(x_len);
    b->targets = dml_mem_floats(n);
    b->labels = dml_mem_array(n, sizeof(int32_t));
    return b->x && b->targets && b->labels ? 0 : -ENOMEM;
}

int dml_trainer_new(const struct dml_model *m, const struct dml_dataset *ds,
                    const struct dml_train_options *train, const struct dml_data_options *data,
                    uint64_t rank, const struct dml_trainer_cpu *cpu, struct dml_trainer **ret,
                    struct dml_err *err)
{
    int r = dml_model_check_data(m, ds->channels, ds->height, ds->width, ds->n_classes, err);
    if (r < 0)
        return r;
    if (ds->n_samples == 0)
        return dml_err_set(err, -EINVAL, "there are no samples to train on");
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->ds = ds;
    t->train = *train;
    t->augment = data ? data->augment : DML_AUGMENT_NONE;
    t->crop_padding = data ? (uint32_t)data->crop_padding : 0;
    t->rank = rank;
    const struct dml_crew_options o = {
        .model = m,
        .train = train,
        .cpu = cpu,
        .batch = train->batch_size < ds->n_samples ? (size_t)train->batch_size : ds->n_samples,
        .learns = true,
    };
    r = dml_crew_init(&t->crew, &o);
    if (r < 0)
        return r;
    t->order = dml_mem_array(ds->n_samples, sizeof(uint32_t));
    t->batches = calloc(t->crew.n_threads, sizeof(*t->batches));
    if (!t->order || !t->batches)
        return -ENOMEM;
    for (unsigned i = 0; i < t->crew.n_threads; i++)
        if (make_batch(t, &t->batches[i]) < 0)
            return -ENOMEM;
    *ret = t;
    t = NULL;
    return 0;
}

struct dml_trainer *dml_trainer_free(struct dml_trainer *t)
{
    if (!t)
        return NULL;
    for (unsigned i = 0; t->batches && i < t->crew.n_threads; i++) {
        free(t->batches[i].x);
        free(t->batches[i].labels);
        free(t->batches[i].targets);
    }
    free(t->batches);
    free(t->order);
    dml_crew_done(&t->crew);
    free(t);
    return NULL;
}

float *dml_trainer_vec(struct dml_trainer *t)
{
    return t->crew.vec;
}

void dml_trainer_reset_optimizer(struct dml_trainer *t)
{
    dml_optim_reset(t->crew.optim);
}

/* A minibatch: what its samples are made of. */
struct minibatch {
    struct dml_trainer *t;
    const uint32_t *order, *order_end; /* of the epoch */
    struct dml_batch_augment augment;
};

/* The samples that this thread will ask for after order[at .. at + b): from memory meanwhile. */
static void expect(const struct minibatch *s, size_t at, size_t b)
{
    const struct dml_crew *c = &s->t->crew;
    size_t next = at + (c->chunk < c->slice ? b : c->batch);
    size_t left = (size_t)(s->order_end - s->order);
    if (next < left)
        dml_batch_expect(s->t->ds, s->order + next, left - next < b ? left - next : b);
}

static void give(void *arg, unsigned i, size_t at, size_t b, const float **ret_x,
                 const int32_t **ret_labels, const float **ret_targets)
{
    const struct minibatch *s = arg;
    const struct dml_dataset *ds = s->t->ds;
    struct batch *batch = &s->t->batches[i];
    dml_batch_fill(ds, s->order + at, b, at, s->t->augment == DML_AUGMENT_NONE ? NULL : &s->augment,
                   batch->x, ds->labels ? batch->labels : NULL, ds->labels ? NULL : batch->targets);
    expect(s, at, b);
    *ret_x = batch->x;
    *ret_labels = batch->labels;
    *ret_targets = batch->targets;
}

/* Gradient of this thread's slice of the minibatch order[0..n). */
static void learn(struct dml_trainer *t, unsigned i_thread, const uint32_t *order, size_t n,
                  uint64_t step)
{
    struct minibatch minibatch = {.t = t,
                                  .order = order,
                                  .order_end = t->order + t->ds->n_samples,
                                  .augment = {.kind = t->augment,
                                              .padding = t->crop_padding,
                                              .seed = t->train.seed,
                                              .rank = t->rank,
                                              .step = step}};
    const struct dml_crew_step s = {.n = n,
                                    .rank = t->rank,
                                    .step = step,
                                    .divisor = (double)n,
                                    .give = give,
                                    .arg = &minibatch,
                                    .updates = true};
    dml_crew_learn(&t->crew, &s, i_thread);
}

/* Thread 0, while the others wait: adds up the step, sleeps, decides whether to go on. */
static void account(struct fit *f, size_t n)
{
    struct dml_crew *c = &f->t->crew;
    for (unsigned i = 0; i < c->n_threads; i++) {
        f->loss += c->members[i].loss;
        f->correct += c->members[i].correct;
    }
    f->result.n_samples += n;
    f->result.n_steps++;
    dml_duty_pay(&c->duty, f->cancel);
    f->stop = f->cancel && atomic_load(f->cancel);
}

static void run(void *arg, unsigned i_thread)
{
    struct fit *f = arg;
    struct dml_trainer *t = f->t;
    struct dml_crew *c = &t->crew;
    size_t n_samples = t->ds->n_samples, n_steps = (n_samples + c->batch - 1) / c->batch;
    if (i_thread == 0)
        dml_duty_begin(&c->duty);
    for (uint64_t epoch = f->first_epoch; epoch < f->first_epoch + f->n_epochs; epoch++) {
        if (i_thread == 0)
            dml_batch_order(t->order, n_samples, t->train.seed, t->rank, epoch);
        dml_team_barrier(c->team);
        for (size_t i = 0; i < n_steps; i++) {
            size_t at = i * c->batch, n = n_samples - at < c->batch ? n_samples - at : c->batch;
            if (i_thread == 0)
                dml_optim_begin(
                    c->optim, dml_optim_rate(&t->train, (double)epoch + (double)i / (double)n_steps,
                                             (double)f->total_epochs));
            learn(t, i_thread, t->order + at, n, epoch * n_steps + i);
            dml_team_barrier(c->team);
            dml_crew_update(c, i_thread, c->n_threads);
            if (i_thread == 0)
                account(f, n);
            dml_team_barrier(c->team);
            if (f->stop)
                return;
        }
    }
}

int dml_trainer_fit(struct dml_trainer *t, uint64_t first_epoch, uint64_t n_epochs,
                    uint64_t total_epochs, const atomic_bool *cancel,
                    struct dml_trainer_result *ret)
{
    uint64_t began = dml_clock_now_us(), slept_us = t->crew.duty.slept_us;
    struct fit f = {
        .t = t,
        .first_epoch = first_epoch,
        .n_epochs = n_epochs,
        .total_epochs = total_epochs,
        .cancel = cancel,
    };
    for (unsigned i = 0; i < t->crew.n_threads; i++) /* a cancelled step may have left something */
        memset(t->crew.grads[i], 0, dml_model_n_params(t->crew.m) * sizeof(float));
    dml_team_run(t->crew.team, t->crew.n_threads, run, &f);
    if (f.stop)
        return -ECANCELED;
    if (f.result.n_samples) {
        f.result.loss = f.loss / (double)f.result.n_samples;
        f.result.accuracy = (double)f.correct / (double)f.result.n_samples;
    }
    f.result.work_us = dml_clock_now_us() - began;
    f.result.slept_us = t->crew.duty.slept_us - slept_us;
    *ret = f.result;
    return 0;
}

uint64_t dml_trainer_memory(const struct dml_model *m, const struct dml_train_options *train,
                            unsigned n_threads)
{
    const struct dml_trainer_cpu cpu = {.n_threads = n_threads};
    const struct dml_crew_options o = {.model = m,
                                       .train = train,
                                       .cpu = &cpu,
                                       .batch = (size_t)train->batch_size,
                                       .learns = true};
    size_t slice, chunk;
    uint64_t crew = dml_crew_memory(&o, &n_threads, &slice, &chunk);
    uint64_t batch = (uint64_t)chunk * (dml_model_n_inputs(m) + 2) * sizeof(float);
    return crew + n_threads * batch;
}
