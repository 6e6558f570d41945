/*
 * The laws of work and overhead over the nodes, and where they meet.
 *
 * O = W where g(n) = o_per_node n² + (o_fixed - w_fixed) n - w_shared = 0; for n > 0 the sign of
 * O - W is that of g. O becomes the larger one where g rises through 0, which it does at one n at
 * most, whichever signs the coefficients have.
 *
 * A fit may contradict what it was fitted to, and then the measured rows are right.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/stat.h"
#include "report/result.h"

/* What is fitted: one point per case that has a run. */
struct points {
    double *nodes, *inverse, *w, *o; /* [n] */
    size_t n;
};

/* Takes x: room for 4 numbers per case. */
static struct points points_of(const struct dml_results *r, double *x)
{
    struct points p = {.nodes = x,
                       .inverse = x + r->n_cases,
                       .w = x + 2 * r->n_cases,
                       .o = x + 3 * r->n_cases};
    for (size_t i = 0; i < r->n_cases; i++) {
        struct dml_result_summary s;
        dml_results_summary(r, i, &s);
        if (s.n_runs == 0 || r->cases[i].nodes == 0)
            continue;
        p.nodes[p.n] = r->cases[i].nodes;
        p.inverse[p.n] = 1.0 / r->cases[i].nodes;
        p.w[p.n] = s.w_s;
        p.o[p.n++] = s.o_s;
    }
    return p;
}

static int fit_to(const struct dml_results *r, const struct points *p, struct dml_result_fit *ret)
{
    /* Cases that are trained in different ways do not lie on one curve. */
    for (size_t i = 1; i < r->n_cases; i++)
        if (strcmp(r->cases[i].paradigm, r->cases[0].paradigm) != 0)
            return -EDOM;
    struct dml_result_fit fit = {0};
    int e = dml_stat_fit_line(p->inverse, p->w, p->n, &fit.w_fixed, &fit.w_shared);
    if (e == 0)
        e = dml_stat_fit_line(p->nodes, p->o, p->n, &fit.o_fixed, &fit.o_per_node);
    if (e < 0)
        return e;
    *ret = fit;
    return 0;
}

int dml_results_fit(const struct dml_results *r, struct dml_result_fit *ret)
{
    _cleanup_(dml_mem_freep) double *x = calloc(4 * r->n_cases + 1, sizeof(*x));
    if (!x)
        return -ENOMEM;
    struct points p = points_of(r, x);
    return fit_to(r, &p, ret);
}

/* Where g rises through 0; NAN: nowhere above 0. */
static double rises_through(double square, double linear, double constant)
{
    double root = sqrt(linear * linear - 4.0 * square * constant);
    double n = linear > 0.0 ? -2.0 * constant / (linear + root) : (root - linear) / (2.0 * square);
    return n > 0.0 && isfinite(n) ? n : NAN;
}

int dml_results_break_even(const struct dml_results *r, struct dml_result_break_even *ret)
{
    _cleanup_(dml_mem_freep) double *x = calloc(4 * r->n_cases + 1, sizeof(*x));
    struct dml_result_break_even even = {.kind = DML_RESULT_EVEN_UNKNOWN, .nodes = NAN};
    struct dml_result_fit fit;
    if (!x)
        return -ENOMEM;
    struct points p = points_of(r, x);
    int e = fit_to(r, &p, &fit);
    if (e < 0)
        return e;
    double least = INFINITY, most = 0.0, largest = 0.0;
    for (size_t i = 0; i < p.n; i++) {
        even.n_above += p.o[i] > p.w[i];
        least = fmin(least, p.nodes[i]);
        most = fmax(most, p.nodes[i]);
        largest = fmax(largest, fabs(p.o[i]));
    }
    even.n_cases = p.n;
    /* A slope that is only rounding is none. */
    double slope = fabs(fit.o_per_node) * most > 1e-9 * largest ? fit.o_per_node : 0.0;
    double nodes = rises_through(slope, fit.o_fixed - fit.w_fixed, -fit.w_shared);
    bool all = even.n_above == p.n, none = even.n_above == 0;
    /* An overhead that falls says nothing about more nodes than were measured. */
    if (nodes >= 1.0 && !(all && nodes > least) && !(none && nodes <= least) &&
        (slope >= 0.0 || nodes <= most)) {
        even.kind = DML_RESULT_EVEN_FROM;
        even.nodes = nodes;
        even.as_measured = slope < 0.0;
    } else if (all) {
        even.kind = DML_RESULT_EVEN_ABOVE;
    } else if (none) {
        even.kind = DML_RESULT_EVEN_BELOW;
    }
    *ret = even;
    return 0;
}
