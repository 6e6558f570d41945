/*
 * The stage: its whole steps are the trainer's, a chain of stages is the model, it goes on from
 * saved moments, and what it holds was predicted.
 */
#include <errno.h>
#include <malloc.h>

#include "data/batch.h"
#include "nn/model_cut.h"
#include "tests/unit/stage_help.h"

enum { M = 3 };

static const size_t micro[M] = {4, 4, 3}; /* of N samples; the last is a short one */

/* Largest difference, in parts of the largest number. */
static double off(const float *got, const float *want, size_t n)
{
    double most = 0.0, top = 1e-9;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, isnan(got[i]) ? INFINITY : fabs((double)got[i] - (double)want[i]));
        top = fmax(top, fabs((double)want[i]));
    }
    return most / top;
}

/* ---- a chain of stages -------------------------------------------------------------------- */

/* The same micro-batches through the model itself. grad [P]; io_vec's state moves on. */
static double plain(const struct dml_model *m, const struct data *d, const size_t *sizes, size_t n,
                    float *io_vec, float *grad)
{
    size_t first = 0, d_in = dml_model_n_inputs(m), correct, p = dml_model_n_params(m);
    double sum = 0.0;
    for (size_t i = 0; i < n; first += sizes[i++]) {
        const struct dml_model_training training = {
            .seed = 7, .rank = 2, .step = 5, .first = first};
        const float *x = d->x + first * d_in;
        float *space = dml_mem_floats(dml_model_workspace(m, sizes[i], true));
        float *y = dml_mem_floats(sizes[i] * dml_model_n_outputs(m));
        float *dy = dml_mem_floats(sizes[i] * dml_model_n_outputs(m));
        double loss;
        dml_model_forward(m, io_vec, io_vec + p, x, sizes[i], &training, space, y);
        dml_model_loss_grad(m, x, y, d->labels + first, d->targets + first, sizes[i], N, &loss,
                            &correct, dy);
        dml_model_backward(m, io_vec, x, dy, sizes[i], &training, space, grad, NULL);
        sum += loss;
        free(space);
        free(y);
        free(dy);
    }
    return sum;
}

struct link {
    struct dml_model_part part;
    struct dml_stage *stage;
    float *x[M], *dx[M]; /* [micro][D] */
};

/* All micro-batches forward, then all backward, the last first. */
static double chain(const struct dml_model *m, struct link *links, size_t n_links,
                    const struct data *d)
{
    const struct dml_stage_at at = {.rank = 2, .step = 5};
    size_t first = 0, d_in = dml_model_n_inputs(m), o = dml_model_n_outputs(m), correct;
    struct dml_stage *last = links[n_links - 1].stage;
    double sum = 0.0, loss;
    float *y = dml_mem_floats(N * o), *dy = dml_mem_floats(N * o);
    for (unsigned i = 0; i < M; first += micro[i++]) {
        struct dml_stage_at here = at;
        here.first = first;
        for (size_t k = 0; k < n_links; k++)
            dml_stage_forward(links[k].stage, i, k ? links[k].x[i] : d->x + first * d_in, micro[i],
                              here, k + 1 < n_links ? links[k + 1].x[i] : y + first * o);
        dml_stage_loss(last, d->x + first * d_in, y + first * o, d->labels + first,
                       d->targets + first, micro[i], N, dy + first * o, &loss, &correct);
        sum += loss;
    }
    for (unsigned i = M; i-- > 0;) {
        first -= micro[i];
        for (size_t k = n_links; k-- > 0;)
            dml_stage_backward(links[k].stage, i,
                               k + 1 < n_links ? links[k + 1].dx[i] : dy + first * o,
                               k ? links[k].dx[i] : NULL);
    }
    free(y);
    free(dy);
    return sum;
}

static struct link link_new(const struct dml_model *m, const struct data *d,
                            const struct dml_train_options *train, size_t first, size_t last,
                            unsigned n_threads)
{
    struct link l = {0};
    if (dml_model_part(m, first, last, &l.part) != 0)
        return l;
    const struct dml_model *p = l.part.model;
    l.stage = stage(p, train, n_threads, micro[0], M);
    float *vec = dml_stage_vec(l.stage);
    memcpy(vec, d->vec + l.part.params_at, dml_model_n_params(p) * sizeof(float));
    memcpy(vec + dml_model_n_params(p), d->vec + dml_model_n_params(m) + l.part.state_at,
           dml_model_n_state(p) * sizeof(float));
    for (unsigned i = 0; i < M; i++) {
        l.x[i] = dml_mem_floats(micro[i] * dml_model_n_inputs(p));
        l.dx[i] = dml_mem_floats(micro[i] * dml_model_n_inputs(p));
    }
    return l;
}

static void link_done(struct link *l)
{
    dml_stage_free(l->stage);
    dml_model_free(l->part.model);
    for (unsigned i = 0; i < M; i++) {
        free(l->x[i]);
        free(l->dx[i]);
    }
}

/* In n_links stages of about as many pieces each. */
static void test_chain(const struct dml_model *m, const struct data *d, size_t n_links,
                       unsigned n_threads)
{
    struct dml_train_options train = options(DML_OPTIM_SGD);
    size_t n_cuts = dml_model_n_cuts(m), p = dml_model_n_params(m), q = dml_model_n_state(m);
    n_links = n_links < n_cuts ? n_links : n_cuts;
    struct link *links = calloc(n_links, sizeof(*links));
    for (size_t i = 0; i < n_links; i++)
        links[i] =
            link_new(m, d, &train, i * n_cuts / n_links, (i + 1) * n_cuts / n_links, n_threads);
    float *vec = dml_mem_floats(p + q), *grad = dml_mem_floats(p), *got = dml_mem_floats(p + q);
    memcpy(vec, d->vec, (p + q) * sizeof(float));

    double want_loss = plain(m, d, micro, M, vec, grad), loss = chain(m, links, n_links, d);
    tap_note("%s: %zu stages, %u threads, %d micro-batches", dml_model_name(m), n_links, n_threads,
             M);
    tap_near(loss, want_loss, 1e-5 * fabs(want_loss), "loss of the model itself");
    for (size_t i = 0; i < n_links; i++)
        memcpy(got + links[i].part.params_at, dml_stage_grad(links[i].stage),
               dml_model_n_params(links[i].part.model) * sizeof(float));
    /* Slices are summed in another order, and a relu near zero may fall to either side. */
    tap_near(off(got, grad, p), 0.0, 2e-4, "its gradient");
    struct dml_optim *optim = dml_optim_new(&train, p);
    dml_optim_step(optim, 0.1, vec, grad);
    for (size_t i = 0; i < n_links; i++) {
        const struct dml_model *part = links[i].part.model;
        dml_stage_apply(links[i].stage, 0.1);
        memcpy(got + links[i].part.params_at, dml_stage_vec(links[i].stage),
               dml_model_n_params(part) * sizeof(float));
        memcpy(got + p + links[i].part.state_at,
               dml_stage_vec(links[i].stage) + dml_model_n_params(part),
               dml_model_n_state(part) * sizeof(float));
    }
    tap_near(off(got, vec, p), 0.0, 1e-4, "its parameters after a step");
    tap_near(q ? off(got + p, vec + p, q) : 0.0, 0.0, 1e-5, "its running statistics");
    if (q == 0) { /* no batch-norm: micro-batches or not is the same */
        static const size_t at_once[1] = {N};
        memset(grad, 0, p * sizeof(float));
        memcpy(vec, d->vec, p * sizeof(float));
        plain(m, d, at_once, 1, vec, grad);
        dml_optim_reset(optim);
        dml_optim_step(optim, 0.1, vec, grad);
        tap_near(off(got, vec, p), 0.0, 1e-4, "and after a step without micro-batches");
    }
    dml_optim_free(optim);
    for (size_t i = 0; i < n_links; i++)
        link_done(&links[i]);
    free(links);
    free(vec);
    free(grad);
    free(got);
}

/* ---- whole steps -------------------------------------------------------------------------- */

static struct dml_dataset *dataset(const struct dml_model *m, size_t n)
{
    uint32_t c, h, w;
    bool mse = dml_model_loss(m) == DML_LOSS_MSE;
    dml_model_input_shape(m, &c, &h, &w);
    struct dml_dataset *ds =
        dml_dataset_new(DML_DATASET_F32, n, c, h, w, mse ? 0 : (uint32_t)dml_model_n_classes(m));
    struct data d = data_new(m, n);
    memcpy(ds->x, d.x, n * dml_model_n_inputs(m) * sizeof(float));
    if (mse)
        memcpy(ds->targets, d.targets, n * sizeof(float));
    else
        memcpy(ds->labels, d.labels, n * sizeof(int32_t));
    data_done(&d);
    return ds;
}

/* Two epochs of the trainer, and of a stage that is given the same minibatches: the same bits. */
static void test_trainer(const struct dml_model *m, unsigned n_threads)
{
    struct dml_train_options train = options(DML_OPTIM_ADAM);
    const struct dml_trainer_cpu cpu = {.n_threads = n_threads, .duty = 1.0};
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = dataset(m, 2 * N - 3);
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct dml_err err = {0};
    struct dml_trainer_result r;
    if (!tap_ok(dml_trainer_new(m, ds, &train, NULL, 2, &cpu, &t, &err) == 0, "a trainer"))
        return;
    dml_model_init(m, dml_trainer_vec(t), 3);
    (void)dml_trainer_fit(t, 0, 2, 2, NULL, &r);

    _cleanup_(dml_stage_freep) struct dml_stage *s = stage(m, &train, n_threads, N, 0);
    dml_model_init(m, dml_stage_vec(s), 3);
    struct data d = data_new(m, N);
    uint32_t order[2 * N];
    double sum = 0.0;
    size_t n_right = 0;
    for (uint64_t epoch = 0, step = 0; epoch < 2; epoch++) {
        dml_batch_order(order, ds->n_samples, train.seed, 2, epoch);
        for (size_t at = 0; at < ds->n_samples; at += N, step++) {
            size_t b = ds->n_samples - at < N ? ds->n_samples - at : N, correct;
            double loss;
            dml_batch_fill(ds, order + at, b, 0, NULL, d.x, ds->labels ? d.labels : NULL,
                           ds->labels ? NULL : d.targets);
            dml_stage_learn_begin(s, d.x, d.labels, d.targets, b, (double)b,
                                  (struct dml_stage_at){.rank = 2, .step = step});
            dml_stage_learn_end(s, &loss, &correct);
            dml_stage_apply(s, train.learning_rate);
            sum += loss;
            n_right += correct;
        }
    }
    tap_ok(!memcmp(dml_stage_vec(s), dml_trainer_vec(t), dml_model_n_vec(m) * sizeof(float)),
           "%s, %u threads: the bits that the trainer learns", dml_model_name(m), n_threads);
    tap_near(sum / (double)r.n_samples, r.loss, 1e-12, "its loss, added up in another order");
    tap_near((double)n_right / (double)r.n_samples, ds->labels ? r.accuracy : 0.0, 0.0,
             "its accuracy");
    data_done(&d);
}

/* ---- state, memory, edges ----------------------------------------------------------------- */

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

static void test_moments(const struct dml_model *m, const struct data *d)
{
    static const struct {
        int optimizer;
        double momentum;
        size_t n_moments;
    } kinds[] = {{DML_OPTIM_SGD, 0.0, 0},
                 {DML_OPTIM_SGD, 0.9, 1},
                 {DML_OPTIM_ADAM, 0.9, 2},
                 {DML_OPTIM_ADAMW, 0.9, 2}};
    size_t n = dml_model_n_vec(m);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct dml_train_options train = options(kinds[i].optimizer);
        train.momentum = kinds[i].momentum;
        _cleanup_(dml_stage_freep) struct dml_stage *a = stage(m, &train, 2, N, 0);
        _cleanup_(dml_stage_freep) struct dml_stage *b = stage(m, &train, 2, N, 0);
        uint64_t step = 99;
        float *moments = dml_mem_floats(2 * dml_model_n_params(m));
        memcpy(dml_stage_vec(a), d->vec, n * sizeof(float));
        some_steps(a, d, 0, 3);
        tap_int((long long)dml_stage_n_moments(a), (long long)kinds[i].n_moments, "moments");
        dml_stage_get_moments(a, moments, &step);
        tap_int((long long)step, 3, "steps taken");
        memcpy(dml_stage_vec(b), dml_stage_vec(a), n * sizeof(float));
        some_steps(a, d, 3, 5);
        dml_stage_set_moments(b, moments, step);
        some_steps(b, d, 3, 5);
        tap_ok(!memcmp(dml_stage_vec(a), dml_stage_vec(b), n * sizeof(float)),
               "another stage goes on from them to the same bits");
        free(moments);
    }
}

static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void test_memory(const struct dml_model *m, unsigned n)
{
    if (in_use() == 0) {
        tap_skip("the malloc of a sanitizer does not say what is in use");
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        struct dml_train_options train = options(i % 3);
        const struct dml_stage_options o = {.model = m,
                                            .train = &train,
                                            .cpu = {.n_threads = 1 + i % 4, .duty = 1.0},
                                            .batch = 4 + 9 * i,
                                            .n_slots = i / 2};
        size_t before = in_use();
        struct dml_stage *s = NULL;
        (void)dml_stage_new(&o, &s, NULL);
        size_t held = in_use() - before, told = (size_t)dml_stage_memory(&o);
        tap_ok(s && held <= told && told < held + (8u << 20),
               "%s, batch %zu, %u slots: %zu KiB, told %zu KiB", dml_model_name(m), o.batch,
               o.n_slots, held / 1024, told / 1024);
        dml_stage_free(s);
    }
}

/* What serves one pass is there once, however many micro-batches are under way. */
static void test_slots(const struct dml_model *m)
{
    struct dml_train_options train = options(DML_OPTIM_SGD);
    struct dml_stage_options o = {.model = m,
                                  .train = &train,
                                  .cpu = {.n_threads = 1, .duty = 1.0},
                                  .batch = 8,
                                  .n_slots = 2};
    uint64_t two = dml_stage_memory(&o), four, kept = dml_model_kept(m, 8, false);
    o.n_slots = 4;
    four = dml_stage_memory(&o);
    tap_int((long long)(four - two),
            (long long)(2 * (kept + 8 * dml_model_n_inputs(m)) * sizeof(float)),
            "two slots more are twice what forward keeps");
    tap_int((long long)(kept + dml_model_turns(m, 8)), (long long)dml_model_workspace(m, 8, true),
            "and that is a workspace without what takes turns");
}

/* An abandoned step leaves nothing; no samples are no work; a batch may be smaller than the
 * number of threads. */
static void test_edges(const struct dml_model *m, const struct data *d)
{
    struct dml_train_options train = options(DML_OPTIM_SGD);
    _cleanup_(dml_stage_freep) struct dml_stage *s = stage(m, &train, 4, N, 0);
    size_t p = dml_model_n_params(m), correct = 9;
    float *want = dml_mem_floats(p);
    double loss = 9.0;
    const struct dml_stage_at at = {.rank = 1, .step = 1};
    memcpy(dml_stage_vec(s), d->vec, dml_model_n_vec(m) * sizeof(float));
    dml_stage_learn_begin(s, d->x, d->labels, d->targets, 2, 2.0, at);
    dml_stage_learn_end(s, &loss, &correct);
    memcpy(want, dml_stage_grad(s), p * sizeof(float));
    tap_ok(isfinite(loss) && want[p - 1] != 0.0f, "2 samples for 4 threads");
    dml_stage_clear(s);
    dml_stage_learn_begin(s, d->x, d->labels, d->targets, N, 1.0, at);
    dml_stage_clear(s); /* in the middle of a step */
    size_t left = 0;
    for (size_t i = 0; i < p; i++)
        left += dml_stage_grad(s)[i] != 0.0f;
    tap_int((long long)left, 0, "nothing is left of an abandoned step");
    memcpy(dml_stage_vec(s), d->vec, dml_model_n_vec(m) * sizeof(float)); /* running statistics */
    dml_stage_learn_begin(s, d->x, d->labels, d->targets, 2, 2.0, at);
    dml_stage_learn_end(s, &loss, &correct);
    uint64_t work_us = dml_stage_work_us(s);
    dml_stage_learn_begin(s, NULL, NULL, NULL, 0, 2.0, at);
    dml_stage_wait(s, 0);
    dml_stage_learn_end(s, &loss, &correct);
    tap_ok(work_us > 0 && dml_stage_work_us(s) == work_us && correct == 0,
           "no samples are no work");
    tap_ok(!memcmp(want, dml_stage_grad(s), p * sizeof(float)), "the gradient of the first time");
    free(want);

    struct dml_stage_options bad = {.model = m, .train = &train, .cpu = {.n_threads = 1}};
    struct dml_stage *none = NULL;
    struct dml_err err = {0};
    tap_int(dml_stage_new(&bad, &none, &err), -EINVAL, "a batch of 0 is refused");
    tap_has(err.text, "1 … 65536", "and what is allowed is said");
}

int main(void)
{
    for (size_t i = 0; part_models[i]; i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = part_model(part_models[i]);
        if (!m)
            continue;
        struct data d = data_new(m, N);
        /* Two models take their time; what depends on threads alone the others show. And the
         * batch-norms at the end of mobilenetv2, which see four places here, make a difference of
         * rounding large: with one thread the chain gives the bits of the model itself. */
        bool is_big = dml_model_n_params(m) > 500000;
        test_chain(m, &d, 3, 1);
        if (!is_big) {
            test_chain(m, &d, 4, 3);
            test_chain(m, &d, 1, 2);
            test_trainer(m, 1);
            test_moments(m, &d);
        }
        test_trainer(m, 3);
        test_memory(m, is_big ? 3 : 6);
        test_slots(m);
        test_edges(m, &d);
        data_done(&d);
    }
    return tap_done();
}
