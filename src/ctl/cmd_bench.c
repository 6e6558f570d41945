/*
 * dmlctl bench: how fast this machine trains a model, beside what it could do at most.
 *
 * Without --model every installed model is measured at the same batch size.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "nn/bench.h"
#include "nn/model.h"
#include "report/table.h"

struct options {
    const char *model, *batch, *threads, *seconds, *optimizer, *model_dir;
    bool infer, recompute, layers;
};

static const struct dml_ctl_option options_table[] = {
    {"model", "NAME", offsetof(struct options, model), "One model instead of all, or a model file"},
    {"batch", "N", offsetof(struct options, batch), "Samples per step, 32 unless given"},
    {"threads", "N", offsetof(struct options, threads), "Threads, 1 unless given"},
    {"infer", NULL, offsetof(struct options, infer), "Only forward, without learning"},
    {"recompute", NULL, offsetof(struct options, recompute),
     "As with recompute = blocks in [train]: less memory, more time"},
    {"optimizer", "NAME", offsetof(struct options, optimizer), "sgd (unless given), adam, adamw"},
    {"seconds", "S", offsetof(struct options, seconds), "Time for each model, 2 unless given"},
    {"layers", NULL, offsetof(struct options, layers),
     "Also the time of each layer, on one thread"},
    {"model-dir", "DIR", offsetof(struct options, model_dir),
     "Where models are, instead of " DML_MODEL_DIR},
    {0},
};

const struct dml_ctl_command dml_cmd_bench;

/* Returns false with the sentence printed. */
static bool take(const struct options *o, struct dml_bench_options *ret)
{
    static const char *const names[] = {"sgd", "adam", "adamw"};
    long batch = 32, threads = 1;
    char *end = NULL;
    size_t i = 0;
    if (o->batch &&
        !dml_ctl_number(&dml_cmd_bench, "--batch", o->batch, 1, DML_MODEL_BATCH_MAX, &batch))
        return false;
    if (o->threads && !dml_ctl_number(&dml_cmd_bench, "--threads", o->threads, 1, 256, &threads))
        return false;
    double seconds = o->seconds ? strtod(o->seconds, &end) : 2.0;
    if ((o->seconds && (end == o->seconds || *end)) || !(seconds > 0.0 && seconds <= 3600.0)) {
        (void)dml_ctl_usage(&dml_cmd_bench, "--seconds must be above 0 and at most 3600, not '%s'.",
                            o->seconds);
        return false;
    }
    while (o->optimizer && i < ARRAY_SIZE(names) && strcmp(names[i], o->optimizer))
        i++;
    if (i == ARRAY_SIZE(names)) {
        (void)dml_ctl_usage(&dml_cmd_bench, "--optimizer must be sgd, adam or adamw, not '%s'.",
                            o->optimizer);
        return false;
    }
    if (o->infer && o->recompute) {
        (void)dml_ctl_usage(&dml_cmd_bench,
                            "--recompute is about learning, which --infer leaves out.");
        return false;
    }
    *ret = (struct dml_bench_options){
        .batch = (uint64_t)batch,
        .n_threads = (unsigned)threads,
        .infer = o->infer,
        .recompute = o->recompute,
        .layers = o->layers,
        .optimizer = (enum dml_optim_kind)i,
        .seconds = seconds,
    };
    return true;
}

static json_t *layers_json(const struct dml_bench_result *b)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < b->n_layers; i++) {
        const struct dml_bench_layer *l = &b->layers[i];
        (void)json_array_append_new(
            array, json_pack("{s:o, s:o, s:o, s:o}", "layer", dml_json_text(l->words), "forward_us",
                             dml_json_real(l->forward_us), "backward_us",
                             dml_json_real(l->backward_us), "gflops", dml_json_real(l->gflops)));
    }
    return array;
}

static json_t *to_json(const struct dml_model *m, const struct dml_bench_options *o,
                       const struct dml_bench_result *b)
{
    static const char *const optimizers[] = {"sgd", "adam", "adamw"};
    json_t *object = json_pack(
        "{s:o, s:I, s:I, s:b, s:b, s:s, s:s}", "model", dml_json_text(dml_model_name(m)), "batch",
        (json_int_t)o->batch, "threads", (json_int_t)o->n_threads, "infer", (int)o->infer,
        "recompute", (int)o->recompute, "optimizer", optimizers[o->optimizer], "level", b->level);
    const struct {
        const char *name;
        double value;
    } reals[] = {
        {"samples_per_s", b->samples_per_s},
        {"best_samples_per_s", b->best_samples_per_s},
        {"cpu_us_per_sample", b->cpu_us_per_sample},
        {"mflop_per_sample", b->mflop_per_sample},
        {"gflops", b->gflops},
        {"peak_gflops", b->peak_gflops},
        {"share_of_peak", b->share_of_peak},
        {"bandwidth_gbs", b->bandwidth_gbs},
    };
    for (size_t i = 0; object && i < ARRAY_SIZE(reals); i++)
        (void)dml_json_set(object, reals[i].name, dml_json_real(reals[i].value));
    if (!object)
        return NULL;
    (void)dml_json_set(object, "n_samples", json_integer((json_int_t)b->n_samples));
    (void)dml_json_set(object, "peak_rss_bytes", json_integer((json_int_t)b->peak_rss_bytes));
    (void)dml_json_set(object, "data_bytes", json_integer((json_int_t)b->data_bytes));
    (void)dml_json_set(object, "memory_bytes", json_integer((json_int_t)b->memory_bytes));
    if (o->layers)
        (void)dml_json_set(object, "layers", layers_json(b));
    return object;
}

static void add_row(struct dml_table *t, const struct dml_model *m,
                    const struct dml_bench_options *o, const struct dml_bench_result *b)
{
    char rss[32];
    dml_table_add(t, "%s", dml_model_name(m));
    dml_table_add(t, "%llu", (unsigned long long)o->batch);
    dml_table_add(t, "%u", o->n_threads);
    dml_table_add(t, "%.0f", b->samples_per_s);
    dml_table_add(t, "%.0f", b->best_samples_per_s);
    dml_table_add(t, "%.2f", b->cpu_us_per_sample);
    dml_table_add(t, "%.1f", b->gflops);
    dml_table_add(t, "%.1f", 100.0 * b->share_of_peak);
    dml_table_add(t, "%s", dml_out_bytes((double)b->peak_rss_bytes, rss, sizeof(rss)));
}

static void print_layers(const struct dml_model *m, const struct dml_bench_result *b)
{
    _cleanup_(dml_table_freep) struct dml_table *t = dml_table_new(5);
    double peak = b->peak_gflops, sum = 0.0;
    if (!t)
        return;
    for (size_t i = 0; i < b->n_layers; i++)
        sum += b->layers[i].forward_us + b->layers[i].backward_us;
    dml_table_left(t, 0);
    dml_table_add(t, "%s", dml_model_name(m));
    dml_table_add(t, "forward µs");
    dml_table_add(t, "backward µs");
    dml_table_add(t, "GFLOP/s");
    dml_table_add(t, "time%%");
    for (size_t i = 0; i < b->n_layers; i++) {
        const struct dml_bench_layer *l = &b->layers[i];
        dml_table_add(t, "%s", l->words);
        dml_table_add(t, "%.2f", l->forward_us);
        dml_table_add(t, "%.2f", l->backward_us);
        dml_table_add(t, "%.1f", l->gflops);
        dml_table_add(t, "%.1f", 100.0 * (l->forward_us + l->backward_us) / sum);
    }
    (void)putchar('\n');
    (void)dml_table_print(t, 2, stdout);
    (void)printf("%.2f µs of CPU time per sample in layers; peak %.0f GFLOP/s\n", sum, peak);
}

/* Measures one model; what it found goes to the table and, when asked for, into the array. */
static int one(const struct dml_ctl *ctl, const char *name, const char *const *dirs,
               const struct dml_bench_options *o, struct dml_table *t, json_t *array)
{
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    struct dml_err err = {0};
    struct dml_bench_result b;
    int r = dml_model_load(name, dirs, &m, &err);
    if (r >= 0)
        r = dml_bench_run(m, o, &b, &err);
    if (r < 0)
        return dml_ctl_fail(r, &err);
    if (array)
        (void)json_array_append_new(array, to_json(m, o, &b));
    add_row(t, m, o, &b);
    if (!ctl->json && o->layers)
        print_layers(m, &b);
    dml_bench_done(&b);
    return DML_CTL_OK;
}

static int is_model(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 6 && !strcmp(entry->d_name + len - 6, ".model");
}

static int all(const struct dml_ctl *ctl, const char *const *dirs,
               const struct dml_bench_options *o, struct dml_table *t, json_t *array)
{
    struct dirent **entries = NULL;
    struct dml_err err = {0};
    int n = scandir(dirs[0], &entries, is_model, alphasort), result = DML_CTL_OK;
    if (n < 0)
        return dml_ctl_fail(
            dml_err_set(&err, -errno, "cannot read the models in %s: %s", dirs[0], strerror(errno)),
            &err);
    for (int i = 0; i < n; i++) {
        char name[256];
        (void)snprintf(name, sizeof(name), "%.*s", (int)strlen(entries[i]->d_name) - 6,
                       entries[i]->d_name);
        free(entries[i]);
        int r = one(ctl, name, dirs, o, t, array);
        result = r != DML_CTL_OK ? r : result; /* the others are measured all the same */
    }
    free(entries);
    return result;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    static const char *const titles[] = {
        "model", "batch", "threads", "samples/s", "best", "CPU µs", "GFLOP/s", "peak%", "memory",
    };
    const struct options *o = options;
    const char *const dirs[] = {o->model_dir ? o->model_dir : DML_MODEL_DIR, NULL};
    struct dml_bench_options bench;
    (void)args;
    (void)n_args;
    if (!take(o, &bench))
        return DML_CTL_USAGE;
    _cleanup_(dml_table_freep) struct dml_table *t = dml_table_new(ARRAY_SIZE(titles));
    _cleanup_(dml_json_unrefp) json_t *array = json_array();
    if (!t || !array)
        return dml_ctl_fail(-ENOMEM, &(struct dml_err){0});
    dml_table_left(t, 0);
    for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
        dml_table_add(t, "%s", titles[i]);
    int r =
        o->model ? one(ctl, o->model, dirs, &bench, t, array) : all(ctl, dirs, &bench, t, array);
    if (r != DML_CTL_OK && json_array_size(array) == 0)
        return r;
    if (ctl->json)
        return dml_out_json(o->model ? json_array_get(array, 0) : array) == DML_CTL_OK
                   ? r
                   : DML_CTL_FAILED;
    if (bench.layers)
        (void)putchar('\n');
    (void)dml_table_print(t, 2, stdout);
    return r;
}

const struct dml_ctl_command dml_cmd_bench = {
    .name = "bench",
    .args = "",
    .max_args = 0,
    .summary = "Measure how fast this machine trains",
    .help =
        "Data are random and in memory. samples/s is the median of nine windows, best the best\n"
        "of them; CPU is the time of all threads per sample; peak is the share of the speed of\n"
        "a matrix product, both by CPU time. DML_KERNEL=base, avx2 or avx512 in the\n"
        "environment limits the vector instructions of dml's own loops.",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
