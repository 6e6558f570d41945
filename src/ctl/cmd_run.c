/*
 * dmlctl run: an experiment from its file to its table, on the cluster of a master or inside this
 * process. Progress goes to stderr, the answer to stdout.
 *
 * Ctrl-C asks for an end and still shows what was measured; a second one does not wait for it.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/err.h"
#include "base/log.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/display.h"
#include "ctl/interrupt.h"
#include "ctl/local.h"
#include "ctl/send.h"
#include "report/json.h"
#include "report/result.h"
#include "report/status.h"

struct options {
    bool quiet;
    const char *local, *model_dir, *plugin_dir, *results_dir, *save;
};

static const struct dml_ctl_option options_table[] = {
    {"quiet", NULL, offsetof(struct options, quiet), "No progress, only what went wrong"},
    {"local", "N", offsetof(struct options, local),
     "Without a master: N workers as threads of this process"},
    {"model-dir", "DIR", offsetof(struct options, model_dir),
     "With --local: where models are, instead of " DML_MODEL_DIR},
    {"plugin-dir", "DIR", offsetof(struct options, plugin_dir),
     "With --local: where strategies are, instead of " DML_PLUGIN_DIR},
    {"results-dir", "DIR", offsetof(struct options, results_dir),
     "With --local: where results and models go, instead of ./results-NAME"},
    {"save", "FILE", offsetof(struct options, save),
     "With --local: where the model of the last run goes"},
    {0},
};

/* One call of the command. */
struct session {
    const struct dml_ctl *ctl;
    struct dml_control *control;
    struct dml_display *display;
    struct dml_results *results;
    char *path;
    struct dml_err *err;
    atomic_bool cancel;
};

static int take_reply(void *arg, const char *json)
{
    struct session *s = arg;
    _cleanup_(dml_json_unrefp) json_t *object = NULL;
    int r = dml_json_parse(json, strlen(json), "the master's answer", &object, s->err);
    if (r < 0)
        return r;
    if (!json_object_get(object, "results")) {
        dml_display_record(s->display, json);
        return 0;
    }
    _cleanup_(dml_mem_freep) char *text = NULL, *path = NULL;
    r = dml_status_results_unpack(json, strlen(json), &text, &path, s->err);
    if (r < 0)
        return r;
    s->results = dml_results_free(s->results);
    r = dml_results_from_json(text, strlen(text), path, &s->results, s->err);
    if (r < 0)
        return r;
    free(s->path);
    s->path = path;
    path = NULL;
    return 0;
}

static int ignore_reply(void *arg, const char *json)
{
    (void)arg, (void)json;
    return 0;
}

/* On the thread that waits for signals. */
static void interrupted_remote(void *arg, unsigned n)
{
    struct session *s = arg;
    struct dml_err err = {0};
    atomic_store(&s->cancel, true);
    if (n > 1) {
        dml_display_say(s->display, "Not waiting for the master; what runs may go on.");
        dml_control_cancel(s->control);
        return;
    }
    dml_display_say(s->display, "Asking the master to stop; Ctrl-C again does not wait for it.");
    int r = dml_client_call(s->ctl, DML_CONTROL_STOP, NULL, NULL, ignore_reply, NULL, &err);
    if (r < 0)
        (void)dml_ctl_fail(r, &err);
}

static void interrupted_local(void *arg, unsigned n)
{
    struct session *s = arg;
    atomic_store(&s->cancel, true);
    dml_display_say(s->display, "Stopping.");
    if (n > 2) /* somebody is in a hurry, and nothing here is lost that is not saved by now */
        dml_interrupt_die();
}

static int run_remote(struct session *s, const char *file)
{
    _cleanup_(dml_control_request_done) struct dml_control_request request = {0};
    int r = dml_send_read(file, &request, s->err);
    if (r >= 0)
        r = dml_control_new(s->ctl->master, &s->control, s->err);
    if (r < 0)
        return r;
    struct dml_interrupt *interrupt = dml_interrupt_new(interrupted_remote, s);
    r = interrupt
            ? dml_control_call(s->control, &request, DML_CLIENT_CONNECT_US, take_reply, s, s->err)
            : -ENOMEM;
    dml_interrupt_free(interrupt);
    s->control = dml_control_free(s->control);
    return r;
}

static int run_local(struct session *s, const struct options *o, const char *file, long n_workers)
{
    const struct dml_local_options options = {
        .file = file,
        .workers = (unsigned)n_workers,
        .model_dir = o->model_dir ? o->model_dir : DML_MODEL_DIR,
        .plugin_dir = o->plugin_dir ? o->plugin_dir : DML_PLUGIN_DIR,
        .results_dir = o->results_dir,
        .save = o->save,
        .cancel = &s->cancel,
        .display = s->display,
    };
    dml_log_init(DML_LOG_NONE, "dmlctl", LOG_WARNING); /* the display tells the events */
    struct dml_interrupt *interrupt = dml_interrupt_new(interrupted_local, s);
    int r = interrupt ? dml_local_run(&options, &s->results, &s->path, s->err) : -ENOMEM;
    dml_interrupt_free(interrupt);
    return r;
}

/* The answer. Returns whether all of it succeeded. */
static bool print_results(const struct session *s)
{
    _cleanup_(dml_mem_freep) char *json = NULL;
    bool all = true;
    for (size_t i = 0; i < s->results->n_cases; i++)
        for (size_t k = 0; k < s->results->cases[i].n_runs; k++)
            all = all && !s->results->cases[i].runs[k].failed;
    if (s->ctl->json) {
        if (dml_results_cases_json(s->results, &json) < 0)
            return false;
        (void)puts(json);
    } else {
        dml_results_print_table(s->results, false, stdout);
    }
    if (s->path)
        (void)fprintf(s->ctl->json ? stderr : stdout, "Results: %s\n", s->path);
    return all && s->results->n_cases > 0;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    const struct options *o = options;
    struct dml_err err = {0};
    long n_workers = 0;
    (void)n_args;
    if (o->local &&
        !dml_ctl_number(&dml_cmd_run, "the number of workers", o->local, 1, 255, &n_workers))
        return DML_CTL_USAGE;
    if (!o->local && (o->model_dir || o->plugin_dir || o->results_dir || o->save))
        return dml_ctl_usage(&dml_cmd_run, "the directories and --save are the master's affair, "
                                           "except with --local.");
    (void)dml_interrupt_block();
    struct session s = {.ctl = ctl, .display = dml_display_new(o->quiet), .err = &err};
    if (!s.display)
        return dml_ctl_fail(-ENOMEM, &err);
    int r = o->local ? run_local(&s, o, args[0], n_workers) : run_remote(&s, args[0]);
    s.display = dml_display_free(s.display);
    int result = DML_CTL_OK;
    if (s.results && s.results->n_cases > 0 && !print_results(&s))
        result = DML_CTL_FAILED;
    if (r >= 0 && !s.results)
        r = dml_err_set(&err, -EBADMSG, "the master sent no results");
    if (r < 0 && atomic_load(&s.cancel) && r == -ECANCELED) {
        (void)fputs("dmlctl: stopped\n", stderr);
        result = DML_CTL_FAILED;
    } else if (r < 0) {
        result = dml_ctl_fail(r, &err);
    }
    dml_results_free(s.results);
    free(s.path);
    return result;
}

const struct dml_ctl_command dml_cmd_run = {
    .name = "run",
    .args = "FILE",
    .min_args = 1,
    .max_args = 1,
    .summary = "Run the test case FILE, show its progress, print its table",
    .help = "On the cluster of the master, or with --local inside this process. Ctrl-C stops the\n"
            "test case and prints what was measured. Exit status 1 when a run failed.",
    .options = options_table,
    .options_size = sizeof(struct options),
    .exec = exec,
};
