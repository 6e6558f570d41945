/*
 * dmlworkerd: argv, signals, systemd, exit codes. What a worker does is in worker.c.
 *
 * Signals are blocked before any thread exists (gRPC starts some) and waited for here, so that what
 * they cause is done by no handler. SIGHUP changes nothing: a worker has no state worth keeping
 * over a restart.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "conf/args.h"
#include "worker/worker.h"

static const struct timespec poll_time = {.tv_nsec = 500 * 1000 * 1000};

/* Until SIGTERM or SIGINT: tells systemd how it goes, and that it goes. */
static void watch(struct dml_worker *w, const sigset_t *signals)
{
    char status[256], said[256] = "";
    bool fed = sd_watchdog_enabled(0, NULL) > 0;
    (void)sd_notify(0, "READY=1");
    for (;;) {
        if (strcmp(dml_worker_status(w, status, sizeof(status)), said) != 0)
            (void)sd_notifyf(0, "STATUS=%s", strcpy(said, status));
        if (fed && dml_worker_is_live(w))
            (void)sd_notify(0, "WATCHDOG=1");
        int sig = sigtimedwait(signals, NULL, &poll_time);
        if (sig == SIGHUP)
            dml_log(LOG_NOTICE, "SIGHUP: settings are read at the start only; restart for them");
        else if (sig > 0)
            break;
    }
    (void)sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}

int main(int argc, char **argv)
{
    sigset_t signals;
    dml_args_block_signals(&signals);
    struct dml_worker_options options = {0};
    struct dml_err err = {0};
    bool check = false;
    const struct dml_args args = {
        .program = "dmlworkerd",
        .summary = "Trains models together with the other workers of a dml master.",
        .config = DML_SYSCONFDIR "/dmlworkerd.conf",
        .table = dml_worker_opts,
        .switches =
            (const struct dml_args_switch[]){{"check", "check the configuration, and end", &check},
                                             {0}},
    };
    _cleanup_(dml_worker_freep) struct dml_worker *worker = NULL;
    int r = dml_args_parse(&args, argc, argv, &options, &err);
    if (!r && !check)
        r = dml_worker_new(&options, &worker, &err);
    if (worker)
        watch(worker, &signals);
    int code = r < 0 ? dml_args_fail(r, &err) : EX_OK;
    worker = dml_worker_free(worker);
    dml_opt_done(dml_worker_opts, &options);
    return code;
}
