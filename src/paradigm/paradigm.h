/*
 * A paradigm is a way to train one test case on several ranks. Master half and worker half sit in
 * one file as straight-line blocking code over comm; the same file runs as threads in a test and
 * over gRPC between machines.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "conf/testcase.h"
#include "data/shard.h"
#include "nn/trainer.h"
#include "report/event.h"
#include "rpc/comm.h"

/* How a share that is no whole number of cores is held; whole cores need no holding. */
enum dml_cores_held { DML_CORES_WHOLE, DML_CORES_BY_DUTY, DML_CORES_BY_KERNEL, DML_CORES_MAX_ };

/* What the flow has prepared for one rank. Everything borrowed, except vec. */
struct dml_task {
    const struct dml_testcase *tc;
    const struct dml_model *model;
    struct dml_comm *comm;
    struct dml_trainer_cpu cpu;       /* what this rank may use for training */
    enum dml_cores_held cores_held;
    const atomic_bool *cancel;
    const char *cache_dir;            /* worker: where shards are kept; NULL: not at all */
    uint64_t cache_max;               /* bytes */
    const struct dml_data_options *data; /* tc->data with the path that holds on this node */

    /* Rank 0 only. */
    const struct dml_dataset *train, *test;
    const struct dml_shards *shards;  /* one for each replica: dml_parallel_replicas() */
    struct dml_events *events;
    const struct dml_event_run *run;
    /* Id and health of a rank, for the records; may be NULL. */
    void (*describe)(void *arg, uint32_t rank, struct dml_round_worker *io_worker);
    void *describe_arg;

    /* Results on rank 0. */
    float *vec;                       /* [P+Q]: in: initial, out: trained */
    struct dml_run_totals totals;
};

struct dml_paradigm {
    const char *name, *summary;
    /*
     * Whether the model and the numbers of the test case go with the paradigm, and the bytes of its
     * largest worker, data apart. NULL: whatever a trainer takes. Returns 0, -EINVAL, -ENOMEM.
     */
    int (*plan)(const struct dml_testcase *tc, const struct dml_model *model,
                const struct dml_trainer_cpu *cpu, uint64_t *ret_bytes, struct dml_err *err);
    int (*master)(struct dml_task *task, struct dml_err *err);
    int (*worker)(struct dml_task *task, struct dml_err *err);
};

/* By enum dml_paradigm_kind. NULL: not built in; dml_plan_make() has then refused the case. */
const struct dml_paradigm *dml_paradigm_get(int kind);

extern const struct dml_paradigm dml_paradigm_standalone;
extern const struct dml_paradigm dml_paradigm_federated;
extern const struct dml_paradigm dml_paradigm_allreduce;
extern const struct dml_paradigm dml_paradigm_server;
extern const struct dml_paradigm dml_paradigm_pipeline, dml_paradigm_ring, dml_paradigm_hybrid;
