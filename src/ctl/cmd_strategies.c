/* dmlctl strategies: the plugins that aggregate, with their keys for [strategy]. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "report/table.h"
#include "strategy/loader.h"

struct options {
    const char *plugin_dir;
};

static const struct dml_ctl_option options_table[] = {
    {"plugin-dir", "DIR", offsetof(struct options, plugin_dir),
     "Where strategies are, instead of " DML_PLUGIN_DIR},
    {0},
};

static json_t *strategy_json(const struct dml_strategy *s)
{
    json_t *keys = json_array();
    for (const struct dml_opt *o = s->opts; keys && o && o->name; o++)
        (void)json_array_append_new(keys,
                                    json_pack("{s:s, s:s?, s:s?, s:s?}", "name", o->name, "default",
                                              o->dflt, "unit", o->unit, "help", o->help));
    return json_pack("{s:s, s:s, s:s, s:b, s:o}", "name", s->name, "summary", s->summary, "source",
                     s->source, "mean", !!(s->flags & DML_STRATEGY_MEAN), "keys", keys);
}

static void print_strategy(const struct dml_strategy *s)
{
    (void)puts(s->name);
    dml_table_wrap(s->summary, 78, 4, 4, stdout);
    dml_table_wrap(s->source, 78, 4, 4, stdout);
    if (s->opts)
        dml_opt_help(s->opts, stdout);
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    const struct options *o = options;
    const char *dir = o->plugin_dir ? o->plugin_dir : DML_PLUGIN_DIR;
    _cleanup_(dml_mem_freep) char **names = NULL;
    _cleanup_(dml_json_unrefp) json_t *array = json_array();
    struct dml_err err = {0};
    int result = DML_CTL_OK, r = dml_loader_list(dir, &names);
    (void)args, (void)n_args;
    if (r < 0)
        return dml_ctl_fail(dml_err_set(&err, r, "cannot read the strategies in %s", dir), &err);
    if (!names[0])
        return dml_ctl_fail(dml_err_set(&err, -ENOENT, "there are no strategies in %s", dir), &err);
    for (size_t i = 0; names[i]; i++) {
        _cleanup_(dml_loader_closep) struct dml_loader *loader = NULL;
        r = dml_loader_open(dir, names[i], &loader, &err);
        if (r < 0) { /* the others are shown all the same */
            result = dml_ctl_fail(r, &err);
            err = (struct dml_err){0};
        } else if (ctl->json) {
            (void)json_array_append_new(array, strategy_json(dml_loader_strategy(loader)));
        } else {
            print_strategy(dml_loader_strategy(loader));
        }
    }
    if (ctl->json && dml_out_json(array) != DML_CTL_OK)
        return DML_CTL_FAILED;
    return result;
}

const struct dml_ctl_command dml_cmd_strategies = {
    .name = "strategies",
    .args = "",
    .summary = "List the aggregation strategies and their keys",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
