/*
 * The stage while it learns: what is said to be final is final, the same orders give the same bits
 * on a busy machine, and the share of a core that it may use is kept.
 */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "nn/model_priv.h"
#include "tests/unit/stage_help.h"

/* ---- what is final ------------------------------------------------------------------------ */

/* A backward pass that looks at the gradient whenever something is said to be settled. */
struct witness {
    const struct dml_model *m;
    const float *grad;
    float *seen;
    size_t at;
    unsigned n_calls, n_wrong;
};

static void look(void *arg, size_t at)
{
    struct witness *w = arg;
    w->n_wrong += at >= w->at && w->at > 0;
    memcpy(w->seen + at, w->grad + at, (w->at - at) * sizeof(float));
    w->at = at;
    w->n_calls++;
}

static void test_settled(const struct dml_model *m, const struct data *d)
{
    size_t p = dml_model_n_params(m), correct, o = dml_model_n_outputs(m);
    float *grad = dml_mem_floats(p), *vec = dml_mem_floats(dml_model_n_vec(m)), *y, *dy, *space;
    struct witness w = {.m = m, .grad = grad, .seen = dml_mem_floats(p), .at = p};
    const struct dml_model_training training = {.settled = look, .settled_arg = &w};
    double loss;
    unsigned n_with_params = 0;
    for (size_t i = 0; i < m->n_steps; i++)
        n_with_params += dml_layer_n_params(&m->steps[i]) > 0;
    memcpy(vec, d->vec, dml_model_n_vec(m) * sizeof(float));
    y = dml_mem_floats(2 * o);
    dy = dml_mem_floats(2 * o);
    space = dml_mem_floats(dml_model_workspace(m, 2, true));
    dml_model_forward(m, vec, vec + p, d->x, 2, &training, space, y);
    tap_int(w.n_calls, 0, "forward settles nothing");
    dml_model_loss_grad(m, d->x, y, d->labels, d->targets, 2, 2.0, &loss, &correct, dy);
    dml_model_backward(m, vec, d->x, dy, 2, &training, space, grad, NULL);
    tap_int((long long)w.at, 0, "backward settles everything");
    tap_int(w.n_wrong, 0, "from the end to the beginning");
    tap_int(w.n_calls, n_with_params, "layer by layer");
    tap_ok(!memcmp(w.seen, grad, p * sizeof(float)), "and what is settled stays as it is");
    free(grad);
    free(vec);
    free(y);
    free(dy);
    free(space);
    free(w.seen);
}

/* Somebody takes the gradient in buckets while it is made, now and then slowly: gets the sum. */
static void test_buckets(const struct dml_model *m, const struct data *d, unsigned n_threads)
{
    struct dml_train_options train = options(DML_OPTIM_SGD);
    _cleanup_(dml_stage_freep) struct dml_stage *s = stage(m, &train, n_threads, N, 0);
    size_t p = dml_model_n_params(m), bucket = p / 5 + 1, wrong = 0, correct;
    float *seen = dml_mem_floats(p);
    double loss;
    memcpy(dml_stage_vec(s), d->vec, dml_model_n_vec(m) * sizeof(float));
    for (unsigned i = 0; i < 4; i++) {
        dml_stage_learn_begin(s, d->x, d->labels, d->targets, N, N,
                              (struct dml_stage_at){.rank = 2, .step = 5});
        for (size_t at = p; at > 0;) {
            size_t next = at > bucket ? at - bucket : 0;
            dml_stage_wait(s, next);
            memcpy(seen + next, dml_stage_grad(s) + next, (at - next) * sizeof(float));
            if (i % 2) { /* as an exchange would: it lies in what nobody adds to any more */
                memset(dml_stage_grad(s) + next, 0, (at - next) * sizeof(float));
                (void)usleep(3000);
            }
            at = next;
        }
        dml_stage_learn_end(s, &loss, &correct);
        if (i % 2)
            memcpy(dml_stage_grad(s), seen, p * sizeof(float));
        wrong += memcmp(seen, dml_stage_grad(s), p * sizeof(float)) != 0;
        dml_stage_wait(s, 0); /* nothing runs: returns */
        dml_stage_clear(s);
    }
    tap_int((long long)wrong, 0, "buckets taken while backward runs are the gradient");
    free(seen);
}

/* ---- the same bits ------------------------------------------------------------------------ */

static atomic_bool enough;

static void *burn(void *arg)
{
    (void)arg;
    while (!atomic_load(&enough))
        (void)dml_clock_now_us();
    return NULL;
}

static void test_load(const struct dml_model *m, const struct data *d)
{
    struct dml_train_options train = options(DML_OPTIM_SGD);
    size_t p = dml_model_n_params(m), correct, different = 0;
    float *first = dml_mem_floats(p), *y = dml_mem_floats(N * dml_model_n_outputs(m));
    float *dy = dml_mem_floats(N * dml_model_n_outputs(m));
    pthread_t threads[3];
    double loss, first_loss = 0.0;
    atomic_store(&enough, false);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        (void)pthread_create(&threads[i], NULL, burn, NULL);
    for (unsigned slots = 0; slots < 2; slots++) {
        struct dml_stage *s = stage(m, &train, 4, N, slots);
        for (unsigned i = 0; i < 6; i++) {
            const struct dml_stage_at at = {.rank = 2, .step = 5};
            memcpy(dml_stage_vec(s), d->vec, dml_model_n_vec(m) * sizeof(float));
            if (slots) {
                dml_stage_forward(s, 0, d->x, N, at, y);
                dml_stage_loss(s, d->x, y, d->labels, d->targets, N, N, dy, &loss, &correct);
                dml_stage_backward(s, 0, dy, NULL);
            } else {
                dml_stage_learn_begin(s, d->x, d->labels, d->targets, N, N, at);
                dml_stage_learn_end(s, &loss, &correct);
            }
            if (i == 0) {
                memcpy(first, dml_stage_grad(s), p * sizeof(float));
                first_loss = loss;
            }
            different += loss < first_loss || loss > first_loss ||
                         memcmp(first, dml_stage_grad(s), p * sizeof(float)) != 0;
            dml_stage_clear(s);
        }
        dml_stage_free(s);
    }
    atomic_store(&enough, true);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        (void)pthread_join(threads[i], NULL);
    tap_int((long long)different, 0, "4 threads on a busy machine: the same bits every time");
    free(first);
    free(y);
    free(dy);
}

/* ---- a share of a core --------------------------------------------------------------------- */

static void some_steps(struct dml_stage *s, const struct data *d, uint64_t from, uint64_t to)
{
    double loss;
    size_t correct;
    for (uint64_t i = from; i < to; i++) {
        dml_stage_learn_begin(s, d->x, d->labels, d->targets, N, N,
                              (struct dml_stage_at){.rank = 1, .step = i});
        dml_stage_learn_end(s, &loss, &correct);
        dml_stage_apply(s, 1e-3);
    }
}

static atomic_bool stop;

/* At most one period of credit and the processor time of the caller more than a quarter. */
static void check_share(struct dml_stage *s, struct dml_stage *second, const struct data *d,
                        const char *what)
{
    struct timespec began, ended;
    uint64_t began_us = dml_clock_now_us();
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    while (dml_clock_now_us() - began_us < 1200000) {
        some_steps(s, d, 0, 2);
        if (second)
            some_steps(second, d, 0, 2);
    }
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
    double wall = 1e-6 * (double)(dml_clock_now_us() - began_us);
    double cpu =
        (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec);
    tap_ok(cpu <= 0.25 * wall + 0.1, "%s used %.2f s of CPU in %.2f s", what, cpu, wall);
}

static void test_duty(const struct dml_model *m, const struct data *d)
{
    struct dml_train_options train = options(DML_OPTIM_SGD);
    const struct dml_stage_options o = {.model = m,
                                        .train = &train,
                                        .cpu = {.n_threads = 1, .duty = 0.25},
                                        .batch = N,
                                        .cancel = &stop};
    _cleanup_(dml_stage_freep) struct dml_stage *s = NULL;
    if (!tap_ok(dml_stage_new(&o, &s, NULL) == 0, "a stage with a quarter of a core"))
        return;
    memcpy(dml_stage_vec(s), d->vec, dml_model_n_vec(m) * sizeof(float));
    check_share(s, NULL, d, "one stage");

    /* Two that take turns, as the chunks of a ring's node do. */
    struct dml_stage_options other = o;
    _cleanup_(dml_stage_freep) struct dml_stage *second = NULL;
    other.beside = s;
    if (!tap_ok(dml_stage_new(&other, &second, NULL) == 0, "another on the same quarter"))
        return;
    memcpy(dml_stage_vec(second), d->vec, dml_model_n_vec(m) * sizeof(float));
    check_share(s, second, d, "two stages together");
}

/* A backward in halves, from which somebody takes the gradient in buckets. */
static void test_halves(const struct dml_model *m, const struct data *d, unsigned n_threads)
{
    const struct dml_train_options train = options(DML_OPTIM_SGD);
    size_t p = dml_model_n_params(m), d_in = dml_model_n_inputs(m), o = dml_model_n_outputs(m);
    size_t bucket = p / 5 + 1, correct;
    float *grads[2] = {dml_mem_floats(p), dml_mem_floats(p)};
    float *dx[2] = {dml_mem_floats(N * d_in), dml_mem_floats(N * d_in)};
    float *y = dml_mem_floats(N * o), *dy = dml_mem_floats(N * o);
    for (int halves = 0; halves < 2; halves++) {
        struct dml_stage *s = stage(m, &train, n_threads, N, 2);
        double loss;
        memcpy(dml_stage_vec(s), d->vec, dml_model_n_vec(m) * sizeof(float));
        for (unsigned i = 0; i < 2; i++) { /* two micro-batches, of which the second is taken */
            const struct dml_stage_at at = {.rank = 1, .step = 3, .first = i * N};
            dml_stage_forward(s, i, d->x, N, at, y);
            dml_stage_loss(s, d->x, y, d->labels, d->targets, N, 2.0 * N, dy, &loss, &correct);
            if (i == 0 || !halves) {
                dml_stage_backward(s, i, dy, dx[halves]);
                continue;
            }
            dml_stage_backward_begin(s, i, dy, dx[halves]);
            for (size_t end = p, begin; end > 0; end = begin) {
                begin = end > bucket ? end - bucket : 0;
                dml_stage_wait(s, begin);
                memcpy(grads[1] + begin, dml_stage_grad(s) + begin, (end - begin) * sizeof(float));
            }
            dml_stage_backward_end(s);
        }
        if (!halves)
            memcpy(grads[0], dml_stage_grad(s), p * sizeof(float));
        dml_stage_forward(s, 1, d->x, N, (struct dml_stage_at){0}, y); /* the slot is free again */
        dml_stage_free(s);
    }
    tap_ok(!memcmp(grads[0], grads[1], p * sizeof(float)),
           "%s, %u threads: buckets taken from a backward in halves are the gradient",
           dml_model_name(m), n_threads);
    tap_ok(!memcmp(dx[0], dx[1], N * d_in * sizeof(float)), "that of its input is the same too");
    for (int i = 0; i < 2; i++) {
        free(grads[i]);
        free(dx[i]);
    }
    free(y);
    free(dy);
}

int main(void)
{
    for (size_t i = 0; part_models[i]; i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = part_model(part_models[i]);
        if (!m)
            continue;
        struct data d = data_new(m, N);
        test_settled(m, &d);
        test_buckets(m, &d, 3);
        test_halves(m, &d, 3);
        test_halves(m, &d, 1);
        if (dml_model_n_params(m) < 500000) { /* the others take their time */
            test_buckets(m, &d, 1);
            test_load(m, &d);
        }
        data_done(&d);
    }
    _cleanup_(dml_model_freep) struct dml_model *m = part_model("cifar-cnn");
    struct data d = data_new(m, N);
    test_duty(m, &d);
    data_done(&d);
    return tap_done();
}
