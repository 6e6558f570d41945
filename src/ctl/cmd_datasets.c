/* dmlctl datasets: which data sets can be read, where they are looked for, where to get them. */
#include <stdio.h>

#include "ctl/commands.h"
#include "ctl/out.h"
#include "data/dataset.h"
#include "report/table.h"

/* Made-up data have a default path that is empty: nothing is read. */
static bool has_path(const struct dml_dataset_format *f)
{
    return f->default_path && *f->default_path;
}

static bool is_here(const struct dml_dataset_format *f)
{
    return f->default_path && (!*f->default_path || access(f->default_path, R_OK) == 0);
}

static int print_as_json(const struct dml_dataset_format *const *formats)
{
    _cleanup_(dml_json_unrefp) json_t *array = json_array();
    for (; *formats; formats++) {
        const struct dml_dataset_format *f = *formats;
        json_t *object =
            json_pack("{s:s, s:s, s:s?, s:b, s:s?}", "name", f->name, "summary", f->summary, "path",
                      f->default_path, "here", is_here(f), "where_to_get", f->where_to_get);
        (void)json_array_append_new(array, object);
    }
    return dml_out_json(array);
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    (void)options, (void)args, (void)n_args;
    const struct dml_dataset_format *const *formats = dml_dataset_formats();
    if (ctl->json)
        return print_as_json(formats);
    for (; *formats; formats++) {
        const struct dml_dataset_format *f = *formats;
        (void)puts(f->name);
        dml_table_wrap(f->summary, 78, 4, 4, stdout);
        if (has_path(f))
            (void)printf("    %s (%s)\n", f->default_path, is_here(f) ? "here" : "not here");
        if (f->where_to_get)
            dml_table_wrap(f->where_to_get, 78, 4, 4, stdout);
    }
    return DML_CTL_OK;
}

const struct dml_ctl_command dml_cmd_datasets = {
    .name = "datasets",
    .args = "",
    .summary = "List the data sets that can be read, and where to get them",
    .exec = exec,
};
