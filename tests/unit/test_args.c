/* A daemon's command line: file, then options over it, and what is said about mistakes. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/mem.h"
#include "conf/args.h"
#include "tests/tap.h"

struct options {
    uint64_t n;
    char *name, *level;
    int log;
};

static const struct dml_opt table[] = {
    {"x", "number", DML_OPT_UINT, offsetof(struct options, n), .min = 1, .max = 9, .dflt = "3",
     .help = "How many"},
    {"x", "name", DML_OPT_TEXT, offsetof(struct options, name), .dflt = "nobody", .help = "Who"},
    {"x", "log", DML_OPT_CHOICE, offsetof(struct options, log), .dflt = "json",
     .choices = "auto journal json text none", .help = "Where to"},
    {"x", "log-level", DML_OPT_TEXT, offsetof(struct options, level), .dflt = "info",
     .help = "How much"},
    {0},
};

static char dir[] = "/tmp/dml-args-XXXXXX";
static struct options options;
static struct dml_err err;
static bool check;

/* Parses the words up to NULL. */
static int parse(const char *const *words)
{
    char *argv[16] = {(char *)"daemon"};
    int argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)words[argc - 1];
    char config[64];
    snprintf(config, sizeof(config), "%s/default.conf", dir);
    const struct dml_args_switch switches[] = {{"check", "check", &check}, {0}};
    const struct dml_args args = {.program = "daemon",
                                  .summary = "Does things.",
                                  .config = config,
                                  .table = table,
                                  .switches = switches};
    dml_opt_done(table, &options);
    memset(&options, 0, sizeof(options));
    memset(&err, 0, sizeof(err));
    check = false;
    return dml_args_parse(&args, argc, argv, &options, &err);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void put(const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (dml_fileio_write(path, text, strlen(text), 0644, NULL))
        tap_ok(false, "cannot write %s", path);
}

static void test_right(void)
{
    char other[64];
    snprintf(other, sizeof(other), "%s/other.conf", dir);
    tap_int(PARSE(), 0, "no file, no options");
    tap_int((long long)options.n, 3, "the default");
    put("default.conf", "[x]\nnumber = 4\nname = file\n");
    put("other.conf", "[x]\nnumber = 5\n");
    tap_int(PARSE("--name", "me"), 0, "an option");
    tap_str(options.name, "me", "beats the file");
    tap_int((long long)options.n, 4, "which beats the default");
    tap_int(PARSE("--number=7", "--config", other, "--check"), 0, "--config anywhere");
    tap_int((long long)options.n, 7, "the command line still beats it");
    tap_str(options.name, "nobody", "the usual file is not read then");
    tap_ok(check, "a switch is set");
    tap_int(PARSE("--version"), 1, "--version");
    tap_int(PARSE("--help"), 1, "--help");
}

static void test_wrong(void)
{
    tap_int(PARSE("--nmae", "x"), -EBADRQC, "an option that is none");
    tap_has(err.text, "--name", "the nearest one is named");
    tap_int(PARSE("name"), -EBADRQC, "a word that is no option");
    tap_int(PARSE("--name"), -EBADRQC, "a value is missing");
    tap_has(err.text, "needs a value", "said so");
    tap_int(PARSE("--check=yes"), -EBADRQC, "a switch with a value");
    tap_int(PARSE("--number", "10"), -EBADRQC, "out of range on the command line");
    tap_has(err.text, "9", "the range is named");
    tap_int(dml_args_fail(-EBADRQC, &err), 64, "exit code of a wrong command line");
    tap_int(PARSE("--config", "/nonexistent/x.conf"), -ENOENT, "a named file must be there");
    tap_int(dml_args_fail(-ENOENT, &err), 78, "exit code of a wrong configuration");
    put("default.conf", "[x]\nnumber = many\n");
    tap_int(PARSE(), -EINVAL, "a mistake in the file");
    tap_int(err.line, 2, "with its line");
    tap_has(err.file, "default.conf", "and its file");
    put("default.conf", "");
    tap_int(PARSE("--log-level", "loud"), -EINVAL, "a log-level that is none");
    tap_has(err.text, "notice", "those that are");
}

/* Does nothing, as the threads of a BLAS do that it starts when it is loaded. */
static void *idle(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
    for (;;)
        pause();
    return NULL;
}

/* In a process of its own: 0 when all three signals of a process that already had another thread
 * arrive where they are waited for. */
static int be_signalled(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    const struct timespec long_time = {.tv_sec = 60};
    static atomic_bool runs;
    pthread_t thread;
    sigset_t signals;
    if (pthread_create(&thread, NULL, idle, &runs) != 0)
        return 1;
    while (!atomic_load(&runs))
        (void)sched_yield();
    dml_args_block_signals(&signals);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        if (kill(getpid(), numbers[i]) < 0 ||
            sigtimedwait(&signals, NULL, &long_time) != numbers[i])
            return 2;
    return 0;
}

static void test_signals(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(be_signalled());
    tap_int(waitpid(pid, &status, 0), pid, "a process gets signals");
    tap_int(WIFSIGNALED(status) ? WTERMSIG(status) : 0, 0, "no signal kills it");
    tap_int(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0, "each reaches the thread that waits");
}

int main(void)
{
    test_signals();
    if (!mkdtemp(dir))
        return 99;
    test_right();
    test_wrong();
    dml_opt_done(table, &options);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    tap_int(system(command), 0, "the folder is gone again");
    return tap_done();
}
