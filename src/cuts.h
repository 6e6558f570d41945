/*
 * Where the model of a test case is cut, settled before its runs by whoever drives them: rank 0
 * measures, and hands every rank the same layers by the key `cut`. So all agree, repeats of a case
 * are cut alike, and whoever copies the key from the results repeats the run.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/testcase.h"
#include "report/event.h"

struct dml_err;
struct dml_model;

/* What was measured last, kept over the cases of an experiment. Zeroed before. */
struct dml_cuts {
    double *us;  /* [n] of the pieces of … */
    char *model; /* … this text, … */
    size_t n, batch; /* … in micro-batches of so many samples, … */
    bool recompute;  /* … with forward computed again or not */
    uint64_t took_us;
};

void dml_cuts_done(struct dml_cuts *c);

/*
 * Tells of the cut before the first repeat of a case.
 *   ret_cut  to stand in the place of tc->parallel.cut in all that follows; own string. NULL: the
 *            paradigm cuts nothing
 * Returns 0 or a negative errno with a sentence, as dml_layout_make() and dml_bench_cuts().
 * Blocks: half a second of measuring and one pass through the model, once per model, size of
 * the micro-batches and recompute.
 */
int dml_cuts_settle(struct dml_cuts *c, const struct dml_testcase *tc,
                    const struct dml_model *model, const atomic_bool *cancel,
                    struct dml_events *events, const struct dml_event_run *run, char **ret_cut,
                    struct dml_err *err);
