/*
 * A record is built once as an array of fields and then written in one call: sendmsg() to the
 * journal, or write() of a whole line, so that lines of several threads and processes never mix.
 *
 * How stderr is known to be the journal: systemd sets JOURNAL_STREAM to device:inode of the stream
 * it gave us (systemd.exec(5)); a stderr redirected since then has other numbers.
 *
 * Losing a record is worse than a slightly wrong one: bytes that are not UTF-8 become U+FFFD, and
 * when memory is short the bare message is written.
 */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/mem.h"
#include "base/text.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
/* Of a record, without the four of our own: a round lists 64 workers with six fields each. The
 * journal takes 1024 (systemd, journal-importer.h, ENTRY_FIELD_COUNT_MAX). */
#define FIELDS_MAX 448

static struct {
    enum dml_log_target target;
    const char *identifier;
    int max_priority;
} sink = {DML_LOG_TEXT, "dml", LOG_INFO};

static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;
    struct stat st;
    return stream && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void dml_log_init(enum dml_log_target target, const char *identifier, int max_priority)
{
    if (target == DML_LOG_AUTO)
        target = stderr_is_journal() ? DML_LOG_JOURNAL : DML_LOG_JSON;
    /* Without its socket sd_journal_sendv() drops records and calls that success. */
    if (target == DML_LOG_JOURNAL && access(JOURNAL_SOCKET, W_OK) < 0)
        target = DML_LOG_JSON;
    sink.target = target;
    sink.identifier = identifier;
    sink.max_priority = max_priority;
}

/* Any bytes as a JSON string. NULL when out of memory. */
static json_t *json_text(const char *s)
{
    if (!s)
        return json_null();
    json_t *plain = json_string(s);
    if (plain)
        return plain;
    size_t len = strlen(s), used = 0;
    /* The replacement character has three bytes. */
    _cleanup_(dml_mem_freep) char *clean = len < SIZE_MAX / 3 ? malloc(3 * len + 1) : NULL;
    if (!clean)
        return NULL;
    for (size_t i = 0; i < len;) {
        unsigned n = dml_text_utf8(s + i, len - i);
        memcpy(clean + used, n ? s + i : "\xef\xbf\xbd", n ? n : 3);
        used += n ? n : 3;
        i += n ? n : 1;
    }
    return json_stringn(clean, used);
}

static json_t *json_field(const struct dml_log_field *f)
{
    switch (f->type) {
    case DML_LOG_STR:
        return json_text(f->str);
    case DML_LOG_INT:
        return json_integer(f->i);
    case DML_LOG_REAL:
        return isfinite(f->real) ? json_real(f->real) : json_null();
    }
    return NULL;
}

static json_t *json_record(int priority, const char *message_id, const char *message,
                           const struct dml_log_field *fields, unsigned n_fields)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "PRIORITY", json_integer(priority));
    if (sink.identifier)
        bad |= json_object_set_new(o, "SYSLOG_IDENTIFIER", json_text(sink.identifier));
    if (message_id)
        bad |= json_object_set_new(o, "MESSAGE_ID", json_text(message_id));
    bad |= json_object_set_new(o, "MESSAGE", json_text(message));
    for (unsigned i = 0; i < n_fields; i++)
        bad |= json_object_set_new(o, fields[i].name, json_field(&fields[i]));
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

char *dml_log_json(int priority, const char *message_id, const char *message,
                   const struct dml_log_field *fields, unsigned n_fields)
{
    json_t *o = json_record(priority, message_id, message, fields, n_fields);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

/* One write() for text and newline; the rest only when the kernel took less. */
static void write_line(const char *text)
{
    _cleanup_(dml_mem_freep) char *line = dml_mem_printf("%s\n", text);
    const char *p = line ? line : text;
    for (size_t left = strlen(p); left;) {
        ssize_t n = write(STDERR_FILENO, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nowhere is left to complain */
        p += n;
        left -= (size_t)n;
    }
}

static void write_text(int priority, const char *message)
{
    static const char *const levels[] = {"emergency", "alert",  "critical", "error",
                                         "warning",   "notice", "info",     "debug"};
    _cleanup_(dml_mem_freep) char *line = dml_mem_printf("%s: %s", levels[priority & 7], message);
    /* A message that brings its own newlines would look like several. */
    for (char *p = line; p && *p; p++)
        if (*p == '\n')
            *p = ' ';
    write_line(line ? line : message);
}

static char *journal_field(const struct dml_log_field *f)
{
    char real[DML_TEXT_REAL_LEN];
    switch (f->type) {
    case DML_LOG_STR:
        return dml_mem_printf("%s=%s", f->name, f->str ? f->str : "");
    case DML_LOG_INT:
        return dml_mem_printf("%s=%" PRId64, f->name, f->i);
    case DML_LOG_REAL:
        return dml_mem_printf("%s=%s", f->name,
                              isfinite(f->real) ? dml_text_real(f->real, real) : "");
    }
    return NULL;
}

static int write_journal(int priority, const char *message_id, const char *message,
                         const struct dml_log_field *fields, unsigned n_fields)
{
    char *text[FIELDS_MAX + 4];
    struct iovec iov[FIELDS_MAX + 4];
    unsigned n = 0;
    text[n++] = dml_mem_printf("MESSAGE=%s", message);
    text[n++] = dml_mem_printf("PRIORITY=%d", priority);
    text[n++] = dml_mem_printf("SYSLOG_IDENTIFIER=%s", sink.identifier ? sink.identifier : "dml");
    if (message_id)
        text[n++] = dml_mem_printf("MESSAGE_ID=%s", message_id);
    for (unsigned i = 0; i < n_fields && i < FIELDS_MAX; i++)
        text[n++] = journal_field(&fields[i]);
    unsigned n_iov = 0;
    for (unsigned i = 0; i < n; i++)
        if (text[i])
            iov[n_iov++] = (struct iovec){.iov_base = text[i], .iov_len = strlen(text[i])};
    int r = sd_journal_sendv(iov, (int)n_iov);
    for (unsigned i = 0; i < n; i++)
        free(text[i]);
    return r;
}

void dml_log_record(int priority, const char *message_id, const char *message,
                    const struct dml_log_field *fields, unsigned n_fields)
{
    if (sink.target == DML_LOG_NONE || priority > sink.max_priority)
        return;
    if (sink.target == DML_LOG_TEXT) {
        write_text(priority, message);
        return;
    }
    if (sink.target == DML_LOG_JOURNAL &&
        write_journal(priority, message_id, message, fields, n_fields) >= 0)
        return;
    _cleanup_(dml_mem_freep) char *json =
        dml_log_json(priority, message_id, message, fields, n_fields);
    write_line(json ? json : message);
}

void dml_log(int priority, const char *fmt, ...)
{
    char stack[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(stack, sizeof(stack), fmt, ap);
    va_end(ap);
    _cleanup_(dml_mem_freep) char *heap = NULL;
    if (len >= (int)sizeof(stack) && (heap = malloc((size_t)len + 1))) {
        va_start(ap, fmt);
        (void)vsnprintf(heap, (size_t)len + 1, fmt, ap);
        va_end(ap);
    }
    dml_log_record(priority, NULL, heap ? heap : stack, NULL, 0);
}
