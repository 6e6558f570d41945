/*
 * Trains one replica of a model on one shard with the compute threads of this node.
 *
 * The minibatch is split over the threads; each has a workspace and a gradient of its own, reduced
 * once per step in a fixed order, so the same seed and the same number of threads give the same
 * bits whatever the scheduling. Nothing is allocated in a step.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/dataset.h"
#include "nn/model.h"
#include "nn/optim.h"

/* What a node may use. */
struct dml_trainer_cpu {
    unsigned n_threads; /* >= 1 */
    double duty;        /* (0, 1]: share of a core that each thread may use; 1 = no limit */
    const int *cpus;    /* CPU numbers to pin thread i to (cpus[i]), or NULL: no affinity */
};

struct dml_trainer_result {
    uint64_t n_samples; /* trained on, over all epochs of the call */
    uint64_t n_steps;
    double loss;       /* mean over these samples, as training saw them */
    double accuracy;   /* likewise; 0 for regression */
    uint64_t work_us;  /* wall time inside the call, duty-cycle sleeps included */
    uint64_t slept_us; /* of which duty-cycle sleeps */
};

struct dml_trainer;

/*
 * Borrows model and dataset. rank names the random streams (shuffle, augmentation, dropout).
 * Returns 0, -EINVAL (model and data do not fit), -ENOMEM.
 */
int dml_trainer_new(const struct dml_model *m, const struct dml_dataset *ds,
                    const struct dml_train_options *train, const struct dml_data_options *data,
                    uint64_t rank, const struct dml_trainer_cpu *cpu, struct dml_trainer **ret,
                    struct dml_err *err);
struct dml_trainer *dml_trainer_free(struct dml_trainer *t);
DML_MEM_CLEANUP(struct dml_trainer, dml_trainer_free);

/* [P+Q]; the caller may read and write it between calls. Not initialised by the trainer. */
float *dml_trainer_vec(struct dml_trainer *t);

/* Forgets momentum and moments: federated learning starts each round afresh. */
void dml_trainer_reset_optimizer(struct dml_trainer *t);

/*
 * Trains epochs [first_epoch, first_epoch + n_epochs) of a run of total_epochs.
 * Returns 0, or -ECANCELED when *cancel became true (checked every step; NULL: never).
 */
int dml_trainer_fit(struct dml_trainer *t, uint64_t first_epoch, uint64_t n_epochs,
                    uint64_t total_epochs, const atomic_bool *cancel,
                    struct dml_trainer_result *ret);

struct dml_eval_result {
    uint64_t n_samples;
    double loss;     /* mean; cross-entropy in nats, or mean squared error */
    double accuracy; /* 0 … 1; for regression 0 */
};

/* Bytes that one thread of an evaluation may take, the block of parameters apart: a model that needs
 * more for a single sample is not judged. */
#define DML_TRAINER_EVAL_MAX (UINT64_C(512) << 20)

/* Samples per pass of an evaluation: as many as keep its buffers in the cache, at least one; 0: a
 * single one would need more than DML_TRAINER_EVAL_MAX. *ret_bytes is what one sample needs. */
size_t dml_trainer_eval_block(const struct dml_model *m, uint64_t *ret_bytes);

/* vec [P+Q] over a whole data set. Returns 0, -EINVAL, -ENOMEM (also when dml_trainer_eval_block()
 * is 0), -ECANCELED. */
int dml_trainer_evaluate(const struct dml_model *m, const float *vec, const struct dml_dataset *ds,
                         unsigned n_threads, const atomic_bool *cancel,
                         struct dml_eval_result *ret);

/* Bytes a trainer of this model, batch and thread count will hold, data apart: told to the user
 * before a run instead of by the OOM killer. */
uint64_t dml_trainer_memory(const struct dml_model *m, const struct dml_train_options *train,
                            unsigned n_threads);

/* Samples per second of a short fixed sgemm-and-copy loop on this machine, one thread: what a
 * worker reports as its speed. Takes about 50 ms. GFLOP/s of a 256³ sgemm. */
double dml_trainer_calibrate_gflops(void);
