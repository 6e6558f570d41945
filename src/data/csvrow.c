/*
 * Fields are separated by commas, records by LF or CR LF. A field in double quotes may hold commas,
 * line ends and doubled quotes; a quote anywhere else is a mistake. Undoing quotes only shortens a
 * field, so every field is rewritten where it stands and its separator becomes the NUL.
 *
 * A byte order mark at the start and empty lines between records are skipped. A lone CR and a NUL
 * byte are refused: the first is a file from before 2001, the second is no text.
 *
 * Source: RFC 4180.
 */
#include "data/csvrow.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void dml_csvrow_init(struct dml_csvrow *row, char *text, size_t len, const char *file)
{
    *row = (struct dml_csvrow){.at = text, .end = text + len, .file = file, .next_line = 1};
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        row->at += 3;
}

void dml_csvrow_done(struct dml_csvrow *row)
{
    free(row->fields);
    row->fields = NULL;
}

static int add(struct dml_csvrow *row, char *field, struct dml_err *err)
{
    if (row->n_fields == DML_CSVROW_FIELDS_MAX)
        return dml_err_at(err, -EBADMSG, row->file, row->line, "more than %u fields in one row",
                          DML_CSVROW_FIELDS_MAX);
    if (row->n_fields == row->capacity) {
        size_t more = row->capacity ? 2 * row->capacity : 32;
        char **fields = realloc(row->fields, more * sizeof(*fields));
        if (!fields)
            return -ENOMEM;
        row->fields = fields;
        row->capacity = more;
    }
    row->fields[row->n_fields++] = field;
    return 0;
}

/* row->at stands on the opening quote; afterwards behind the closing one. *ret_end: for the NUL. */
static int quoted(struct dml_csvrow *row, char **ret_end, struct dml_err *err)
{
    char *w = row->at, *p = row->at + 1;
    unsigned opened = row->next_line;
    for (;; p++) {
        if (p == row->end)
            return dml_err_at(err, -EBADMSG, row->file, opened,
                              "a quote is opened here and never closed");
        if (*p == '"') {
            if (p + 1 == row->end || p[1] != '"')
                break;
            p++;
        } else if (*p == '\n') {
            row->next_line++;
        } else if (!*p) {
            return dml_err_at(err, -EBADMSG, row->file, row->next_line,
                              "a NUL byte; this is no text file");
        }
        *w++ = *p;
    }
    p++;
    if (p < row->end && *p != ',' && *p != '\n' && *p != '\r')
        return dml_err_at(err, -EBADMSG, row->file, row->next_line,
                          "found \"%c\" behind a closing quote; allowed are a comma and the end of "
                          "the line",
                          *p >= ' ' && *p <= '~' ? *p : '?');
    row->at = p;
    *ret_end = w;
    return 0;
}

/* row->at stands on the first byte; afterwards on the comma or line end. */
static int plain(struct dml_csvrow *row, struct dml_err *err)
{
    char *p = row->at;
    for (; p < row->end && *p != ',' && *p != '\n' && *p != '\r'; p++) {
        if (*p == '"')
            return dml_err_at(err, -EBADMSG, row->file, row->next_line,
                              "a quote within a field; quotes enclose whole fields");
        if (!*p)
            return dml_err_at(err, -EBADMSG, row->file, row->next_line,
                              "a NUL byte; this is no text file");
    }
    row->at = p;
    return 0;
}

/* Skips LF or CR LF. */
static int line_end(struct dml_csvrow *row, struct dml_err *err)
{
    if (row->at < row->end && *row->at == '\r') {
        row->at++;
        if (row->at < row->end && *row->at != '\n')
            return dml_err_at(err, -EBADMSG, row->file, row->next_line,
                              "a carriage return within a line; lines end in LF or CR LF");
    }
    if (row->at < row->end && *row->at == '\n') {
        row->at++;
        row->next_line++;
    }
    return 0;
}

int dml_csvrow_next(struct dml_csvrow *row, struct dml_err *err)
{
    int r = 0;
    while (r == 0 && row->at < row->end && (*row->at == '\n' || *row->at == '\r'))
        r = line_end(row, err);
    if (r < 0 || row->at == row->end)
        return r;

    row->line = row->next_line;
    row->n_fields = 0;
    for (;;) {
        char *field = row->at, *end = field;
        if (row->at < row->end && *row->at == '"') {
            r = quoted(row, &end, err);
        } else {
            r = plain(row, err);
            end = row->at;
        }
        if (r == 0)
            r = add(row, field, err);
        if (r < 0)
            return r;
        bool more = row->at < row->end && *row->at == ',';
        if (more)
            row->at++;
        else if ((r = line_end(row, err)) < 0)
            return r;
        *end = '\0';
        if (!more)
            return 1;
    }
}
