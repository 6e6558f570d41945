/* What no single key can say: whether the keys of one test case fit together. */
#pragma once

#include "conf/testcase.h"

struct dml_err;
struct dml_ini;

/*
 * Returns 0 or -EINVAL; err names the line of `ini` that is most to blame, or `file` when the
 * culprit is a default.
 */
int dml_check_case(const struct dml_testcase *tc, const struct dml_ini *ini, const char *file,
                   struct dml_err *err);

/* Labels tell the cases of one matrix apart. Returns 0 or -EINVAL. */
int dml_check_labels(const struct dml_testcases *t, const char *file, struct dml_err *err);
