#include "conf/fit.h"

#include <string.h>

int dml_fit_model(const struct dml_testcase *tc, const char *const *dirs, struct dml_model **ret,
                  struct dml_err *err)
{
    const char *text = tc->model_text;
    return text ? dml_model_parse(text, strlen(text), tc->model.name, ret, err)
                : dml_model_load(tc->model.name, dirs, ret, err);
}
