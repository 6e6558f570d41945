/*
 * What batch-norm computes from its sums, for the layer of its own and for the step that does it
 * together with a convolution. All threads that share a minibatch meet in here.
 *
 * R = dml_kernel_round(C). What is kept from forward to backward, [4 R]: mean, 1 / deviation, and
 * y = a x + b.
 */
#pragma once

#include <stddef.h>

struct dml_layer;
struct dml_layer_pass;

struct dml_batch_norm_kept {
    float *mean, *inverse, *a, *b; /* [C] */
};

struct dml_batch_norm_kept dml_batch_norm_places(const struct dml_layer *l, float *kept);

/* Doubles of a meeting's row. */
size_t dml_batch_norm_room(const struct dml_layer *l);

/*
 * s1, s2 [C]: sums over this thread's `rows` rows of x - shift and of its square; both are
 * overwritten. shift [C]: any numbers near the mean; ret->mean is allowed. p is the layer's own:
 * params, io_state.
 */
void dml_batch_norm_settle(const struct dml_layer *l, const struct dml_layer_pass *p, size_t rows,
                           const float *shift, double *io_s1, double *io_s2,
                           const struct dml_batch_norm_kept *ret);

/*
 * s1, s2 [C]: sums over this thread's `rows` rows of dy and of dy (x - mean); both are overwritten.
 * Adds to p->dparams, and sets dx = a dy + b x + d, each [C].
 */
void dml_batch_norm_slopes(const struct dml_layer *l, const struct dml_layer_pass *p, size_t rows,
                           const struct dml_batch_norm_kept *kept, double *io_s1, double *io_s2,
                           float *ret_a, float *ret_b, float *ret_d);

/* Inference: a and b from the running statistics. */
void dml_batch_norm_running(const struct dml_layer *l, const struct dml_layer_pass *p, float *ret_a,
                            float *ret_b);
