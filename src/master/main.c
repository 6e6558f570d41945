/*
 * dmlmasterd: argv, signals, systemd, exit codes. What a master does is in master.c.
 *
 * Signals are blocked before any thread exists (gRPC starts some) and waited for here, so that what
 * they cause is done by no handler. SIGHUP reads the test case again and runs it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/err.h"
#include "conf/args.h"
#include "master/master.h"

static const struct timespec poll_time = {.tv_nsec = 500 * 1000 * 1000};

/* Until SIGTERM or SIGINT, or until the configured test case is over. Returns the exit code. */
static int watch(struct dml_master *m, const sigset_t *signals, bool exit_when_done)
{
    char status[256], said[256] = "";
    bool failed = false, fed = sd_watchdog_enabled(0, NULL) > 0;
    (void)sd_notify(0, "READY=1");
    for (;;) {
        if (strcmp(dml_master_status(m, status, sizeof(status)), said) != 0)
            (void)sd_notifyf(0, "STATUS=%s", strcpy(said, status));
        if (fed && dml_master_is_live(m))
            (void)sd_notify(0, "WATCHDOG=1");
        if (exit_when_done && dml_master_is_done(m, &failed))
            break;
        int sig = sigtimedwait(signals, NULL, &poll_time);
        struct dml_err err = {0};
        int r = sig == SIGHUP ? dml_master_reload(m, &err) : 0;
        if (r)
            (void)dml_args_fail(r, &err);
        if (sig > 0 && sig != SIGHUP)
            break;
    }
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
    return failed ? EXIT_FAILURE : EX_OK;
}

int main(int argc, char **argv)
{
    sigset_t signals;
    dml_args_block_signals(&signals);
    struct dml_master_options options = {0};
    struct dml_err err = {0};
    bool check = false, exit_when_done = false;
    const struct dml_args args = {
        .program = "dmlmasterd",
        .summary = "Leads the training of models on a cluster of dml workers.",
        .config = DML_SYSCONFDIR "/dmlmasterd.conf",
        .table = dml_master_opts,
        .switches =
            (const struct dml_args_switch[]){
                {"check", "check configuration and test case, and end", &check},
                {"exit-when-done", "end after the configured test case", &exit_when_done},
                {0}},
    };
    _cleanup_(dml_testcases_freep) struct dml_testcases *cases = NULL;
    _cleanup_(dml_master_freep) struct dml_master *master = NULL;
    int r = dml_args_parse(&args, argc, argv, &options, &err), code = EX_OK;
    if (!r)
        r = dml_master_check(&options, &cases, &err);
    if (!r && !check)
        r = dml_master_new(&options, &cases, &master, &err);
    if (master)
        code = watch(master, &signals, exit_when_done);
    if (r < 0)
        code = dml_args_fail(r, &err);
    master = dml_master_free(master);
    dml_opt_done(dml_master_opts, &options);
    return code;
}
