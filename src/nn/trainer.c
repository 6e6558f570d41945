/*
 * Training on one node.
 *
 * All threads run the same loop over steps and meet twice in each: after the gradients, and after
 * the update. A thread works on its slice of the minibatch in chunks whose activations stay in the
 * cache; then each thread reduces and updates its own part of the flat block, adding up the
 * threads' gradients in order of thread number. So the result depends on seed, options and number
 * of threads, never on scheduling.
 *
 * A step too small to be worth a barrier uses fewer threads than it may: at least GRAIN
 * multiply-adds each. That too depends on nothing but model and batch size.
 *
 * Duty cycle: what the kernel's CPU quota would do. A step that used cpu of thread 0 may not be
 * over before cpu / duty of wall time has passed; thread 0 owes the difference as sleep and pays
 * when the debt has grown to something the kernel's timer can serve, while the others wait at the
 * barrier. CPU time and not wall time counts, so a worker that had to wait for the processor,
 * because the machine is shared, is not made to wait a second time.
 */
#include "nn/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "data/batch.h"
#include "nn/kernel.h"
#include "nn/team.h"
#include "nn/vec.h"

#define GRAIN         1000000 /* multiply-adds, forward and backward */
#define CHUNK_FLOATS  131072  /* activations of a chunk: 512 KiB */
#define CHUNK_MAX     256     /* samples */
#define SLEEP_MIN_US  5000    /* shortest sleep of the duty cycle */
#define CREDIT_MAX_US 100000  /* waiting that is remembered: one period of the kernel's quota */
#define REDUCE_FLOATS 1024    /* of all gradients at a time, so that they meet in the L1 cache */
#define STACK_BYTES   (512 << 10) /* what a thread touches of its stack and the BLAS's buffers */

struct worker {
    float *workspace, *grad;
    float *x, *y, *dy, *targets;
    int32_t *labels;
    double loss;
    size_t correct;
    struct dml_model_meeting meeting;
};

struct dml_trainer {
    const struct dml_model *m;
    const struct dml_dataset *ds;
    struct dml_train_options train;
    int augment;
    uint32_t crop_padding;
    uint64_t rank;
    double duty;

    struct dml_team *team;
    unsigned n_threads; /* that share a step */
    size_t batch, slice, chunk;
    struct worker *workers; /* [n_threads] */
    double *board; /* where the threads meet; NULL: no layer of the model does, or one thread */
    float *vec;
    uint32_t *order; /* [N] */
    struct dml_optim *optim;
    double debt_us; /* sleep owed from earlier calls */
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

/* How a minibatch is divided. */
struct division {
    unsigned n_threads;
    size_t slice, chunk;
};

static struct division divide(const struct dml_model *m, uint64_t batch, unsigned n_threads)
{
    struct division d;
    double work = 3.0 * (double)dml_model_macs(m) * (double)batch / GRAIN;
    uint64_t most = work < 1.0 ? 1 : work > 1e6 ? 1000000 : (uint64_t)work;
    most = most < batch ? most : batch;
    d.n_threads = n_threads < most ? n_threads : (unsigned)most;
    d.slice = (size_t)((batch + d.n_threads - 1) / d.n_threads);
    size_t per_sample = dml_model_workspace(m, 32, true) / 32 + 1;
    size_t most_samples = CHUNK_FLOATS / per_sample;
    most_samples = most_samples < 4 ? 4 : most_samples > CHUNK_MAX ? CHUNK_MAX : most_samples;
    size_t n_chunks = (d.slice + most_samples - 1) / most_samples;
    d.chunk = (d.slice + n_chunks - 1) / n_chunks;
    if (dml_model_meeting_room(m)) /* its statistics are of all samples at once */
        d.chunk = d.slice;
    return d;
}

static int make_worker(const struct dml_trainer *t, struct worker *w)
{
    const struct dml_model *m = t->m;
    size_t d = dml_model_n_inputs(m), o = dml_model_n_outputs(m), x_len;
    if (!dml_mem_mul(t->chunk, d, &x_len))
        return -ENOMEM;
    w->workspace = dml_mem_floats(dml_model_workspace(m, t->chunk, true));
    w->grad = dml_mem_floats(dml_model_n_params(m));
    w->x = dml_mem_floats(x_len);
    w->y = dml_mem_floats(t->chunk * o);
    w->dy = dml_mem_floats(t->chunk * o);
    w->targets = dml_mem_floats(t->chunk);
    w->labels = dml_mem_array(t->chunk, sizeof(int32_t));
    return w->workspace && w->grad && w->x && w->y && w->dy && w->targets && w->labels ? 0
                                                                                       : -ENOMEM;
}

static void meet(void *team)
{
    dml_team_barrier(team);
}

static int make_board(struct dml_trainer *t)
{
    size_t room = dml_model_meeting_room(t->m);
    if (room == 0 || t->n_threads == 1)
        return 0;
    t->board = dml_mem_array(2 * t->n_threads * room, sizeof(double));
    for (unsigned i = 0; i < t->n_threads; i++)
        t->workers[i].meeting = (struct dml_model_meeting){.n = t->n_threads,
                                                           .i = i,
                                                           .room = room,
                                                           .board = t->board,
                                                           .wait = meet,
                                                           .arg = t->team};
    return t->board ? 0 : -ENOMEM;
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
    t->m = m;
    t->ds = ds;
    t->train = *train;
    t->augment = data ? data->augment : DML_AUGMENT_NONE;
    t->crop_padding = data ? (uint32_t)data->crop_padding : 0;
    t->rank = rank;
    t->duty = cpu->duty;
    t->batch = train->batch_size < ds->n_samples ? (size_t)train->batch_size : ds->n_samples;
    struct division d = divide(m, t->batch, cpu->n_threads);
    t->n_threads = d.n_threads;
    t->slice = d.slice;
    t->chunk = d.chunk;
    t->vec = dml_mem_floats(dml_model_n_vec(m));
    t->order = dml_mem_array(ds->n_samples, sizeof(uint32_t));
    t->optim = dml_optim_new(train, dml_model_n_params(m));
    t->workers = calloc(t->n_threads, sizeof(*t->workers));
    if (!t->vec || !t->order || !t->optim || !t->workers)
        return -ENOMEM;
    for (unsigned i = 0; i < t->n_threads; i++) {
        r = make_worker(t, &t->workers[i]);
        if (r < 0)
            return r;
    }
    r = dml_team_new(t->n_threads, cpu->cpus, &t->team);
    if (r == 0)
        r = make_board(t);
    if (r < 0)
        return r;
    *ret = t;
    t = NULL;
    return 0;
}

struct dml_trainer *dml_trainer_free(struct dml_trainer *t)
{
    if (!t)
        return NULL;
    dml_team_free(t->team);
    for (unsigned i = 0; t->workers && i < t->n_threads; i++) {
        struct worker *w = &t->workers[i];
        free(w->workspace);
        free(w->grad);
        free(w->x);
        free(w->y);
        free(w->dy);
        free(w->targets);
        free(w->labels);
    }
    free(t->workers);
    free(t->board);
    dml_optim_free(t->optim);
    free(t->order);
    free(t->vec);
    free(t);
    return NULL;
}

float *dml_trainer_vec(struct dml_trainer *t)
{
    return t->vec;
}

void dml_trainer_reset_optimizer(struct dml_trainer *t)
{
    dml_optim_reset(t->optim);
}

/* Gradient of this thread's slice of the minibatch order[0..n). */
static void learn(struct dml_trainer *t, struct worker *w, unsigned i_thread, const uint32_t *order,
                  size_t n, uint64_t step)
{
    const struct dml_model *m = t->m;
    struct dml_batch_augment augment = {.kind = t->augment,
                                        .padding = t->crop_padding,
                                        .seed = t->train.seed,
                                        .rank = t->rank,
                                        .step = step};
    struct dml_model_training training = {.seed = t->train.seed, .rank = t->rank, .step = step};
    size_t share = (n + t->n_threads - 1) / t->n_threads;
    size_t at = i_thread * share, end = at + share < n ? at + share : n;
    float *state = t->vec + dml_model_n_params(m);
    w->loss = 0.0;
    w->correct = 0;
    if (t->board) {
        training.meeting = &w->meeting;
        at = at < n ? at : n; /* a thread without samples meets the others all the same */
        end = at < end ? end : at;
    }
    while (at < end || training.meeting) {
        size_t b = end - at < t->chunk ? end - at : t->chunk, correct;
        double loss;
        dml_batch_fill(t->ds, order + at, b, at, t->augment == DML_AUGMENT_NONE ? NULL : &augment,
                       w->x, t->ds->labels ? w->labels : NULL, t->ds->labels ? NULL : w->targets);
        training.first = at;
        dml_model_forward(m, t->vec, state, w->x, b, &training, w->workspace, w->y);
        dml_model_loss_grad(m, w->x, w->y, w->labels, w->targets, b, (double)n, &loss, &correct, w->dy);
        dml_model_backward(m, t->vec, w->x, w->dy, b, &training, w->workspace, w->grad, NULL);
        w->loss += loss;
        w->correct += correct;
        at += b;
        if (training.meeting) /* one slice, one chunk */
            break;
    }
}

/* Sums the gradients of this thread's part of the block, applies them, clears them. */
static void update(struct dml_trainer *t, unsigned i_thread)
{
    size_t n = dml_model_n_params(t->m);
    size_t share = dml_kernel_round((n + t->n_threads - 1) / t->n_threads);
    size_t at = i_thread * share, end = at + share < n ? at + share : n;
    while (at < end) {
        size_t len = end - at < REDUCE_FLOATS ? end - at : REDUCE_FLOATS;
        float *sum = t->workers[0].grad + at;
        for (unsigned i = 1; i < t->n_threads; i++) {
            dml_vec_axpy(sum, 1.0f, t->workers[i].grad + at, len);
            memset(t->workers[i].grad + at, 0, len * sizeof(float));
        }
        dml_optim_apply(t->optim, t->vec, sum, at, len);
        memset(sum, 0, len * sizeof(float));
        at += len;
    }
}

/* Pays what is owed, in pieces short enough to notice a cancelled run. */
static void sleep_off(struct fit *f)
{
    struct dml_trainer *t = f->t;
    while (t->debt_us >= SLEEP_MIN_US && !(f->cancel && atomic_load(f->cancel))) {
        uint64_t piece = t->debt_us < 100000.0 ? (uint64_t)t->debt_us : 100000;
        uint64_t began = dml_clock_now_us();
        dml_clock_sleep_us(piece);
        uint64_t slept = dml_clock_now_us() - began;
        f->result.slept_us += slept;
        t->debt_us -= (double)slept; /* below zero after a long sleep: credit */
    }
}

/* Thread 0, while the others wait: adds up the step, sleeps, decides whether to go on. */
static void account(struct fit *f, size_t n, uint64_t began_us, uint64_t began_cpu_us)
{
    struct dml_trainer *t = f->t;
    for (unsigned i = 0; i < t->n_threads; i++) {
        f->loss += t->workers[i].loss;
        f->correct += t->workers[i].correct;
    }
    f->result.n_samples += n;
    f->result.n_steps++;
    if (t->duty < 1.0) {
        double wall = (double)(dml_clock_now_us() - began_us);
        double cpu = (double)(dml_clock_thread_us() - began_cpu_us);
        t->debt_us = fmax(t->debt_us + cpu / t->duty - wall, -CREDIT_MAX_US);
        sleep_off(f);
    }
    f->stop = f->cancel && atomic_load(f->cancel);
}

static void run(void *arg, unsigned i_thread)
{
    struct fit *f = arg;
    struct dml_trainer *t = f->t;
    size_t n_samples = t->ds->n_samples, n_steps = (n_samples + t->batch - 1) / t->batch;
    for (uint64_t epoch = f->first_epoch; epoch < f->first_epoch + f->n_epochs; epoch++) {
        if (i_thread == 0)
            dml_batch_order(t->order, n_samples, t->train.seed, t->rank, epoch);
        dml_team_barrier(t->team);
        for (size_t i = 0; i < n_steps; i++) {
            bool clocked = i_thread == 0 && t->duty < 1.0;
            uint64_t began = clocked ? dml_clock_now_us() : 0;
            uint64_t began_cpu = clocked ? dml_clock_thread_us() : 0;
            size_t at = i * t->batch, n = n_samples - at < t->batch ? n_samples - at : t->batch;
            learn(t, &t->workers[i_thread], i_thread, t->order + at, n, epoch * n_steps + i);
            if (i_thread == 0)
                dml_optim_begin(
                    t->optim, dml_optim_rate(&t->train, (double)epoch + (double)i / (double)n_steps,
                                             (double)f->total_epochs));
            dml_team_barrier(t->team);
            update(t, i_thread);
            if (i_thread == 0)
                account(f, n, began, began_cpu);
            dml_team_barrier(t->team);
            if (f->stop)
                return;
        }
    }
}

int dml_trainer_fit(struct dml_trainer *t, uint64_t first_epoch, uint64_t n_epochs,
                    uint64_t total_epochs, const atomic_bool *cancel,
                    struct dml_trainer_result *ret)
{
    uint64_t began = dml_clock_now_us();
    struct fit f = {
        .t = t,
        .first_epoch = first_epoch,
        .n_epochs = n_epochs,
        .total_epochs = total_epochs,
        .cancel = cancel,
    };
    for (unsigned i = 0; i < t->n_threads; i++) /* a cancelled step may have left something */
        memset(t->workers[i].grad, 0, dml_model_n_params(t->m) * sizeof(float));
    dml_team_run(t->team, t->n_threads, run, &f);
    if (f.stop)
        return -ECANCELED;
    if (f.result.n_samples) {
        f.result.loss = f.loss / (double)f.result.n_samples;
        f.result.accuracy = (double)f.correct / (double)f.result.n_samples;
    }
    f.result.work_us = dml_clock_now_us() - began;
    *ret = f.result;
    return 0;
}

uint64_t dml_trainer_memory(const struct dml_model *m, const struct dml_train_options *train,
                            unsigned n_threads)
{
    struct division d = divide(m, train->batch_size, n_threads);
    uint64_t params = dml_model_n_params(m), d_in = dml_model_n_inputs(m),
             n_out = dml_model_n_outputs(m);
    uint64_t thread =
        dml_model_workspace(m, d.chunk, true) + params + d.chunk * (d_in + 2 * n_out + 2);
    uint64_t moments = train->optimizer != DML_OPTIM_SGD ? 2 : train->momentum > 0.0 ? 1 : 0;
    uint64_t floats = d.n_threads * thread + dml_model_n_vec(m) + moments * params;
    return floats * sizeof(float) + (uint64_t)d.n_threads * STACK_BYTES;
}
