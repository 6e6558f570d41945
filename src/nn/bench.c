/*
 * Measuring.
 *
 * The time is cut into windows, each a few passes over the data. On a machine with other work the
 * median says what one gets and the best what the code can do; CPU time per sample is hardly
 * touched by others at all.
 *
 * FLOP are the textbook's: two per multiply-add, forward once and backward twice, without the
 * gradient of the input data. A way of computing that needs fewer gets no discount, so a share of
 * peak compares what was asked for, not what was executed, and may in principle pass 1.
 *
 * Layers one by one: a copy of the model, whose layers point to tables of their own
 * that look at the thread's CPU clock and call the real ones.
 */
#include "nn/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/stat.h"
#include "nn/gemm.h"
#include "nn/kernel.h"
#include "nn/model.h"
#include "nn/model_cut.h"
#include "nn/model_priv.h"
#include "nn/team.h"
#include "nn/trainer.h"
#include "nn/vec.h"

#define WINDOWS        9
#define DATA_FLOATS    (2u << 20) /* 8 MB, but a few batches at least … */
#define DATA_MACS      2e9        /* … and not more work than this in a pass over them */
#define SGEMM_N        512
#define SGEMM_ROUNDS   20
#define STREAM_FLOATS  (16u << 20) /* 64 MB: more than any cache near */
#define STREAM_ROUNDS  5
#define STREAM_VECTORS 3 /* y is read and written, x is read */

/* ---- data --------------------------------------------------------------------------------- */

static size_t n_data(const struct dml_model *m, size_t batch)
{
    double most = fmin(DATA_FLOATS / (double)dml_model_n_inputs(m),
                       DATA_MACS / (3.0 * (double)dml_model_macs(m) + 1.0));
    size_t n_batches = (size_t)(most / (double)batch);
    return batch * (n_batches < 2 ? 2 : n_batches);
}

static int check_data(const struct dml_model *m, size_t batch, struct dml_err *err)
{
    size_t n_classes = dml_model_loss(m) == DML_LOSS_MSE ? 0 : dml_model_n_classes(m);
    if (n_classes > DML_DATASET_CLASSES_MAX)
        return dml_err_set(err, -EINVAL,
                           "%s tells %zu classes apart: data can have at most %d, so it cannot be "
                           "measured",
                           dml_model_name(m), n_classes, DML_DATASET_CLASSES_MAX);
    uint64_t most = DML_DATASET_BYTES_MAX / sizeof(float) / dml_model_n_inputs(m);
    if (n_data(m, batch) > most)
        return dml_err_set(
            err, -EINVAL,
            "two minibatches of %zu samples are more data than the %llu GiB allowed: "
            "at most %llu samples of %s are possible",
            batch, (unsigned long long)(DML_DATASET_BYTES_MAX >> 30),
            (unsigned long long)(most / 2), dml_model_name(m));
    return 0;
}

static struct dml_dataset *noise(const struct dml_model *m, size_t batch)
{
    uint32_t c, h, w;
    bool classes = dml_model_loss(m) != DML_LOSS_MSE;
    size_t n_classes = classes ? dml_model_n_classes(m) : 0, n = n_data(m, batch);
    dml_model_input_shape(m, &c, &h, &w);
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, n, c, h, w, (uint32_t)n_classes);
    struct dml_rng rng;
    dml_rng_init(&rng, 1, 0, DML_RNG_TEST, 0);
    if (!ds)
        return NULL;
    bool codes = dml_model_loss(m) == DML_LOSS_NEXT_TOKEN;
    for (size_t i = 0; i < n * dml_dataset_d(ds); i++)
        ((float *)ds->x)[i] =
            codes ? (float)dml_rng_below(&rng, n_classes) : (float)dml_rng_normal(&rng);
    for (size_t i = 0; i < n; i++) {
        if (classes)
            ds->labels[i] = (int32_t)dml_rng_below(&rng, n_classes);
        else
            ds->targets[i] = (float)dml_rng_normal(&rng);
    }
    return ds;
}

/* ---- inference ---------------------------------------------------------------------------- */

struct forward {
    const struct dml_model *m;
    const struct dml_dataset *ds;
    const float *vec;
    size_t batch, share; /* of a batch, for one thread */
    float **workspaces, **outputs;
    struct dml_team *team;
};

/* One pass over the data; the threads meet after each batch, as somebody who waits for it would. */
static void infer(void *arg, unsigned i_thread)
{
    const struct forward *f = arg;
    size_t d = dml_dataset_d(f->ds);
    for (size_t at = 0; at < f->ds->n_samples; at += f->batch) {
        size_t first = i_thread * f->share;
        size_t n = first < f->batch ? f->batch - first : 0;
        n = n < f->share ? n : f->share;
        if (n)
            dml_model_forward(f->m, f->vec, NULL, (const float *)f->ds->x + (at + first) * d, n,
                              NULL, f->workspaces[i_thread], f->outputs[i_thread]);
        dml_team_barrier(f->team);
    }
}

static void forward_done(struct forward *f, unsigned n_threads)
{
    dml_team_free(f->team);
    for (unsigned i = 0; i < n_threads; i++) {
        if (f->workspaces)
            free(f->workspaces[i]);
        if (f->outputs)
            free(f->outputs[i]);
    }
    free(f->workspaces);
    free(f->outputs);
}

static int forward_init(struct forward *f, unsigned n_threads)
{
    f->share = (f->batch + n_threads - 1) / n_threads;
    f->workspaces = calloc(n_threads, sizeof(*f->workspaces));
    f->outputs = calloc(n_threads, sizeof(*f->outputs));
    for (unsigned i = 0; f->workspaces && f->outputs && i < n_threads; i++) {
        f->workspaces[i] = dml_mem_floats(dml_model_workspace(f->m, f->share, false));
        f->outputs[i] = dml_mem_floats(f->share * dml_model_n_outputs(f->m));
        if (!f->workspaces[i] || !f->outputs[i])
            return -ENOMEM;
    }
    return f->workspaces && f->outputs ? dml_team_new(n_threads, NULL, &f->team) : -ENOMEM;
}

/* ---- windows ------------------------------------------------------------------------------ */

/* What is measured: one of the two. */
struct subject {
    struct dml_trainer *trainer;
    struct forward *forward;
    unsigned n_threads;
    const atomic_bool *cancel;
};

static int pass(const struct subject *s)
{
    struct dml_trainer_result r;
    if (s->trainer)
        return dml_trainer_fit(s->trainer, 0, 1, 1, s->cancel, &r);
    dml_team_run(s->forward->team, s->n_threads, infer, s->forward);
    return s->cancel && atomic_load(s->cancel) ? -ECANCELED : 0;
}

static double cpu_us(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int windows(const struct subject *s, size_t n_samples, double seconds,
                   struct dml_bench_result *io)
{
    double rates[WINDOWS];
    int r = pass(s); /* caches, pages, the processor's clock */
    io->cpu_us_per_sample = INFINITY;
    for (unsigned i = 0; r >= 0 && i < WINDOWS; i++) {
        uint64_t began = dml_clock_now_us(), now = began, n = 0;
        double began_cpu = cpu_us();
        while (r >= 0 && ((double)(now - began) < seconds * 1e6 / WINDOWS || n == 0)) {
            r = pass(s);
            n += n_samples;
            now = dml_clock_now_us();
        }
        rates[i] = 1e6 * (double)n / (double)(now - began + 1);
        io->n_samples += n;
        io->best_samples_per_s = fmax(io->best_samples_per_s, rates[i]);
        io->cpu_us_per_sample = fmin(io->cpu_us_per_sample, (cpu_us() - began_cpu) / (double)n);
    }
    if (r >= 0)
        io->samples_per_s = dml_stat_median(rates, WINDOWS);
    return r;
}

/* ---- layers ------------------------------------------------------------------------------- */

struct probe {
    struct dml_layer_type type; /* first: what the layer points to */
    const struct dml_layer_type *real;
    double forward_us, backward_us;
};

static double thread_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static struct probe *probe_of(const struct dml_layer *l)
{
    return (struct probe *)(uintptr_t)l->type;
}

/* What the family's functions must see: some ask what family it is. */
static struct dml_layer real_layer(const struct dml_layer *l)
{
    struct dml_layer real = *l;
    real.type = probe_of(l)->real;
    return real;
}

static void probe_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct dml_layer real = real_layer(l);
    double began = thread_us();
    real.type->forward(&real, p);
    probe_of(l)->forward_us += thread_us() - began;
}

static void probe_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct dml_layer real = real_layer(l);
    double began = thread_us();
    real.type->backward(&real, p);
    probe_of(l)->backward_us += thread_us() - began;
}

static void wire(struct dml_model *m, struct probe *probes)
{
    for (size_t i = 0; i < m->n_steps; i++) {
        struct probe *p = &probes[i];
        p->real = m->steps[i].type;
        p->type = *p->real;
        p->type.forward = probe_forward;
        p->type.backward = probe_backward;
        m->steps[i].type = &p->type;
    }
}

static void clear(struct probe *probes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        probes[i].forward_us = probes[i].backward_us = 0.0;
}

static double layer_mflop(const struct dml_model *m, size_t i, bool training)
{
    const struct dml_layer *l = &m->steps[i];
    bool first = l->from < 0 || !m->steps[l->from].learns; /* nobody wants its dX */
    return 2e-6 * (double)l->macs * (training ? first ? 2.0 : 3.0 : 1.0);
}

static int tell(const struct dml_model *m, const struct probe *probes, double n_samples,
                bool training, struct dml_bench_result *io)
{
    io->layers = calloc(m->n_steps, sizeof(*io->layers));
    if (!io->layers)
        return -ENOMEM;
    io->n_layers = m->n_steps;
    for (size_t i = 0; i < m->n_steps; i++) {
        struct dml_bench_layer *l = &io->layers[i];
        double us = probes[i].forward_us + probes[i].backward_us;
        l->words = strdup(m->steps[i].words);
        if (!l->words)
            return -ENOMEM;
        l->forward_us = probes[i].forward_us / n_samples;
        l->backward_us = probes[i].backward_us / n_samples;
        l->gflops = us > 0.0 ? 1e3 * layer_mflop(m, i, training) * n_samples / us : 0.0;
    }
    return 0;
}

/* ---- all of it ---------------------------------------------------------------------------- */

static int measure(const struct dml_model *m, const struct dml_dataset *ds,
                   const struct dml_bench_options *o, unsigned n_threads, struct probe *probes,
                   struct dml_bench_result *io, struct dml_err *err)
{
    struct dml_train_options train = {0};
    const struct dml_trainer_cpu cpu = {.n_threads = n_threads, .duty = 1.0};
    _cleanup_(dml_mem_freep) float *vec = dml_mem_floats(dml_model_n_vec(m));
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct forward f = {.m = m, .ds = ds, .vec = vec, .batch = (size_t)o->batch};
    int r = dml_opt_defaults(dml_train_opts, &train);
    if (r < 0 || !vec)
        return r < 0 ? r : -ENOMEM;
    train.batch_size = o->batch;
    train.optimizer = (int)o->optimizer;
    train.recompute = o->recompute ? DML_RECOMPUTE_BLOCKS : DML_RECOMPUTE_OFF;
    train.learning_rate = 1e-4; /* random labels: nothing to learn, nothing may diverge */
    struct subject s = {.n_threads = n_threads, .cancel = o->cancel};
    if (o->infer) {
        dml_model_init(m, vec, 1);
        r = forward_init(&f, n_threads);
        s.forward = &f;
    } else {
        r = dml_trainer_new(m, ds, &train, NULL, 0, &cpu, &t, err);
        if (r >= 0)
            dml_model_init(m, dml_trainer_vec(t), 1);
        s.trainer = t;
        io->memory_bytes = dml_trainer_memory(m, &train, n_threads);
    }
    if (r >= 0 && probes)
        r = pass(&s);
    if (probes)
        clear(probes, m->n_steps);
    if (r >= 0)
        r = windows(&s, ds->n_samples, o->seconds, io);
    forward_done(&f, n_threads);
    return r;
}

static int measure_layers(const struct dml_model *m, const struct dml_dataset *ds,
                          const struct dml_bench_options *o, struct dml_bench_result *io,
                          struct dml_err *err)
{
    struct dml_bench_result scrap = {0};
    struct dml_model_part part;
    int r = dml_model_part(m, 0, dml_model_n_cuts(m), &part);
    if (r < 0)
        return r;
    _cleanup_(dml_model_freep) struct dml_model *copy = part.model;
    _cleanup_(dml_mem_freep) struct probe *probes = calloc(copy->n_steps, sizeof(*probes));
    if (!probes)
        return -ENOMEM;
    wire(copy, probes);
    r = measure(copy, ds, o, 1, probes, &scrap, err);
    /* The pass that warms up inside windows() is counted by the probes too. */
    double n = (double)scrap.n_samples + (double)ds->n_samples;
    return r < 0 ? r : tell(copy, probes, n, !o->infer, io);
}

static double bandwidth(void)
{
    _cleanup_(dml_mem_freep) float *x = dml_mem_floats(STREAM_FLOATS);
    _cleanup_(dml_mem_freep) float *y = dml_mem_floats(STREAM_FLOATS);
    double best = 0.0;
    if (!x || !y)
        return NAN;
    for (unsigned i = 0; i < STREAM_ROUNDS; i++) {
        uint64_t began = dml_clock_now_us();
        dml_vec_axpy(y, 1.0f, x, STREAM_FLOATS);
        double us = (double)(dml_clock_now_us() - began + 1);
        best = fmax(best, 1e-3 * STREAM_VECTORS * sizeof(float) * STREAM_FLOATS / us);
    }
    return best;
}

/* By CPU time, as the share of it is: others on the machine take from both alike. */
static double sgemm_gflops(void)
{
    const size_t n = SGEMM_N;
    _cleanup_(dml_mem_freep) float *a = dml_mem_floats(n * n);
    _cleanup_(dml_mem_freep) float *b = dml_mem_floats(n * n);
    _cleanup_(dml_mem_freep) float *c = dml_mem_floats(n * n);
    double best = 0.0;
    if (!a || !b || !c)
        return NAN;
    for (size_t i = 0; i < n * n; i++)
        a[i] = b[i] = (float)(i % 17) - 8.0f;
    for (unsigned i = 0; i < SGEMM_ROUNDS; i++) {
        double began = thread_us();
        dml_gemm(false, false, n, n, n, a, n, b, n, 0.0f, c, n);
        best = fmax(best, 2e-3 * (double)(n * n * n) / (thread_us() - began));
    }
    return best;
}

/* So that the peak is of this measurement: what earlier ones needed is forgotten. */
static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, "5", 1);
    (void)close(fd);
}

int dml_bench_run(const struct dml_model *m, const struct dml_bench_options *o,
                  struct dml_bench_result *ret, struct dml_err *err)
{
    struct dml_bench_result b = {.level = dml_kernel_get()->name};
    if (o->batch < 1 || o->batch > DML_MODEL_BATCH_MAX || o->n_threads < 1 || !(o->seconds > 0.0))
        return -EINVAL;
    int r = check_data(m, (size_t)o->batch, err);
    if (r < 0)
        return r;
    forget_peak();
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = noise(m, (size_t)o->batch);
    if (!ds)
        return -ENOMEM;
    r = measure(m, ds, o, o->n_threads, NULL, &b, err);
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    b.peak_rss_bytes = (uint64_t)u.ru_maxrss * 1024;
    if (r >= 0 && o->layers)
        r = measure_layers(m, ds, o, &b, err);
    if (r < 0) {
        dml_bench_done(&b);
        return r;
    }
    b.data_bytes = ds->n_samples * (dml_dataset_d(ds) + 1) * sizeof(float);
    for (size_t i = 0; i < m->n_steps; i++)
        b.mflop_per_sample += layer_mflop(m, i, !o->infer);
    b.gflops = 1e-3 * b.mflop_per_sample * b.samples_per_s;
    b.peak_gflops = o->n_threads * sgemm_gflops();
    b.share_of_peak = 1e3 * b.mflop_per_sample / b.cpu_us_per_sample * o->n_threads / b.peak_gflops;
    b.bandwidth_gbs = bandwidth();
    *ret = b;
    return 0;
}

void dml_bench_done(struct dml_bench_result *r)
{
    for (size_t i = 0; i < r->n_layers; i++)
        free(r->layers[i].words);
    free(r->layers);
    r->layers = NULL;
    r->n_layers = 0;
}
