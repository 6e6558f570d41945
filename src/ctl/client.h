/* One question to the master that the command line names. */
#pragma once

#include "ctl/ctl.h"
#include "rpc/control.h"

#define DML_CLIENT_CONNECT_US                                                                      \
    UINT64_C(5000000) /* a master that is there answers in milliseconds                            \
                       */

/* Prints a reply for people. Returns 0 or a negative errno. */
typedef int (*dml_client_show_fn)(const struct dml_ctl *ctl, const char *json, struct dml_err *err);

/* A question without words and its one reply, shown, or with --json printed as it came. Says what
 * failed. Returns an exit code. */
int dml_client_ask(const struct dml_ctl *ctl, enum dml_control_command command,
                   dml_client_show_fn show);

/* See dml_control_call(). text and file are borrowed and may be NULL. */
int dml_client_call(const struct dml_ctl *ctl, enum dml_control_command command, const char *text,
                    const char *file, dml_control_reply_fn fn, void *arg, struct dml_err *err);
