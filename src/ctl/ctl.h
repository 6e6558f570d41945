/*
 * dmlctl: one command is one file, a row of a table with its options and a function.
 *
 * Intended usage (cmd_x.c):
 *     struct options { bool loud; const char *dir; };
 *     static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args) { … }
 *     const struct dml_ctl_command dml_cmd_x = {.name = "x", .exec = exec, …};
 * and a line in ctl.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct dml_err;

/* Exit codes, as dmlctl(1) states them. */
enum dml_ctl_exit {
    DML_CTL_OK = 0,
    DML_CTL_FAILED = 1,    /* understood, tried, did not work */
    DML_CTL_USAGE = 2,     /* the command line was not understood */
    DML_CTL_NO_MASTER = 3, /* nobody answers at --master */
};

/* What holds for every command. */
struct dml_ctl {
    const char *master; /* "unix:/run/dml/control.sock", "host", "host:port" */
    bool json;          /* for scripts */
    bool help, version;
};

/* One option: a bool when arg is NULL, else a const char * (borrowed from argv). */
struct dml_ctl_option {
    const char *name, *arg;
    size_t offset; /* of the field in the options struct */
    const char *help;
};

struct dml_ctl_command {
    const char *name;
    const char *args; /* "FILE", "[NAME]": for people; the counts are for us */
    int min_args, max_args;
    const char *summary;                  /* one line without a full stop */
    const char *help;                     /* more lines, or NULL */
    const struct dml_ctl_option *options; /* ends with a NULL name; NULL: none */
    size_t options_size;                  /* of the struct, at most DML_CTL_OPTIONS_MAX */
    /* options: the filled struct. Returns an exit code. */
    int (*exec)(struct dml_ctl *ctl, const void *options, char **args, int n_args);
};

#define DML_CTL_OPTIONS_MAX 128 /* bytes */

/* Ends with NULL, in the order of --help. */
extern const struct dml_ctl_command *const dml_ctl_commands[];

/* All of dmlctl but the process: returns the exit code. argv is reordered. */
int dml_ctl_main(int argc, char **argv);

/* Prints "dmlctl: sentence" to stderr. Returns the exit code that goes with r. */
int dml_ctl_fail(int r, const struct dml_err *err);

/* The same for a mistake in the command line; the sentence is made here. Returns DML_CTL_USAGE. */
int dml_ctl_usage(const struct dml_ctl_command *cmd, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Splits argv[first .. argc) into options and arguments: fills the command's struct (cmd may be
 * NULL: global options only, and parsing ends at the first argument) and *ctl; args: room for argc
 * pointers. Global options are known everywhere.
 * Returns DML_CTL_OK or, with the sentence printed, DML_CTL_USAGE. *ret_next: where parsing ended.
 */
int dml_ctl_parse(const struct dml_ctl_command *cmd, struct dml_ctl *ctl, void *options, int argc,
                  char **argv, int first, char **args, int *ret_n_args, int *ret_next);

/* Help of one command, or of all (cmd NULL), to stdout. */
void dml_ctl_help(const struct dml_ctl_command *cmd);

/* A whole number from min to max. Returns false, with the sentence printed, when it is not. */
bool dml_ctl_number(const struct dml_ctl_command *cmd, const char *what, const char *text, long min,
                    long max, long *ret);
