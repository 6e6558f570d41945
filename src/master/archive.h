/* Keeps the results of an experiment when one of the same name is about to replace them. */
#pragma once

struct dml_err;
struct dml_results;

/*
 * Renames the NAME.json and NAME.csv that `r` would be saved as to NAME-TIME.json and .csv, TIME
 * being when they were written. Returns 0, also when there are none, or a negative errno.
 */
int dml_archive_old(const struct dml_results *r, const char *dir, struct dml_err *err);
