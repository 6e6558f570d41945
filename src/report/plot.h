/* Results as pictures: SVG, for a browser or a paper. */
#pragma once

#include <stddef.h>

#include "report/result.h"

enum dml_plot_kind {
    DML_PLOT_TIMES,   /* W and O stacked to T, one bar per case */
    DML_PLOT_SPEEDUP, /* S over nodes (or over cores, when the nodes do not vary) and the ideal */
    DML_PLOT_CURVES,  /* loss and accuracy over rounds */
    DML_PLOT_BREAK_EVEN, /* O and W over nodes, fitted, and where they meet */
    DML_PLOT_MAX_
};

const char *dml_plot_name(enum dml_plot_kind kind); /* "times": the end of the file's name */

/*
 * One picture. Returns 0, -ENODATA (these results do not have what it shows: one case only for a
 * speed-up, one node count for a break-even, no round), -ENOMEM. Owner: caller, free(*ret_svg).
 */
int dml_plot_draw(const struct dml_results *r, enum dml_plot_kind kind, char **ret_svg);

/*
 * All pictures that these results allow, as dir/NAME-times.svg …, atomically; dir is made.
 * *ret_n: how many. Returns also -ENODATA when there is none to draw.
 */
int dml_plot_save(const struct dml_results *r, const char *dir, unsigned *ret_n,
                  struct dml_err *err);
