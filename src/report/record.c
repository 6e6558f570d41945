/*
 * Records are built in one fixed block: an event must reach the journal also when memory is short,
 * which is when one most wants to read it.
 */
#include "report/record.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static void add(struct dml_record *rec, struct dml_log_field field)
{
    assert(rec->n < ARRAY_SIZE(rec->fields));
    rec->fields[rec->n++] = field;
}

void dml_record_text(struct dml_record *rec, const char *name, const char *value)
{
    if (value)
        add(rec, (struct dml_log_field)DML_LOG_FIELD_STR(name, value));
}

void dml_record_int(struct dml_record *rec, const char *name, int64_t value)
{
    add(rec, (struct dml_log_field)DML_LOG_FIELD_INT(name, value));
}

void dml_record_real(struct dml_record *rec, const char *name, double value)
{
    if (isfinite(value))
        add(rec, (struct dml_log_field)DML_LOG_FIELD_REAL(name, value));
    else
        dml_record_text(rec, name, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

const char *dml_record_worker_name(struct dml_record *rec, unsigned rank, const char *suffix)
{
    assert(rec->n_names < ARRAY_SIZE(rec->names));
    char *name = rec->names[rec->n_names++];
    (void)snprintf(name, sizeof(rec->names[0]), "DML_WORKER_%u_%s", rank, suffix);
    return name;
}

__attribute__((format(printf, 3, 0))) static void print_at(struct dml_record *rec, size_t at,
                                                           const char *fmt, va_list ap)
{
    (void)vsnprintf(rec->message + at, sizeof(rec->message) - at, fmt, ap);
}

void dml_record_message(struct dml_record *rec, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_at(rec, 0, fmt, ap);
    va_end(ap);
}

void dml_record_append(struct dml_record *rec, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_at(rec, strlen(rec->message), fmt, ap);
    va_end(ap);
}
