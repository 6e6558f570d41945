/*
 * linear: y = x W^T + b with W [O][D], as PyTorch stores it. Takes a picture as the row of numbers
 * it is in memory. Shapes: x [B][D], y [B][O].
 */
#include "nn/layer.h"

#include <stdio.h>
#include <errno.h>
#include <string.h>

#include "nn/gemm.h"
#include "nn/model.h"

static const struct dml_opt opts[] = {
    {"linear", "outputs", DML_OPT_UINT, offsetof(struct dml_layer_args, size), .min = 1,
     .max = 1 << 24, .help = "Numbers it gives"},
    {0},
};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    size_t d = dml_layer_size(l->in), o = (size_t)l->args.size;
    uint64_t n = (uint64_t)d * o + o; /* both below 2^29 */
    if (n > DML_MODEL_PARAMS_MAX) {
        snprintf(why, why_len, "it would have %llu parameters, at most %u are allowed",
                 (unsigned long long)n, DML_MODEL_PARAMS_MAX);
        return -EINVAL;
    }
    l->out = (struct dml_layer_shape){.c = (uint32_t)o, .h = 1, .w = 1};
    l->n_weights = d * o;
    l->n_biases = o;
    l->fan_in = d;
    l->fan_out = o;
    l->macs = (uint64_t)d * o;
    return 0;
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t d = l->fan_in, o = l->out.c;
    const float *w = p->params, *bias = w + l->n_weights;
    for (size_t b = 0; b < p->batch; b++)
        memcpy(p->y + b * o, bias, o * sizeof(float));
    dml_gemm(false, true, p->batch, o, d, p->x, d, w, d, 1.0f, p->y, o);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t d = l->fan_in, o = l->out.c;
    dml_gemm(true, false, o, d, p->batch, p->dy, o, p->x, d, 1.0f, p->dparams, d);
    float *db = p->dparams + l->n_weights;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t i = 0; i < o; i++)
            db[i] += p->dy[b * o + i];
    if (p->dx)
        dml_gemm(false, false, p->batch, d, o, p->dy, o, p->params, d, 0.0f, p->dx, d);
}

const struct dml_layer_type dml_linear = {
    .name = "linear",
    .usage = "linear OUTPUTS",
    .opts = opts,
    .n_bare = 1,
    .n_required = 1,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
