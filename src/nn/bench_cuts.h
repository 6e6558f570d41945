/*
 * What the pieces of a model cost on this machine, to cut it by (nn/model_cut.h).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct dml_err;
struct dml_model;

/*
 * Forward and backward of a micro-batch of `batch` samples, piece by piece as a stage computes
 * them: microseconds of CPU time of a sample on one thread, without the loss and the optimiser.
 * What disturbs a pass only adds to it, so the least of the passes is taken. recompute  forward
 * counts twice: a stage computes it again before it goes back seconds    of measuring; a pass that
 * was begun is ended, and there is at least one ret_us     [dml_model_n_cuts(m)], each above 0
 * Returns 0, -EINVAL (a batch of 0 or too large), -ENOMEM, -EAGAIN (no thread), -ECANCELED.
 * Cost: the memory of parameters, gradient and a micro-batch's activations.
 */
int dml_bench_cuts(const struct dml_model *m, size_t batch, bool recompute, double seconds,
                   const atomic_bool *cancel, double *ret_us, struct dml_err *err);
