/* Text in columns for a terminal, aligned by characters, not bytes. */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "base/mem.h"

#define DML_TABLE_COLUMNS_MAX 16

struct dml_table;

/* NULL when out of memory. Owner: caller, dml_table_free(). */
struct dml_table *dml_table_new(size_t n_columns);
struct dml_table *dml_table_free(struct dml_table *t);
DML_MEM_CLEANUP(struct dml_table, dml_table_free);

/* The next cell, row by row; the first row is the header. Out of memory is remembered until print.
 */
void dml_table_add(struct dml_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A row that is one text, however long: a heading within the table. */
void dml_table_span(struct dml_table *t, const char *text);

/* Columns are flush right unless said so. */
void dml_table_left(struct dml_table *t, size_t column);

/* Characters of the widest line when columns are `gap` blanks apart. */
size_t dml_table_width(const struct dml_table *t, size_t gap);

/* Returns 0 or -ENOMEM. No blanks at the ends of lines. */
int dml_table_print(const struct dml_table *t, size_t gap, FILE *f);

/* Characters of a UTF-8 text (code points: what dml prints has no wide or combining ones). */
size_t dml_table_text_width(const char *s);

/* Writes text in lines of at most `width` characters, broken at blanks; the first line starts after
 * `first` blanks, later ones after `indent`. */
void dml_table_wrap(const char *text, size_t width, size_t first, size_t indent, FILE *f);
