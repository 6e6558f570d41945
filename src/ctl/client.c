#include "ctl/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "report/json.h"

int dml_client_call(const struct dml_ctl *ctl, enum dml_control_command command, const char *text,
                    const char *file, dml_control_reply_fn fn, void *arg, struct dml_err *err)
{
    _cleanup_(dml_control_freep) struct dml_control *control = NULL;
    _cleanup_(dml_mem_freep) char *own_text = text ? strdup(text) : NULL;
    _cleanup_(dml_mem_freep) char *own_file = file ? strdup(file) : NULL;
    if ((text && !own_text) || (file && !own_file))
        return -ENOMEM;
    int r = dml_control_new(ctl->master, &control, err);
    if (r < 0)
        return r;
    const struct dml_control_request request = {
        .command = command, .text = own_text, .file = own_file};
    return dml_control_call(control, &request, DML_CLIENT_CONNECT_US, fn, arg, err);
}

/* What the reply goes to. */
struct reply {
    const struct dml_ctl *ctl;
    dml_client_show_fn show;
    struct dml_err *err;
    bool seen;
};

static int take_reply(void *arg, const char *json)
{
    struct reply *reply = arg;
    _cleanup_(dml_json_unrefp) json_t *parsed = NULL;
    int r;
    if (reply->ctl->json) {
        r = dml_json_parse(json, strlen(json), "the master's answer", &parsed, reply->err);
        if (r >= 0)
            (void)puts(json);
    } else {
        r = reply->show(reply->ctl, json, reply->err);
    }
    reply->seen = true;
    return r;
}

int dml_client_ask(const struct dml_ctl *ctl, enum dml_control_command command,
                   dml_client_show_fn show)
{
    struct dml_err err = {0};
    struct reply reply = {.ctl = ctl, .show = show, .err = &err};
    int r = dml_client_call(ctl, command, NULL, NULL, take_reply, &reply, &err);
    if (r >= 0 && !reply.seen)
        r = dml_err_set(&err, -EBADMSG, "the master did not answer");
    return r < 0 ? dml_ctl_fail(r, &err) : DML_CTL_OK;
}
