/*
 * What tells the rows of a table from each other, as columns: a case's label "3:3 paradigm=server
 * staleness=4" is three of them. What all rows have stands once in the title instead.
 */
#pragma once

#include <stddef.h>

#include "base/mem.h"

struct dml_results;
struct dml_table;

#define DML_LABEL_COLUMNS_MAX 6

struct dml_labels {
    size_t n_columns, n_rows;
    const char *titles[DML_LABEL_COLUMNS_MAX];
    char *nodes;        /* "3:3" when all rows have that and are told apart by something else */
    const char **cells; /* [n_rows][n_columns] */
    char **blocks;      /* [n_rows] what they lie in */
};

/* Returns 0 or -ENOMEM. Owner: caller, dml_labels_done(). */
int dml_labels_init(struct dml_labels *l, const struct dml_results *r);
void dml_labels_done(struct dml_labels *l);

/* The first cells of the table's header, which are flush left, and of a row. */
void dml_labels_add_header(const struct dml_labels *l, struct dml_table *t);
void dml_labels_add_row(const struct dml_labels *l, size_t i_row, struct dml_table *t);
