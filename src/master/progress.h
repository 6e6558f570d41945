/* How far the master is: kept up to date by the events, for `dmlctl status` and systemd. */
#pragma once

#include <stddef.h>

#include "base/mem.h"
#include "report/event.h"
#include "report/status.h"

struct dml_progress;

struct dml_progress *dml_progress_new(void);
struct dml_progress *dml_progress_free(struct dml_progress *p);
DML_MEM_CLEANUP(struct dml_progress, dml_progress_free);

/* A dml_event_fn; arg: the progress. */
void dml_progress_listen(void *arg, enum dml_event_kind kind, const char *json,
                         const struct dml_event_run *run, const struct dml_round *round,
                         const struct dml_run_totals *totals);

/* The test case is over. results: path of the results, or NULL. */
void dml_progress_idle(struct dml_progress *p, const char *results);

/* n_workers: that are there. */
void dml_progress_get(struct dml_progress *p, unsigned n_workers, struct dml_status *ret);

/* "round 7/50, 3 workers, 2 min left". Returns buf. */
const char *dml_progress_text(const struct dml_status *s, char *buf, size_t buf_len);
