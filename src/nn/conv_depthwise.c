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
#include "nn/kernel_channels.h"
#include "nn/layer.h"

uint64_t dml_conv_depthwise_scratch(const struct dml_layer *l)
{
    return 2 * (uint64_t)l->n_weights;
}

static struct dml_kernel_depthwise shape_of(const struct dml_layer *l)
{
    return (struct dml_kernel_depthwise){
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

/* wt [T][C] from w [C][T]; `flip` runs through the taps backwards. */
static void turn(const struct dml_layer *l, const float *w, bool flip, float *wt)
{
    size_t c = l->in.c, taps = l->fan_in;
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < c; i++)
            wt[t * c + i] = w[i * taps + (flip ? taps - 1 - t : t)];
}

void dml_conv_depthwise_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct dml_kernel_depthwise d = shape_of(l);
    const float *bias = l->n_biases ? p->params + l->n_weights : NULL;
    turn(l, p->params, false, p->scratch);
    for (size_t b = 0; b < p->batch; b++)
        l->kernel->channels->depthwise(&d, p->x + b * dml_layer_size(l->in), p->scratch, bias,
                                       p->y + b * dml_layer_size(l->out));
}

/* With stride 1, dx is the convolution of dy with the filter turned round: stores without loads. */
static void backward_dx(const struct dml_layer *l, const struct dml_layer_pass *p,
                        const struct dml_kernel_depthwise *d, float *wt)
{
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    bool turned = d->stride == 1;
    struct dml_kernel_depthwise back = {.c = d->c,
                                        .k = d->k,
                                        .stride = 1,
                                        .pad = d->k - 1 - d->pad,
                                        .h = d->ho,
                                        .w = d->wo,
                                        .ho = d->h,
                                        .wo = d->w};
    turn(l, p->params, turned, wt);
    if (!turned)
        memset(p->dx, 0, p->batch * n_in * sizeof(float));
    for (size_t b = 0; b < p->batch; b++) {
        if (turned)
            l->kernel->channels->depthwise(&back, p->dy + b * n_out, wt, NULL, p->dx + b * n_in);
        else
            l->kernel->channels->depthwise_dx(d, p->dy + b * n_out, wt, p->dx + b * n_in);
    }
}

void dml_conv_depthwise_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct dml_kernel_depthwise d = shape_of(l);
    size_t c = l->in.c, taps = l->fan_in, n_out = dml_layer_size(l->out);
    float *wt = p->scratch, *dwt = wt + l->n_weights;
    memset(dwt, 0, l->n_weights * sizeof(float));
    for (size_t b = 0; b < p->batch; b++)
        l->kernel->channels->depthwise_dw(&d, p->x + b * dml_layer_size(l->in), p->dy + b * n_out,
                                          dwt);
    for (size_t i = 0; i < c; i++)
        for (size_t t = 0; t < taps; t++)
            p->dparams[i * taps + t] += dwt[t * c + i];
    if (l->n_biases)
        l->kernel->channels->add_rows(p->dy, p->batch * l->out.h * l->out.w, c,
                                      p->dparams + l->n_weights);
    if (p->dx)
        backward_dx(l, p, &d, wt);
}
