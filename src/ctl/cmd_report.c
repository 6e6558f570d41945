/*
 * dmlctl report: results as a table, CSV, JSON or plots. What is given is a file when it exists
 * here; otherwise it is a name, and the master is asked.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "report/plot.h"
#include "report/result.h"
#include "report/status.h"

struct options {
    bool csv, nodes;
    const char *plots;
};

static const struct dml_ctl_option options_table[] = {
    {"csv", NULL, offsetof(struct options, csv), "One row per round, for a spreadsheet"},
    {"nodes", NULL, offsetof(struct options, nodes),
     "What every node computed, transferred and waited, however many; with --csv, a row for each"},
    {"plots", "DIR", offsetof(struct options, plots), "Draw plots as SVG files into DIR"},
    {0},
};

/* Where the master's one reply goes. */
struct reply {
    struct dml_results *results;
    struct dml_err *err;
};

static int take_reply(void *arg, const char *json)
{
    struct reply *reply = arg;
    _cleanup_(dml_mem_freep) char *text = NULL, *path = NULL;
    int r = dml_status_results_unpack(json, strlen(json), &text, &path, reply->err);
    if (r < 0)
        return r;
    reply->results = dml_results_free(reply->results);
    return dml_results_from_json(text, strlen(text), path, &reply->results, reply->err);
}

static int load(const struct dml_ctl *ctl, const char *name, struct dml_results **ret,
                struct dml_err *err)
{
    if (name && (access(name, F_OK) == 0 || strchr(name, '/')))
        return dml_results_load(name, ret, err);
    struct reply reply = {.err = err};
    int r =
        dml_client_call(ctl, DML_CONTROL_REPORT, name ? name : "", NULL, take_reply, &reply, err);
    if (r < 0) {
        dml_results_free(reply.results);
        return r;
    }
    if (!reply.results)
        return dml_err_set(err, -EBADMSG, "the master sent no results");
    *ret = reply.results;
    return 0;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    const struct options *o = options;
    _cleanup_(dml_results_freep) struct dml_results *results = NULL;
    _cleanup_(dml_mem_freep) char *text = NULL;
    struct dml_err err = {0};
    if (o->plots && !*o->plots)
        return dml_ctl_usage(&dml_cmd_report, "--plots needs the name of a folder, not nothing.");
    if (o->csv && ctl->json)
        return dml_ctl_usage(&dml_cmd_report, "--csv and --json are two answers: choose one.");
    int r = load(ctl, n_args > 0 ? args[0] : NULL, &results, &err);
    if (r < 0)
        return dml_ctl_fail(r, &err);
    if (o->plots) {
        unsigned n = 0;
        r = dml_plot_save(results, o->plots, &n, &err);
        if (r < 0)
            return dml_ctl_fail(r, &err);
        (void)fprintf(stderr, "%u plots are in %s\n", n, o->plots);
    }
    if (ctl->json)
        r = dml_results_cases_json(results, &text);
    else if (o->csv)
        r = o->nodes ? dml_results_nodes_csv(results, &text) : dml_results_to_csv(results, &text);
    else
        dml_results_print_table(results, o->nodes, stdout);
    if (r == -ENODATA)
        (void)dml_err_set(&err, r,
                          "no node of these results has figures of its own: they are kept where "
                          "nodes hand each other data in every step");
    if (r < 0)
        return dml_ctl_fail(r, &err);
    if (text)
        (void)printf("%s%s", text, ctl->json ? "\n" : "");
    return DML_CTL_OK;
}

const struct dml_ctl_command dml_cmd_report = {
    .name = "report",
    .args = "[NAME|FILE]",
    .max_args = 1,
    .summary = "Print results as a table; the newest ones when none are named",
    .help = "A FILE that exists here is read; otherwise the master is asked for the results NAME.",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
