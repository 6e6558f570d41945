/* The model of a test case. */
#pragma once

#include "conf/testcase.h"
#include "nn/model.h"

/*
 * Makes the model of a case: from the text that came with it, or else from its file, looked up as
 * dml_model_load() does; and sees whether it fits the data set, where that is known without reading
 * it. Errors as dml_model_load() and dml_model_check_data(). Owner: caller, dml_model_free().
 */
int dml_fit_model(const struct dml_testcase *tc, const char *const *dirs, struct dml_model **ret,
                  struct dml_err *err);
