/* dmlctl models: which models there are, and the layers of one of them. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "nn/model.h"
#include "report/json.h"
#include "report/table.h"

struct options {
    const char *model_dir;
};

static const struct dml_ctl_option options_table[] = {
    {"model-dir", "DIR", offsetof(struct options, model_dir),
     "Where models are, instead of " DML_MODEL_DIR},
    {0},
};

static int is_model(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 6 && !strcmp(entry->d_name + len - 6, ".model");
}

static void shape(const struct dml_model *m, char *buf, size_t buf_len)
{
    uint32_t c, h, w;
    dml_model_input_shape(m, &c, &h, &w);
    if (h == 1 && w == 1)
        (void)snprintf(buf, buf_len, "%u", c);
    else
        (void)snprintf(buf, buf_len, "%u×%u×%u", c, h, w);
}

static json_t *model_json(const struct dml_model *m)
{
    char input[64];
    shape(m, input, sizeof(input));
    return json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", dml_model_name(m), "input", input,
                     "outputs", (json_int_t)dml_model_n_outputs(m), "layers",
                     (json_int_t)dml_model_n_layers(m), "parameters",
                     (json_int_t)dml_model_n_params(m));
}

/* One model in full. */
static int show(const struct dml_ctl *ctl, const char *name, const char *const *dirs)
{
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    _cleanup_(dml_mem_freep) char *text = NULL;
    struct dml_err err = {0};
    int r = dml_model_load(name, dirs, &m, &err);
    if (r < 0)
        return dml_ctl_fail(r, &err);
    if (ctl->json) {
        _cleanup_(dml_json_unrefp) json_t *object = model_json(m);
        return dml_out_json(object);
    }
    r = dml_model_print(m, &text);
    if (r < 0)
        return dml_ctl_fail(r, &err);
    (void)fputs(text, stdout);
    return DML_CTL_OK;
}

static int list(const struct dml_ctl *ctl, const char *const *dirs)
{
    struct dirent **entries = NULL;
    int n = scandir(dirs[0], &entries, is_model, alphasort), result = DML_CTL_OK;
    struct dml_err err = {0};
    if (n < 0)
        return dml_ctl_fail(
            dml_err_set(&err, -errno, "cannot read the models in %s: %s", dirs[0], strerror(errno)),
            &err);
    _cleanup_(dml_table_freep) struct dml_table *t = dml_table_new(5);
    _cleanup_(dml_json_unrefp) json_t *array = json_array();
    static const char *const titles[] = {"model", "input", "outputs", "layers", "parameters"};
    for (size_t i = 0; t && i < ARRAY_SIZE(titles); i++)
        dml_table_add(t, "%s", titles[i]);
    for (int i = 0; i < n; i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = NULL;
        char input[64], name[256];
        (void)snprintf(name, sizeof(name), "%.*s", (int)strlen(entries[i]->d_name) - 6,
                       entries[i]->d_name);
        free(entries[i]);
        int r = dml_model_load(name, dirs, &m, &err);
        if (r < 0) {
            result = dml_ctl_fail(r, &err); /* the others are shown all the same */
            continue;
        }
        shape(m, input, sizeof(input));
        if (t) {
            dml_table_add(t, "%s", name);
            dml_table_add(t, "%s", input);
            dml_table_add(t, "%zu", dml_model_n_outputs(m));
            dml_table_add(t, "%zu", dml_model_n_layers(m));
            dml_table_add(t, "%zu", dml_model_n_params(m));
        }
        (void)json_array_append_new(array, model_json(m));
    }
    free(entries);
    if (ctl->json)
        return dml_out_json(array) == DML_CTL_OK ? result : DML_CTL_FAILED;
    if (t) {
        dml_table_left(t, 0);
        (void)dml_table_print(t, 3, stdout);
    }
    return result;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    const struct options *o = options;
    const char *const dirs[] = {o->model_dir ? o->model_dir : DML_MODEL_DIR, NULL};
    return n_args > 0 ? show(ctl, args[0], dirs) : list(ctl, dirs);
}

const struct dml_ctl_command dml_cmd_models = {
    .name = "models",
    .args = "[NAME|FILE]",
    .max_args = 1,
    .summary = "List the models, or the layers of one",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
