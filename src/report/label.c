/*
 * A label is the nodes, then words key=value (conf/testcase.c). A word without = belongs to the
 * value before it: "round-deadline=90 s". A value of a key that other rows have and this one does
 * not is a dash. Anything else, or more keys than there is room for, is one column as it is.
 */
#include "report/label.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report/result.h"
#include "report/table.h"

void dml_labels_done(struct dml_labels *l)
{
    for (size_t i = 0; l->blocks && i < l->n_rows; i++)
        free(l->blocks[i]);
    free(l->blocks);
    free(l->cells);
    free(l->nodes);
    *l = (struct dml_labels){0};
}

/* The column of a key; a new one at its first occurrence. DML_LABEL_COLUMNS_MAX: no room. */
static size_t column_of(struct dml_labels *l, const char *key)
{
    size_t k = 1;
    while (k < l->n_columns && strcmp(l->titles[k], key) != 0)
        k++;
    if (k == l->n_columns && k < DML_LABEL_COLUMNS_MAX)
        l->titles[l->n_columns++] = key;
    return k;
}

/* Cuts the row's block into cells, which for now are DML_LABEL_COLUMNS_MAX to the row. Returns
 * whether there is room for all. */
static bool split(struct dml_labels *l, size_t i_row)
{
    const char **cells = &l->cells[i_row * DML_LABEL_COLUMNS_MAX];
    char *p = l->blocks[i_row];
    cells[0] = p;
    while ((p = strchr(p, ' '))) {
        char *word = p++, *end = strchr(word + 1, ' '), *equals = strchr(word, '=');
        if (!equals || equals == word + 1 || (end && end < equals))
            continue;
        *word = *equals = '\0';
        size_t k = column_of(l, word + 1);
        if (k == DML_LABEL_COLUMNS_MAX)
            return false;
        cells[k] = p = equals + 1;
    }
    return true;
}

static void use_whole(struct dml_labels *l, const struct dml_results *r)
{
    memset(l->cells, 0, l->n_rows * DML_LABEL_COLUMNS_MAX * sizeof(*l->cells));
    l->n_columns = 1;
    for (size_t i = 0; i < l->n_rows; i++)
        l->cells[i * DML_LABEL_COLUMNS_MAX] = r->cases[i].label;
}

/* The first column, when it is the same in all rows and not the only one. */
static int lift_nodes(struct dml_labels *l)
{
    const char *first = l->cells[0];
    for (size_t i = 1; i < l->n_rows; i++)
        if (strcmp(l->cells[i * DML_LABEL_COLUMNS_MAX], first) != 0)
            return 0;
    l->nodes = strdup(first);
    if (!l->nodes)
        return -ENOMEM;
    l->n_columns--;
    memmove(l->titles, l->titles + 1, l->n_columns * sizeof(*l->titles));
    for (size_t i = 0; i < l->n_rows; i++)
        memmove(&l->cells[i * DML_LABEL_COLUMNS_MAX], &l->cells[i * DML_LABEL_COLUMNS_MAX + 1],
                l->n_columns * sizeof(*l->cells));
    return 0;
}

int dml_labels_init(struct dml_labels *l, const struct dml_results *r)
{
    bool fits = true;
    *l = (struct dml_labels){.n_columns = 1, .n_rows = r->n_cases, .titles = {"case"}};
    l->cells = calloc(l->n_rows + 1, DML_LABEL_COLUMNS_MAX * sizeof(*l->cells));
    l->blocks = calloc(l->n_rows + 1, sizeof(*l->blocks));
    int e = l->cells && l->blocks ? 0 : -ENOMEM;
    for (size_t i = 0; e == 0 && i < l->n_rows; i++) {
        l->blocks[i] = strdup(r->cases[i].label);
        e = l->blocks[i] ? 0 : -ENOMEM;
        fits = fits && e == 0 && split(l, i);
    }
    if (e == 0 && !fits)
        use_whole(l, r);
    else if (e == 0 && l->n_rows > 0 && l->n_columns > 1)
        e = lift_nodes(l);
    if (e < 0)
        dml_labels_done(l);
    return e;
}

void dml_labels_add_header(const struct dml_labels *l, struct dml_table *t)
{
    for (size_t k = 0; k < l->n_columns; k++) {
        dml_table_left(t, k);
        dml_table_add(t, "%s", l->titles[k]);
    }
}

void dml_labels_add_row(const struct dml_labels *l, size_t i_row, struct dml_table *t)
{
    for (size_t k = 0; k < l->n_columns; k++) {
        const char *cell = l->cells[i_row * DML_LABEL_COLUMNS_MAX + k];
        dml_table_add(t, "%s", cell ? cell : "–");
    }
}
