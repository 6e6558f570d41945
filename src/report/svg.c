/*
 * Written by hand: six shapes are less code than any drawing library's set-up, and the files open
 * in every browser. Numbers have two decimals (a hundredth of a pixel).
 */
#include "report/svg.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dml_svg {
    FILE *f;
    char *text;
    size_t len;
};

static void put_escaped(FILE *f, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '&')
            (void)fputs("&amp;", f);
        else if (c == '<')
            (void)fputs("&lt;", f);
        else if (c == '>')
            (void)fputs("&gt;", f);
        else if (c == '"')
            (void)fputs("&quot;", f);
        else if (c < 0x20 && c != '\t' && c != '\n') /* XML 1.0 has no such characters */
            (void)fputc('?', f);
        else
            (void)fputc(c, f);
    }
}

struct dml_svg *dml_svg_new(double width, double height, const char *title)
{
    struct dml_svg *svg = calloc(1, sizeof(*svg));
    if (!svg)
        return NULL;
    svg->f = open_memstream(&svg->text, &svg->len);
    if (!svg->f)
        return dml_svg_free(svg);
    (void)fprintf(svg->f,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                  "viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\">\n<title>",
                  width, height, width, height);
    put_escaped(svg->f, title);
    (void)fputs("</title>\n", svg->f);
    dml_svg_rect(svg, 0, 0, width, height, "#ffffff");
    return svg;
}

struct dml_svg *dml_svg_free(struct dml_svg *svg)
{
    if (!svg)
        return NULL;
    if (svg->f)
        (void)fclose(svg->f);
    free(svg->text);
    free(svg);
    return NULL;
}

static void put_dash(struct dml_svg *svg, const char *dash)
{
    if (dash && *dash)
        (void)fprintf(svg->f, " stroke-dasharray=\"%s\"", dash);
}

void dml_svg_line(struct dml_svg *svg, double x1, double y1, double x2, double y2,
                  const char *color, double width, const char *dash)
{
    if (!isfinite(x1) || !isfinite(y1) || !isfinite(x2) || !isfinite(y2))
        return;
    (void)fprintf(svg->f,
                  "<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\" stroke=\"%s\" "
                  "stroke-width=\"%.2f\"",
                  x1, y1, x2, y2, color, width);
    put_dash(svg, dash);
    (void)fputs("/>\n", svg->f);
}

void dml_svg_rect(struct dml_svg *svg, double x, double y, double width, double height,
                  const char *color)
{
    if (isfinite(x) && isfinite(y) && width > 0.0 && height > 0.0 && isfinite(width * height))
        (void)fprintf(svg->f,
                      "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"/>\n",
                      x, y, width, height, color);
}

void dml_svg_circle(struct dml_svg *svg, double x, double y, double radius, const char *color)
{
    if (isfinite(x) && isfinite(y))
        (void)fprintf(svg->f, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%.2f\" fill=\"%s\"/>\n", x, y,
                      radius, color);
}

void dml_svg_polyline(struct dml_svg *svg, const double *x, const double *y, size_t n,
                      const char *color, double width, const char *dash)
{
    for (size_t i = 0; i < n;) {
        if (!isfinite(x[i]) || !isfinite(y[i])) {
            i++;
            continue;
        }
        (void)fprintf(svg->f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%.2f\"", color,
                      width);
        put_dash(svg, dash);
        (void)fputs(" points=\"", svg->f);
        for (; i < n && isfinite(x[i]) && isfinite(y[i]); i++)
            (void)fprintf(svg->f, "%.2f,%.2f ", x[i], y[i]);
        (void)fputs("\"/>\n", svg->f);
    }
}

void dml_svg_text(struct dml_svg *svg, double x, double y, enum dml_svg_anchor anchor, double size,
                  const char *color, double rotate, const char *text)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    if (!isfinite(x) || !isfinite(y))
        return;
    (void)fprintf(svg->f,
                  "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"%s\" font-size=\"%.0f\" fill=\"%s\"",
                  x, y, anchors[anchor], size, color);
    if (rotate != 0.0)
        (void)fprintf(svg->f, " transform=\"rotate(%.0f %.2f %.2f)\"", rotate, x, y);
    (void)fputc('>', svg->f);
    put_escaped(svg->f, text);
    (void)fputs("</text>\n", svg->f);
}

int dml_svg_finish(struct dml_svg *svg, char **ret_text)
{
    (void)fputs("</svg>\n", svg->f);
    int failed = ferror(svg->f);
    failed |= fclose(svg->f);
    svg->f = NULL;
    if (failed)
        return -ENOMEM;
    *ret_text = svg->text;
    svg->text = NULL;
    return 0;
}
