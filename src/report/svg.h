/*
 * A small writer of SVG: the shapes a chart needs, nothing else. Coordinates are pixels from the
 * upper left corner. What cannot be drawn (not finite) is left out.
 *
 * Source: W3C, Scalable Vector Graphics (SVG) 1.1, second edition.
 */
#pragma once

#include <stddef.h>

#include "base/mem.h"

struct dml_svg;

enum dml_svg_anchor { DML_SVG_START, DML_SVG_MIDDLE, DML_SVG_END };

/* White paper with that title for screen readers. NULL when out of memory. */
struct dml_svg *dml_svg_new(double width, double height, const char *title);
struct dml_svg *dml_svg_free(struct dml_svg *svg);
DML_MEM_CLEANUP(struct dml_svg, dml_svg_free);

/* color: "#rrggbb"; dash: "" or "4 3". */
void dml_svg_line(struct dml_svg *svg, double x1, double y1, double x2, double y2,
                  const char *color, double width, const char *dash);
void dml_svg_rect(struct dml_svg *svg, double x, double y, double width, double height,
                  const char *color);
void dml_svg_circle(struct dml_svg *svg, double x, double y, double radius, const char *color);

/* n points (x[i], y[i]); a point that is not finite breaks the line. */
void dml_svg_polyline(struct dml_svg *svg, const double *x, const double *y, size_t n,
                      const char *color, double width, const char *dash);

/* rotate: degrees, clockwise, round (x, y). Any bytes of text are escaped. */
void dml_svg_text(struct dml_svg *svg, double x, double y, enum dml_svg_anchor anchor, double size,
                  const char *color, double rotate, const char *text);

/* Ends the picture; nothing may be drawn afterwards. Returns 0 or -ENOMEM; free(*ret_text). */
int dml_svg_finish(struct dml_svg *svg, char **ret_text);
