/*
 * The price of deterministic = strict: samples per second of processor time, all threads together,
 * and of wall time, with it and without, in turns; the best of several windows each. On a machine
 * that others use only the first says something.
 *
 *     make bench-strict, or bench/bench_strict [THREADS] [SECONDS per model]
 */
#include "nn/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "base/rng.h"

#define WINDOWS 5

static const struct {
    const char *name;
    uint64_t batch;
    size_t n_samples;
} models[] = {
    {"sdss-mlp", 128, 16384},  {"sdss-mlp", 1024, 16384}, {"cifar-cnn", 32, 512},
    {"cifar-cnn", 128, 512},   {"mobilenetv2", 32, 64},   {"mobilenetv2", 128, 128},
    {"char-transformer", 16, 16},
};

static struct dml_dataset *noise(const struct dml_model *m, size_t n)
{
    uint32_t c, h, w, n_classes = (uint32_t)dml_model_n_classes(m);
    dml_model_input_shape(m, &c, &h, &w);
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_U8, n, c, h, w, n_classes);
    struct dml_rng rng;
    dml_rng_init(&rng, 1, 0, DML_RNG_TEST, 0);
    if (!ds)
        return NULL;
    for (size_t i = 0; i < n * dml_dataset_d(ds); i++)
        ((uint8_t *)ds->x)[i] = (uint8_t)dml_rng_below(&rng, n_classes < 256 ? n_classes : 256);
    for (size_t i = 0; i < n; i++)
        ds->labels[i] = (int32_t)dml_rng_below(&rng, n_classes);
    return ds;
}

static struct dml_trainer *trainer(const struct dml_model *m, const struct dml_dataset *ds,
                                   uint64_t batch, unsigned n_threads, int deterministic)
{
    struct dml_train_options o = {0};
    struct dml_trainer *t = NULL;
    const struct dml_trainer_cpu cpu = {.n_threads = n_threads, .duty = 1.0};
    if (dml_opt_defaults(dml_train_opts, &o) < 0)
        return NULL;
    o.batch_size = batch;
    o.learning_rate = 1e-4;
    o.deterministic = deterministic;
    if (dml_trainer_new(m, ds, &o, NULL, 0, &cpu, &t, NULL) < 0)
        return NULL;
    dml_model_init(m, dml_trainer_vec(t), 1);
    return t;
}

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* Samples per second: [0] of wall time, [1] of processor time. The best so far stays. */
static void window(struct dml_trainer *t, double seconds, double io_best[2])
{
    struct dml_trainer_result r, sum = {0};
    double began = cpu_us();
    while ((double)sum.work_us < seconds * 1e6) {
        if (dml_trainer_fit(t, 0, 1, 1, NULL, &r) < 0)
            return;
        sum.work_us += r.work_us;
        sum.n_samples += r.n_samples;
    }
    const double us[2] = {(double)sum.work_us, cpu_us() - began};
    for (int k = 0; k < 2; k++)
        io_best[k] = fmax(io_best[k], 1e6 * (double)sum.n_samples / us[k]);
}

int main(int argc, char **argv)
{
    unsigned n_threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2.0;
    const char *const dirs[] = {getenv("DML_MODELS"), DML_MODEL_DIR, NULL};
    if (n_threads < 1 || !(seconds > 0.0)) {
        fprintf(stderr, "usage: bench_strict [THREADS] [SECONDS]\n");
        return 2;
    }
    printf("%u threads\n\n| model | batch | per CPU s | strict | share | per s | strict | share |\n"
           "|---|---|---|---|---|---|---|---|\n",
           n_threads);
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = NULL;
        struct dml_err err = {0};
        if (dml_model_load(models[i].name, dirs[0] ? dirs : dirs + 1, &m, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        _cleanup_(dml_dataset_freep) struct dml_dataset *ds = noise(m, models[i].n_samples);
        if (!ds)
            return 1;
        struct dml_trainer *t[2];
        double best[2][2] = {{0.0}};
        for (int k = 0; k < 2; k++)
            t[k] = trainer(m, ds, models[i].batch, n_threads,
                           k ? DML_DETERMINISTIC_STRICT : DML_DETERMINISTIC_CORES);
        for (unsigned j = 0; t[0] && t[1] && j < 2 * WINDOWS; j++)
            window(t[j % 2], seconds / (2 * WINDOWS), best[j % 2]);
        printf("| %s | %llu |", models[i].name, (unsigned long long)models[i].batch);
        for (int k = 1; k >= 0; k--)
            printf(" %.0f | %.0f | %.2f |", best[0][k], best[1][k], best[1][k] / best[0][k]);
        putchar('\n');
        fflush(stdout);
        for (int k = 0; k < 2; k++)
            dml_trainer_free(t[k]);
    }
    return 0;
}
