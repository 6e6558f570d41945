/*
 * Private to report/: one record under construction, without an allocation. Texts are borrowed
 * until the record has been written.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

/*
 * Workers listed one by one in a round's record: the journal takes 1024 fields per entry, a worker
 * costs up to thirteen. The results keep all of them.
 */
#define DML_RECORD_WORKERS_MAX   64
#define DML_RECORD_WORKER_FIELDS 13
#define DML_RECORD_FIELDS_MAX    (48 + DML_RECORD_WORKERS_MAX * DML_RECORD_WORKER_FIELDS)

struct dml_record {
    struct dml_log_field fields[DML_RECORD_FIELDS_MAX];
    unsigned n;
    char names[DML_RECORD_WORKERS_MAX * DML_RECORD_WORKER_FIELDS][32];
    unsigned n_names;
    char message[1024];
};

/* NULL texts add nothing. */
void dml_record_text(struct dml_record *rec, const char *name, const char *value);
void dml_record_int(struct dml_record *rec, const char *name, int64_t value);

/* What is not finite goes in as the word "nan" or "inf": a loss that diverged must be seen. */
void dml_record_real(struct dml_record *rec, const char *name, double value);

/* A name of worker number `rank`: "DML_WORKER_3_" and suffix. Lives as long as the record. */
const char *dml_record_worker_name(struct dml_record *rec, unsigned rank, const char *suffix);

void dml_record_message(struct dml_record *rec, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends to the message. */
void dml_record_append(struct dml_record *rec, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
