/*
 * Progress on stderr, so that stdout has the answer alone: on a terminal one line redrawn in place
 * every second and with every event, elsewhere a line per event worth one.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"
#include "report/status.h"

struct dml_display;

/* quiet: only what went wrong is told. NULL when out of memory. */
struct dml_display *dml_display_new(bool quiet);

/* Leaves the terminal on a fresh line. NULL is fine. */
struct dml_display *dml_display_free(struct dml_display *d);
DML_MEM_CLEANUP(struct dml_display, dml_display_free);

/* From any thread. */
void dml_display_status(struct dml_display *d, const struct dml_status *status);
void dml_display_record(struct dml_display *d, const char *json);

/* A sentence of our own, above the line. */
void dml_display_say(struct dml_display *d, const char *sentence);
