/*
 * The command line. getopt_long() would do the splitting, but not say which option was probably
 * meant, nor write the help from the same rows; with those, the splitting is the smaller part.
 *
 * Options may stand before and after arguments; "--" ends them; "--name value" and "--name=value"
 * are the same.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/opt.h"
#include "ctl/ctl.h"
#include "report/table.h"

static const struct dml_ctl_option globals[] = {
    {"master", "TARGET", offsetof(struct dml_ctl, master),
     "Whom to ask: unix:PATH, HOST or HOST:PORT"},
    {"json", NULL, offsetof(struct dml_ctl, json), "Answer as JSON, for scripts"},
    {"help", NULL, offsetof(struct dml_ctl, help), "Say what there is, and end"},
    {"version", NULL, offsetof(struct dml_ctl, version), "Say the version, and end"},
    {0},
};

int dml_ctl_fail(int r, const struct dml_err *err)
{
    char sentence[sizeof(err->file) + sizeof(err->text) + 16];
    (void)fprintf(stderr, "dmlctl: %s\n", dml_err_format(err, r, sentence, sizeof(sentence)));
    return r == -EHOSTDOWN ? DML_CTL_NO_MASTER : DML_CTL_FAILED;
}

int dml_ctl_usage(const struct dml_ctl_command *cmd, const char *fmt, ...)
{
    va_list ap;
    (void)fputs("dmlctl: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\nTry 'dmlctl %s%s--help'.\n", cmd ? cmd->name : "", cmd ? " " : "");
    return DML_CTL_USAGE;
}

bool dml_ctl_number(const struct dml_ctl_command *cmd, const char *what, const char *text, long min,
                    long max, long *ret)
{
    char *end = NULL;
    errno = 0;
    long x = strtol(text, &end, 10);
    if (errno || end == text || *end || x < min || x > max) {
        (void)dml_ctl_usage(cmd, "%s must be a whole number from %ld to %ld, not '%s'.", what, min,
                            max, text);
        return false;
    }
    *ret = x;
    return true;
}

static const struct dml_ctl_option *find(const struct dml_ctl_option *table, const char *name,
                                         size_t len)
{
    for (; table && table->name; table++)
        if (strlen(table->name) == len && !strncmp(table->name, name, len))
            return table;
    return NULL;
}

static int unknown(const struct dml_ctl_command *cmd, const char *name, size_t len)
{
    const char *words[64];
    size_t n = 0;
    for (const struct dml_ctl_option *o = cmd ? cmd->options : NULL; o && o->name; o++)
        words[n++] = o->name;
    for (const struct dml_ctl_option *o = globals; o->name; o++)
        words[n++] = o->name;
    char word[64];
    (void)snprintf(word, sizeof(word), "%.*s", (int)len, name);
    const char *near = dml_opt_nearest(word, words, n);
    return dml_ctl_usage(cmd, "there is no option --%s%s%s%s", word,
                         near ? "; did you mean --" : ".", near ? near : "", near ? "?" : "");
}

/* One option at argv[i]. Returns how many words it took, or -1 with the sentence printed. */
static int take_option(const struct dml_ctl_command *cmd, struct dml_ctl *ctl, void *options,
                       int argc, char **argv, int i)
{
    const char *word = argv[i];
    if (!strcmp(word, "-h"))
        word = "--help";
    if (strncmp(word, "--", 2)) {
        (void)dml_ctl_usage(cmd, "there is no option %s; options have two dashes.", word);
        return -1;
    }
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct dml_ctl_option *o = find(cmd ? cmd->options : NULL, name, len);
    void *target = options;
    if (!o) {
        o = find(globals, name, len);
        target = ctl;
    }
    if (!o) {
        (void)unknown(cmd, name, len);
        return -1;
    }
    void *field = (char *)target + o->offset;
    if (!o->arg) {
        if (equals) {
            (void)dml_ctl_usage(cmd, "--%s takes no value.", o->name);
            return -1;
        }
        *(bool *)field = true;
        return 1;
    }
    if (!equals && i + 1 >= argc) {
        (void)dml_ctl_usage(cmd, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
        return -1;
    }
    *(const char **)field = equals ? equals + 1 : argv[i + 1];
    return equals ? 1 : 2;
}

int dml_ctl_parse(const struct dml_ctl_command *cmd, struct dml_ctl *ctl, void *options, int argc,
                  char **argv, int first, char **args, int *ret_n_args, int *ret_next)
{
    int n = 0, i = first;
    bool only_args = false;
    while (i < argc) {
        if (!only_args && !strcmp(argv[i], "--")) {
            only_args = true;
            i++;
        } else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
            int taken = take_option(cmd, ctl, options, argc, argv, i);
            if (taken < 0)
                return DML_CTL_USAGE;
            i += taken;
        } else if (!cmd) {
            break;
        } else {
            args[n++] = argv[i++];
        }
    }
    *ret_n_args = n;
    *ret_next = i;
    return DML_CTL_OK;
}

static void print_options(const struct dml_ctl_option *table)
{
    for (; table && table->name; table++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "--%s%s%s", table->name, table->arg ? " " : "",
                       table->arg ? table->arg : "");
        (void)printf("  %-22s %s\n", left, table->help);
    }
}

void dml_ctl_help(const struct dml_ctl_command *cmd)
{
    if (cmd) {
        (void)printf("Usage: dmlctl %s%s%s%s\n\n%s.\n", cmd->name, cmd->options ? " [OPTION]…" : "",
                     *cmd->args ? " " : "", cmd->args, cmd->summary);
        if (cmd->help)
            (void)printf("\n%s\n", cmd->help);
        if (cmd->options)
            (void)puts("\nOptions:");
        print_options(cmd->options);
        (void)puts("\nOptions of every command:");
        print_options(globals);
        return;
    }
    (void)puts("Usage: dmlctl [OPTION]… COMMAND [ARGUMENT]…\n\n"
               "Talks to a master of dml, and reads what it wrote.\n\nCommands:");
    for (size_t i = 0; dml_ctl_commands[i]; i++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "%s %s", dml_ctl_commands[i]->name,
                       dml_ctl_commands[i]->args);
        (void)printf("  %-22s %s\n", left, dml_ctl_commands[i]->summary);
    }
    (void)puts("\nOptions of every command:");
    print_options(globals);
    (void)puts("\nThe master is --master, else $DML_MASTER, else unix:" DML_RUN_DIR
               "/control.sock.\n"
               "Exit status: 0 done, 1 failed, 2 not understood, 3 no master there.\n"
               "'dmlctl COMMAND --help' says more; so does dmlctl(1).");
}
