/*
 * Between the planes [C][H][W] in which pictures arrive and the padded pixels [Hp][Wp][C] in which
 * a patch is K contiguous runs of K·C floats; the same for weights.
 */
#include <string.h>

#include "nn/conv.h"
#include "nn/kernel.h"
#include "nn/kernel_patch.h"
#include "nn/layer.h"

void dml_conv_pad_planes(const struct dml_layer *l, const float *x, float *to)
{
    size_t pad = l->args.padding, w = l->in.w, wp = w + 2 * pad, hp = l->in.h + 2 * pad;
    if (pad == 0) {
        memcpy(to, x, dml_layer_size(l->in) * sizeof(float));
        return;
    }
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t h = 0; h < l->in.h; h++)
            memcpy(to + (c * hp + h + pad) * wp + pad, x + (c * l->in.h + h) * w,
                   w * sizeof(float));
}

void dml_conv_planes_to_pixels(const struct dml_layer *l, const float *x, float *to)
{
    size_t pad = l->args.padding, c = l->in.c, wp = l->in.w + 2 * pad, plane = l->in.h * l->in.w;
    size_t at_once = pad ? l->in.w : plane;
    to += (pad * wp + pad) * c;
    for (size_t i = 0; i < plane; i += at_once, to += wp * c)
        l->kernel->patches->to_pixels(x + i, plane, at_once, c, to);
}

void dml_conv_pixels_to_planes(const struct dml_layer *l, const float *from, float *dx)
{
    size_t pad = l->args.padding, c = l->in.c, wp = l->in.w + 2 * pad, plane = l->in.h * l->in.w;
    size_t at_once = pad ? l->in.w : plane;
    from += (pad * wp + pad) * c;
    for (size_t i = 0; i < plane; i += at_once, from += wp * c)
        l->kernel->patches->to_planes(from, plane, at_once, c, dx + i);
}

void dml_conv_pack(const struct dml_layer *l, const float *w, size_t size, size_t row,
                   float *packed)
{
    size_t k = l->args.kernel, c = l->in.c;
    for (size_t o = 0; o < l->out.c; o++, w += c * k * k)
        for (size_t kh = 0; kh < k; kh++)
            l->kernel->patches->to_pixels(w + kh * k, k * k, k, c, packed + o * size + kh * row);
}

void dml_conv_add_packed(const struct dml_layer *l, const float *packed, size_t size, size_t row,
                         float *some, float *io_w)
{
    size_t k = l->args.kernel, c = l->in.c, n = c * k * k;
    for (size_t o = 0; o < l->out.c; o++, io_w += n) {
        for (size_t kh = 0; kh < k; kh++)
            l->kernel->patches->to_planes(packed + o * size + kh * row, k * k, k, c, some + kh * k);
        for (size_t i = 0; i < n; i++)
            io_w[i] += some[i];
    }
}

void dml_conv_turn(const struct dml_layer *l, const float *w, float *wt, uint32_t *at)
{
    size_t k = l->args.kernel, pad = l->args.padding, n_k = l->in.c * k * k;
    size_t wp = l->in.w + 2 * pad, hp = l->in.h + 2 * pad;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t kh = 0; kh < k; kh++)
            for (size_t kw = 0; kw < k; kw++)
                *at++ = (uint32_t)((c * hp + kh) * wp + kw);
    for (size_t o = 0; o < l->out.c; o++)
        for (size_t i = 0; i < n_k; i++)
            wt[i * l->out.c + o] = *w++;
}
