/*
 * A model that does not fit its data set fails in every run of the matrix alike, so it is refused
 * before the first one.
 */
#include "conf/fit.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"

static int check(const struct dml_testcase *tc, const struct dml_model *m, struct dml_err *err)
{
    struct dml_dataset_shape s;
    struct dml_err why = {0};
    if (!dml_dataset_foresee(&tc->data, &s))
        return 0;
    if (!s.has_classes) /* what the files will say is not guessed */
        s.n_classes =
            dml_model_loss(m) == DML_LOSS_MSE ? 0 : (uint32_t)dml_model_n_classes(m);
    int r = dml_model_check_data(m, s.channels, s.height, s.width, s.n_classes, &why);
    return r < 0 ? dml_err_set(err, r, "%s (dataset = %s)", why.text, tc->data.dataset) : 0;
}

int dml_fit_model(const struct dml_testcase *tc, const char *const *dirs, struct dml_model **ret,
                  struct dml_err *err)
{
    const char *text = tc->model_text;
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    int r = text ? dml_model_parse(text, strlen(text), tc->model.name, &m, err)
                 : dml_model_load(tc->model.name, dirs, &m, err);
    if (r == 0)
        r = check(tc, m, err);
    if (r < 0)
        return r;
    *ret = m;
    m = NULL;
    return 0;
}
