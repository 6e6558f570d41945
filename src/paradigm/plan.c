/*
 * `cores` counts over the cluster and is divided evenly (the source paper's N:C). A share of 1.33
 * cores becomes two threads that compute two thirds of the time.
 */
#include "paradigm/plan.h"

#include <errno.h>
#include <math.h>

#include "base/err.h"
#include "conf/parallel.h"
#include "nn/trainer.h"
#include "paradigm/paradigm.h"
#include "paradigm/sparse.h"

/* 3 nodes sharing 4 cores is 1.333…; a share that is whole but for rounding is whole. */
#define SHARE_EPSILON 1e-6

static double threads_of(double share)
{
    return fmax(ceil(share - SHARE_EPSILON), 1.0);
}

unsigned dml_plan_threads(const struct dml_testcase *tc)
{
    return (unsigned)threads_of(dml_testcase_cores_per_node(tc));
}

static int plan_cores(double share, unsigned cores_here, struct dml_plan *plan, struct dml_err *err)
{
    if (share <= 0.0) {
        plan->n_threads = cores_here ? cores_here : 1;
        plan->duty = 1.0;
        return 0;
    }
    double threads = threads_of(share);
    if (cores_here && threads > cores_here)
        return dml_err_set(err, -EINVAL,
                           "the test case gives each node %g cores, but this node may use %u: "
                           "lower cores, or use more nodes",
                           share, cores_here);
    plan->n_threads = (unsigned)threads;
    plan->duty = fmin(1.0, share / threads);
    if (plan->duty > 1.0 - SHARE_EPSILON)
        plan->duty = 1.0;
    return 0;
}

int dml_plan_make(const struct dml_testcase *tc, const struct dml_model *model, unsigned cores_here,
                  struct dml_plan *ret, struct dml_err *err)
{
    const struct dml_paradigm *paradigm = dml_paradigm_get(tc->parallel.paradigm);
    if (!paradigm)
        return dml_err_set(err, -EINVAL, "paradigm %s is not built in",
                           dml_parallel_name(tc->parallel.paradigm));
    if (paradigm == &dml_paradigm_standalone && tc->testcase.nodes != 1)
        return dml_err_set(err, -EINVAL,
                           "paradigm standalone trains on one node, the test case has %llu: write "
                           "nodes = 1, or paradigm = federated",
                           (unsigned long long)tc->testcase.nodes);

    struct dml_plan plan = {
        .size = (uint32_t)tc->testcase.nodes + 1,
        .cores_per_node = dml_testcase_cores_per_node(tc),
    };
    int r = plan_cores(plan.cores_per_node, cores_here, &plan, err);
    if (r < 0)
        return r;
    struct dml_trainer_cpu cpu = {.n_threads = plan.n_threads, .duty = plan.duty};
    if (paradigm->plan) {
        r = paradigm->plan(tc, model, &cpu, &plan.worker_bytes, err);
        if (r < 0)
            return r;
    } else {
        /* The trainer, the message it received and the one it sends. */
        plan.worker_bytes = dml_trainer_memory(model, &tc->train, plan.n_threads) +
                            2 * (uint64_t)dml_model_n_vec(model) * sizeof(float);
    }
    *ret = plan;
    return 0;
}

uint64_t dml_plan_longest_answer(const struct dml_testcase *tc, const struct dml_model *model)
{
    size_t n_params = dml_model_n_params(model), n_vec = dml_model_n_vec(model);
    switch (tc->parallel.paradigm) {
    case DML_PARADIGM_STANDALONE:
    case DML_PARADIGM_FEDERATED: /* an update */
        return (uint64_t)n_vec * sizeof(float);
    case DML_PARADIGM_SERVER: /* a gradient, or the state of a round */
        return dml_sparse_room(n_vec);
    default: /* the agreed state */
        return ((uint64_t)n_vec + 2 * (uint64_t)n_params) * sizeof(float);
    }
}

int dml_plan_check_memory(const struct dml_plan *plan, const struct dml_model *model,
                          unsigned n_here, uint64_t memory_bytes, struct dml_err *err)
{
    double mib = 1024.0 * 1024.0, need = (double)plan->worker_bytes * n_here;
    if (!memory_bytes || need <= (double)memory_bytes)
        return 0;
    if (n_here > 1)
        return dml_err_set(err, -ENOMEM,
                           "training model %s takes %.0f MiB on each of %u workers here, there "
                           "are %.0f MiB: use fewer workers or a smaller model",
                           dml_model_name(model), need / n_here / mib, n_here,
                           (double)memory_bytes / mib);
    return dml_err_set(err, -ENOMEM,
                       "training model %s takes %.0f MiB, there are %.0f MiB: lower cores (each "
                       "thread has its own gradient), deal the layers to more nodes (paradigm = "
                       "pipeline) or use a smaller model",
                       dml_model_name(model), need / mib, (double)memory_bytes / mib);
}
