/* dmlctl watch: follow what the master does, until Ctrl-C or the master's end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/display.h"
#include "report/json.h"

struct watch {
    const struct dml_ctl *ctl;
    struct dml_display *display;
};

static int take_reply(void *arg, const char *json)
{
    struct watch *w = arg;
    if (w->ctl->json) {
        /* A line at once: whoever reads it may be waiting for it. */
        return puts(json) < 0 || fflush(stdout) != 0 ? -EPIPE : 0;
    }
    _cleanup_(dml_json_unrefp) json_t *object = NULL;
    struct dml_status status;
    if (dml_json_parse(json, strlen(json), "record", &object, NULL) < 0)
        return 0;
    if (json_object_get(object, "DML_EVENT"))
        dml_display_record(w->display, json);
    else if (dml_status_unpack(json, strlen(json), &status, NULL) == 0)
        dml_display_status(w->display, &status);
    return 0;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    struct dml_err err = {0};
    _cleanup_(dml_display_freep) struct dml_display *display = dml_display_new(false);
    struct watch w = {.ctl = ctl, .display = display};
    (void)options, (void)args, (void)n_args;
    if (!display)
        return dml_ctl_fail(-ENOMEM, &err);
    int r = dml_client_call(ctl, DML_CONTROL_WATCH, NULL, NULL, take_reply, &w, &err);
    if (r < 0) {
        display = dml_display_free(display);
        return dml_ctl_fail(r, &err);
    }
    return DML_CTL_OK;
}

const struct dml_ctl_command dml_cmd_watch = {
    .name = "watch",
    .args = "",
    .summary = "Follow what the master does, until Ctrl-C",
    .help = "With --json: the status, then one record a line, with the fields of the journal.",
    .exec = exec,
};
