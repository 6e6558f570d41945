#include "paradigm/paradigm.h"

static const struct dml_paradigm *const paradigms[] = {
    [DML_PARADIGM_STANDALONE] = &dml_paradigm_standalone,
    [DML_PARADIGM_FEDERATED] = &dml_paradigm_federated,
    [DML_PARADIGM_ALLREDUCE] = &dml_paradigm_allreduce,
    [DML_PARADIGM_SERVER] = &dml_paradigm_server,
};

const struct dml_paradigm *dml_paradigm_get(int kind)
{
    return kind >= 0 && (size_t)kind < ARRAY_SIZE(paradigms) ? paradigms[kind] : NULL;
}
