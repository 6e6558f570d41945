/* dmlctl workers: who is there, how strong, how warm. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/out.h"
#include "report/status.h"
#include "report/table.h"

/* Current state, bits 0 to 3; what happened since boot, bits 16 to 19.
 * Source: Raspberry Pi documentation, vcgencmd get_throttled. */
static const char *throttled_text(int32_t bits)
{
    if (bits < 0)
        return "";
    if (bits & 0x1)
        return "under-voltage";
    if (bits & 0x4)
        return "throttled";
    if (bits & 0x8)
        return "too hot";
    if (bits & 0x2)
        return "slowed";
    return bits & 0xf0000 ? "was throttled" : "";
}

static int print_workers(const struct dml_status_worker *w, size_t n)
{
    static const char *const titles[] = {"worker",  "address", "board", "cores", "memory",
                                         "GFLOP/s", "state",   "°C",    "since", "note"};
    static const char *const states[] = {"idle", "busy", "silent"};
    _cleanup_(dml_table_freep) struct dml_table *t = dml_table_new(ARRAY_SIZE(titles));
    char text[32];
    if (!t)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
        dml_table_add(t, "%s", titles[i]);
    for (size_t i = 0; i < n; i++) {
        dml_table_add(t, "%s", w[i].id);
        dml_table_add(t, "%s", w[i].peer);
        dml_table_add(t, "%s", w[i].board);
        dml_table_add(t, "%u", w[i].cores);
        dml_table_add(t, "%s", dml_out_bytes((double)w[i].memory_bytes, text, sizeof(text)));
        dml_table_add(t, "%.1f", w[i].gflops);
        dml_table_add(t, "%s", states[w[i].state]);
        if (w[i].temperature_c >= 0.0)
            dml_table_add(t, "%.0f", w[i].temperature_c);
        else
            dml_table_add(t, "–");
        dml_table_add(t, "%s", dml_out_seconds(w[i].joined_s, text, sizeof(text)));
        dml_table_add(t, "%s", throttled_text(w[i].throttled));
    }
    dml_table_left(t, 0);
    dml_table_left(t, 1);
    dml_table_left(t, 2);
    dml_table_left(t, 6);
    dml_table_left(t, 9);
    return dml_table_print(t, 2, stdout);
}

static int show(const struct dml_ctl *ctl, const char *json, struct dml_err *err)
{
    (void)ctl;
    _cleanup_(dml_mem_freep) struct dml_status_worker *workers = NULL;
    size_t n = 0;
    int r = dml_status_workers_unpack(json, strlen(json), &workers, &n, err);
    if (r < 0 || n)
        return r < 0 ? r : print_workers(workers, n);
    (void)puts("No worker is there.");
    return 0;
}

static int exec(struct dml_ctl *ctl, const void *options, char **args, int n_args)
{
    (void)options, (void)args, (void)n_args;
    return dml_client_ask(ctl, DML_CONTROL_WORKERS, show);
}

const struct dml_ctl_command dml_cmd_workers = {
    .name = "workers",
    .args = "",
    .summary = "List the workers that are there",
    .exec = exec,
};
