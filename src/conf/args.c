/*
 * Written without getopt_long, because the options are not a fixed list: they are the rows of the
 * table, so that a key added there is an option, is in --help, and has its nearest neighbour named
 * when somebody mistypes it, without a second list to keep.
 *
 * --config is looked for first, so that the command line overrides the file wherever it stands.
 */
#include "config.h"

#include "conf/args.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <syslog.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/daemon.h"

#define N_NAMES_MAX 64 /* rows and switches, for the search of the nearest name */

static const struct dml_args_switch *find_switch(const struct dml_args *args, const char *name)
{
    for (const struct dml_args_switch *s = args->switches; s && s->name; s++)
        if (!strcmp(s->name, name))
            return s;
    return NULL;
}

static int unknown(const struct dml_args *args, const char *name, struct dml_err *err)
{
    const char *names[N_NAMES_MAX] = {"config", "help", "version"};
    size_t n = 3;
    for (const struct dml_opt *o = args->table; o->name && n < N_NAMES_MAX; o++)
        names[n++] = o->name;
    for (const struct dml_args_switch *s = args->switches; s && s->name && n < N_NAMES_MAX; s++)
        names[n++] = s->name;
    const char *near = dml_opt_nearest(name, names, n);
    if (near)
        return dml_err_set(err, -EBADRQC, "There is no option --%s. Did you mean --%s?", name,
                           near);
    return dml_err_set(err, -EBADRQC, "There is no option --%s. See %s --help.", name,
                       args->program);
}

static bool is_known(const struct dml_args *args, const char *name)
{
    return !strcmp(name, "config") || !strcmp(name, "help") || !strcmp(name, "version") ||
           dml_opt_find(args->table, NULL, name) || find_switch(args, name);
}

/* Splits argv[*io_i], "--name=value" or "--name value", into name (own) and value (borrowed, NULL
 * when there is none; *io_i is moved on when it was a word of its own and `wants_value`). */
static int split(const struct dml_args *args, int argc, char **argv, int *io_i, char **ret_name,
                 char **ret_value, struct dml_err *err)
{
    char *word = argv[*io_i];
    if (strncmp(word, "--", 2) != 0 || !word[2])
        return dml_err_set(err, -EBADRQC, "\"%s\" is not an option. See %s --help.", word,
                           args->program);
    char *equals = strchr(word, '=');
    char *name = equals ? strndup(word + 2, (size_t)(equals - word) - 2) : strdup(word + 2);
    if (!name)
        return -ENOMEM;
    if (!is_known(args, name)) {
        int r = unknown(args, name, err);
        free(name);
        return r;
    }
    bool wants_value = !strcmp(name, "config") || dml_opt_find(args->table, NULL, name) != NULL;
    char *value = equals ? equals + 1 : NULL;
    if (wants_value && !value) {
        if (*io_i + 1 >= argc) {
            int r = dml_err_set(err, -EBADRQC, "--%s needs a value.", name);
            free(name);
            return r;
        }
        value = argv[++*io_i];
    }
    *ret_name = name;
    *ret_value = value;
    return 0;
}

static void print_help(const struct dml_args *args)
{
    printf("Usage: %s [--config FILE] [--KEY VALUE]…\n%s\n\n", args->program, args->summary);
    printf("  --config FILE   read FILE and FILE.d/*.conf instead of %s\n", args->config);
    for (const struct dml_args_switch *s = args->switches; s && s->name; s++)
        printf("  --%s   %s\n", s->name, s->help);
    printf("  --help, --version\n\nEvery key of the configuration is an option too and overrides "
           "the file:\n\n");
    dml_opt_help(args->table, stdout);
}

/* One option of the second pass; those of the first are known and skipped. */
static int apply(const struct dml_args *args, const char *name, const char *value, void *target,
                 struct dml_err *err)
{
    if (!strcmp(name, "config"))
        return 0;
    const struct dml_opt *opt = dml_opt_find(args->table, NULL, name);
    if (opt) {
        int r = dml_daemon_set(opt, target, value, "command line", 0, err);
        return r == -EINVAL ? -EBADRQC : r;
    }
    const struct dml_args_switch *s = find_switch(args, name);
    if (value)
        return dml_err_set(err, -EBADRQC, "--%s takes no value.", name);
    *s->value = true;
    return 0;
}

/* Rows "log" (enum dml_log_target) and "log-level", where the table has them. */
static int open_log(const struct dml_args *args, const void *target, struct dml_err *err)
{
    static const char *const names[] = {"err", "warning", "notice", "info", "debug"};
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG};
    const struct dml_opt *where = dml_opt_find(args->table, NULL, "log");
    const struct dml_opt *least = dml_opt_find(args->table, NULL, "log-level");
    if (!where || !least)
        return 0;
    int log;
    const char *level;
    memcpy(&log, (const char *)target + where->offset, sizeof(log));
    memcpy(&level, (const char *)target + least->offset, sizeof(level));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(level, names[i]) != 0)
            continue;
        dml_log_init((enum dml_log_target)log, args->program, priorities[i]);
        return 0;
    }
    return dml_err_set(err, -EINVAL,
                       "\"%s\" is no log-level; err, warning, notice, info and "
                       "debug are.",
                       level);
}

int dml_args_parse(const struct dml_args *args, int argc, char **argv, void *target,
                   struct dml_err *err)
{
    const char *config = NULL;
    dml_log_init(isatty(STDERR_FILENO) ? DML_LOG_TEXT : DML_LOG_AUTO, args->program, LOG_INFO);
    int r = dml_opt_defaults(args->table, target);
    if (r)
        return r;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 1; i < argc; i++) {
            _cleanup_(dml_mem_freep) char *name = NULL;
            char *value = NULL;
            r = split(args, argc, argv, &i, &name, &value, err);
            if (r)
                return r;
            if (pass == 1) {
                r = apply(args, name, value, target, err);
                if (r)
                    return r;
            } else if (!strcmp(name, "help")) {
                print_help(args);
                return 1;
            } else if (!strcmp(name, "version")) {
                printf("%s %s\n", args->program, VERSION);
                return 1;
            } else if (!strcmp(name, "config")) {
                config = value;
            }
        }
        if (pass == 0) {
            r = dml_daemon_load(args->table, target, config ? config : args->config, config != NULL,
                                err);
            if (r)
                return r;
        }
    }
    return open_log(args, target, err);
}

/* Who waits for signals; the handler gets no argument. Set before the handler is. */
static pthread_t waiter;

static void pass_on(int number)
{
    int saved = errno;
    (void)pthread_kill(waiter, number);
    errno = saved;
}

void dml_args_block_signals(sigset_t *ret)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    sigset_t all;
    sigemptyset(ret);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        sigaddset(ret, numbers[i]);
    all = *ret;
    sigaddset(&all, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    /* A library that is linked in may have started threads before main(), as OpenBLAS does. They
     * do not block what is blocked here, and the kernel gives a signal to any thread that does not
     * (signal(7)): such a thread passes on what it gets. */
    waiter = pthread_self();
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        (void)sigaction(numbers[i], &action, NULL);
}

static int exit_code(int r)
{
    switch (r) {
    case -EBADRQC:
        return EX_USAGE;
    case -EINVAL:
    case -ENOENT:
    case -EBADMSG:
    case -E2BIG:
    case -ELIBBAD:
        return EX_CONFIG;
    default:
        return EXIT_FAILURE;
    }
}

int dml_args_fail(int r, const struct dml_err *err)
{
    char text[1200];
    dml_err_format(err, r, text, sizeof(text));
    dml_log(LOG_ERR, "%s", text);
    return exit_code(r);
}
