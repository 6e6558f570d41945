#include "ctl/out.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "ctl/ctl.h"

int dml_out_json(const json_t *value)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    struct dml_err err = {0};
    if (!value || dml_json_print(value, 1, &text) < 0)
        return dml_ctl_fail(-ENOMEM, &err);
    (void)puts(text);
    return DML_CTL_OK;
}

const char *dml_out_bytes(double bytes, char *buf, size_t buf_len)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    while (bytes >= 1024.0 && i + 1 < ARRAY_SIZE(units)) {
        bytes /= 1024.0;
        i++;
    }
    (void)snprintf(buf, buf_len, "%.*f %s", i == 0 || bytes >= 100.0 ? 0 : 1, bytes, units[i]);
    return buf;
}

const char *dml_out_seconds(double seconds, char *buf, size_t buf_len)
{
    if (!(seconds >= 0.0 && seconds < 1e9)) { /* thirty years: nobody meant that */
        (void)snprintf(buf, buf_len, "?");
        return buf;
    }
    unsigned long s = (unsigned long)(seconds + 0.5);
    if (s < 60)
        (void)snprintf(buf, buf_len, "%lu s", s);
    else if (s < 3600)
        (void)snprintf(buf, buf_len, "%lu:%02lu", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(buf, buf_len, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        (void)snprintf(buf, buf_len, "%lu d %lu h", s / 86400, s / 3600 % 24);
    return buf;
}
