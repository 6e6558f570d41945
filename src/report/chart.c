/*
 * Colours: Okabe and Ito, "Color Universal Design" (2008), without yellow, which is too pale for
 * lines on white.
 */
#include "report/chart.h"

#include <math.h>
#include <stdio.h>

#define TEXT 12.0 /* pixels */

const char *dml_chart_color(size_t i)
{
    static const char *const palette[DML_CHART_COLORS] = {
        "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"};
    return palette[i % DML_CHART_COLORS];
}

/* A dot, a square, and both hollow. */
void dml_chart_mark(const struct dml_chart *c, size_t i, double x, double y)
{
    static const char paper[] = "#ffffff";
    const char *color = dml_chart_color(i);
    size_t turn = i / DML_CHART_COLORS % 4;
    if (turn == 0) {
        dml_svg_circle(c->svg, x, y, 2.5, color);
    } else if (turn == 2) {
        dml_svg_circle(c->svg, x, y, 4.5, color);
        dml_svg_circle(c->svg, x, y, 2.5, paper);
    } else {
        dml_svg_rect(c->svg, x - 4, y - 4, 8, 8, color);
        if (turn == 3)
            dml_svg_rect(c->svg, x - 2, y - 2, 4, 4, paper);
    }
}

double dml_chart_step(double range, unsigned n, bool whole)
{
    if (!(range > 0.0) || !isfinite(range))
        return 1.0;
    double raw = range / n;
    double power = pow(10.0, floor(log10(raw)));
    double step = raw <= power       ? power
                  : raw <= 2 * power ? 2 * power
                  : raw <= 5 * power ? 5 * power
                                     : 10 * power;
    return whole && step < 1.0 ? 1.0 : step;
}

double dml_chart_end(double max, unsigned n, bool whole)
{
    if (!(max > 0.0) || !isfinite(max))
        return 1.0;
    double step = dml_chart_step(max, n, whole);
    return ceil(max / step * (1.0 - 1e-9)) * step;
}

double dml_chart_x(const struct dml_chart *c, double x)
{
    return c->left + (x - c->x_min) / (c->x_max - c->x_min) * c->width;
}

double dml_chart_y(const struct dml_chart *c, double y)
{
    return c->top + c->height - (y - c->y_min) / (c->y_max - c->y_min) * c->height;
}

/* Ticks are multiples of the step; how many there are is known from the range. */
static void each_tick(double min, double max, double step,
                      void (*fn)(const struct dml_chart *, double, const char *),
                      const struct dml_chart *c)
{
    int decimals = step >= 1.0 ? 0 : (int)ceil(-log10(step) - 1e-9);
    long first = (long)ceil(min / step - 1e-6), last = (long)floor(max / step + 1e-6);
    for (long i = first; i <= last && i - first <= 100; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%.*f", decimals, (double)i * step);
        fn(c, (double)i * step, text);
    }
}

static void y_tick(const struct dml_chart *c, double y, const char *text)
{
    double at = dml_chart_y(c, y);
    dml_svg_line(c->svg, c->left, at, c->left + c->width, at, "#e5e5e5", 1.0, "");
    dml_svg_text(c->svg, c->left - 6, at + 4, DML_SVG_END, TEXT, DML_CHART_INK, 0, text);
}

void dml_chart_y_axis(const struct dml_chart *c, const char *label)
{
    each_tick(c->y_min, c->y_max, dml_chart_step(c->y_max - c->y_min, 6, false), y_tick, c);
    dml_svg_line(c->svg, c->left, c->top, c->left, c->top + c->height, DML_CHART_INK, 1.0, "");
    dml_svg_line(c->svg, c->left, c->top + c->height, c->left + c->width, c->top + c->height,
                 DML_CHART_INK, 1.0, "");
    double x = c->left - 52, y = c->top + c->height / 2;
    dml_svg_text(c->svg, x, y, DML_SVG_MIDDLE, TEXT + 1, DML_CHART_INK, -90, label);
}

void dml_chart_x_tick(const struct dml_chart *c, double x, const char *text, bool turned)
{
    double at = dml_chart_x(c, x), foot = c->top + c->height;
    dml_svg_line(c->svg, at, foot, at, foot + 4, DML_CHART_INK, 1.0, "");
    if (turned)
        dml_svg_text(c->svg, at + 4, foot + 14, DML_SVG_END, TEXT - 1, DML_CHART_INK, -40, text);
    else
        dml_svg_text(c->svg, at, foot + 18, DML_SVG_MIDDLE, TEXT, DML_CHART_INK, 0, text);
}

static void x_tick(const struct dml_chart *c, double x, const char *text)
{
    dml_chart_x_tick(c, x, text, false);
}

void dml_chart_x_label(const struct dml_chart *c, const char *label)
{
    dml_svg_text(c->svg, c->left + c->width / 2, c->top + c->height + 40, DML_SVG_MIDDLE, TEXT + 1,
                 DML_CHART_INK, 0, label);
}

void dml_chart_x_axis(const struct dml_chart *c, const char *label, bool whole)
{
    each_tick(c->x_min, c->x_max, dml_chart_step(c->x_max - c->x_min, 10, whole), x_tick, c);
    dml_chart_x_label(c, label);
}

void dml_chart_error_bar(const struct dml_chart *c, double x, double y, double sd, double dx)
{
    if (!(sd > 0.0))
        return;
    double at = dml_chart_x(c, x) + dx;
    double low = dml_chart_y(c, fmax(y - sd, c->y_min)), high = dml_chart_y(c, y + sd);
    dml_svg_line(c->svg, at, low, at, high, DML_CHART_INK, 1.5, "");
    dml_svg_line(c->svg, at - 5, low, at + 5, low, DML_CHART_INK, 1.5, "");
    dml_svg_line(c->svg, at - 5, high, at + 5, high, DML_CHART_INK, 1.5, "");
}

void dml_chart_legend(const struct dml_chart *c, double x, double y, size_t i, const char *color,
                      const char *dash, const char *text)
{
    y += (double)i * 18.0;
    if (dash)
        dml_svg_line(c->svg, x, y, x + 22, y, color, 2.5, dash);
    else
        dml_svg_rect(c->svg, x + 4, y - 6, 14, 12, color);
    dml_svg_text(c->svg, x + 28, y + 4, DML_SVG_START, TEXT, DML_CHART_INK, 0, text);
}

void dml_chart_legend_mark(const struct dml_chart *c, double x, double y, size_t i, size_t i_series,
                           const char *text)
{
    dml_chart_legend(c, x, y, i, dml_chart_color(i_series), "", text);
    dml_chart_mark(c, i_series, x + 11, y + (double)i * 18.0);
}
