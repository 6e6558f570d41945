/* dmlctl stop: end the test case that is running; what it has measured so far is kept. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "report/json.h"

struct reply {
    struct dml_err *err;
    bool stopped;
};

static int take_reply(void *arg, const char *json)
{
    struct reply *reply = arg;
    _cleanup_(dml_json_unrefp) json_t *object = NULL;
    int r = dml_json_parse(json, strlen(json), "the master's answer", &object, reply->err);
    if (r >= 0)
        reply->stopped = json_is_true(json_object_get(object, "stopped"));
    return r;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    struct dml_err err = {0};
    struct reply reply = {.err = &err};
    (void)options, (void)args, (void)n_args;
    int r = dml_client_call(ctl, DML_CONTROL_STOP, NULL, NULL, take_reply, &reply, &err);
    if (r < 0)
        return dml_ctl_fail(r, &err);
    if (ctl->json)
        (void)printf("{\"stopped\": %s}\n", reply.stopped ? "true" : "false");
    else
        (void)puts(reply.stopped ? "The master stops the test case." : "Nothing was running.");
    return DML_CTL_OK;
}

const struct dml_ctl_command dml_cmd_stop = {
    .name = "stop",
    .args = "",
    .summary = "End the test case that is running",
    .help = "What was measured so far is kept. It is no mistake when nothing is running.",
    .exec = exec,
};
