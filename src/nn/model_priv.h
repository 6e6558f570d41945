/* Private to nn/: the inside of a model. */
#pragma once

#include <stdint.h>

#include "nn/layer.h"
#include "nn/model.h"

/* Floats per sample of everything a pass holds, and of the scratch of one layer: 1 GiB. */
#define DML_MODEL_FLOATS_MAX (UINT64_C(1) << 28)

/* Gradients that wait for their turn: two for a chain, at most two more for each block around. */
#define DML_MODEL_BUFFERS_MAX (2 * DML_MODEL_DEPTH_MAX + 4)

enum dml_model_init_kind { DML_INIT_UNIFORM, DML_INIT_KAIMING, DML_INIT_NORMAL };

struct dml_model {
    char *name;
    char *text;
    struct dml_layer_shape input;
    enum dml_model_loss loss;
    double smoothing; /* of the labels of cross-entropy */
    enum dml_model_init_kind init;
    struct dml_layer *layers; /* [n_layers] as the file lists them */
    size_t n_layers;
    struct dml_layer *steps; /* [n_steps] as they are computed; see model_steps.c */
    size_t n_steps;
    size_t n_params; /* P */
    size_t n_state;  /* Q */
    size_t scratch;  /* floats, the largest of the layers */
    size_t widest;   /* floats per sample of the largest input or output */
    size_t meeting_room;
    int n_y_buffers, n_dx_buffers;
    int dx_buffer; /* where the gradient of the input ends up; 0: the caller's dy */
    uint64_t macs;
    size_t n_codes;       /* of x, per sample, which the loss reads */
    unsigned first_layer; /* of a part: number of its first layer in the whole model */
    uint64_t whole_macs;  /* of a part: of the whole model; 0: it is whole */
};

/* The steps before which the model can be cut, then n_steps: [1 + n]. Returns n. */
size_t dml_model_find_cuts(const struct dml_model *m, size_t *ret);

/* Where a training pass with recompute forgets; see model_span.c. */
void dml_model_plan_spans(struct dml_model *m);

/* Fills steps, whose params_at and state_at are those of the layers. Returns 0 or -ENOMEM. */
int dml_model_make_steps(struct dml_model *m);

/* How numbers lie in memory is not for people: such a layer is not shown, nor counted. */
bool dml_model_is_hidden(const struct dml_layer *l);

/* Steps, places in the flat block, buffers that may be shared, totals against the limits. */
int dml_model_plan(struct dml_model *m, const char *file, struct dml_err *err);

/* The same without a look at the loss: for a part of a model. */
int dml_model_plan_passes(struct dml_model *m, const char *file, struct dml_err *err);
