/* Pictures: what can be drawn is drawn, as XML that a parser takes; what cannot be is said. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "report/chart.h"
#include "report/plot.h"
#include "tests/tap.h"
#include "tests/unit/results_sample.h"

static void test_steps(void)
{
    tap_near(dml_chart_step(10.0, 5, false), 2.0, 1e-12, "10 in 5 parts");
    tap_near(dml_chart_step(0.7, 6, false), 0.2, 1e-12, "0.7 in 6 parts");
    tap_near(dml_chart_step(3.0, 10, true), 1.0, 1e-12, "nodes are whole");
    tap_near(dml_chart_end(92.4, 6, false), 100.0, 1e-9, "an axis ends in a tick");
    tap_near(dml_chart_end(100.0, 5, false), 100.0, 1e-9, "where the largest value may lie");
    tap_near(dml_chart_end(0.0, 6, false), 1.0, 0.0, "an axis of nothing");
    tap_near(dml_chart_end(NAN, 6, false), 1.0, 0.0, "or of no number");
    struct dml_chart c = {
        .left = 10, .top = 20, .width = 100, .height = 50, .x_max = 4, .y_max = 2};
    tap_near(dml_chart_x(&c, 1), 35.0, 1e-12, "x from the left");
    tap_near(dml_chart_y(&c, 0.5), 57.5, 1e-12, "y from below");
}

static unsigned count(const char *text, const char *part)
{
    unsigned n = 0;
    for (const char *p = text; p && (p = strstr(p, part)); p += strlen(part))
        n++;
    return n;
}

/* Tags that are opened are closed, no bare & or <. Enough for what our writer can get wrong. */
static bool well_formed(const char *svg)
{
    int depth = 0;
    for (const char *p = svg; *p; p++) {
        if (*p == '&' && strncmp(p, "&amp;", 5) && strncmp(p, "&lt;", 4) && strncmp(p, "&gt;", 4) &&
            strncmp(p, "&quot;", 6))
            return false;
        if (*p != '<')
            continue;
        const char *end = strchr(p, '>');
        if (!end)
            return false;
        if (p[1] == '/')
            depth--;
        else if (end[-1] != '/' && p[1] != '?')
            depth++;
        p = end;
    }
    return depth == 0;
}

static void test_pictures(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    free(r->name);
    r->name = strdup("a<b>&\"c\" größer");
    for (int kind = 0; kind < DML_PLOT_MAX_; kind++) {
        _cleanup_(dml_mem_freep) char *svg = NULL;
        tap_int(dml_plot_draw(r, (enum dml_plot_kind)kind, &svg), 0,
                dml_plot_name((enum dml_plot_kind)kind));
        if (!svg)
            continue;
        tap_ok(well_formed(svg), "is well-formed");
        tap_has(svg, "a&lt;b&gt;&amp;&quot;c&quot; größer", "names are escaped");
        tap_ok(!strstr(svg, "nan") && !strstr(svg, "inf"), "has only numbers for numbers");
        if (kind == DML_PLOT_TIMES) {
            tap_int(count(svg, "fill=\"#0072b2\""), 3 + 1,
                    "a bar of W per case, one in the legend");
            tap_has(svg, ">time [s]<", "the axis has a unit");
            tap_has(svg, ">3:6<", "and the cases their names");
        } else if (kind == DML_PLOT_SPEEDUP) {
            tap_int(count(svg, "<circle"), 3 + 1, "a mark per case, one in the legend");
            tap_has(svg, ">nodes<", "over nodes");
        } else if (kind == DML_PLOT_CURVES) {
            tap_int(count(svg, "<polyline"), 3 * 3, "three curves per case");
        } else {
            tap_has(svg, "break-even: 7.1 nodes", "the break-even is marked");
        }
    }
}

static void test_no_break_even(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    _cleanup_(dml_mem_freep) char *below = NULL, *above = NULL;
    for (size_t i = 0; i < r->n_cases; i++)
        for (size_t k = 0; k < 2; k++)
            r->cases[i].runs[k].totals.overhead_us = 1000000;
    for (size_t k = 0; k < 2; k++)
        r->cases[2].runs[k].totals.work_us = 90000000;
    tap_int(dml_plot_draw(r, DML_PLOT_BREAK_EVEN, &below), 0, "O below W");
    tap_has(below, ">O stays below W in every case<", "is said");
    for (size_t i = 0; i < r->n_cases; i++)
        for (size_t k = 0; k < 2; k++)
            r->cases[i].runs[k].totals.overhead_us = 99000000;
    tap_int(dml_plot_draw(r, DML_PLOT_BREAK_EVEN, &above), 0, "O above W");
    tap_has(above, ">O exceeds W in every case<", "is said");
}

/* n cases of one run each that took t_ms. */
static struct dml_results *many_cases(unsigned n, uint64_t t_ms)
{
    struct dml_results *r = dml_results_new("many");
    for (unsigned i = 1; r && i <= n; i++) {
        char label[16];
        (void)snprintf(label, sizeof(label), "%u:%u", i, i);
        struct dml_result_case *c =
            dml_results_add_case(r, label, "federated", "fedavg", "cnn", "cifar10", i, i);
        sample_run(c, 0, t_ms, t_ms / 2, 0.5);
    }
    return r;
}

static void test_long_times(void)
{
    static const struct {
        unsigned n;
        uint64_t t_ms;
        const char *text;
        unsigned n_texts;
    } cases[] = {
        {3, 4321400, ">4321<", 3}, {3, 123400, ">123<", 3},      {3, 12345, ">12.3<", 3},
        {18, 123400, ">123<", 18}, {18, 12345600, ">12346<", 0}, {40, 123400, ">123<", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(dml_results_freep) struct dml_results *r =
            many_cases(cases[i].n, cases[i].t_ms);
        _cleanup_(dml_mem_freep) char *svg = NULL;
        tap_int(dml_plot_draw(r, DML_PLOT_TIMES, &svg), 0, "times");
        tap_int(count(svg, cases[i].text), cases[i].n_texts,
                cases[i].text);
        tap_int(count(svg, "e+"), 0, "no powers of ten");
    }
}

static void test_mixed(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    _cleanup_(dml_mem_freep) char *same = NULL, *mixed = NULL, *nothing = NULL;
    tap_int(dml_plot_draw(r, DML_PLOT_TIMES, &same), 0, "one paradigm");
    tap_has(same, ">cifar-cnn on cifar10, federated, fedavg<", "is in the title");
    free(r->cases[1].paradigm);
    free(r->cases[1].strategy);
    r->cases[1].paradigm = strdup("allreduce");
    r->cases[1].strategy = strdup("");
    tap_int(dml_plot_draw(r, DML_PLOT_TIMES, &mixed), 0, "two");
    tap_has(mixed, ">cifar-cnn on cifar10<", "are not");
    free(r->cases[2].model);
    r->cases[2].model = strdup("mlp");
    tap_int(dml_plot_draw(r, DML_PLOT_SPEEDUP, &nothing), 0, "nothing that all cases share");
    tap_ok(!strstr(nothing, "cifar10<") && well_formed(nothing), "no subtitle");
}

/* Colour of the line before a case's name in the legend, and the shapes of the mark behind it. */
static void look_of(const char *svg, unsigned i_case, char *buf, size_t buf_len)
{
    char label[32];
    (void)snprintf(label, sizeof(label), ">%u:%u</text>", i_case, i_case);
    const char *name = strstr(svg, label), *line = NULL;
    for (const char *q = svg; name && (q = strstr(q, "<line")) && q < name; q++)
        line = q;
    const char *color = line ? strstr(line, "stroke=\"#") : NULL;
    unsigned n_circles = 0, n_rects = 0;
    const char *p = name ? strchr(name, '\n') : NULL;
    for (; p && p[1] == '<'; p = strchr(p + 1, '\n')) {
        if (strncmp(p + 1, "<circle", 7) != 0 && strncmp(p + 1, "<rect", 5) != 0)
            break;
        n_circles += p[2] == 'c';
        n_rects += p[2] == 'r';
    }
    (void)snprintf(buf, buf_len, "%.16s: %u circles, %u rectangles", color ? color : "none",
                   n_circles, n_rects);
}

static void test_many_curves(void)
{
    enum { N = 18 };
    _cleanup_(dml_results_freep) struct dml_results *r = many_cases(N, 60000);
    _cleanup_(dml_mem_freep) char *svg = NULL;
    tap_int(dml_plot_draw(r, DML_PLOT_CURVES, &svg), 0, "eighteen cases");
    tap_ok(well_formed(svg), "is well-formed");
    char looks[N][64];
    for (unsigned i = 0; i < N; i++) {
        unsigned same = i;
        look_of(svg, i + 1, looks[i], sizeof(looks[i]));
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(looks[k], looks[i]))
                same = k;
        tap_ok(same == i, "case %u (%s) looks as no other, as %u would", i + 1, looks[i], same + 1);
    }
}

static void test_odd_results(void)
{
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    _cleanup_(dml_mem_freep) char *one = NULL, *two = NULL, *three = NULL;
    char *svg = NULL;
    for (size_t i = 0; i < r->n_cases; i++)
        r->cases[i].nodes = 3;
    tap_int(dml_plot_draw(r, DML_PLOT_BREAK_EVEN, &svg), -ENODATA, "one node count, no fit");
    tap_int(dml_plot_draw(r, DML_PLOT_SPEEDUP, &one), 0, "but a speed-up");
    tap_has(one, ">cores in all<", "over cores");
    for (size_t k = 0; k < 2; k++)
        r->cases[1].runs[k].failed = true;
    r->cases[0].runs[0].rounds[1].loss = INFINITY;
    r->cases[0].runs[1].rounds[1].loss = NAN;
    tap_int(dml_plot_draw(r, DML_PLOT_TIMES, &two), 0, "a case that failed is no obstacle");
    tap_has(two, ">failed<", "and is said");
    tap_int(dml_plot_draw(r, DML_PLOT_CURVES, &three), 0, "nor is a loss that diverged");
    tap_ok(three && !strstr(three, "nan") && !strstr(three, "inf"), "only numbers for numbers");
    for (size_t i = 0; i < r->n_cases; i++)
        for (size_t k = 0; k < 2; k++)
            r->cases[i].runs[k].failed = true;
    for (int kind = 0; kind < DML_PLOT_MAX_; kind++)
        tap_int(dml_plot_draw(r, (enum dml_plot_kind)kind, &svg), -ENODATA, "nothing to draw");
    _cleanup_(dml_results_freep) struct dml_results *empty = dml_results_new("empty");
    tap_int(dml_plot_draw(empty, DML_PLOT_TIMES, &svg), -ENODATA, "no cases");
}

static void test_save(void)
{
    char dir[] = "/tmp/dml-plot-XXXXXX";
    if (!mkdtemp(dir)) {
        tap_skip("no temporary folder");
        return;
    }
    _cleanup_(dml_results_freep) struct dml_results *r = sample_results();
    unsigned n = 0;
    tap_int(dml_plot_save(r, dir, &n, NULL), 0, "saved");
    tap_int(n, DML_PLOT_MAX_, "all pictures");
    for (int kind = 0; kind < DML_PLOT_MAX_; kind++) {
        _cleanup_(dml_mem_freep) char *path =
            dml_results_path(r, dir, dml_plot_name((enum dml_plot_kind)kind), "svg");
        const char *keep = getenv("DML_TEST_KEEP_PLOTS");
        if (keep) {
            _cleanup_(dml_mem_freep) char *to =
                dml_mem_printf("%s/%s.svg", keep, dml_plot_name((enum dml_plot_kind)kind));
            (void)link(path, to);
        }
        tap_int(unlink(path), 0, path);
    }
    tap_int(rmdir(dir), 0, "and nothing else");
}

int main(void)
{
    test_steps();
    test_pictures();
    test_no_break_even();
    test_many_curves();
    test_mixed();
    test_long_times();
    test_odd_results();
    test_save();
    return tap_done();
}
