/*
 * RFC 4180 records from a text in memory, without copying. Private to data/.
 *
 * Intended usage:
 *     struct dml_csvrow row;
 *     dml_csvrow_init(&row, text, len, "file.csv");
 *     while ((r = dml_csvrow_next(&row, &err)) > 0)  … row.fields[0 … row.n_fields) …
 *     dml_csvrow_done(&row);
 */
#pragma once

#include <stddef.h>

struct dml_err;

#define DML_CSVROW_FIELDS_MAX 65536u

struct dml_csvrow {
    char *at, *end;
    const char *file;
    unsigned line;      /* where the record begins, 1-based */
    unsigned next_line; /* where the next one begins */
    char **fields;      /* NUL-terminated, quotes undone; they lie in the text */
    size_t n_fields, capacity;
};

/* The text is changed while it is read; text[len] must be writable too. Borrows text and file. */
void dml_csvrow_init(struct dml_csvrow *row, char *text, size_t len, const char *file);
void dml_csvrow_done(struct dml_csvrow *row);

/*
 * The next record that is not an empty line. Returns 1, 0 at the end, -EBADMSG (err: file, line,
 * what was found) or -ENOMEM.
 */
int dml_csvrow_next(struct dml_csvrow *row, struct dml_err *err);
