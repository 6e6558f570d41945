/*
 * Depthwise convolution with channels last: each channel has its own K×K filter, so there is
 * nothing for a matrix product to do; vectors run over the channels. Weights are stored
 * [C][1][K][K] as PyTorch does and brought into the order [K][K][C] for a pass.
 *
 * Source: Howard et al. 2017 (MobileNets).
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_depthwise.h"
#include "nn/layer.h"

uint64_t dml_conv_depthwise_scratch(const struct dml_layer *l)
{
    return 2 * (uint64_t)l->n_weights;
}

static struct dml_kernel_filter shape_of(const struct dml_layer *l)
{
    return (struct dml_kernel_filter){
        .c = l->in.c,
        .k = (size_t)l->args.kernel,
        .stride = (size_t)l->args.stride,
        .pad = (size_t)l->args.padding,
        .h = l->in.h,
        .w = l->in.w,
        .ho = l->out.h,
        .wo = l->out.w,
    };
}

void dml_conv_depthwise_begin(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, taps = l->fan_in;
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < c; i++)
            p->scratch[t * c + i] = p->params[i * taps + t];
    if (p->dparams)
        memset(p->scratch + l->n_weights, 0, l->n_weights * sizeof(float));
}

void dml_conv_depthwise_some(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                             const float *x, float *y)
{
    struct dml_kernel_filter f = shape_of(l);
    const float *bias = l->n_biases ? p->params + l->n_weights : NULL;
    l->kernel->depthwise->forward(&f, n, x, p->scratch, bias, y);
}

void dml_conv_depthwise_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                             const float *x, const float *dy, float *dx)
{
    struct dml_kernel_filter f = shape_of(l);
    l->kernel->depthwise->dw(&f, n, x, dy, p->scratch + l->n_weights);
    if (dx)
        l->kernel->depthwise->dx(&f, n, dy, p->scratch, dx);
}

void dml_conv_depthwise_end(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, taps = l->fan_in;
    const float *dwt = p->scratch + l->n_weights;
    for (size_t i = 0; i < c; i++)
        for (size_t t = 0; t < taps; t++)
            p->dparams[i * taps + t] += dwt[t * c + i];
}
