/* dmlctl status: what the master does now. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "report/status.h"

static int show(const char *json, struct dml_err *err)
{
    struct dml_status s;
    int r = dml_status_unpack(json, strlen(json), &s, err);
    if (r < 0)
        return r;
    char a[32], b[32];
    static const char *const states[] = {"idle", "waiting for workers", "running"};
    (void)printf("%-12s dml %s\n%-12s %s\n%-12s %u\n", "master", s.version, "state",
                 states[s.state], "workers", s.workers);
    if (s.state != DML_STATUS_IDLE) {
        (void)printf("%-12s %s %s, case %u of %u, repeat %u of %u\n", "test case", s.testcase,
                     s.label, s.i_case + 1, s.n_cases, s.i_repeat + 1, s.n_repeats);
        (void)printf("%-12s %llu of %llu\n", "round", (unsigned long long)s.round,
                     (unsigned long long)s.n_rounds);
        if (isfinite(s.loss))
            (void)printf("%-12s %.4g\n", "loss", s.loss);
        if (isfinite(s.accuracy))
            (void)printf("%-12s %.1f %%\n", "accuracy", 100.0 * s.accuracy);
        (void)printf("%-12s %s elapsed, %s left\n", "time",
                     dml_out_seconds(s.elapsed_s, a, sizeof(a)),
                     dml_out_seconds(s.remaining_s, b, sizeof(b)));
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
