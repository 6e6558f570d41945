#include "paradigm/paradigm.h"

static const struct dml_paradigm *const paradigms[] = {
    [DML_PARADIGM_STANDALONE] = &dml_paradigm_standalone,
    [DML_PARADIGM_FEDERATED] = &dml_paradigm_federated,
    [DML_PARADIGM_ALLREDUCE] = &dml_paradigm_allreduce,
    [DML_PARADIGM_SERVER] = &dml_paradigm_server,
    [DML_PARADIGM_PIPELINE] = &dml_paradigm_pipeline,
    [DML_PARADIGM_RING] = &dml_paradigm_ring,
    [DML_PARADIGM_HYBRID] = &dml_paradigm_hybrid,
};

const struct dml_paradigm *dml_paradigm_get(int kind)
{
    return kind >= 0 && (size_t)kind < ARRAY_SIZE(paradigms) ? paradigms[kind] : NULL;
}
