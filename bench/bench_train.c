/*
 * Training speed of the shipped models, in samples per second, by batch size and threads; for those
 * with convolutions also the ratio to the textbook's way (method im2col in every conv line).
 *
 *     make bench, or bench/bench_train [THREADS] [SECONDS per figure]
 *
 * Data are random and small, so that what is measured is the trainer. Both ways take turns and the
 * best of several windows counts: on a shared machine the best is the least disturbed.
 */
#include "nn/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"

#define WINDOWS 5

static const struct {
    const char *name;
    bool has_conv;
    uint64_t batches[4];
} models[] = {
    {"cifar-cnn", true, {4, 32, 128}},
    {"grey-cnn", true, {4, 32, 128}},
    {"sdss-mlp", false, {32, 128, 1024}},
};

static struct dml_dataset *noise(const struct dml_model *m)
{
    uint32_t c, h, w;
    dml_model_input_shape(m, &c, &h, &w);
    size_t n = h > 1 ? 2048 : 32768, n_classes = dml_model_n_outputs(m);
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, n, c, h, w, (uint32_t)n_classes);
    struct dml_rng rng;
    dml_rng_init(&rng, 1, 0, DML_RNG_TEST, 0);
    if (!ds)
        return NULL;
    for (size_t i = 0; i < n * dml_dataset_d(ds); i++)
        ((float *)ds->x)[i] = (float)dml_rng_normal(&rng);
    for (size_t i = 0; i < n; i++)
        ds->labels[i] = (int32_t)dml_rng_below(&rng, n_classes);
    return ds;
}

/* The model's text with every "kernel" of a conv line made "method im2col kernel". */
static struct dml_model *textbook(const struct dml_model *m)
{
    char text[4096];
    size_t n = 0;
    struct dml_model *copy = NULL;
    for (const char *c = dml_model_text(m); *c && n < sizeof(text) - 32; c++) {
        if (!strncmp(c, " kernel", 7))
            n += (size_t)sprintf(text + n, " method im2col");
        text[n++] = *c;
    }
    return dml_model_parse(text, n, "textbook", &copy, NULL) == 0 ? copy : NULL;
}

static struct dml_trainer *trainer(const struct dml_model *m, const struct dml_dataset *ds,
                                   uint64_t batch, unsigned n_threads)
{
    struct dml_train_options o = {0};
    struct dml_trainer *t = NULL;
    const struct dml_trainer_cpu cpu = {.n_threads = n_threads, .duty = 1.0};
    if (dml_opt_defaults(dml_train_opts, &o) < 0)
        return NULL;
    o.batch_size = batch;
    o.learning_rate = 1e-4;
    if (dml_trainer_new(m, ds, &o, NULL, 0, &cpu, &t, NULL) < 0)
        return NULL;
    dml_model_init(m, dml_trainer_vec(t), 1);
    return t;
}

static double window(struct dml_trainer *t, double seconds)
{
    struct dml_trainer_result r, sum = {0};
    while ((double)sum.work_us < seconds * 1e6) {
        if (dml_trainer_fit(t, 0, 1, 1, NULL, &r) < 0)
            return 0.0;
        sum.work_us += r.work_us;
        sum.n_samples += r.n_samples;
    }
    return 1e6 * (double)sum.n_samples / (double)sum.work_us;
}

static void bench(const struct dml_model *m, const struct dml_model *other, uint64_t batch,
                  unsigned n_threads, double seconds)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = noise(m);
    if (!ds)
        return;
    struct dml_trainer *t = trainer(m, ds, batch, n_threads);
    struct dml_trainer *u = other ? trainer(other, ds, batch, n_threads) : NULL;
    double best = 0.0, textbooks = 0.0;
    for (unsigned i = 0; t && i < WINDOWS; i++) {
        double v = window(t, seconds / WINDOWS);
        best = v > best ? v : best;
        v = u ? window(u, seconds / WINDOWS) : 0.0;
        textbooks = v > textbooks ? v : textbooks;
    }
    printf("%-10s %6llu %12.0f", dml_model_name(m), (unsigned long long)batch, best);
    if (u)
        printf(" %12.0f %8.2f", textbooks, best / textbooks);
    putchar('\n');
    fflush(stdout);
    dml_trainer_free(t);
    dml_trainer_free(u);
}

int main(int argc, char **argv)
{
    unsigned n_threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 1.0;
    const char *const dirs[] = {getenv("DML_MODELS"), DML_MODEL_DIR, NULL};
    if (n_threads < 1 || !(seconds > 0.0)) {
        fprintf(stderr, "usage: bench_train [THREADS] [SECONDS]\n");
        return 2;
    }
    printf("%u threads, sgemm %.0f GFLOP/s\n", n_threads, dml_trainer_calibrate_gflops());
    printf("%-10s %6s %12s %12s %8s\n", "model", "batch", "samples/s", "im2col", "ratio");
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        struct dml_model *m = NULL;
        struct dml_err err = {0};
        if (dml_model_load(models[i].name, dirs[0] ? dirs : dirs + 1, &m, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        struct dml_model *other = models[i].has_conv ? textbook(m) : NULL;
        for (size_t j = 0; models[i].batches[j]; j++)
            bench(m, other, models[i].batches[j], n_threads, seconds);
        dml_model_free(other);
        dml_model_free(m);
    }
    return 0;
}
