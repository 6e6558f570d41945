/*
 * printf pads by bytes, and "±" has two of them; so cells are kept, measured in characters, and
 * padded by hand.
 */
#include "config.h"

#include "report/table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* First byte of the first cell of a row that is one text; no text of ours has it. */
#define SPAN '\1'

struct dml_table {
    size_t n_columns, n_cells, room;
    char **cells; /* [n_cells], row by row */
    bool left[DML_TABLE_COLUMNS_MAX];
    bool out_of_memory;
};

struct dml_table *dml_table_new(size_t n_columns)
{
    assert(n_columns > 0 && n_columns <= DML_TABLE_COLUMNS_MAX);
    struct dml_table *t = calloc(1, sizeof(*t));
    if (t)
        t->n_columns = n_columns;
    return t;
}

struct dml_table *dml_table_free(struct dml_table *t)
{
    if (!t)
        return NULL;
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t);
    return NULL;
}

void dml_table_add(struct dml_table *t, const char *fmt, ...)
{
    if (t->n_cells == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        char **cells = reallocarray(t->cells, room, sizeof(*cells));
        if (!cells) {
            t->out_of_memory = true;
            return;
        }
        t->cells = cells;
        t->room = room;
    }
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int len = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (len < 0)
        t->out_of_memory = true;
    else
        t->cells[t->n_cells++] = text;
}

void dml_table_span(struct dml_table *t, const char *text)
{
    dml_table_add(t, "%c%s", SPAN, text);
    for (size_t i = 1; i < t->n_columns; i++)
        dml_table_add(t, "%s", "");
}

void dml_table_left(struct dml_table *t, size_t column)
{
    t->left[column] = true;
}

size_t dml_table_text_width(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void measure(const struct dml_table *t, size_t ret_widths[DML_TABLE_COLUMNS_MAX])
{
    memset(ret_widths, 0, DML_TABLE_COLUMNS_MAX * sizeof(*ret_widths));
    for (size_t i = 0; i < t->n_cells; i++) {
        bool is_span = i % t->n_columns == 0 && t->cells[i][0] == SPAN;
        size_t width = is_span ? 0 : dml_table_text_width(t->cells[i]);
        if (width > ret_widths[i % t->n_columns])
            ret_widths[i % t->n_columns] = width;
    }
}

size_t dml_table_width(const struct dml_table *t, size_t gap)
{
    size_t widths[DML_TABLE_COLUMNS_MAX], sum = gap * (t->n_columns - 1);
    measure(t, widths);
    for (size_t i = 0; i < t->n_columns; i++)
        sum += widths[i];
    return sum;
}

int dml_table_print(const struct dml_table *t, size_t gap, FILE *f)
{
    if (t->out_of_memory)
        return -ENOMEM;
    size_t widths[DML_TABLE_COLUMNS_MAX], pending = 0;
    measure(t, widths);
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t column = i % t->n_columns, width = dml_table_text_width(t->cells[i]);
        if (column == 0 && t->cells[i][0] == SPAN) {
            (void)fprintf(f, "%s\n", t->cells[i] + 1);
            i += t->n_columns - 1;
            continue;
        }
        size_t pad = widths[column] - width;
        if (column > 0)
            pending += gap;
        if (!t->left[column])
            pending += pad;
        /* Blanks are owed until something follows them. */
        if (width > 0) {
            (void)fprintf(f, "%*s%s", (int)pending, "", t->cells[i]);
            pending = 0;
        }
        if (t->left[column])
            pending += pad;
        if (column + 1 == t->n_columns) {
            (void)fputc('\n', f);
            pending = 0;
        }
    }
    return 0;
}

void dml_table_wrap(const char *text, size_t width, size_t first, size_t indent, FILE *f)
{
    size_t at = first;
    (void)fprintf(f, "%*s", (int)first, "");
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, " ");
        size_t chars = 0;
        for (size_t i = 0; i < len; i++)
            chars += ((unsigned char)p[i] & 0xc0) != 0x80;
        if (p != text && at + 1 + chars > width) {
            (void)fprintf(f, "\n%*s", (int)indent, "");
            at = indent;
        } else if (p != text) {
            (void)fputc(' ', f);
            at++;
        }
        (void)fwrite(p, 1, len, f);
        at += chars;
        p += len;
        while (*p == ' ')
            p++;
    }
    (void)fputc('\n', f);
}
