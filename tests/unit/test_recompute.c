/*
 * recompute = blocks: the same bits as without, whatever the threads, from less memory.
 */
#include <malloc.h>
#include <stdlib.h>

#include "nn/model_cut.h"
#include "nn/stage.h"
#include "nn/trainer.h"
#include "tests/unit/part_models.h"

#define N     36 /* samples; the last minibatch is short, and leaves some threads without any */
#define BATCH 16

/* Small ones with everything that could go wrong: statistics that meet and move, masks, values that
 * are overwritten, something kept between layers, a block in a block. */
static const char *const models[] = {
    "name chain\ninput 3 20 20\nconv 8 kernel 5\nrelu\nmax-pool 2\nconv 12 kernel 3\ntanh\nconv 9 "
    "kernel 3\nflatten\nlinear 60\nrelu\ndropout 0.3\nlinear 40\nsigmoid\nlinear 5\n",
    "name mobile\ninput 3 16 16\nconv 16 kernel 3 stride 2 padding 1 bias no\nbatch-norm\nrelu6\n"
    "repeat 3\nresidual\nconv 48 kernel 1 bias no\nbatch-norm\nrelu6\nconv 48 kernel 3 padding 1 "
    "groups 48 bias no\nbatch-norm\nrelu6\nconv 16 kernel 1 bias no\nbatch-norm\nend\nend\n"
    "batch-norm\nglobal-avg-pool\ndropout 0.2\nlinear 5\n",
    "name nested\ninput 2 12 12\nrepeat 3\nresidual\nconv 8 kernel 3 padding "
    "1\nbatch-norm\nresidual\n"
    "relu\nconv 8 kernel 3 padding 1\nend\nshortcut\nconv 8 kernel 1\nend\nrelu\nend\n"
    "avg-pool 2\nlinear 7\n",
    "name sequences\ninput 16\ninit normal\nembedding 5 size 24\nposition\nrepeat 3\nresidual\n"
    "layer-norm\nattention 3\ndropout 0.1\nend\nresidual\nlayer-norm\nconv 96 kernel 1\ngelu\n"
    "conv 24 kernel 1\nend\nend\nlayer-norm\nconv 5 kernel 1\nloss next-token\n",
};

static struct dml_train_options options(int recompute, int deterministic)
{
    struct dml_train_options o = {0};
    (void)dml_opt_defaults(dml_train_opts, &o);
    o.batch_size = BATCH;
    o.optimizer = DML_OPTIM_ADAM;
    o.learning_rate = 2e-3;
    o.recompute = recompute;
    o.deterministic = deterministic;
    return o;
}

/* Epochs by a trainer; the block [P+Q] and the loss behind it. Caller frees. */
static float *fit(const struct dml_model *m, const struct dml_dataset *ds,
                  const struct dml_train_options *o, unsigned n_cores)
{
    const struct dml_trainer_cpu cpu = {.n_threads = n_cores, .duty = 1.0};
    size_t n = dml_model_n_vec(m);
    float *all = dml_mem_floats(n + 1);
    struct dml_trainer *t = NULL;
    struct dml_trainer_result r = {0};
    if (dml_trainer_new(m, ds, o, NULL, 1, &cpu, &t, NULL) == 0) {
        dml_model_init(m, dml_trainer_vec(t), 1);
        (void)dml_trainer_fit(t, 0, 2, 2, NULL, &r);
        memcpy(all, dml_trainer_vec(t), n * sizeof(float));
    }
    all[n] = (float)r.loss;
    dml_trainer_free(t);
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

static void test_bits(const struct dml_model *m, unsigned max_cores)
{
    struct dml_dataset *ds = part_samples(m, N);
    size_t n = dml_model_n_vec(m);
    float *begin = dml_mem_floats(n + 1);
    dml_model_init(m, begin, 1);
    for (int strict = 0; strict < 2; strict++)
        for (unsigned cores = 1; cores <= max_cores; cores++) {
            struct dml_train_options o = options(DML_RECOMPUTE_OFF, strict);
            float *want = fit(m, ds, &o, cores);
            o.recompute = DML_RECOMPUTE_BLOCKS;
            float *got = fit(m, ds, &o, cores);
            size_t off = differ(got, want, n);
            tap_ok(off == 0 && differ(got, begin, n) > n / 2 && got[n] > 0.0f,
                   "%s, %u cores%s: %zu of %zu numbers differ, loss %.4f and %.4f",
                   dml_model_name(m), cores, strict ? ", strict" : "", off, n, (double)got[n],
                   (double)want[n]);
            free(want);
            free(got);
        }
    free(begin);
    dml_dataset_free(ds);
}

static void test_less(const struct dml_model *m, bool much)
{
    size_t all = dml_model_workspace(m, 32, true), some = dml_model_workspace_recompute(m, 32);
    tap_ok(some < all - (much ? all / 4 : 0), "%s at 32: %zu floats instead of %zu",
           dml_model_name(m), some, all);
    struct dml_train_options off = options(DML_RECOMPUTE_OFF, 0), on = options(1, 0);
    off.batch_size = on.batch_size = 32;
    uint64_t before = dml_trainer_memory(m, &off, 2), said = dml_trainer_memory(m, &on, 2);
    tap_ok(said < before, "%s at 32, two threads: %.1f MB planned instead of %.1f",
           dml_model_name(m), 1e-6 * (double)said, 1e-6 * (double)before);
}

static size_t allocated(void)
{
    struct mallinfo2 i = mallinfo2();
    return i.uordblks + i.hblkhd;
}

/* What a trainer takes: no more than is planned, less than without. */
static void test_allocated(const struct dml_model *m)
{
    size_t took[2] = {0};
    struct dml_dataset *ds = part_samples(m, N);
    const struct dml_trainer_cpu cpu = {.n_threads = 2, .duty = 1.0};
    for (int on = 0; on < 2; on++) {
        struct dml_train_options o = options(on, 0);
        struct dml_trainer *t = NULL;
        size_t before = allocated();
        tap_int(dml_trainer_new(m, ds, &o, NULL, 1, &cpu, &t, NULL), 0, "a trainer");
        took[on] = allocated() - before;
        uint64_t said = dml_trainer_memory(m, &o, 2);
        tap_ok(took[on] <= said, "%s: took %zu of %llu bytes", dml_model_name(m), took[on],
               (unsigned long long)said);
        dml_trainer_free(t);
    }
    dml_dataset_free(ds);
    if (took[0] == 0) {
        tap_skip("this malloc, a sanitizer's, does not count");
        return;
    }
    tap_ok(took[1] < took[0], "%s: %zu bytes instead of %zu", dml_model_name(m), took[1], took[0]);
}

/* A stage of a pipeline: two micro-batches under way in slots of their own. */
static float *steps(const struct dml_model *m, const struct dml_dataset *ds, int recompute)
{
    struct dml_train_options train = options(recompute, 0);
    const struct dml_stage_options o = {.model = m,
                                        .train = &train,
                                        .cpu = {.n_threads = 2, .duty = 1.0},
                                        .batch = BATCH,
                                        .n_slots = 2};
    size_t n = dml_model_n_vec(m), d = dml_model_n_inputs(m), out = dml_model_n_outputs(m);
    float *all = dml_mem_floats(n + 2 * BATCH * d), *y = dml_mem_floats(BATCH * out);
    struct dml_stage *s = NULL;
    if (dml_stage_new(&o, &s, NULL) == 0) {
        dml_model_init(m, dml_stage_vec(s), 1);
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned k = 0; k < 2; k++) {
                const struct dml_stage_at at = {.rank = 1, .step = i, .first = k * BATCH};
                dml_stage_forward(s, k, (float *)ds->x + k * BATCH * d, BATCH, at, y);
            }
            for (unsigned k = 0; k < 2; k++) /* as if y were what to get rid of */
                dml_stage_backward(s, k, y, all + n + k * BATCH * d);
            dml_stage_apply(s, 1e-3);
        }
        memcpy(all, dml_stage_vec(s), n * sizeof(float));
    }
    dml_stage_free(s);
    free(y);
    return all;
}

static void test_part(const struct dml_model *m)
{
    struct dml_model_part part;
    if (dml_model_part(m, 0, dml_model_n_cuts(m), &part) < 0) {
        tap_ok(false, "%s: a part of it", dml_model_name(m));
        return;
    }
    struct dml_dataset *ds = part_samples(m, N);
    size_t n = dml_model_n_vec(m) + 2 * BATCH * dml_model_n_inputs(m) - 1;
    float *want = steps(part.model, ds, DML_RECOMPUTE_OFF);
    float *got = steps(part.model, ds, DML_RECOMPUTE_BLOCKS);
    tap_ok(differ(got, want, n) == 0, "%s as a stage: %zu of %zu numbers differ", dml_model_name(m),
           differ(got, want, n), n);
    free(want);
    free(got);
    dml_dataset_free(ds);
    dml_model_free(part.model);
}

int main(void)
{
    static const char *const shipped[] = {"cifar-cnn", "resnet-8", "resnet-20", "mobilenetv2",
                                          "char-transformer"};
    char dir[4096];
    (void)snprintf(dir, sizeof(dir), "%s/etc/models", getenv("top_srcdir") ?: ".");
    const char *const dirs[] = {dir, NULL};
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct dml_model *m = part_model(models[i]);
        if (!m)
            continue;
        test_bits(m, 5);
        test_less(m, false);
        test_part(m);
        dml_model_free(m);
    }
    for (size_t i = 0; i < ARRAY_SIZE(shipped); i++) {
        struct dml_model *m = NULL;
        struct dml_err err = {0};
        if (dml_model_load(shipped[i], dirs, &m, &err) < 0) {
            tap_ok(false, "%s: %s", shipped[i], err.text);
            continue;
        }
        test_less(m, i == 2 || i == 3);
        test_bits(m, 2);
        if (i == 2 || i == 3)
            test_allocated(m);
        dml_model_free(m);
    }
    return tap_done();
}
