/* The model of a test case. */
#pragma once

#include "conf/testcase.h"
#include "nn/model.h"

/*
 * Makes the model of a case: from the text that came with it, or else from its file, looked up as
 * dml_model_load() does. Errors as that one. Owner: caller, dml_model_free().
 */
int dml_fit_model(const struct dml_testcase *tc, const char *const *dirs, struct dml_model **ret,
                  struct dml_err *err);
