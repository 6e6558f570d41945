/*
 * Determinism: the same seed and cores give the same bits; with deterministic = strict, any number
 * of cores does. Whole epochs by the trainer, and steps by the stage, whose gradients are added up
 * while others still compute.
 */
#include <malloc.h>

#include "nn/stage.h"
#include "nn/trainer.h"
#include "tests/unit/part_models.h"

#define N         50 /* samples; the last minibatch is short */
#define BATCH     16
#define CORES_MAX 5

/* Enough work for four threads, each in its way: convolutions, products, statistics that meet and
 * dropout, sequences. */
static const char *const models[] = {
    "name cnn\ninput 3 20 20\nconv 8 kernel 5\nrelu\nmax-pool 2\nconv 12 kernel 3\nrelu\nmax-pool "
    "2\nlinear 40\nrelu\nlinear 5\n",
    "name mlp\ninput 200\nlinear 300\nrelu\ndropout 0.3\nlinear 200\ntanh\nlinear 5\n",
    "name mobile\ninput 3 16 16\nconv 16 kernel 3 stride 2 padding 1 bias no\nbatch-norm\nrelu6\n"
    "repeat 2\nresidual\nconv 48 kernel 1 bias no\nbatch-norm\nrelu6\nconv 48 kernel 3 padding 1 "
    "groups 48 bias no\nbatch-norm\nrelu6\nconv 16 kernel 1 bias no\nbatch-norm\nend\nend\n"
    "global-avg-pool\ndropout 0.2\nlinear 5\n",
    "name sequences\ninput 16\ninit normal\nembedding 5 size 24\nposition\nrepeat 2\nresidual\n"
    "layer-norm\nattention 3\nend\nresidual\nlayer-norm\nconv 96 kernel 1\ngelu\nconv 24 kernel 1\n"
    "end\nend\nlayer-norm\nconv 5 kernel 1\nloss next-token\n",
};

static struct dml_train_options options(int deterministic)
{
    struct dml_train_options o = {0};
    (void)dml_opt_defaults(dml_train_opts, &o);
    o.batch_size = BATCH;
    o.optimizer = DML_OPTIM_ADAM;
    o.learning_rate = 2e-3;
    o.deterministic = deterministic;
    return o;
}

/* Two epochs; the block [P+Q] and the loss behind it. Caller frees. */
static float *fit(const struct dml_model *m, const struct dml_dataset *ds, int deterministic,
                  unsigned n_cores)
{
    struct dml_train_options o = options(deterministic);
    const struct dml_data_options data = {.augment = DML_AUGMENT_NONE};
    const struct dml_trainer_cpu cpu = {.n_threads = n_cores, .duty = 1.0};
    size_t n = dml_model_n_vec(m);
    float *all = dml_mem_floats(n + 1);
    struct dml_trainer *t = NULL;
    struct dml_trainer_result r = {0};
    if (dml_trainer_new(m, ds, &o, &data, 1, &cpu, &t, NULL) == 0) {
        dml_model_init(m, dml_trainer_vec(t), 1);
        (void)dml_trainer_fit(t, 0, 2, 2, NULL, &r);
        memcpy(all, dml_trainer_vec(t), n * sizeof(float));
    }
    all[n] = (float)r.loss;
    dml_trainer_free(t);
    return all;
}

/* Three steps of whole minibatches. */
static float *learn(const struct dml_model *m, const struct dml_dataset *ds, int deterministic,
                    unsigned n_cores)
{
    struct dml_train_options train = options(deterministic);
    const struct dml_stage_options o = {.model = m,
                                        .train = &train,
                                        .cpu = {.n_threads = n_cores, .duty = 1.0},
                                        .batch = BATCH};
    size_t n = dml_model_n_vec(m), d = dml_model_n_inputs(m), correct;
    float *all = dml_mem_floats(n + 1);
    double loss = 0.0;
    struct dml_stage *s = NULL;
    if (dml_stage_new(&o, &s, NULL) == 0) {
        dml_model_init(m, dml_stage_vec(s), 1);
        for (size_t i = 0; i < 3; i++) {
            const struct dml_stage_at at = {.rank = 1, .step = i};
            dml_stage_learn_begin(s, (float *)ds->x + i * BATCH * d, ds->labels + i * BATCH, NULL,
                                  BATCH, BATCH, at);
            dml_stage_wait(s, dml_model_n_params(m) / 2);
            dml_stage_learn_end(s, &loss, &correct);
            dml_stage_apply(s, 1e-3);
        }
        memcpy(all, dml_stage_vec(s), n * sizeof(float));
    }
    all[n] = (float)loss;
    dml_stage_free(s);
    return all;
}

/* How many of the n + 1 numbers differ, in their bits. */
static size_t differ(const float *a, const float *b, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i <= n; i++)
        count += memcmp(a + i, b + i, sizeof(float)) != 0;
    return count;
}

static void test_model(const char *text)
{
    struct dml_model *m = part_model(text);
    if (!m)
        return;
    struct dml_dataset *ds = part_samples(m, N);
    size_t n = dml_model_n_vec(m), n_loose = 0;
    float *begin = dml_mem_floats(n + 1);
    dml_model_init(m, begin, 1);
    float *one = fit(m, ds, DML_DETERMINISTIC_STRICT, 1);
    float *one_step = learn(m, ds, DML_DETERMINISTIC_STRICT, 1);
    tap_ok(differ(one, begin, n) > n / 2 && one[n] > 0.0f, "it learns: loss %.4f", (double)one[n]);
    tap_ok(differ(one_step, begin, n) > n / 2 && one_step[n] > 0.0f, "and step by step: %.4f",
           (double)one_step[n]);
    for (unsigned cores = 1; cores <= CORES_MAX; cores++) {
        float *more = fit(m, ds, DML_DETERMINISTIC_STRICT, cores);
        size_t off = differ(one, more, n);
        tap_ok(off == 0, "strict, %u cores: %zu of %zu numbers differ from those of one core",
               cores, off, n);
        free(more);
        more = learn(m, ds, DML_DETERMINISTIC_STRICT, cores);
        off = differ(one_step, more, n);
        tap_ok(off == 0, "step by step, %u cores: %zu of %zu numbers differ", cores, off, n);
        free(more);
        float *a = fit(m, ds, DML_DETERMINISTIC_CORES, cores);
        float *b = fit(m, ds, DML_DETERMINISTIC_CORES, cores);
        off = differ(a, b, n);
        tap_ok(off == 0, "again with %u cores, not strict: %zu of %zu differ", cores, off, n);
        if (cores == 3)
            n_loose = differ(one, a, n);
        free(a);
        free(b);
    }
    tap_ok(n_loose > 0, "without strict, three cores are other sums: %zu of %zu differ", n_loose,
           n);
    free(begin);
    free(one);
    free(one_step);
    dml_dataset_free(ds);
    dml_model_free(m);
}

/* What four blocks take is predicted, on one core too. */
static void test_memory(void)
{
    struct dml_model *m = part_model(models[1]);
    if (!m)
        return;
    struct dml_dataset *ds = part_samples(m, N);
    struct dml_train_options o = options(DML_DETERMINISTIC_STRICT);
    const struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 1.0};
    struct dml_trainer *t = NULL;
    uint64_t said = dml_trainer_memory(m, &o, 1);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    tap_int(dml_trainer_new(m, ds, &o, NULL, 1, &cpu, &t, NULL), 0, "a trainer");
    size_t took = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    if (took == 0)
        tap_skip("this malloc, a sanitizer's, does not count");
    tap_ok(took <= said, "it took %zu bytes of the %llu predicted", took,
           (unsigned long long)said);
    tap_ok(took == 0 || took > 4 * dml_model_n_params(m) * sizeof(float), "of which four gradients");
    dml_trainer_free(t);
    dml_dataset_free(ds);
    dml_model_free(m);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(models); i++)
        test_model(models[i]);
    test_memory();
    return tap_done();
}
