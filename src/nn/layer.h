/*
 * Private to nn/: what a family of layers is (one const table each), and what one layer of a model
 * knows.
 *
 * A layer sees B samples at a time, all of them rows of contiguous floats, in one of two orders:
 * C, H, W (planes), or H, W, C (channels last), where a 1×1 convolution is one matrix product over
 * the whole minibatch and statistics per channel are sums of rows. The parser puts a reorder layer
 * where the two meet. A sequence of T positions with C numbers each is C×T×1, channels last. Its
 * parameters are a slice of the model's flat block: weights first, then biases. Buffers come from
 * the caller; nothing here allocates.
 *
 * The layers are a list in the order of computation, but not only a chain: each names the layer
 * whose output it reads, so a residual block is two layers that read the same one, and a sum.
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

#define DML_LAYER_INPUT (-1) /* in place of a layer: the model's input */
#define DML_LAYER_NONE  (-2)

enum dml_layer_order { DML_ORDER_CHW, DML_ORDER_HWC, DML_ORDER_ANY };

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
    uint64_t kernel, stride, padding, groups;
    double rate, momentum, epsilon;
    int method; /* enum dml_conv_method */
    bool bias;
};

/* How dml_model_init() fills a layer. */
enum dml_layer_fill {
    DML_FILL_WEIGHTS, /* by fan_in or fan_out, as the model's init line says */
    DML_FILL_ONES,    /* weights 1, biases 0: normalisations */
    DML_FILL_NORMAL,  /* N(0, 1), or as the init line says: embeddings */
};

struct dml_layer {
    const struct dml_layer_type *type;
    const struct dml_kernel *kernel;
    struct dml_layer_args args;
    unsigned line;   /* of the model file */
    char words[128]; /* the line, blanks normalised: "conv 6 kernel 5" */
    unsigned depth;  /* residual blocks around it */
    int from, also;  /* layers whose output it reads; `also` only for a sum */
    struct dml_layer_shape in, out;
    enum dml_layer_order in_order, out_order; /* without meaning where H = W = 1 */
    bool prefers_hwc;                         /* the model has layers that need it */

    /* Set by type->prepare() from args and in. */
    size_t n_weights, n_biases; /* parameters */
    size_t n_state;             /* floats that are kept with the model but not trained */
    size_t fan_in, fan_out;
    enum dml_layer_fill fill;
    uint64_t n_saved;   /* floats per sample from forward to backward, besides x and y */
    size_t n_kept;      /* the same, whatever B */
    uint64_t n_scratch; /* floats of working space, whatever B */
    size_t n_meeting;   /* doubles of a row of the meeting's board */
    uint64_t macs;      /* multiply-adds of forward per sample */

    /* Set by the model. */
    unsigned i_layer; /* place in the whole model's list of layers; of a step, that of its first */
    const struct dml_layer *parts; /* of a step: the layers that it does at once; see conv_norm.c */
    float cut[2], cut_before[2];   /* its output's limits, and its input's */
    bool is_raw, reads_raw;        /* in training y is not finished: the reader does that */
    size_t params_at, state_at;    /* places in the flat block's two parts */
    bool in_place;                 /* y is the output of `from` */
    bool learns;                   /* it or a layer before it has parameters */
    unsigned n_readers;
    unsigned span; /* recompute: the first step of those that are computed again together */
    bool stays;    /* recompute: y outlives its span */
    /* Numbers of buffers; see model_plan.c. */
    int y_buffer;                      /* inference: y */
    int dy_buffer, dx_buffer, dx_plus; /* backward: dx = its own + what was there */
    struct {
        int to, plus;
    } sum[2]; /* backward of a sum: what its readers get */
};

static inline size_t dml_layer_n_params(const struct dml_layer *l)
{
    return l->n_weights + l->n_biases;
}

/* One pass of one layer over B samples. */
struct dml_layer_pass {
    size_t batch;
    const struct dml_model_training *training; /* NULL: inference */
    bool recomputes; /* a forward pass as before: kept is there already, io_state is done */
    unsigned i_layer;
    const float *params; /* [n_weights + n_biases] */
    const float *state;  /* [n_state] */
    float *io_state;     /* [n_state]; training forward only */
    const float *x;      /* [B][in] */
    const float *also;   /* [B][in], the other summand */
    float *y;            /* [B][out]; backward only reads it */
    float *saved;        /* [B][n_saved]; NULL in inference */
    float *kept;         /* [n_kept]; NULL in inference */
    float *from_kept;    /* what the layer it reads has kept; NULL in inference, and of the input */
    float *scratch;      /* [n_scratch] */
    const float *dy;     /* [B][out] */
    float *dx;           /* [B][in]; NULL when nobody needs it; dy itself when in place */
    float *dparams;      /* [n_weights + n_biases], added to */
    size_t *ret_taken;   /* backward may hand over, by training->take(), the gradient of its first
                            so many parameters, of which dparams is 0 then; starts as 0 */
};

struct dml_layer_type {
    const char *name;
    const char *usage;          /* for messages: "conv CHANNELS kernel K [stride S] …" */
    const struct dml_opt *opts; /* rows of struct dml_layer_args; ends with name == NULL */
    unsigned n_bare;            /* the first so many are values without a key */
    unsigned n_required;        /* the first so many must be given */
    bool is_internal;           /* put in by the parser, no word of the language */
    bool meets;                 /* exchanges sums with the other threads of a step */
    bool may_work_in_place;     /* y may be x */
    bool is_copy;               /* y is x unchanged */
    bool needs_y;               /* backward reads y */
    /* The order in which it wants x; NULL: C, H, W. */
    enum dml_layer_order (*order)(const struct dml_layer *l);
    /* Sets out, and out_order where it is not in_order. Returns 0 or -EINVAL with half a sentence
     * in why. */
    int (*prepare)(struct dml_layer *l, char *why, size_t why_len);
    void (*forward)(const struct dml_layer *l, const struct dml_layer_pass *p);
    void (*backward)(const struct dml_layer *l, const struct dml_layer_pass *p);
};

extern const struct dml_layer_type dml_conv, dml_linear, dml_relu, dml_relu6, dml_leaky_relu,
    dml_gelu, dml_tanh, dml_sigmoid, dml_max_pool, dml_avg_pool, dml_global_avg_pool, dml_flatten,
    dml_dropout, dml_batch_norm, dml_layer_norm, dml_embedding, dml_position, dml_attention;
extern const struct dml_layer_type dml_add, dml_reorder, dml_conv_pool, dml_conv_norm,
    dml_linear_relu; /* internal */

/* For layers that do not care. */
enum dml_layer_order dml_layer_any_order(const struct dml_layer *l);
enum dml_layer_order dml_layer_hwc(const struct dml_layer *l);

/* All families; ends with NULL. */
const struct dml_layer_type *const *dml_layer_types(void);

/* The family of that name, or NULL. */
const struct dml_layer_type *dml_layer_find(const char *name);
