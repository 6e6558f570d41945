#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int fill(struct dml_err *err, int r, const char *file, unsigned line, const char *fmt,
                va_list ap) __attribute__((format(printf, 5, 0)));

static int fill(struct dml_err *err, int r, const char *file, unsigned line, const char *fmt,
                va_list ap)
{
    if (!err)
        return r;
    snprintf(err->file, sizeof(err->file), "%s", file);
    err->line = line;
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    return r;
}

int dml_err_set(struct dml_err *err, int r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)fill(err, r, "", 0, fmt, ap);
    va_end(ap);
    return r;
}

int dml_err_at(struct dml_err *err, int r, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)fill(err, r, file, line, fmt, ap);
    va_end(ap);
    return r;
}

int dml_err_is_set(const struct dml_err *err)
{
    return err->text[0] != '\0';
}

const char *dml_err_format(const struct dml_err *err, int r, char *buf, size_t buf_len)
{
    if (!dml_err_is_set(err))
        snprintf(buf, buf_len, "%s", strerror(r < 0 ? -r : r));
    else if (err->file[0] && err->line)
        snprintf(buf, buf_len, "%s:%u: %s", err->file, err->line, err->text);
    else if (err->file[0])
        snprintf(buf, buf_len, "%s: %s", err->file, err->text);
    else
        snprintf(buf, buf_len, "%s", err->text);
    return buf;
}
