/* Axes, ticks, error bars and a legend over the SVG writer. Values in data units; y from below. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "report/svg.h"

#define DML_CHART_INK  "#333333"
#define DML_CHART_GREY "#999999"

struct dml_chart {
    struct dml_svg *svg;             /* borrowed */
    double left, top, width, height; /* of the field between the axes, pixels */
    double x_min, x_max, y_min, y_max;
};

/* Colour number i of a palette that people with any colour vision can tell apart; cycles after
 * DML_CHART_COLORS. */
#define DML_CHART_COLORS 7
const char *dml_chart_color(size_t i);

/* The mark of series number i at (x, y) in pixels: with its colour it tells four times as many
 * series apart as there are colours. */
void dml_chart_mark(const struct dml_chart *c, size_t i, double x, double y);

/* A step of 1, 2 or 5 times a power of ten that divides `range` into about n parts; whole: at
 * least 1. */
double dml_chart_step(double range, unsigned n, bool whole);

/* The next multiple of the axis' step at or above max, so that the axis ends in a tick. 0 gives 1.
 */
double dml_chart_end(double max, unsigned n, bool whole);

double dml_chart_x(const struct dml_chart *c, double x);
double dml_chart_y(const struct dml_chart *c, double y);

/* Grid, ticks and label of the y axis; frame. */
void dml_chart_y_axis(const struct dml_chart *c, const char *label);

/* Ticks at nice numbers and the label of the x axis; whole: integers only. */
void dml_chart_x_axis(const struct dml_chart *c, const char *label, bool whole);

/* One tick with a text of its own; turned when there is little room for it. */
void dml_chart_x_tick(const struct dml_chart *c, double x, const char *text, bool turned);
void dml_chart_x_label(const struct dml_chart *c, const char *label);

/* A bar from y - sd to y + sd with caps, shifted by dx pixels; none for sd 0. */
void dml_chart_error_bar(const struct dml_chart *c, double x, double y, double sd, double dx);

/* Entry number i of a legend whose upper left corner is (x, y) in pixels. A line when dash is not
 * NULL, else a box. */
void dml_chart_legend(const struct dml_chart *c, double x, double y, size_t i, const char *color,
                      const char *dash, const char *text);

/* The same for series number i_series: its line with its mark. */
void dml_chart_legend_mark(const struct dml_chart *c, double x, double y, size_t i, size_t i_series,
                           const char *text);
