/*
 * Private to nn/: what a family of layers is (one const table each), and what one layer of a model
 * knows.
 *
 * A layer sees B samples at a time, all of them rows of contiguous floats in the order C, H, W. Its
 * parameters are a slice of the model's flat block: weights first, then biases. Buffers come from
 * the caller; nothing here allocates.
 *
 * To add a family: one file with one table, and a row in layer.c. To add a faster way of doing
 * several layers at once (convolution + relu + pooling), give the model a layer whose table does
 * that: callers see only dml_model_forward() and dml_model_backward().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/opt.h"

struct dml_kernel;
struct dml_model_training;

struct dml_layer_shape {
    uint32_t c, h, w;
};

static inline size_t dml_layer_size(struct dml_layer_shape s)
{
    return (size_t)s.c * s.h * s.w;
}

/* What stands behind the layer's word; which fields count is up to the family. */
struct dml_layer_args {
    uint64_t size; /* channels, outputs or window */
    uint64_t kernel, stride, padding;
    double rate;
    int method; /* enum dml_conv_method */
};

struct dml_layer {
    const struct dml_layer_type *type;
    const struct dml_kernel *kernel;
    struct dml_layer_args args;
    unsigned line;   /* of the model file */
    char words[128]; /* the line, blanks normalised: "conv 6 kernel 5" */
    struct dml_layer_shape in, out;

    /* Set by type->prepare() from args and in. */
    size_t n_weights, n_biases; /* parameters */
    size_t fan_in;
    size_t n_saved;     /* floats per sample from forward to backward, besides x and y */
    uint64_t n_scratch; /* floats of working space, whatever B */
    uint64_t macs;      /* multiply-adds of forward per sample */

    /* Set by the model. */
    size_t params_at; /* place in the flat block */
    bool in_place;    /* y is x */
};

static inline size_t dml_layer_n_params(const struct dml_layer *l)
{
    return l->n_weights + l->n_biases;
}

/* One pass of one layer over B samples. */
struct dml_layer_pass {
    size_t batch;
    const struct dml_model_training *training; /* NULL: inference */
    unsigned i_layer;
    const float *params; /* [n_weights + n_biases] */
    const float *x;      /* [B][in] */
    float *y;            /* [B][out]; backward only reads it */
    float *saved;        /* [B][n_saved]; NULL in inference */
    float *scratch;      /* [n_scratch] */
    const float *dy;     /* [B][out] */
    float *dx;           /* [B][in]; NULL when nobody needs it; dy itself when in place */
    float *dparams;      /* [n_weights + n_biases], added to */
};

struct dml_layer_type {
    const char *name;
    const char *usage;          /* for messages: "conv CHANNELS kernel K [stride S] …" */
    const struct dml_opt *opts; /* rows of struct dml_layer_args; ends with name == NULL */
    unsigned n_bare;            /* the first so many are values without a key */
    unsigned n_required;        /* the first so many must be given */
    bool may_work_in_place;     /* y may be x */
    bool is_copy;               /* y is x unchanged */
    bool needs_y;               /* backward reads y */
    /* Returns 0 or -EINVAL with half a sentence in why. */
    int (*prepare)(struct dml_layer *l, char *why, size_t why_len);
    void (*forward)(const struct dml_layer *l, const struct dml_layer_pass *p);
    void (*backward)(const struct dml_layer *l, const struct dml_layer_pass *p);
};

extern const struct dml_layer_type dml_conv, dml_linear, dml_relu, dml_tanh, dml_sigmoid,
    dml_max_pool, dml_avg_pool, dml_flatten, dml_dropout;

/* All families; ends with NULL. */
const struct dml_layer_type *const *dml_layer_types(void);

/* The family of that name, or NULL. */
const struct dml_layer_type *dml_layer_find(const char *name);
