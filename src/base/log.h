/*
 * Structured records, to the journal when there is one, otherwise to stderr as JSON lines.
 *
 * A record is a message, a priority, an optional MESSAGE_ID and named fields. Library code builds
 * records only through report/event.h; programs may log plain sentences.
 */
#pragma once

#include <stdint.h>

enum dml_log_target {
    DML_LOG_AUTO, /* the journal when stderr is connected to it ($JOURNAL_STREAM), else JSON */
    DML_LOG_JOURNAL,
    DML_LOG_JSON, /* one JSON object per line on stderr */
    DML_LOG_TEXT, /* "level: message" on stderr, for people in front of a terminal */
    DML_LOG_NONE,
    DML_LOG_MAX_
};

enum dml_log_type { DML_LOG_STR, DML_LOG_INT, DML_LOG_REAL };

struct dml_log_field {
    const char *name; /* "DML_ROUND": capitals, digits and _ (the journal's rule) */
    enum dml_log_type type;
    const char *str;
    int64_t i;
    double real;
};

#define DML_LOG_FIELD_STR(n, v)                                                                    \
    {                                                                                              \
        .name = (n), .type = DML_LOG_STR, .str = (v)                                               \
    }
#define DML_LOG_FIELD_INT(n, v)                                                                    \
    {                                                                                              \
        .name = (n), .type = DML_LOG_INT, .i = (int64_t)(v)                                        \
    }
#define DML_LOG_FIELD_REAL(n, v)                                                                   \
    {                                                                                              \
        .name = (n), .type = DML_LOG_REAL, .real = (v)                                             \
    }

/* The one global of the library: where records go. `identifier` is borrowed for ever. */
void dml_log_init(enum dml_log_target target, const char *identifier, int max_priority);

/*
 * priority as syslog(3): LOG_ERR … LOG_DEBUG. message_id: 32 hex digits or NULL.
 * Thread-safe; a record is one write.
 */
void dml_log_record(int priority, const char *message_id, const char *message,
                    const struct dml_log_field *fields, unsigned n_fields);

/* A sentence without fields. */
void dml_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The record as one JSON object, keys as in the journal, NULL when out of memory. Caller frees. */
char *dml_log_json(int priority, const char *message_id, const char *message,
                   const struct dml_log_field *fields, unsigned n_fields);
