/* dmlctl status: what the master does now. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "report/status.h"

/* Who is there, by what they do. */
static int count(void *arg, const char *json)
{
    unsigned *n = arg;
    _cleanup_(dml_mem_freep) struct dml_status_worker *workers = NULL;
    size_t n_workers = 0;
    int r = dml_status_workers_unpack(json, strlen(json), &workers, &n_workers, NULL);
    for (size_t i = 0; r == 0 && i < n_workers; i++)
        n[workers[i].state]++;
    return r;
}

static void show_workers(const struct dml_ctl *ctl, const struct dml_status *s)
{
    unsigned n[DML_STATUS_WORKER_MAX_] = {0};
    /* It is the second question: who has gone in between has left nobody to tell. */
    if (dml_client_call(ctl, DML_CONTROL_WORKERS, NULL, NULL, count, n, NULL) < 0) {
        (void)printf("%-12s %u\n", "workers", s->workers);
        return;
    }
    unsigned idle = n[DML_STATUS_WORKER_IDLE], busy = n[DML_STATUS_WORKER_BUSY];
    unsigned silent = n[DML_STATUS_WORKER_SILENT];
    (void)printf("%-12s %u: %u idle, %u busy", "workers", idle + busy + silent, idle, busy);
    if (silent)
        (void)printf(", %u silent", silent);
    if (s->state != DML_STATUS_IDLE)
        (void)printf("; the test case wants %u", s->nodes);
    (void)putchar('\n');
}

static int show(const struct dml_ctl *ctl, const char *json, struct dml_err *err)
{
    struct dml_status s;
    int r = dml_status_unpack(json, strlen(json), &s, err);
    if (r < 0)
        return r;
    char a[32], b[32];
    static const char *const states[] = {"idle", "waiting for workers", "running"};
    (void)printf("%-12s dml %s\n%-12s %s\n", "master", s.version, "state", states[s.state]);
    show_workers(ctl, &s);
    if (s.state != DML_STATUS_IDLE) {
        (void)printf("%-12s %s %s, case %u of %u, repeat %u of %u\n", "test case", s.testcase,
                     s.label, s.i_case + 1, s.n_cases, s.i_repeat + 1, s.n_repeats);
        if (s.state == DML_STATUS_RUNNING)
            (void)printf("%-12s %llu of %llu\n", "round", (unsigned long long)s.round,
                         (unsigned long long)s.n_rounds);
        if (isfinite(s.loss))
            (void)printf("%-12s %.4g\n", "loss", s.loss);
        if (isfinite(s.accuracy))
            (void)printf("%-12s %.1f %%\n", "accuracy", 100.0 * s.accuracy);
        (void)printf("%-12s %s elapsed", "time", dml_out_seconds(s.elapsed_s, a, sizeof(a)));
        /* Before the first round, and while workers are missing, nobody knows. */
        if (s.state == DML_STATUS_RUNNING && isfinite(s.remaining_s))
            (void)printf(", %s left", dml_out_seconds(s.remaining_s, b, sizeof(b)));
        (void)putchar('\n');
    }
    if (s.results[0])
        (void)printf("%-12s %s\n", "results", s.results);
    return 0;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    (void)options, (void)args, (void)n_args;
    return dml_client_ask(ctl, DML_CONTROL_STATUS, show);
}

const struct dml_ctl_command dml_cmd_status = {
    .name = "status",
    .args = "",
    .summary = "Say what the master does now",
    .exec = exec,
};
