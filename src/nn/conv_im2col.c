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

/* Output columns [lo, hi) whose tap kw lies inside the picture. */
struct range {
    size_t lo, hi;
};

static struct range inside(size_t tap, size_t stride, size_t pad, size_t n_in, size_t n_out)
{
    struct range r = {.lo = tap < pad ? (pad - tap + stride - 1) / stride : 0};
    size_t end = n_in + pad > tap ? (n_in + pad - tap - 1) / stride + 1 : 0;
    r.hi = end < n_out ? end : n_out;
    r.lo = r.lo < r.hi ? r.lo : r.hi;
    return r;
}

static void im2col(const struct dml_layer *l, const float *x, float *col)
{
    size_t k = l->args.kernel, stride = l->args.stride, pad = l->args.padding, n = l->out.w;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw++) {
                struct range rows = inside(kh, stride, pad, l->in.h, l->out.h);
                struct range r = inside(kw, stride, pad, l->in.w, n);
                for (size_t oh = 0; oh < l->out.h; oh++, col += n) {
                    memset(col, 0, n * sizeof(float));
                    if (oh < rows.lo || oh >= rows.hi || r.lo == r.hi)
                        continue;
                    const float *row = x + (c * l->in.h + oh * stride + kh - pad) * l->in.w +
                                       (r.lo * stride + kw - pad);
                    for (size_t i = 0; stride > 1 && i < r.hi - r.lo; i++)
                        col[r.lo + i] = row[i * stride];
                    if (stride == 1)
                        memcpy(col + r.lo, row, (r.hi - r.lo) * sizeof(float));
                }
            }
}

static void col2im(const struct dml_layer *l, const float *col, float *dx)
{
    size_t k = l->args.kernel, stride = l->args.stride, pad = l->args.padding, n = l->out.w;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw++) {
                struct range rows = inside(kh, stride, pad, l->in.h, l->out.h);
                struct range r = inside(kw, stride, pad, l->in.w, n);
                for (size_t oh = 0; oh < l->out.h; oh++, col += n) {
                    if (oh < rows.lo || oh >= rows.hi || r.lo == r.hi)
                        continue;
                    float *row = dx + (c * l->in.h + oh * stride + kh - pad) * l->in.w +
                                 (r.lo * stride + kw - pad);
                    for (size_t i = 0; stride > 1 && i < r.hi - r.lo; i++)
                        row[i * stride] += col[r.lo + i];
                    for (size_t i = 0; stride == 1 && i < r.hi - r.lo; i++)
                        row[i] += col[r.lo + i];
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
                y[i * places + j] = l->n_biases ? bias[i] : 0.0f;
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
        for (size_t i = 0; i < l->n_biases; i++) {
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
