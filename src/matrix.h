/*
 * The order in which an experiment runs: every case of the matrix, every repeat of each case.
 * The master's run thread and `dmlctl run --local` walk it with a function of their own.
 */
#pragma once

#include "conf/testcase.h"
#include "report/event.h"

/*
 * One run. tc: one repeat, its seed already set (seed + repeat); borrowed. event: name, label,
 * indices, nodes, cores filled in; run_id is for the callee to set.
 * Return 0 to go on (also when the run failed), anything else to end the walk.
 */
typedef int (*dml_matrix_fn)(void *arg, const struct dml_testcase *tc,
                             const struct dml_event_run *event);

/* Returns 0 or what fn returned. */
int dml_matrix_walk(const struct dml_testcases *t, dml_matrix_fn fn, void *arg);
