/* One question to the master that the command line names. */
#pragma once

#include "ctl/ctl.h"
#include "rpc/control.h"

#define DML_CLIENT_CONNECT_US                                                                      \
    UINT64_C(5000000) /* a master that is there answers in milliseconds                            \
                       */

/* See dml_control_call(). text and file are borrowed and may be NULL. */
int dml_client_call(const struct dml_ctl *ctl, enum dml_control_command command, const char *text,
                    const char *file, dml_control_reply_fn fn, void *arg, struct dml_err *err);
