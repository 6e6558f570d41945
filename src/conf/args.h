/*
 * A daemon's command line: --config FILE, then every key of its option table as --KEY VALUE, which
 * overrides the file, then a few switches of its own.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "base/opt.h"

struct dml_err;

/* A switch without a value. */
struct dml_args_switch {
    const char *name, *help;
    bool *value;
};

struct dml_args {
    const char *program, *summary;
    const char *config; /* the file that is read when it is there and --config is not given */
    const struct dml_opt *table;
    const struct dml_args_switch *switches; /* ends with name == NULL */
};

/*
 * Fills `target` with defaults, the file, and the command line, in this order.
 * Returns 0; 1 when --help or --version was answered on stdout and the program is to end well;
 * -EBADRQC for a wrong command line; otherwise as dml_daemon_load().
 * Opens the log as the rows "log" and "log-level" say; before that, and about mistakes here, it
 * goes to the terminal, or where there is none as by default.
 * Owner: caller, dml_opt_done(table, target), also after an error.
 */
int dml_args_parse(const struct dml_args *args, int argc, char **argv, void *target,
                   struct dml_err *err);

/* Blocks what a daemon waits for, and SIGPIPE. *ret: SIGTERM, SIGINT, SIGHUP. They reach the
 * calling thread alone, also when a library has started threads before. */
void dml_args_block_signals(sigset_t *ret);

/*
 * The one place where a daemon says why it does not start, or does not reload: to the log.
 * Returns the exit code (sysexits.h): 64 wrong command line, 78 wrong configuration, 1 else.
 */
int dml_args_fail(int r, const struct dml_err *err);
