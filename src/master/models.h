/* Trained models in the results' folder: what they are called, and how many are kept. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct dml_event_run;

#define DML_MODELS_STAMP_MAX 40

/*
 * What tells the files of one experiment from those of the others: the time, and a number for all
 * but the first within a second. Where dir has a model of that second or a later one (of a clock
 * that was wrong), it is the newest one's time and the next number. io_stamp: the stamp before, or
 * ""; io_n_same: 0 at first.
 */
void dml_models_stamp(const char *dir, char io_stamp[DML_MODELS_STAMP_MAX], unsigned *io_n_same);

/* dir/NAME-CASE-rREPEAT-STAMP.dmlmodel, without letters that a shell would ask about. Owner:
 * caller. NULL: out of memory. */
char *dml_models_path(const char *dir, const struct dml_event_run *run, const char *stamp);

/*
 * Removes the oldest models of dir until n_keep are left (0: keeps all), but none of the experiment
 * `stamp`. Old is what the name says, and a name of another form is not ours to remove.
 * Returns how many were removed, or a negative errno.
 */
int dml_models_prune(const char *dir, uint64_t n_keep, const char *stamp);
