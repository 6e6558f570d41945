/* The table of commands, and how one of them is chosen. */
#include "config.h"

#include "ctl/ctl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opt.h"
#include "ctl/commands.h"

const struct dml_ctl_command *const dml_ctl_commands[] = {
    &dml_cmd_run,
    &dml_cmd_check,
    &dml_cmd_status,
    &dml_cmd_workers,
    &dml_cmd_watch,
    &dml_cmd_stop,
    &dml_cmd_report,
    &dml_cmd_evaluate,
    &dml_cmd_strategies,
    &dml_cmd_models,
    &dml_cmd_datasets,
    &dml_cmd_bench,
    NULL,
};

static const struct dml_ctl_command *choose(const char *name)
{
    const char *words[32];
    size_t n = 0;
    for (; dml_ctl_commands[n]; n++) {
        if (!strcmp(dml_ctl_commands[n]->name, name))
            return dml_ctl_commands[n];
        assert(n < ARRAY_SIZE(words));
        words[n] = dml_ctl_commands[n]->name;
    }
    const char *near = dml_opt_nearest(name, words, n);
    (void)dml_ctl_usage(NULL, "there is no command '%s'%s%s%s", name,
                        near ? "; did you mean '" : ".", near ? near : "", near ? "'?" : "");
    return NULL;
}

/* What was printed has arrived. An error may be older than the last flush: of a long answer whose
 * end went into an empty buffer. Returns r, or DML_CTL_FAILED instead of DML_CTL_OK. */
static int finish(int r)
{
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || r != DML_CTL_OK)
        return r;
    (void)fprintf(stderr, "dmlctl: cannot write the answer%s%s\n", errno ? ": " : "",
                  errno ? strerror(errno) : "");
    return DML_CTL_FAILED;
}

static int run_command(const struct dml_ctl_command *cmd, struct dml_ctl *ctl, int argc,
                       char **argv, int first)
{
    /* As aligned as anything an options struct may hold. */
    _Alignas(max_align_t) unsigned char options[DML_CTL_OPTIONS_MAX] = {0};
    _cleanup_(dml_mem_freep) char **args = calloc((size_t)argc + 1, sizeof(*args));
    int n_args = 0, next = 0;
    assert(cmd->options_size <= sizeof(options));
    if (!args)
        return DML_CTL_FAILED;
    int r = dml_ctl_parse(cmd, ctl, options, argc, argv, first, args, &n_args, &next);
    if (r != DML_CTL_OK)
        return r;
    if (ctl->help) {
        dml_ctl_help(cmd);
        return finish(DML_CTL_OK);
    }
    if (n_args < cmd->min_args)
        return dml_ctl_usage(cmd, "something is missing: dmlctl %s %s", cmd->name, cmd->args);
    if (n_args > cmd->max_args)
        return dml_ctl_usage(cmd, "'%s' is one argument too many: dmlctl %s %s",
                             args[cmd->max_args], cmd->name, cmd->args);
    return finish(cmd->exec(ctl, options, args, n_args));
}

int dml_ctl_main(int argc, char **argv)
{
    const char *master = getenv("DML_MASTER");
    struct dml_ctl ctl = {
        .master = master && *master ? master : "unix:" DML_RUN_DIR "/control.sock",
    };
    int n_args = 0, next = argc;
    int r = dml_ctl_parse(NULL, &ctl, NULL, argc, argv, 1, NULL, &n_args, &next);
    if (r != DML_CTL_OK)
        return r;
    if (ctl.version) {
        (void)puts("dmlctl " PACKAGE_VERSION);
        return finish(DML_CTL_OK);
    }
    if (next >= argc) {
        if (!ctl.help)
            return dml_ctl_usage(NULL, "a command is missing.");
        dml_ctl_help(NULL);
        return finish(DML_CTL_OK);
    }
    const struct dml_ctl_command *cmd = choose(argv[next]);
    return cmd ? run_command(cmd, &ctl, argc, argv, next + 1) : DML_CTL_USAGE;
}
