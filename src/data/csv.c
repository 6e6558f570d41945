/*
 * Tables as people have them: a header line, columns chosen by name, one of them the label.
 *
 * dml_csv_parse() reads in one pass. The number of rows is bounded beforehand by the line ends and
 * by the length (a row of n fields takes n - 1 commas and a line end), so one allocation holds them
 * and no input makes it larger than the text deserves.
 *
 * A missing or odd value is an error with its line, never a guess: what to fill in for it is the
 * user's decision, and a NaN would silently poison the whole model.
 */
#include "data/csv.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "data/csvrow.h"

struct dml_csv *dml_csv_free(struct dml_csv *csv)
{
    if (csv) {
        free(csv->features);
        free(csv->x);
        free(csv->targets);
        free(csv->labels);
        free(csv);
    }
    return NULL;
}

/* Which columns to take: an index into a row's fields for each feature. */
struct columns {
    uint32_t *features;
    size_t n_features, n_all, label;
    char **names; /* own copies: the fields of the header are overwritten by the next row */
};

static void columns_done(struct columns *c)
{
    for (size_t i = 0; c->names && i < c->n_all; i++)
        free(c->names[i]);
    free(c->names);
    free(c->features);
}

/* Blanks around a value do not belong to it. */
static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t len = strlen(s);
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
        s[--len] = '\0';
    return s;
}

static int find_column(const struct columns *c, const char *name, const char *key, const char *file,
                       unsigned line, size_t *ret, struct dml_err *err)
{
    size_t found = c->n_all;
    for (size_t i = 0; i < c->n_all; i++)
        if (!strcmp(c->names[i], name)) {
            if (found < c->n_all)
                return dml_err_at(err, -EBADMSG, file, line,
                                  "two columns are called \"%.64s\" (%zu and %zu)", name, found + 1,
                                  i + 1);
            found = i;
        }
    if (found < c->n_all) {
        *ret = found;
        return 0;
    }
    const char *near = dml_opt_nearest(name, (const char *const *)c->names, c->n_all);
    char all[256] = "";
    for (size_t i = 0, used = 0; i < c->n_all && used < sizeof(all); i++)
        used +=
            (size_t)snprintf(all + used, sizeof(all) - used, "%s%.32s", i ? ", " : "", c->names[i]);
    return dml_err_at(err, -EINVAL, file, line,
                      "%s: no column is called \"%.64s\"%s%.64s%s; there are: %s", key, name,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"" : "", all);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes all columns but the label. Two of one name could not be told apart by whoever looks at the
 * model later. */
static int take_all(const struct dml_csvrow *head, struct columns *c, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) const char **sorted = dml_mem_array(c->n_all, sizeof(*sorted));
    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < c->n_all; i++) {
        sorted[i] = c->names[i];
        if (i != c->label)
            c->features[c->n_features++] = (uint32_t)i;
    }
    qsort(sorted, c->n_all, sizeof(*sorted), by_name);
    for (size_t i = 1; i < c->n_all; i++) {
        size_t first = 0, second;
        if (strcmp(sorted[i - 1], sorted[i]) != 0)
            continue;
        while (strcmp(c->names[first], sorted[i]) != 0)
            first++;
        for (second = first + 1; strcmp(c->names[second], sorted[i]) != 0;)
            second++;
        return dml_err_at(err, -EBADMSG, head->file, head->line,
                          "two columns are called \"%.64s\" (%zu and %zu), and without features all "
                          "are used: give one another name, or say in features which are meant",
                          sorted[i], first + 1, second + 1);
    }
    return 0;
}

static int choose_columns(const struct dml_csvrow *head, const struct dml_data_options *o,
                          struct columns *c, struct dml_err *err)
{
    c->n_all = head->n_fields;
    c->names = dml_mem_array(c->n_all, sizeof(*c->names));
    c->features = dml_mem_array(c->n_all, sizeof(*c->features));
    if (!c->names || !c->features)
        return -ENOMEM;
    for (size_t i = 0; i < c->n_all; i++)
        if (!(c->names[i] = strdup(trim(head->fields[i]))))
            return -ENOMEM;
    int r =
        find_column(c, o->label ? o->label : "", "label", head->file, head->line, &c->label, err);
    if (r < 0)
        return r;

    _cleanup_(dml_mem_freep) char *words = strdup(o->features ? o->features : "");
    if (!words)
        return -ENOMEM;
    char *rest = NULL;
    for (char *w = strtok_r(words, " \t", &rest); w; w = strtok_r(NULL, " \t", &rest)) {
        size_t i;
        r = find_column(c, w, "features", head->file, head->line, &i, err);
        if (r < 0)
            return r;
        if (i == c->label)
            return dml_err_at(err, -EINVAL, head->file, head->line,
                              "\"%.64s\" is the label; it cannot be a feature too", w);
        for (size_t k = 0; k < c->n_features; k++)
            if (c->features[k] == i)
                return dml_err_at(err, -EINVAL, head->file, head->line,
                                  "features names \"%.64s\" twice", w);
        c->features[c->n_features++] = (uint32_t)i;
    }
    if (!c->n_features && (r = take_all(head, c, err)) < 0)
        return r;
    if (!c->n_features)
        return dml_err_at(err, -EINVAL, head->file, head->line,
                          "the label is the only column; at least one feature is needed");
    return 0;
}

static bool is_missing(const char *cell)
{
    static const char *const words[] = {"", "na", "nan", "n/a", "null", "none", "?", "-"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (!strcasecmp(cell, words[i]))
            return true;
    return false;
}

static int number(char *cell, const struct columns *c, size_t column, const struct dml_csvrow *row,
                  float *ret, struct dml_err *err)
{
    cell = trim(cell);
    if (is_missing(cell))
        return dml_err_at(err, -EBADMSG, row->file, row->line,
                          "column \"%.64s\" has no value (\"%s\"); fill it in or delete the row",
                          c->names[column], cell);
    char *end;
    float v = strtof(cell, &end);
    if (*end || cell[strspn(cell, "0123456789+-.eE")] || !isfinite(v))
        return dml_err_at(err, -EBADMSG, row->file, row->line,
                          "column \"%.64s\" holds \"%.64s\", which is no %s; columns of numbers "
                          "are chosen with features",
                          c->names[column], cell, *end ? "number" : "finite 32-bit number");
    *ret = v;
    return 0;
}

static int parse_row(struct dml_csv *csv, const struct columns *c, const struct dml_csvrow *row,
                     struct dml_err *err)
{
    size_t n = csv->n_rows;
    if (row->n_fields != c->n_all)
        return dml_err_at(err, -EBADMSG, row->file, row->line,
                          "%zu fields where the header names %zu columns", row->n_fields, c->n_all);
    for (size_t j = 0; j < c->n_features; j++) {
        int r = number(row->fields[c->features[j]], c, c->features[j], row,
                       &csv->x[n * c->n_features + j], err);
        if (r < 0)
            return r;
    }
    if (csv->targets) {
        int r = number(row->fields[c->label], c, c->label, row, &csv->targets[n], err);
        if (r < 0)
            return r;
    } else {
        const char *label = trim(row->fields[c->label]);
        if (!label[0])
            return dml_err_at(err, -EBADMSG, row->file, row->line, "column \"%.64s\" has no value",
                              c->names[c->label]);
        if (strlen(label) >= DML_DATASET_NAME_MAX)
            return dml_err_at(err, -EBADMSG, row->file, row->line,
                              "the class \"%.32s…\" has a name of %zu bytes; at most %d", label,
                              strlen(label), DML_DATASET_NAME_MAX - 1);
        for (const char *p = label; *p; p++)
            if (iscntrl((unsigned char)*p))
                return dml_err_at(err, -EBADMSG, row->file, row->line,
                                  "the class \"%.64s\" has a control character in its name", label);
        csv->labels[n] = label;
    }
    csv->n_rows++;
    return 0;
}

static char *join_features(const struct columns *c)
{
    size_t len = 1;
    for (size_t j = 0; j < c->n_features; j++)
        len += strlen(c->names[c->features[j]]) + 1;
    char *all = malloc(len), *p = all;
    for (size_t j = 0; all && j < c->n_features; j++) {
        p = stpcpy(p, c->names[c->features[j]]);
        *p++ = '\n';
    }
    if (all)
        *p = '\0';
    return all;
}

static size_t count_lines(const char *text, const char *end)
{
    size_t n = 1;
    while (text < end && (text = memchr(text, '\n', (size_t)(end - text)))) {
        text++;
        n++;
    }
    return n;
}

static int parse(struct dml_csvrow *row, struct columns *c, const struct dml_data_options *o,
                 struct dml_csv **ret, struct dml_err *err)
{
    size_t len = (size_t)(row->end - row->at);
    int r = dml_csvrow_next(row, err);
    if (r < 0)
        return r;
    if (r == 0)
        return dml_err_at(err, -EBADMSG, row->file, 0,
                          "the file is empty; its first line must name the columns");
    r = choose_columns(row, o, c, err);
    if (r < 0)
        return r;

    size_t most = count_lines(row->at, row->end), by_len = len / c->n_all + 1;
    if (by_len < most)
        most = by_len;
    _cleanup_(dml_csv_freep) struct dml_csv *csv = calloc(1, sizeof(*csv));
    size_t n_values;
    if (!csv || !dml_mem_mul(most, c->n_features, &n_values))
        return -ENOMEM;
    csv->n_features = (uint32_t)c->n_features;
    csv->features = join_features(c);
    csv->x = dml_mem_floats(n_values);
    if (o->task)
        csv->targets = dml_mem_floats(most);
    else
        csv->labels = dml_mem_array(most, sizeof(*csv->labels));
    if (!csv->features || !csv->x || !(o->task ? (void *)csv->targets : (void *)csv->labels))
        return -ENOMEM;
    while ((r = dml_csvrow_next(row, err)) > 0)
        if ((r = parse_row(csv, c, row, err)) < 0)
            return r;
    if (r < 0)
        return r;
    if (!csv->n_rows)
        return dml_err_at(err, -EBADMSG, row->file, row->line,
                          "there are no rows below the header");
    *ret = csv;
    csv = NULL;
    return 0;
}

int dml_csv_parse(char *text, size_t len, const char *file, const struct dml_data_options *o,
                  struct dml_csv **ret, struct dml_err *err)
{
    struct columns c = {0};
    struct dml_csvrow row;
    dml_csvrow_init(&row, text, len, file);
    int r = parse(&row, &c, o, ret, err);
    /* Cells are quoted in sentences, and a quoted cell may hold line ends: a sentence must not. */
    for (char *p = err && r < 0 ? err->text : NULL; p && *p; p++)
        if (iscntrl((unsigned char)*p))
            *p = '?';
    columns_done(&c);
    dml_csvrow_done(&row);
    return r;
}
