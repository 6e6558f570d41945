/*
 * dmlctl evaluate: a checkpoint against the test set of a data set.
 *
 * The checkpoint brings the normalisation it was trained with; the data set's own statistics are
 * not used, so a model is judged on what it will see in use. Classes must have the same names in
 * the same order: class 3 of one CSV file need not be class 3 of another.
 *
 * One pass gives both the loss and the predictions, from which the confusion matrix is counted.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "data/batch.h"
#include "nn/checkpoint.h"
#include "nn/model.h"
#include "nn/trainer.h"
#include "report/table.h"

#define BLOCK_MAX   256u /* samples per pass */
#define CLASSES_MAX 20u /* of a confusion matrix that is printed; columns must fit a terminal */

struct options {
    const char *path;
};

static const struct dml_ctl_option options_table[] = {
    {"path", "PATH", offsetof(struct options, path),
     "The data set's file or folder, instead of its usual place"},
    {0},
};

/* What was found: sums over the samples. */
struct tally {
    size_t n, correct;
    double loss;
    uint64_t *confusion; /* [true class][predicted class]; NULL for regression */
    size_t n_classes;
};

/* "key=value" for any key of [data]; the shell has taken quotes away already. */
static int set_data_key(struct dml_data_options *o, const char *word, struct dml_err *err)
{
    const char *equals = strchr(word, '=');
    char key[64];
    if (!equals)
        return dml_err_set(err, -EINVAL, "'%s' is not KEY=VALUE", word);
    (void)snprintf(key, sizeof(key), "%.*s", (int)(equals - word), word);
    const struct dml_opt *opt = dml_opt_find(dml_data_opts, "data", key);
    if (opt)
        return dml_opt_set(opt, o, equals + 1, "command line", 0, err);
    const char *words[64];
    size_t n = 0;
    for (const struct dml_opt *row = dml_data_opts; row->name && n < ARRAY_SIZE(words); row++)
        words[n++] = row->name;
    const char *near = dml_opt_nearest(key, words, n);
    return dml_err_set(err, -EINVAL, "there is no key %s in [data]%s%s%s", key,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int load_data(const struct options *o, char **args, int n_args, struct dml_dataset **ret,
                     struct dml_err *err)
{
    struct dml_data_options data = {0};
    struct dml_dataset *train = NULL;
    int r = dml_opt_defaults(dml_data_opts, &data);
    if (r >= 0)
        r = dml_opt_set(dml_opt_find(dml_data_opts, "data", "dataset"), &data, args[1],
                        "command line", 0, err);
    if (r >= 0 && o->path)
        r = dml_opt_set(dml_opt_find(dml_data_opts, "data", "path"), &data, o->path, "command line",
                        0, err);
    for (int i = 2; r >= 0 && i < n_args; i++)
        r = set_data_key(&data, args[i], err);
    if (r >= 0)
        r = dml_dataset_load(&data, &train, ret, err);
    dml_dataset_free(train);
    dml_opt_done(dml_data_opts, &data);
    return r;
}

static int check_classes(const struct dml_checkpoint *c, const struct dml_dataset *ds,
                         struct dml_err *err)
{
    for (uint32_t i = 0; ds->class_names && c->class_names && i < ds->n_classes; i++)
        if (i >= c->n_classes || strcmp(c->class_names[i], ds->class_names[i]))
            return dml_err_set(err, -EINVAL,
                               "the model's class %u is '%s', the data set's is '%s': it was "
                               "trained on other classes",
                               i, i < c->n_classes ? c->class_names[i] : "", ds->class_names[i]);
    return 0;
}

static int adopt_statistics(const struct dml_checkpoint *c, struct dml_dataset *ds,
                            struct dml_err *err)
{
    int r = dml_model_check_data(c->model, ds->channels, ds->height, ds->width, ds->n_classes, err);
    if (r >= 0)
        r = check_classes(c, ds, err);
    if (r < 0)
        return r;
    if (c->n_channels != ds->channels)
        return dml_err_set(err, -EINVAL,
                           "the checkpoint was made for data of %u channels, these have %u",
                           c->n_channels, ds->channels);
    memcpy(ds->mean, c->mean, c->n_channels * sizeof(*ds->mean));
    memcpy(ds->scale, c->scale, c->n_channels * sizeof(*ds->scale));
    return 0;
}

static size_t largest(const float *y, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (y[i] > y[best])
            best = i;
    return best;
}

static int judge(const struct dml_checkpoint *c, const struct dml_dataset *ds, struct tally *t,
                 struct dml_err *err)
{
    size_t d = dml_model_n_inputs(c->model), o = dml_model_n_outputs(c->model);
    size_t n_classes = dml_model_n_classes(c->model);
    uint64_t bytes;
    size_t block = dml_trainer_eval_block(c->model, &bytes);
    block = block < BLOCK_MAX ? block : BLOCK_MAX;
    if (block == 0)
        return dml_err_set(err, -ENOMEM,
                           "%s needs %llu MiB to judge one sample, at most %llu are allowed",
                           dml_model_name(c->model), (unsigned long long)(bytes >> 20),
                           (unsigned long long)(DML_TRAINER_EVAL_MAX >> 20));
    _cleanup_(dml_mem_freep) float *x = dml_mem_floats(block * d);
    _cleanup_(dml_mem_freep) float *y = dml_mem_floats(block * o);
    _cleanup_(dml_mem_freep) float *space =
        dml_mem_floats(dml_model_workspace(c->model, block, false));
    if (!x || !y || !space)
        return -ENOMEM;
    for (size_t first = 0; first < ds->n_samples; first += block) {
        uint32_t index[BLOCK_MAX];
        int32_t labels[BLOCK_MAX];
        float targets[BLOCK_MAX];
        size_t n = ds->n_samples - first < block ? ds->n_samples - first : block, correct = 0;
        double loss = 0.0;
        for (size_t i = 0; i < n; i++)
            index[i] = (uint32_t)(first + i);
        dml_batch_fill(ds, index, n, 0, NULL, x, ds->labels ? labels : NULL,
                       ds->labels ? NULL : targets);
        dml_model_forward(c->model, c->vec, NULL, x, n, NULL, space, y);
        /* Before the loss, which may use y for its own purposes. */
        for (size_t i = 0; t->confusion && i < n; i++)
            t->confusion[(size_t)labels[i] * t->n_classes + largest(y + (i + 1) * o - n_classes, n_classes)]++;
        dml_model_loss_grad(c->model, x, y, labels, targets, n, 1.0, &loss, &correct, NULL);
        t->loss += loss;
        t->correct += correct;
        t->n += n;
    }
    t->loss /= (double)(t->n ? t->n : 1);
    if (!isfinite(t->loss))
        return dml_err_set(err, -ERANGE,
                           "the loss over these %zu samples is not a number: they hold values too "
                           "large for %s, or its training diverged",
                           t->n, dml_model_name(c->model));
    return 0;
}

static const char *class_name(const struct dml_dataset *ds, size_t i, char *buf, size_t buf_len)
{
    if (ds->class_names && ds->class_names[i])
        (void)snprintf(buf, buf_len, "%s", ds->class_names[i]);
    else
        (void)snprintf(buf, buf_len, "%zu", i);
    return buf;
}

static void print_classes(const struct dml_dataset *ds, const struct tally *t)
{
    size_t n = t->n_classes, n_columns = n <= 10 ? n : 0; /* else the counts alone */
    char name[DML_DATASET_NAME_MAX];
    _cleanup_(dml_table_freep) struct dml_table *table = dml_table_new(3 + n_columns);
    if (!table)
        return;
    dml_table_left(table, 0);
    dml_table_add(table, "class");
    dml_table_add(table, "samples");
    dml_table_add(table, "right%%");
    for (size_t k = 0; k < n_columns; k++)
        dml_table_add(table, "→%zu", k);
    for (size_t i = 0; i < n; i++) {
        uint64_t sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += t->confusion[i * n + k];
        dml_table_add(table, "%zu %s", i, class_name(ds, i, name, sizeof(name)));
        dml_table_add(table, "%llu", (unsigned long long)sum);
        if (sum > 0)
            dml_table_add(table, "%.1f", 100.0 * (double)t->confusion[i * n + i] / (double)sum);
        else
            dml_table_add(table, "–");
        for (size_t k = 0; k < n_columns; k++)
            dml_table_add(table, "%llu", (unsigned long long)t->confusion[i * n + k]);
    }
    (void)putchar('\n');
    (void)dml_table_print(table, 2, stdout);
}

static json_t *classes_json(const struct dml_dataset *ds, const struct tally *t)
{
    json_t *array = json_array();
    char name[DML_DATASET_NAME_MAX];
    for (size_t i = 0; array && i < t->n_classes; i++) {
        json_t *row = json_array();
        for (size_t k = 0; row && k < t->n_classes; k++)
            (void)json_array_append_new(
                row, json_integer((json_int_t)t->confusion[i * t->n_classes + k]));
        (void)json_array_append_new(array,
                                    json_pack("{s:o, s:o}", "class",
                                              dml_json_text(class_name(ds, i, name, sizeof(name))),
                                              "predicted", row));
    }
    return array;
}

static int print_tally(const struct dml_ctl *ctl, const struct dml_checkpoint *c,
                       const struct dml_dataset *ds, const char *dataset, const struct tally *t)
{
    double accuracy = (double)t->correct / (double)(t->n ? t->n : 1);
    if (ctl->json) {
        _cleanup_(dml_json_unrefp) json_t *object = json_pack(
            "{s:s, s:o, s:I, s:o}", "model", dml_model_name(c->model), "dataset",
            dml_json_text(dataset), "n", (json_int_t)t->n, "loss", dml_json_real(t->loss));
        if (object && t->confusion) {
            (void)dml_json_set(object, "accuracy", json_real(accuracy));
            (void)dml_json_set(object, "confusion", classes_json(ds, t));
        }
        return dml_out_json(object);
    }
    (void)printf("%s, trained on %s (%s, %llu rounds), on the test set of %s\n",
                 dml_model_name(c->model), c->dataset, c->testcase, (unsigned long long)c->round,
                 dataset);
    (void)printf("samples    %zu\nloss       %.4f\n", t->n, t->loss);
    if (!t->confusion)
        return DML_CTL_OK;
    (void)printf("accuracy   %.2f %%\n", 100.0 * accuracy);
    if (t->n_classes <= CLASSES_MAX)
        print_classes(ds, t);
    return DML_CTL_OK;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    _cleanup_(dml_checkpoint_freep) struct dml_checkpoint *c = NULL;
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = NULL;
    _cleanup_(dml_mem_freep) uint64_t *confusion = NULL;
    struct dml_err err = {0};
    int r = dml_checkpoint_load(args[0], &c, &err);
    if (r >= 0)
        r = load_data(options, args, n_args, &ds, &err);
    if (r >= 0)
        r = adopt_statistics(c, ds, &err);
    if (r < 0)
        return dml_ctl_fail(r, &err);
    struct tally t = {.n_classes = ds->labels ? ds->n_classes : 0};
    if (ds->labels && t.n_classes <= 1000) {
        confusion = calloc(t.n_classes * t.n_classes, sizeof(*confusion));
        if (!confusion)
            return dml_ctl_fail(-ENOMEM, &err);
        t.confusion = confusion;
    }
    r = judge(c, ds, &t, &err);
    return r < 0 ? dml_ctl_fail(r, &err) : print_tally(ctl, c, ds, args[1], &t);
}

const struct dml_ctl_command dml_cmd_evaluate = {
    .name = "evaluate",
    .args = "MODEL DATASET [KEY=VALUE]…",
    .min_args = 2,
    .max_args = 64,
    .summary = "Judge a trained model, a checkpoint file, on the test set of a data set",
    .help = "Prints the loss, the accuracy, and how often each class was taken for which.\n"
            "KEY=VALUE is any key of the section [data], as for CSV files:\n"
            "  dmlctl evaluate sdss.dmlmodel csv --path sdss.csv label=class "
            "features='u g r i z redshift'",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
