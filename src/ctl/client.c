#include "ctl/client.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"

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
