/*
 * The source paper's table. What all cases share stands once in the title; a row tells what
 * differs.
 *
 * Figures are mean ± sample standard deviation when a case was repeated. Decimals are chosen per
 * column, so that a column compares at a glance: three or four significant digits of its largest
 * value. Widths are tried from airy to tight until 80 columns suffice, then without the mark behind
 * rows that have notes below.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/label.h"
#include "report/result.h"
#include "report/table.h"

#define WIDTH 80

/* One column of figures over the cases. */
struct column {
    const char *title;
    size_t mean, sd; /* offsets in the summary */
    double factor;   /* 100 for percentages */
    int decimals;    /* -1: chosen by size */
};

#define FIGURE(m)                                                                                  \
    offsetof(struct dml_result_summary, m), offsetof(struct dml_result_summary, m##_sd)

static const struct column columns[] = {
    {"T [s]", FIGURE(t_s), 1.0, -1},           {"W [s]", FIGURE(w_s), 1.0, -1},
    {"O [s]", FIGURE(o_s), 1.0, -1},           {"W%", FIGURE(w_share), 100.0, 1},
    {"O%", FIGURE(o_share), 100.0, 1},         {"S", FIGURE(speedup), 1.0, 2},
    {"accuracy%", FIGURE(accuracy), 100.0, 1},
};

static double value(const struct dml_result_summary *s, size_t offset)
{
    return *(const double *)(const void *)((const char *)s + offset);
}

static int decimals(const struct column *c, const struct dml_result_summary *s, size_t n)
{
    double largest = 0.0;
    if (c->decimals >= 0)
        return c->decimals;
    for (size_t i = 0; i < n; i++)
        if (isfinite(value(&s[i], c->mean)))
            largest = fmax(largest, fabs(value(&s[i], c->mean)));
    return largest >= 1000.0 ? 0 : largest >= 100.0 ? 1 : largest >= 1.0 ? 2 : 3;
}

static struct dml_table *build(const struct dml_results *r, const struct dml_labels *labels,
                               const struct dml_result_summary *s, const char *pm, bool marked)
{
    struct dml_table *t = dml_table_new(labels->n_columns + ARRAY_SIZE(columns) + marked);
    if (!t)
        return NULL;
    dml_labels_add_header(labels, t);
    for (size_t k = 0; k < ARRAY_SIZE(columns); k++)
        dml_table_add(t, "%s", columns[k].title);
    if (marked)
        dml_table_add(t, "%s", "");
    for (size_t i = 0; i < r->n_cases; i++) {
        dml_labels_add_row(labels, i, t);
        for (size_t k = 0; k < ARRAY_SIZE(columns); k++) {
            const struct column *c = &columns[k];
            int digits = decimals(c, s, r->n_cases);
            double mean = c->factor * value(&s[i], c->mean), sd = c->factor * value(&s[i], c->sd);
            if (fabs(mean) < 0.5 * pow(10.0, -digits))
                mean = 0.0; /* no "-0.00" */
            if (!isfinite(mean))
                dml_table_add(t, "–");
            else if (s[i].n_runs > 1 &&
                     !(i == 0 && c->mean == offsetof(struct dml_result_summary, speedup)))
                dml_table_add(t, "%.*f%s%.*f", digits, mean, pm, digits, sd);
            else
                dml_table_add(t, "%.*f", digits, mean);
        }
        if (marked)
            dml_table_add(t, "%s", dml_results_has_notes(&r->cases[i]) ? "!" : "");
    }
    return t;
}

static void print_title(const struct dml_results *r, const struct dml_labels *labels,
                        const struct dml_result_summary *s, FILE *f)
{
    char what[512];
    dml_results_shared(r, what, sizeof(what));
    (void)fprintf(f, "%s%s%s", r->name, *what ? ": " : "", what);
    const char *gap = *what ? ", " : ": ";
    if (labels->nodes)
        (void)fprintf(f, "%snodes:cores %s", gap, labels->nodes), gap = ", ";
    size_t least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < r->n_cases; i++) {
        least = s[i].n_runs < least ? s[i].n_runs : least;
        most = s[i].n_runs > most ? s[i].n_runs : most;
    }
    if (most > 1 && least == most)
        (void)fprintf(f, "%smean ± sd of %zu runs", gap, most);
    else if (most > 1)
        (void)fprintf(f, "%smean ± sd of %zu to %zu runs", gap, least, most);
    (void)fputs("\n\n", f);
}

static const char *reason_of(const struct dml_result_run *run)
{
    return run->error ? run->error : "no reason was recorded";
}

/* Runs that failed for the same reason as one: before it, and behind it. */
static void count_same(const struct dml_results *r, const struct dml_result_run *one,
                       unsigned *ret_before, unsigned *ret_behind)
{
    unsigned *n = ret_before;
    *ret_before = *ret_behind = 0;
    for (size_t i = 0; i < r->n_cases; i++)
        for (size_t k = 0; k < r->cases[i].n_runs; k++) {
            const struct dml_result_run *run = &r->cases[i].runs[k];
            if (run == one)
                n = ret_behind;
            else if (run->failed && !strcmp(reason_of(run), reason_of(one)))
                ++*n;
        }
}

/* A matrix may fail as a whole: each reason once, with the first run that it stopped. */
static void print_failures(const struct dml_results *r, FILE *f)
{
    bool any = false;
    for (size_t i = 0; i < r->n_cases; i++)
        for (size_t k = 0; k < r->cases[i].n_runs; k++) {
            const struct dml_result_run *run = &r->cases[i].runs[k];
            unsigned before, behind;
            char more[64] = "";
            if (!run->failed)
                continue;
            count_same(r, run, &before, &behind);
            if (before)
                continue;
            if (behind)
                (void)snprintf(more, sizeof(more), " (%u more run%s failed for the same reason)",
                               behind, behind == 1 ? "" : "s");
            _cleanup_(dml_mem_freep) char *text =
                dml_mem_printf("%s, run %u failed: %s%s", r->cases[i].label, run->repeat + 1,
                               reason_of(run), more);
            if (text)
                dml_table_wrap(text, WIDTH, 0, 4, f);
            any = true;
        }
    if (any)
        (void)fputc('\n', f);
}

#define FITS "the fits W = a + b/nodes and O = c + d nodes"

static void print_break_even(const struct dml_results *r, FILE *f)
{
    struct dml_result_break_even even;
    if (dml_results_break_even(r, &even) < 0)
        return;
    char text[512];
    switch (even.kind) {
    case DML_RESULT_EVEN_FROM:
        (void)snprintf(text, sizeof(text),
                       "Break-even: by " FITS ", the overhead O exceeds the work W from about %.1f "
                       "nodes on%s.",
                       even.nodes, even.as_measured ? ", as far as was measured" : "");
        break;
    case DML_RESULT_EVEN_ABOVE:
        (void)snprintf(text, sizeof(text),
                       "Break-even: the overhead O exceeds the work W in every measured case.");
        break;
    case DML_RESULT_EVEN_BELOW:
        (void)snprintf(text, sizeof(text),
                       "Break-even: none found; the overhead O stays below the work W in every "
                       "measured case, and " FITS " do not say from how many nodes on it will "
                       "not.");
        break;
    case DML_RESULT_EVEN_UNKNOWN:
        (void)snprintf(text, sizeof(text),
                       "Break-even: none found; the overhead O exceeds the work W in %zu of %zu "
                       "measured cases, but " FITS " do not say from how many nodes on.",
                       even.n_above, even.n_cases);
        break;
    }
    dml_table_wrap(text, WIDTH, 0, 0, f);
}

void dml_results_print_table(const struct dml_results *r, bool all_nodes, FILE *f)
{
    /* From airy to tight: blanks round "±", blanks between columns. */
    static const struct {
        const char *pm;
        size_t gap;
    } forms[] = {{" ± ", 2}, {"±", 2}, {"±", 1}};

    _cleanup_(dml_mem_freep) struct dml_result_summary *s =
        calloc(r->n_cases ? r->n_cases : 1, sizeof(*s));
    _cleanup_(dml_labels_done) struct dml_labels labels = {0};
    if (!s || dml_labels_init(&labels, r) < 0)
        return;
    for (size_t i = 0; i < r->n_cases; i++)
        dml_results_summary(r, i, &s[i]);
    print_title(r, &labels, s, f);
    bool marked = false;
    for (size_t i = 0; i < r->n_cases; i++)
        marked = marked || dml_results_has_notes(&r->cases[i]);
    size_t n_forms = ARRAY_SIZE(forms) * (marked ? 2 : 1);
    for (size_t i = 0; i < n_forms; i++) {
        size_t k = i % ARRAY_SIZE(forms);
        _cleanup_(dml_table_freep) struct dml_table *t =
            build(r, &labels, s, forms[k].pm, marked && i < ARRAY_SIZE(forms));
        if (!t)
            return;
        if (dml_table_width(t, forms[k].gap) <= WIDTH || i + 1 == n_forms) {
            (void)dml_table_print(t, forms[k].gap, f);
            break;
        }
    }
    (void)fputc('\n', f);
    print_failures(r, f);
    dml_results_print_notes(r, f);
    print_break_even(r, f);
    _cleanup_(dml_mem_freep) char *legend =
        dml_mem_printf("T total, W mean work of the nodes, O = T - W; S = T of %s / T of the case.",
                       r->n_cases ? r->cases[0].label : "the first case");
    if (legend)
        dml_table_wrap(legend, WIDTH, 0, 0, f);
    dml_results_print_flow(r, all_nodes, f);
}
