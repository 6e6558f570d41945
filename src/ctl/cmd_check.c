/*
 * dmlctl check: is this test case right, what does it mean, and will it fit? The same tables and
 * the same plan as the run itself uses, so nothing is said here that is not so there.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "conf/fit.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "paradigm/paradigm.h"
#include "paradigm/plan.h"
#include "report/table.h"

struct options {
    bool keys;
    const char *model_dir, *plugin_dir;
};

static const struct dml_ctl_option options_table[] = {
    {"keys", NULL, offsetof(struct options, keys), "List every key with its default and meaning"},
    {"help-keys", NULL, offsetof(struct options, keys), "The same"},
    {"model-dir", "DIR", offsetof(struct options, model_dir),
     "Where models are, instead of " DML_MODEL_DIR},
    {"plugin-dir", "DIR", offsetof(struct options, plugin_dir),
     "Where strategies are, instead of " DML_PLUGIN_DIR},
    {0},
};

/* One case, worked out. */
struct row {
    const struct dml_testcase *tc;
    const char *paradigm, *strategy;
    struct dml_plan plan;
    size_t n_params;
};

static int plan_row(const struct dml_testcase *tc, const char *const *model_dirs, struct row *ret,
                    struct dml_err *err)
{
    _cleanup_(dml_model_freep) struct dml_model *model = NULL;
    const struct dml_paradigm *paradigm = dml_paradigm_get(tc->parallel.paradigm);
    struct dml_plan plan;
    int r = dml_fit_model(tc, model_dirs, &model, err);
    if (r < 0)
        return r;
    r = dml_plan_make(tc, model, 0, &plan, err);
    if (r < 0)
        return r;
    *ret = (struct row){
        .tc = tc,
        .paradigm = paradigm->name,
        .strategy = tc->strategy,
        .plan = plan,
        .n_params = dml_model_n_params(model),
    };
    return 0;
}

static void add_row(struct dml_table *t, const struct row *row)
{
    const struct dml_testcase *tc = row->tc;
    char text[32];
    dml_table_add(t, "%s", tc->label);
    dml_table_add(t, "%llu", (unsigned long long)tc->testcase.nodes);
    if (tc->testcase.cores > 0.0)
        dml_table_add(t, "%g", tc->testcase.cores);
    else
        dml_table_add(t, "all");
    dml_table_add(t, "%llu", (unsigned long long)tc->testcase.repeats);
    dml_table_add(t, "%s%s%s", row->paradigm, *row->strategy ? "/" : "", row->strategy);
    dml_table_add(t, "%s", tc->model.name);
    dml_table_add(t, "%zu", row->n_params);
    dml_table_add(t, "%s", tc->data.dataset);
    dml_table_add(t, "%llu", (unsigned long long)tc->train.rounds);
    dml_table_add(t, "%s", dml_out_bytes((double)row->plan.worker_bytes, text, sizeof(text)));
}

static json_t *row_json(const struct row *row)
{
    const struct dml_testcase *tc = row->tc;
    return json_pack("{s:o, s:o, s:I, s:f, s:I, s:s, s:o, s:o, s:I, s:s, s:I, s:I}", "name",
                     dml_json_text(tc->testcase.name), "label", dml_json_text(tc->label), "nodes",
                     (json_int_t)tc->testcase.nodes, "cores", tc->testcase.cores, "repeats",
                     (json_int_t)tc->testcase.repeats, "paradigm", row->paradigm, "strategy",
                     dml_json_text(row->strategy), "model", dml_json_text(tc->model.name),
                     "parameters", (json_int_t)row->n_params, "dataset", tc->data.dataset, "rounds",
                     (json_int_t)tc->train.rounds, "worker_bytes",
                     (json_int_t)row->plan.worker_bytes);
}

static int check(const struct dml_ctl *ctl, const struct options *o, const char *file)
{
    static const char *const titles[] = {"case",  "nodes",      "cores", "runs",   "paradigm",
                                         "model", "parameters", "data",  "rounds", "worker needs"};
    const char *const dirs[] = {o->model_dir ? o->model_dir : DML_MODEL_DIR, NULL};
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    _cleanup_(dml_table_freep) struct dml_table *t = dml_table_new(ARRAY_SIZE(titles));
    _cleanup_(dml_json_unrefp) json_t *array = json_array();
    struct dml_err err = {0};
    uint64_t n_runs = 0;
    int r = t && array ? dml_testcase_load(file, o->plugin_dir ? o->plugin_dir : DML_PLUGIN_DIR,
                                           &cases, &err)
                       : -ENOMEM;
    for (size_t i = 0; t && i < ARRAY_SIZE(titles); i++)
        dml_table_add(t, "%s", titles[i]);
    for (size_t i = 0; r >= 0 && i < cases->n_cases; i++) {
        struct row row;
        r = plan_row(&cases->cases[i], dirs, &row, &err);
        if (r < 0)
            break;
        n_runs += cases->cases[i].testcase.repeats;
        add_row(t, &row);
        (void)json_array_append_new(array, row_json(&row));
    }
    if (r < 0)
        return dml_ctl_fail(r, &err);
    if (ctl->json)
        return dml_out_json(array);
    const size_t left[] = {0, 4, 5, 7};
    for (size_t i = 0; i < ARRAY_SIZE(left); i++)
        dml_table_left(t, left[i]);
    (void)printf("%s: %zu case%s, %llu run%s\n\n", cases->cases[0].testcase.name, cases->n_cases,
                 cases->n_cases == 1 ? "" : "s", (unsigned long long)n_runs,
                 n_runs == 1 ? "" : "s");
    (void)dml_table_print(t, 2, stdout);
    (void)puts("\nA worker needs that much memory for training and messages, and its share of the\n"
               "data.");
    return DML_CTL_OK;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    const struct options *o = options;
    if (o->keys && n_args > 0)
        return dml_ctl_usage(&dml_cmd_check, "--keys lists the keys of every test case; without it "
                                             "'%s' is checked.", args[0]);
    if (o->keys && ctl->json)
        return dml_ctl_usage(&dml_cmd_check, "--keys is a text for people; there is no JSON of it.");
    if (o->keys) {
        dml_testcase_help(stdout);
        return DML_CTL_OK;
    }
    if (n_args < 1)
        return dml_ctl_usage(&dml_cmd_check, "something is missing: dmlctl check FILE");
    return check(ctl, o, args[0]);
}

const struct dml_ctl_command dml_cmd_check = {
    .name = "check",
    .args = "FILE",
    .max_args = 1,
    .summary = "Check the test case FILE and print the matrix of its cases",
    .help =
        "A mistake is answered with file, line, the word in question and the nearest right one.",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
