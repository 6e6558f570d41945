/* Which option table fills which part of a test case. */
#pragma once

#include <stdbool.h>

#include "conf/testcase.h"

struct dml_section {
    const struct dml_opt *opts;
    size_t offset; /* of the struct they fill, in struct dml_testcase */
};

/* In the order of the flow; ends with opts == NULL. [strategy] has only `name` here: the other keys
 * are the plugin's. */
extern const struct dml_section dml_sections[];

#define DML_SECTIONS_N 7

/* The sections' tables, then `plugin` (NULL: none), then NULL. */
void dml_sections_tables(const struct dml_opt *plugin,
                         const struct dml_opt *ret_tables[DML_SECTIONS_N + 2]);

/* Sets the field that `row` of dml_sections describes. Errors as dml_opt_set(). */
int dml_sections_set(struct dml_testcase *tc, const struct dml_opt *row, const char *value,
                     const char *file, unsigned line, struct dml_err *err);
