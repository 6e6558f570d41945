/*
 * The trainer: it is the plain loop it claims to be, repeats bit for bit, splits without changing
 * what is learned, keeps its duty cycle, stops when told, and predicts its memory.
 */
#include "nn/trainer.h"

#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "data/batch.h"
#include "tests/tap.h"

static const char text[] = "name t\ninput 1 12 12\nconv 8 kernel 5\nrelu\nmax-pool 2\n"
                           "linear 32\nrelu\nlinear 3\n";
enum { N = 203, D = 144 };

/* Three classes, told apart by a stripe; noise from a formula. */
static struct dml_dataset *stripes(void)
{
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, N, 1, 12, 12, 3);
    float *x = ds->x;
    for (size_t i = 0; i < N; i++) {
        ds->labels[i] = (int32_t)(i % 3);
        for (size_t j = 0; j < D; j++)
            x[i * D + j] =
                0.5f * sinf((float)(i * D + j) * 1.7f) + (j / 12 / 4 == i % 3 ? 0.5f : 0.0f);
    }
    return ds;
}

static struct dml_train_options options(void)
{
    struct dml_train_options o = {0};
    (void)dml_opt_defaults(dml_train_opts, &o);
    return o;
}

struct outcome {
    float *vec;
    struct dml_trainer_result result;
};

static struct outcome train(const struct dml_model *m, const struct dml_dataset *ds,
                            const struct dml_train_options *o, unsigned n_threads,
                            uint64_t n_epochs, const struct dml_data_options *data)
{
    struct outcome out = {.vec = dml_mem_floats(dml_model_n_vec(m))};
    const struct dml_trainer_cpu cpu = {.n_threads = n_threads, .duty = 1.0};
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct dml_err err = {0};
    if (!tap_ok(dml_trainer_new(m, ds, o, data, 2, &cpu, &t, &err) == 0, "trainer, %u threads",
                n_threads))
        return out;
    dml_model_init(m, dml_trainer_vec(t), o->seed);
    tap_int(dml_trainer_fit(t, 0, n_epochs, n_epochs, NULL, &out.result), 0, "fit");
    memcpy(out.vec, dml_trainer_vec(t), dml_model_n_vec(m) * sizeof(float));
    return out;
}

static double distance(const float *a, const float *b, size_t n)
{
    double off = 0.0;
    for (size_t i = 0; i < n; i++)
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    return off;
}

/* The same training written down as plainly as it is defined. */
static void test_plain_loop(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    o.batch_size = 32; /* 203 = 6·32 + 11: the last minibatch is a short one */
    o.learning_rate = 0.05;
    o.weight_decay = 1e-3;
    o.schedule = DML_SCHEDULE_COSINE;
    struct outcome got = train(m, ds, &o, 1, 3, NULL);

    size_t n = dml_model_n_params(m);
    float *vec = dml_mem_floats(n), *grad = dml_mem_floats(n), *x = dml_mem_floats(32 * D);
    float *space = dml_mem_floats(dml_model_workspace(m, 32, true)), y[96], dy[96];
    int32_t labels[32];
    uint32_t order[N];
    struct dml_optim *optim = dml_optim_new(&o, n);
    double loss = 0.0;
    size_t correct = 0;
    dml_model_init(m, vec, o.seed);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        dml_batch_order(order, N, o.seed, 2, epoch);
        for (size_t at = 0, step = 0; at < N; at += 32, step++) {
            const struct dml_model_training training = {.seed = o.seed, .rank = 2};
            size_t b = N - at < 32 ? N - at : 32, c;
            double l;
            dml_batch_fill(ds, order + at, b, 0, NULL, x, labels, NULL);
            dml_model_forward(m, vec, NULL, x, b, &training, space, y);
            dml_model_loss_grad(m, x, y, labels, NULL, b, (double)b, &l, &c, dy);
            memset(grad, 0, n * sizeof(float));
            dml_model_backward(m, vec, x, dy, b, &training, space, grad, NULL);
            dml_optim_step(optim, dml_optim_rate(&o, (double)epoch + (double)step / 7.0, 3.0), vec,
                           grad);
            loss += l;
            correct += c;
        }
    }
    /* Sums are ordered differently where the trainer works in chunks: rounding, nothing more. */
    double off = distance(vec, got.vec, n);
    tap_ok(off < 1e-5, "the plain loop learns the same, max difference %.1e", off);
    tap_near(got.result.loss, loss / (3.0 * N), 1e-5, "its mean loss");
    tap_near(got.result.accuracy, (double)correct / (3.0 * N), 1e-9, "its accuracy");
    tap_int((long long)got.result.n_samples, 3 * N, "samples, the last minibatch included");
    tap_int((long long)got.result.n_steps, 21, "steps");
    dml_optim_free(optim);
    free(vec);
    free(grad);
    free(x);
    free(space);
    free(got.vec);
}

static void test_same_bits(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    struct dml_data_options data = {.augment = DML_AUGMENT_FLIP_CROP, .crop_padding = 2};
    size_t n = dml_model_n_vec(m);
    o.batch_size = 100; /* enough work for three threads, and a last minibatch of 3 */
    o.optimizer = DML_OPTIM_ADAM;
    o.learning_rate = 1e-3;
    struct outcome first[3];
    for (unsigned i = 0; i < 3; i++) {
        first[i] = train(m, ds, &o, i + 1, 2, &data);
        struct outcome again = train(m, ds, &o, i + 1, 2, &data);
        tap_ok(memcmp(first[i].vec, again.vec, n * sizeof(float)) == 0,
               "%u threads, run twice: the same bits", i + 1);
        tap_ok(first[i].result.loss == again.result.loss, "and the same loss");
        free(again.vec);
    }
    for (unsigned i = 1; i < 3; i++) {
        /* Adam moves a parameter whose gradient is pure rounding by up to a step of 1e-3; on
         * average the difference is far below a tenth of one. */
        double sum = 0.0;
        for (size_t j = 0; j < n; j++)
            sum += fabs((double)first[i].vec[j] - (double)first[0].vec[j]);
        tap_ok(sum / (double)n < 1e-5, "%u threads learn what 1 does, mean difference %.1e", i + 1,
               sum / (double)n);
        free(first[i].vec);
    }
    o.seed = 2;
    struct outcome other = train(m, ds, &o, 1, 2, &data);
    tap_ok(memcmp(first[0].vec, other.vec, n * sizeof(float)) != 0, "another seed, other bits");
    free(other.vec);
    free(first[0].vec);
}

/*
 * batch-norm's statistics are those of the whole minibatch on any number of threads: so close that
 * ten steps of SGD stay within rounding. 203 = 2·101 + 1: in the last minibatch of an epoch two of
 * three threads have no sample. Statistics of a third of the minibatch would be off by 1e-2.
 */
static void test_batch_norm(const struct dml_dataset *ds)
{
    char lines[512];
    struct dml_model *m = NULL;
    snprintf(lines, sizeof(lines),
             "name b\ninput %u %u %u\nconv 16 kernel 3 padding 1 bias no\nbatch-norm\nrelu6\n"
             "conv 16 kernel 3 padding 1 groups 16 bias no\nbatch-norm\nrelu6\n"
             "conv 16 kernel 1 bias no\nbatch-norm\n"
             "residual\nconv 32 kernel 1 bias no\nbatch-norm\nconv 16 kernel 3 padding 1\nend\n"
             "batch-norm\nglobal-avg-pool\nlinear 3\n",
             ds->channels, ds->height, ds->width);
    if (!tap_int(dml_model_parse(lines, strlen(lines), "b", &m, NULL), 0, "a model with batch-norm"))
        return;
    struct dml_train_options o = options();
    o.batch_size = 101;
    o.learning_rate = 0.05;
    size_t n = dml_model_n_vec(m);
    struct outcome one = train(m, ds, &o, 1, 3, NULL);
    for (unsigned i = 2; i < 4; i++) {
        struct outcome more = train(m, ds, &o, i, 3, NULL), again = train(m, ds, &o, i, 3, NULL);
        double off = distance(one.vec, more.vec, n);
        tap_ok(off < 1e-4, "%u threads learn what 1 does, max difference %.1e", i, off);
        tap_near(more.result.loss, one.result.loss, 1e-5, "its loss");
        tap_ok(memcmp(more.vec, again.vec, n * sizeof(float)) == 0, "run twice: the same bits");
        free(more.vec);
        free(again.vec);
    }
    const float *state = one.vec + dml_model_n_params(m);
    tap_ok(state[0] != 0.0f && state[16] != 1.0f, "running statistics moved: %g, %g",
           (double)state[0], (double)state[16]);
    struct dml_eval_result r;
    tap_int(dml_trainer_evaluate(m, one.vec, ds, 2, NULL, &r), 0, "evaluate");
    tap_ok(isfinite(r.loss), "with them, loss %.3f", r.loss);
    free(one.vec);
    dml_model_free(m);
}

/* Rounds of one epoch, with momentum kept, are one run of as many epochs. */
static void test_rounds(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    struct outcome whole = train(m, ds, &o, 1, 3, NULL);
    const struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 1.0};
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct dml_trainer_result r;
    size_t n = dml_model_n_vec(m);
    tap_int(dml_trainer_new(m, ds, &o, NULL, 2, &cpu, &t, NULL), 0, "a trainer");
    dml_model_init(m, dml_trainer_vec(t), o.seed);
    for (uint64_t e = 0; e < 3; e++)
        (void)dml_trainer_fit(t, e, 1, 3, NULL, &r);
    tap_ok(memcmp(dml_trainer_vec(t), whole.vec, n * sizeof(float)) == 0,
           "three calls of one epoch are one call of three");
    dml_model_init(m, dml_trainer_vec(t), o.seed);
    dml_trainer_reset_optimizer(t);
    (void)dml_trainer_fit(t, 0, 3, 3, NULL, &r);
    tap_ok(memcmp(dml_trainer_vec(t), whole.vec, n * sizeof(float)) == 0,
           "after a reset nothing is left of what was before");
    free(whole.vec);
}

static void test_learns(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    o.learning_rate = 0.05;
    struct outcome out = train(m, ds, &o, 2, 10, NULL);
    struct dml_eval_result one, three;
    tap_int(dml_trainer_evaluate(m, out.vec, ds, 1, NULL, &one), 0, "evaluate");
    tap_int(dml_trainer_evaluate(m, out.vec, ds, 3, NULL, &three), 0, "evaluate on 3 threads");
    tap_ok(one.accuracy > 0.98, "three stripes are told apart: %.3f", one.accuracy);
    tap_ok(one.loss == three.loss && one.accuracy == three.accuracy,
           "the figures do not depend on the number of threads");
    tap_int((long long)one.n_samples, N, "samples");
    free(out.vec);
}

static void test_regression(void)
{
    struct dml_model *m = NULL;
    static const char line[] = "name r\ninput 2\nlinear 1\nloss mse\n";
    tap_int(dml_model_parse(line, sizeof(line) - 1, "r", &m, NULL), 0, "a line");
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, 64, 2, 1, 1, 0);
    float *x = ds->x;
    for (size_t i = 0; i < 64; i++) {
        x[2 * i] = (float)(i % 8) / 4.0f - 1.0f;
        x[2 * i + 1] = (float)(i / 8) / 4.0f - 1.0f;
        ds->targets[i] = 3.0f * x[2 * i] - 2.0f * x[2 * i + 1] + 1.0f;
    }
    struct dml_train_options o = options();
    o.learning_rate = 0.05;
    struct outcome out = train(m, ds, &o, 1, 100, NULL);
    /* Without noise least squares converges to the line itself, as near as float32 can say. */
    tap_near((double)out.vec[0], 3.0, 1e-4, "first slope");
    tap_near((double)out.vec[1], -2.0, 1e-4, "second slope");
    tap_near((double)out.vec[2], 1.0, 1e-4, "offset");
    struct dml_eval_result e;
    tap_int(dml_trainer_evaluate(m, out.vec, ds, 1, NULL, &e), 0, "evaluate");
    tap_near(e.loss, 0.0, 1e-8, "mean squared error");
    free(out.vec);
    dml_dataset_free(ds);
    dml_model_free(m);
}

static void test_duty(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    const struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 0.25};
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct dml_trainer_result r;
    o.batch_size = 8;
    tap_int(dml_trainer_new(m, ds, &o, NULL, 0, &cpu, &t, NULL), 0, "a trainer with duty 0.25");
    dml_model_init(m, dml_trainer_vec(t), o.seed);
    double work_us = 0.0, slept_us = 0.0;
    unsigned n_calls = 0;
    clock_t began = clock();
    while (work_us < 1e6 && dml_trainer_fit(t, 60 * n_calls, 60, 1000000, NULL, &r) == 0) {
        work_us += (double)r.work_us;
        slept_us += (double)r.slept_us;
        n_calls++;
    }
    double cpu_us = (double)(clock() - began) * 1e6 / CLOCKS_PER_SEC;
    /* In proportion to the CPU time that was used, whatever else the machine does meanwhile. Less
     * than a shortest sleep stays unpaid, and what a call does around its steps is not counted: a
     * tenth is generous. Too long is only a sleep that nothing was owed for; the last one may end
     * late on a busy machine. */
    tap_note("%.3f s of CPU time in %u calls of together %.3f s, of which slept %.3f s",
             cpu_us * 1e-6, n_calls, work_us * 1e-6, slept_us * 1e-6);
    tap_ok(work_us >= 0.9 * 4.0 * cpu_us - 5000.0, "it used no more than its quarter");
    tap_ok(slept_us <= 1.1 * 3.0 * cpu_us + 100000.0, "it slept no longer than it had to");
}

static void *cancel_soon(void *arg)
{
    dml_clock_sleep_us(20000);
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

static void test_cancel(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    const struct dml_trainer_cpu cpu = {.n_threads = 2, .duty = 0.01};
    struct dml_trainer *t = NULL;
    struct dml_trainer_result r = {.n_steps = 77};
    atomic_bool cancel = true;
    tap_int(dml_trainer_new(m, ds, &o, NULL, 0, &cpu, &t, NULL), 0, "a trainer");
    dml_model_init(m, dml_trainer_vec(t), 1);
    tap_int(dml_trainer_fit(t, 0, 1000000, 1000000, &cancel, &r), -ECANCELED, "cancelled at once");
    atomic_store(&cancel, false);
    pthread_t other;
    pthread_create(&other, NULL, cancel_soon, &cancel);
    tap_int(dml_trainer_fit(t, 0, 1000000, 1000000, &cancel, &r), -ECANCELED,
            "cancelled while asleep or at work");
    pthread_join(other, NULL);
    tap_int((long long)r.n_steps, 77, "the result is untouched");
    struct dml_eval_result e;
    tap_int(dml_trainer_evaluate(m, dml_trainer_vec(t), ds, 2, &cancel, &e), -ECANCELED,
            "evaluation too");
    dml_trainer_free(t);
}

static void test_refusals(const struct dml_model *m)
{
    struct dml_train_options o = options();
    const struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 1.0};
    struct dml_trainer *t = NULL;
    struct dml_eval_result e;
    struct dml_err err = {0};
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, 4, 1, 12, 11, 3);
    tap_int(dml_trainer_new(m, ds, &o, NULL, 0, &cpu, &t, &err), -EINVAL, "another shape");
    tap_has(err.text, "1×12×12", "is told");
    tap_int(dml_trainer_evaluate(m, NULL, ds, 1, NULL, &e), -EINVAL, "and not evaluated");
    dml_dataset_free(ds);
    struct dml_dataset none = {.channels = 1, .height = 12, .width = 12, .n_classes = 3};
    tap_int(dml_trainer_new(m, &none, &o, NULL, 0, &cpu, &t, &err), -EINVAL, "no samples");
    tap_has(err.text, "no samples", "is told");
}

/* Compared with what malloc really hands out, stacks apart. */
static void test_memory(const struct dml_model *m, const struct dml_dataset *ds)
{
    struct dml_train_options o = options();
    o.optimizer = DML_OPTIM_ADAM;
    o.batch_size = 128;
    for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
        const struct dml_trainer_cpu cpu = {.n_threads = n_threads, .duty = 1.0};
        struct dml_trainer *t = NULL;
        struct mallinfo2 before = mallinfo2();
        tap_int(dml_trainer_new(m, ds, &o, NULL, 0, &cpu, &t, NULL), 0, "a trainer");
        struct mallinfo2 after = mallinfo2();
        double took = (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd);
        double said = (double)dml_trainer_memory(m, &o, n_threads);
        if (took == 0.0)
            tap_skip("this malloc, a sanitizer's, does not count");
        else
            tap_ok(took <= said && said < took + 600e3 * n_threads,
                   "%u threads: said %.0f bytes, took %.0f and its stacks", n_threads, said, took);
        dml_trainer_free(t);
    }
    struct dml_train_options sgd = o;
    sgd.optimizer = DML_OPTIM_SGD;
    sgd.momentum = 0.0;
    tap_int((long long)(dml_trainer_memory(m, &o, 1) - dml_trainer_memory(m, &sgd, 1)),
            (long long)(2 * 4 * dml_model_n_params(m)), "Adam has two moments more than plain SGD");
}

/* What judging one sample may take. */
static void test_eval_block(void)
{
    static const struct {
        const char *text;
        size_t least, most;
    } cases[] = {
        {"name t\ninput 9\nlinear 2\n", 256, 256},
        {"name t\ninput 3 1024 1024\nglobal-avg-pool\nlinear 2\n", 1, 1},
        {"name t\ninput 1 8192 8192\ntanh\nlinear 2\n", 0, 0}, /* 256 MiB in, 256 out, and x */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = NULL;
        uint64_t bytes = 0;
        if (!tap_int(dml_model_parse(cases[i].text, strlen(cases[i].text), "t", &m, NULL), 0,
                     "a model"))
            continue;
        size_t block = dml_trainer_eval_block(m, &bytes);
        tap_ok(block >= cases[i].least && block <= cases[i].most,
               "%zu samples at a time, wanted %zu to %zu; one needs %llu bytes", block,
               cases[i].least, cases[i].most, (unsigned long long)bytes);
        tap_ok((block == 0) == (bytes > DML_TRAINER_EVAL_MAX), "none when one is too much");
    }
}

int main(void)
{
    struct dml_model *m = NULL;
    struct dml_dataset *ds = stripes();
    if (!tap_ok(dml_model_parse(text, sizeof(text) - 1, "t", &m, NULL) == 0, "a model"))
        return tap_done();
    test_plain_loop(m, ds);
    test_same_bits(m, ds);
    test_batch_norm(ds);
    test_rounds(m, ds);
    test_learns(m, ds);
    test_regression();
    test_duty(m, ds);
    test_cancel(m, ds);
    test_refusals(m);
    test_memory(m, ds);
    tap_ok(dml_trainer_calibrate_gflops() > 0.0, "a speed");
    dml_dataset_free(ds);
    dml_model_free(m);
    test_eval_block();
    return tap_done();
}
