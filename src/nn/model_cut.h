/*
 * A run of layers of a model as a model of its own: the stage of a pipeline. Its input is what the
 * layer before gives, raw, in that layer's order; its parameters and state are slices of the whole
 * model's flat block. The parts in turn compute what the whole does, dropout included.
 *
 * A model can be cut where one value only passes from layer to layer: not inside a residual block,
 * nor inside a sequence of layers that is computed at once (convolution, relu and pooling; linear
 * and relu).
 * Cuts are numbered from 0, its beginning, to n, its end.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct dml_model;

struct dml_model_part {
    struct dml_model *model;    /* dml_model_free() */
    size_t params_at, state_at; /* its slices of the whole block's two parts begin here */
};

/* n, the number of the last cut: the model is n pieces, none of which can be cut. At least 1. */
size_t dml_model_n_cuts(const struct dml_model *m);

/*
 * Part [first, last) of the cuts 0 … n, first < last. The loss belongs to the part that ends at n,
 * the others have DML_LOSS_NONE. Owner: caller. Returns 0, -ENOMEM, or -EINVAL for a model so near
 * the limits of memory that a part, which must not overwrite its input, is beyond them.
 */
int dml_model_part(const struct dml_model *m, size_t first, size_t last,
                   struct dml_model_part *ret);

/* Estimated cost of what lies between cut and cut + 1, forward and backward of one sample, in
 * multiply-adds; numbers moved through memory are counted in. Never 0. */
uint64_t dml_model_cut_cost(const struct dml_model *m, size_t cut);

/* Floats per sample that cross a cut: D at 0, O at n. */
size_t dml_model_cut_floats(const struct dml_model *m, size_t cut);

/* Number, from 1, of the first layer behind a cut < n, as dmlctl models lists them. Differs from
 * cut to cut. */
unsigned dml_model_cut_layer(const struct dml_model *m, size_t cut);
