/*
 * Four pictures of one experiment, in the order of the questions: how long did it take and what was
 * overhead, what did more nodes buy, did it learn, and when do more nodes stop paying.
 *
 * Every mark stands for a mean over the runs that did not fail, its bar for the sample standard
 * deviation. A case all of whose runs failed has no mark.
 */
#include "report/plot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "report/chart.h"
#include "report/table.h"

/* Pixels. Long names of cases make the page larger, never the field. */
#define PAGE_WIDTH  840.0
#define PAGE_HEIGHT 480.0
#define FIELD_LEFT  76.0
#define FIELD_WIDTH 590.0
#define LEGEND_GAP  24.0 /* between the field and the legend */
#define LEGEND_SIGN 28.0 /* room for a sign of the legend */
#define CHAR_WIDTH  7.2  /* a character of a label, about */

#define W_COLOR "#0072b2"
#define O_COLOR "#d55e00"

static const char *const names[DML_PLOT_MAX_] = {"times", "speedup", "curves", "break-even"};

const char *dml_plot_name(enum dml_plot_kind kind)
{
    return names[kind];
}

/* What all four start from. */
struct page {
    const struct dml_results *r;
    struct dml_result_summary *s; /* [n_cases] */
    struct dml_svg *svg;
    size_t longest; /* characters of the longest label */
    double left;    /* edge of the field */
};

/* Seconds above a bar. */
static void bar_text(double s, char *buf, size_t buf_len)
{
    (void)snprintf(buf, buf_len, s >= 100.0 ? "%.0f" : "%.3g", s);
}

/* They do not run into each other. */
static bool bar_texts_fit(const struct page *p, double slot)
{
    char text[32];
    size_t longest = 0;
    for (size_t i = 0; i < p->r->n_cases; i++) {
        bar_text(p->s[i].n_runs > 0 ? p->s[i].t_s : 0.0, text, sizeof(text));
        longest = strlen(text) > longest ? strlen(text) : longest;
    }
    return CHAR_WIDTH * ((double)longest + 0.5) <= slot;
}

/* Labels below bars do not fit side by side. */
static bool turned(const struct page *p)
{
    return CHAR_WIDTH * (double)p->longest > FIELD_WIDTH / (double)p->r->n_cases;
}

static double legend_x(const struct dml_chart *c)
{
    return c->left + c->width + LEGEND_GAP;
}

static struct dml_chart chart_at(const struct page *p, double top, double height)
{
    return (struct dml_chart){
        .svg = p->svg, .left = p->left, .top = top, .width = FIELD_WIDTH, .height = height};
}

static void print_title(const struct page *p, const char *what)
{
    char title[512];
    (void)snprintf(title, sizeof(title), "%s: %s", p->r->name, what);
    dml_svg_text(p->svg, 20, 26, DML_SVG_START, 16, DML_CHART_INK, 0, title);
    dml_results_shared(p->r, title, sizeof(title));
    dml_svg_text(p->svg, 20, 44, DML_SVG_START, 12, DML_CHART_GREY, 0, title);
}

static int draw_times(const struct page *p)
{
    double max = 0.0;
    for (size_t i = 0; i < p->r->n_cases; i++) {
        if (p->s[i].n_runs > 0)
            max = fmax(max, p->s[i].t_s + p->s[i].t_s_sd);
    }
    if (!(max > 0.0))
        return -ENODATA;
    struct dml_chart c = chart_at(p, 70, 340);
    c.x_max = (double)p->r->n_cases;
    c.y_max = dml_chart_end(max * 1.05, 6, false);
    print_title(p, "time per case");
    dml_chart_y_axis(&c, "time [s]");
    double slot = c.width / (double)p->r->n_cases, bar = fmin(0.6 * slot, 80.0);
    bool texts = bar_texts_fit(p, slot);
    for (size_t i = 0; i < p->r->n_cases; i++) {
        const struct dml_result_summary *s = &p->s[i];
        double x = (double)i + 0.5, left = dml_chart_x(&c, x) - bar / 2;
        dml_chart_x_tick(&c, x, p->r->cases[i].label, turned(p));
        if (s->n_runs == 0) {
            dml_svg_text(p->svg, left + bar / 2, c.top + c.height - 6, DML_SVG_MIDDLE, 11,
                         DML_CHART_GREY, 0, "failed");
            continue;
        }
        double foot = dml_chart_y(&c, 0), w = dml_chart_y(&c, s->w_s), t = dml_chart_y(&c, s->t_s);
        dml_svg_rect(p->svg, left, w, bar, foot - w, W_COLOR);
        dml_svg_rect(p->svg, left, t, bar, fmax(w - t, 0.0), O_COLOR);
        /* Side by side, so that neither hides the other. */
        dml_chart_error_bar(&c, x, s->w_s, s->w_s_sd, -bar / 5);
        dml_chart_error_bar(&c, x, s->t_s, s->t_s_sd, bar / 5);
        char text[32];
        bar_text(s->t_s, text, sizeof(text));
        if (texts)
            dml_svg_text(p->svg, left + bar / 2, dml_chart_y(&c, s->t_s + s->t_s_sd) - 6,
                         DML_SVG_MIDDLE, 12, DML_CHART_INK, 0, text);
    }
    if (!turned(p))
        dml_chart_x_label(&c, "case");
    dml_chart_legend(&c, legend_x(&c), 90, 0, O_COLOR, NULL, "O overhead");
    dml_chart_legend(&c, legend_x(&c), 90, 1, W_COLOR, NULL, "W work");
    dml_svg_text(p->svg, legend_x(&c) + 4, 90 + 2 * 18 + 4, DML_SVG_START, 12, DML_CHART_INK, 0,
                 "bars: mean ± sd,");
    dml_svg_text(p->svg, legend_x(&c) + 4, 90 + 3 * 18 + 4, DML_SVG_START, 12, DML_CHART_INK, 0,
                 "left W, right T");
    return 0;
}

static int draw_speedup(const struct page *p)
{
    bool by_cores = true;
    for (size_t i = 1; i < p->r->n_cases; i++)
        by_cores = by_cores && p->r->cases[i].nodes == p->r->cases[0].nodes;
    const struct dml_result_case *base = p->r->cases;
    double origin = by_cores ? base->cores : base->nodes, x_max = 0.0, y_max = 0.0;
    double x_min = INFINITY;
    size_t n = 0;
    for (size_t i = 0; i < p->r->n_cases; i++) {
        double x = by_cores ? p->r->cases[i].cores : p->r->cases[i].nodes;
        if (!isfinite(p->s[i].speedup))
            continue;
        x_min = fmin(x_min, x);
        x_max = fmax(x_max, x);
        y_max = fmax(y_max, p->s[i].speedup + p->s[i].speedup_sd);
        n++;
    }
    if (n < 2 || !(x_max > x_min) || !(origin > 0.0))
        return -ENODATA;
    struct dml_chart c = chart_at(p, 70, 340);
    c.x_max = dml_chart_end(x_max * 1.02, 10, !by_cores || x_max > 5.0);
    c.y_max = dml_chart_end(fmax(y_max, c.x_max / origin), 6, false);
    print_title(p, "speed-up");
    dml_chart_y_axis(&c, "speed-up S = T(base) / T");
    dml_chart_x_axis(&c, by_cores ? "cores in all" : "nodes", !by_cores);
    dml_svg_line(p->svg, dml_chart_x(&c, 0), dml_chart_y(&c, 0), dml_chart_x(&c, c.x_max),
                 dml_chart_y(&c, c.x_max / origin), DML_CHART_GREY, 1.5, "6 4");
    for (size_t i = 0; i < p->r->n_cases; i++) {
        double x = by_cores ? p->r->cases[i].cores : p->r->cases[i].nodes;
        if (!isfinite(p->s[i].speedup))
            continue;
        dml_chart_error_bar(&c, x, p->s[i].speedup, p->s[i].speedup_sd, 0);
        dml_svg_circle(p->svg, dml_chart_x(&c, x), dml_chart_y(&c, p->s[i].speedup), 5, W_COLOR);
        if (p->r->n_cases <= 20)
            dml_svg_text(p->svg, dml_chart_x(&c, x) + 9, dml_chart_y(&c, p->s[i].speedup) + 16,
                         DML_SVG_START, 12, DML_CHART_INK, 0, p->r->cases[i].label);
    }
    dml_svg_circle(p->svg, legend_x(&c) + 11, 90, 5, W_COLOR);
    dml_svg_text(p->svg, legend_x(&c) + LEGEND_SIGN, 94, DML_SVG_START, 12, DML_CHART_INK, 0,
                 "mean ± sd");
    dml_chart_legend(&c, legend_x(&c), 90, 1, DML_CHART_GREY, "6 4", "ideal");
    return 0;
}

/* Mean over the runs of a case of one figure of round i, NAN when none has it. */
static double round_mean(const struct dml_result_case *c, size_t i,
                         double (*get)(const struct dml_round *))
{
    double sum = 0.0;
    size_t n = 0;
    for (size_t k = 0; k < c->n_runs; k++) {
        double x = i < c->runs[k].n_rounds && !c->runs[k].failed ? get(&c->runs[k].rounds[i]) : NAN;
        if (isfinite(x)) {
            sum += x;
            n++;
        }
    }
    return n > 0 ? sum / (double)n : NAN;
}

static double get_loss(const struct dml_round *round)
{
    return round->loss;
}

static double get_eval_loss(const struct dml_round *round)
{
    return round->evaluated ? round->eval_loss : NAN;
}

static double get_accuracy(const struct dml_round *round)
{
    return round->evaluated ? 100.0 * round->accuracy : NAN;
}

/* Points of a curve that have a mark each; marks on a curve of more. */
#define MARKS_ALL  40
#define MARKS_SOME 10

/* Rounds without the figure are skipped, not gaps: evaluations may be rare. Returns the largest y
 * without drawing when c is NULL. */
static double draw_curve(const struct dml_chart *c, const struct dml_result_case *of,
                         size_t n_rounds, double (*get)(const struct dml_round *), double *xy,
                         size_t i_series, const char *dash)
{
    double *x = xy, *y = xy + n_rounds, max = 0.0;
    size_t n = 0;
    for (size_t i = 0; i < n_rounds; i++) {
        double mean = round_mean(of, i, get);
        if (!isfinite(mean))
            continue;
        max = fmax(max, mean);
        x[n] = c ? dml_chart_x(c, (double)i + 1) : 0.0;
        y[n++] = c ? dml_chart_y(c, mean) : 0.0;
    }
    if (c && n > 1)
        dml_svg_polyline(c->svg, x, y, n, dml_chart_color(i_series), 2.0, dash);
    /* The first ones' colours say enough: their long curves do without. */
    size_t step = n <= MARKS_ALL ? 1 : n / MARKS_SOME;
    if (c && (n <= MARKS_ALL || i_series >= DML_CHART_COLORS))
        for (size_t i = step / 2; i < n; i += step)
            dml_chart_mark(c, i_series, x[i], y[i]);
    return max;
}

static int draw_curves(const struct page *p)
{
    size_t n_rounds = 0, n_cases = p->r->n_cases;
    for (size_t i = 0; i < n_cases; i++)
        for (size_t k = 0; k < p->r->cases[i].n_runs; k++)
            if (!p->r->cases[i].runs[k].failed && p->r->cases[i].runs[k].n_rounds > n_rounds)
                n_rounds = p->r->cases[i].runs[k].n_rounds;
    if (n_rounds == 0)
        return -ENODATA;
    _cleanup_(dml_mem_freep) double *xy = calloc(2 * n_rounds, sizeof(*xy));
    if (!xy)
        return -ENOMEM;
    struct dml_chart loss = chart_at(p, 70, 250), accuracy = chart_at(p, 380, 250);
    loss.x_max = accuracy.x_max = fmax((double)n_rounds, 2.0);
    loss.x_min = accuracy.x_min = 1.0;
    double highest = 0.0, best = 0.0;
    for (size_t i = 0; i < n_cases; i++) {
        highest = fmax(highest, draw_curve(NULL, &p->r->cases[i], n_rounds, get_loss, xy, i, ""));
        highest =
            fmax(highest, draw_curve(NULL, &p->r->cases[i], n_rounds, get_eval_loss, xy, i, ""));
        best = fmax(best, draw_curve(NULL, &p->r->cases[i], n_rounds, get_accuracy, xy, i, ""));
    }
    loss.y_max = dml_chart_end(highest, 6, false);
    accuracy.y_max = best > 50.0 ? 100.0 : dml_chart_end(best, 6, false);
    print_title(p, "learning");
    dml_chart_y_axis(&loss, "loss");
    dml_chart_x_axis(&loss, "", true);
    dml_chart_y_axis(&accuracy, "accuracy on the test set [%]");
    dml_chart_x_axis(&accuracy, "round", true);
    size_t n_listed = n_cases <= 26 ? n_cases : 25; /* as many as the page is high */
    for (size_t i = 0; i < n_cases; i++) {
        const struct dml_result_case *of = &p->r->cases[i];
        draw_curve(&loss, of, n_rounds, get_loss, xy, i, "");
        draw_curve(&loss, of, n_rounds, get_eval_loss, xy, i, "5 4");
        draw_curve(&accuracy, of, n_rounds, get_accuracy, xy, i, "5 4");
        if (i < n_listed && n_cases > DML_CHART_COLORS)
            dml_chart_legend_mark(&loss, legend_x(&loss), 90, i + 3, i, of->label);
        else if (i < n_listed)
            dml_chart_legend(&loss, legend_x(&loss), 90, i + 3, dml_chart_color(i), NULL,
                             of->label);
    }
    dml_chart_legend(&loss, legend_x(&loss), 90, 0, DML_CHART_INK, "", "training");
    dml_chart_legend(&loss, legend_x(&loss), 90, 1, DML_CHART_INK, "5 4", "test set");
    if (n_listed < n_cases)
        dml_svg_text(p->svg, legend_x(&loss) + LEGEND_SIGN, 94 + 18.0 * (double)(n_listed + 3),
                     DML_SVG_START, 12, DML_CHART_INK, 0, "…");
    return 0;
}

static int draw_break_even(const struct page *p)
{
    struct dml_result_fit fit;
    struct dml_result_break_even even;
    double x_max = 0.0, y_max = 0.0;
    int r = dml_results_fit(p->r, &fit);
    if (r == 0)
        r = dml_results_break_even(p->r, &even);
    if (r < 0)
        return r == -EDOM ? -ENODATA : r;
    for (size_t i = 0; i < p->r->n_cases; i++) {
        if (p->s[i].n_runs == 0)
            continue;
        x_max = fmax(x_max, p->r->cases[i].nodes);
        y_max = fmax(y_max, fmax(p->s[i].w_s + p->s[i].w_s_sd, p->s[i].o_s + p->s[i].o_s_sd));
    }
    /* A point far beyond what was measured is told, not shown: the axis stays readable. */
    bool shown = even.kind == DML_RESULT_EVEN_FROM && even.nodes <= 4.0 * x_max;
    struct dml_chart c = chart_at(p, 70, 340);
    c.x_max = dml_chart_end(fmax(x_max, shown ? even.nodes : 0.0) * 1.1, 10, true);
    c.y_max = dml_chart_end(y_max * 1.05, 6, false);
    print_title(p, "work and overhead");
    dml_chart_y_axis(&c, "time [s]");
    dml_chart_x_axis(&c, "nodes", true);
    const char *const colors[] = {W_COLOR, O_COLOR};
    for (size_t k = 0; k < 2; k++) {
        double x[200], y[200];
        for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
            double nodes = c.x_max * (double)(i + 1) / (double)ARRAY_SIZE(x);
            double time = k == 0 ? dml_results_fit_w(&fit, nodes) : dml_results_fit_o(&fit, nodes);
            /* Only within the field: a time below 0 means nothing. */
            x[i] = time >= 0.0 && time <= c.y_max ? dml_chart_x(&c, nodes) : NAN;
            y[i] = dml_chart_y(&c, time);
        }
        dml_svg_polyline(p->svg, x, y, ARRAY_SIZE(x), colors[k], 1.5, "6 4");
    }
    for (size_t i = 0; i < p->r->n_cases; i++) {
        double x = p->r->cases[i].nodes;
        if (p->s[i].n_runs == 0)
            continue;
        dml_chart_error_bar(&c, x, p->s[i].w_s, p->s[i].w_s_sd, 0);
        dml_chart_error_bar(&c, x, p->s[i].o_s, p->s[i].o_s_sd, 0);
        dml_svg_circle(p->svg, dml_chart_x(&c, x), dml_chart_y(&c, p->s[i].w_s), 5, W_COLOR);
        dml_svg_circle(p->svg, dml_chart_x(&c, x), dml_chart_y(&c, p->s[i].o_s), 5, O_COLOR);
    }
    char text[80];
    if (shown) {
        double x = dml_chart_x(&c, even.nodes);
        dml_svg_line(p->svg, x, c.top, x, c.top + c.height, DML_CHART_INK, 1.0, "2 3");
        (void)snprintf(text, sizeof(text), "break-even: %.1f nodes", even.nodes);
        bool left = even.nodes > 0.6 * c.x_max;
        dml_svg_text(p->svg, x + (left ? -6 : 6), c.top + 14, left ? DML_SVG_END : DML_SVG_START,
                     12, DML_CHART_INK, 0, text);
    } else {
        static const char *const says[] = {
            [DML_RESULT_EVEN_ABOVE] = "O exceeds W in every case",
            [DML_RESULT_EVEN_BELOW] = "O stays below W in every case",
            [DML_RESULT_EVEN_UNKNOWN] = "no break-even by these fits",
        };
        if (even.kind == DML_RESULT_EVEN_FROM)
            (void)snprintf(text, sizeof(text), "break-even far beyond: %.0f nodes", even.nodes);
        else
            (void)snprintf(text, sizeof(text), "%s", says[even.kind]);
        dml_svg_text(p->svg, c.left + c.width - 4, c.top + 14, DML_SVG_END, 12, DML_CHART_INK, 0,
                     text);
    }
    dml_chart_legend(&c, legend_x(&c), 90, 0, W_COLOR, NULL, "W work");
    dml_chart_legend(&c, legend_x(&c), 90, 1, O_COLOR, NULL, "O overhead");
    dml_chart_legend(&c, legend_x(&c), 90, 2, DML_CHART_GREY, "6 4", "fitted");
    dml_svg_text(p->svg, legend_x(&c) + 4, 90 + 3 * 18 + 4, DML_SVG_START, 12, DML_CHART_INK, 0,
                 "bars: mean ± sd");
    return 0;
}

int dml_plot_draw(const struct dml_results *r, enum dml_plot_kind kind, char **ret_svg)
{
    static int (*const draw[DML_PLOT_MAX_])(const struct page *) = {draw_times, draw_speedup,
                                                                    draw_curves, draw_break_even};
    if (r->n_cases == 0)
        return -ENODATA;
    char title[512];
    (void)snprintf(title, sizeof(title), "%s: %s", r->name, names[kind]);
    struct page p = {.r = r, .left = FIELD_LEFT};
    for (size_t i = 0; i < r->n_cases; i++) {
        size_t chars = dml_table_text_width(r->cases[i].label);
        p.longest = chars > p.longest ? chars : p.longest;
    }
    double label = CHAR_WIDTH * (double)p.longest, width = PAGE_WIDTH, height = PAGE_HEIGHT;
    if (kind == DML_PLOT_CURVES) {
        width = fmax(width, FIELD_LEFT + FIELD_WIDTH + LEGEND_GAP + LEGEND_SIGN + label);
        height = 690.0;
    } else if (kind == DML_PLOT_TIMES && turned(&p)) {
        /* Turned by 40 degrees: its width to the left, its height below. */
        p.left = fmax(p.left, 0.77 * label);
        width += p.left - FIELD_LEFT;
        height = fmax(height, 440.0 + 0.65 * label);
    }
    _cleanup_(dml_mem_freep) struct dml_result_summary *s = calloc(r->n_cases, sizeof(*s));
    _cleanup_(dml_svg_freep) struct dml_svg *svg = dml_svg_new(width, height, title);
    if (!s || !svg)
        return -ENOMEM;
    for (size_t i = 0; i < r->n_cases; i++)
        dml_results_summary(r, i, &s[i]);
    p.s = s;
    p.svg = svg;
    int e = draw[kind](&p);
    return e < 0 ? e : dml_svg_finish(svg, ret_svg);
}

int dml_plot_save(const struct dml_results *r, const char *dir, unsigned *ret_n,
                  struct dml_err *err)
{
    unsigned n = 0;
    int e = dml_fileio_mkdirs(dir, 0755, err);
    for (int kind = 0; e >= 0 && kind < DML_PLOT_MAX_; kind++) {
        _cleanup_(dml_mem_freep) char *svg = NULL, *path = NULL;
        int drawn = dml_plot_draw(r, (enum dml_plot_kind)kind, &svg);
        if (drawn == -ENODATA)
            continue;
        if (drawn < 0)
            return drawn;
        path = dml_results_path(r, dir, names[kind], "svg");
        e = path ? dml_fileio_write(path, svg, strlen(svg), 0644, err) : -ENOMEM;
        n++;
    }
    if (e < 0)
        return e;
    if (n == 0)
        return dml_err_set(err, -ENODATA, "these results have nothing to draw: no run has ended");
    *ret_n = n;
    return 0;
}
