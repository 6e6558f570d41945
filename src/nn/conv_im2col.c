/*
 * Convolution by a column matrix: col [C·K·K][Ho·Wo] holds in each column the patch one output
 * place sees; then y = W col, dW = dy col^T, dcol = W^T dy, and dcol is added back to where its
 * numbers came from.
 *
 * Source: Chellapilla, Puri, Simard 2006.
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/gemm.h"
#include "nn/layer.h"

uint64_t dml_conv_im2col_scratch(const struct dml_layer *l)
{
    return (uint64_t)l->fan_in * l->out.h * l->out.w;
}

/* For every tap and output place: the input place, or none in the padding. */
static void im2col(const struct dml_layer *l, const float *x, float *col)
{
    size_t k = l->args.kernel, stride = l->args.stride, pad = l->args.padding;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw++)
                for (size_t oh = 0; oh < l->out.h; oh++) {
                    size_t h = oh * stride + kh - pad; /* wraps above the picture: not below in.h */
                    const float *row = x + (c * l->in.h + h) * l->in.w;
                    for (size_t ow = 0; ow < l->out.w; ow++) {
                        size_t w = ow * stride + kw - pad;
                        *col++ = h < l->in.h && w < l->in.w ? row[w] : 0.0f;
                    }
                }
}

static void col2im(const struct dml_layer *l, const float *col, float *dx)
{
    size_t k = l->args.kernel, stride = l->args.stride, pad = l->args.padding;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw++)
                for (size_t oh = 0; oh < l->out.h; oh++) {
                    size_t h = oh * stride + kh - pad;
                    for (size_t ow = 0; ow < l->out.w; ow++, col++) {
                        size_t w = ow * stride + kw - pad;
                        if (h < l->in.h && w < l->in.w)
                            dx[(c * l->in.h + h) * l->in.w + w] += *col;
                    }
                }
}

void dml_conv_im2col_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    size_t o = l->out.c, places = (size_t)l->out.h * l->out.w;
    const float *bias = p->params + l->n_weights;
    for (size_t b = 0; b < p->batch; b++) {
        float *y = p->y + b * n_out;
        im2col(l, p->x + b * n_in, p->scratch);
        for (size_t i = 0; i < o; i++)
            for (size_t j = 0; j < places; j++)
                y[i * places + j] = bias[i];
        dml_gemm(false, false, o, places, l->fan_in, p->params, l->fan_in, p->scratch, places, 1.0f,
                 y, places);
    }
}

void dml_conv_im2col_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    size_t o = l->out.c, places = (size_t)l->out.h * l->out.w;
    float *db = p->dparams + l->n_weights;
    if (p->dx)
        memset(p->dx, 0, p->batch * n_in * sizeof(float));
    for (size_t b = 0; b < p->batch; b++) {
        const float *dy = p->dy + b * n_out;
        im2col(l, p->x + b * n_in, p->scratch);
        dml_gemm(false, true, o, l->fan_in, places, dy, places, p->scratch, places, 1.0f,
                 p->dparams, l->fan_in);
        for (size_t i = 0; i < o; i++) {
            float sum = 0.0f;
            for (size_t j = 0; j < places; j++)
                sum += dy[i * places + j];
            db[i] += sum;
        }
        if (!p->dx)
            continue;
        dml_gemm(true, false, l->fan_in, places, o, p->params, l->fan_in, dy, places, 0.0f,
                 p->scratch, places);
        col2im(l, p->scratch, p->dx + b * n_in);
    }
}
