/* Private to nn/: the inside of a model. */
#pragma once

#include <stdint.h>

#include "nn/layer.h"
#include "nn/model.h"

/* Floats per sample of everything a pass holds, and of the scratch of one layer: 1 GiB. */
#define DML_MODEL_FLOATS_MAX (UINT64_C(1) << 28)

struct dml_model {
    char *name;
    char *text;
    struct dml_layer_shape input;
    enum dml_model_loss loss;
    struct dml_layer *layers; /* [n_layers] */
    size_t n_layers;
    size_t n_params; /* P */
    size_t n_state;  /* Q: no family has state yet */
    size_t scratch;  /* floats, the largest of the layers */
    size_t widest;   /* floats per sample of the largest input or output */
    uint64_t macs;
};
