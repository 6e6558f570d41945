/*
 * The naive twin of nn/ for tests: every layer forward in double, straight from its definition, and
 * numbers from a formula. Derivatives come from central differences of this twin.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/model_priv.h"

/* Knuth's and Lewis's congruential generator; make_golden.py computes the same. */
struct ref_lcg {
    uint32_t s;
};

__attribute__((unused)) static double ref_uniform(struct ref_lcg *g)
{
    g->s = g->s * 1664525u + 1013904223u;
    return (double)(g->s >> 8) / 16777216.0;
}

/* In [-bound, bound). */
__attribute__((unused)) static void ref_fill(float *x, size_t n, double bound, uint32_t seed)
{
    struct ref_lcg g = {seed};
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(bound * (2.0 * ref_uniform(&g) - 1.0));
}

static void ref_conv(const struct dml_layer *l, const double *w, const double *x, double *y)
{
    size_t k = l->args.kernel, o = l->out.c, c = l->in.c / l->args.groups;
    size_t per_group = o / l->args.groups;
    const double *bias = w + o * c * k * k;
    for (size_t i = 0; i < o; i++)
        for (size_t oh = 0; oh < l->out.h; oh++)
            for (size_t ow = 0; ow < l->out.w; ow++) {
                double sum = l->args.bias ? bias[i] : 0.0;
                for (size_t j = 0; j < c; j++)
                    for (size_t kh = 0; kh < k; kh++)
                        for (size_t kw = 0; kw < k; kw++) {
                            long h = (long)(oh * l->args.stride + kh) - (long)l->args.padding;
                            long v = (long)(ow * l->args.stride + kw) - (long)l->args.padding;
                            size_t from = i / per_group * c + j;
                            if (h >= 0 && v >= 0 && h < (long)l->in.h && v < (long)l->in.w)
                                sum += w[((i * c + j) * k + kh) * k + kw] *
                                       x[(from * l->in.h + (size_t)h) * l->in.w + (size_t)v];
                        }
                *y++ = sum;
            }
}

/* All samples at once: [B][C][places]. */
static void ref_batch_norm(const struct dml_layer *l, const double *w, const double *x,
                           size_t batch, double *y)
{
    size_t c = l->in.c, places = (size_t)l->in.h * l->in.w, d = c * places;
    for (size_t i = 0; i < c; i++) {
        double mean = 0.0, var = 0.0, n = (double)(batch * places);
        for (size_t b = 0; b < batch; b++)
            for (size_t j = 0; j < places; j++)
                mean += x[b * d + i * places + j] / n;
        for (size_t b = 0; b < batch; b++)
            for (size_t j = 0; j < places; j++)
                var += pow(x[b * d + i * places + j] - mean, 2.0) / n;
        for (size_t b = 0; b < batch; b++)
            for (size_t j = 0; j < places; j++) {
                size_t at = b * d + i * places + j;
                y[at] = w[i] * (x[at] - mean) / sqrt(var + l->args.epsilon) + w[c + i];
            }
    }
}

static double ref_pointwise(const struct dml_layer *l, const char *name, double x)
{
    return !strcmp(name, "relu")         ? (x > 0.0 ? x : 0.0)
           : !strcmp(name, "relu6")      ? (x > 6.0   ? 6.0
                                            : x > 0.0 ? x
                                                      : 0.0)
           : !strcmp(name, "leaky-relu") ? (x > 0.0 ? x : x * l->args.rate)
           : !strcmp(name, "gelu")       ? 0.5 * x * (1.0 + erf(x / sqrt(2.0)))
           : !strcmp(name, "tanh")       ? tanh(x)
           : !strcmp(name, "sigmoid")    ? 1.0 / (1.0 + exp(-x))
                                         : x;
}

static void ref_pool(const struct dml_layer *l, const double *x, double *y, int average)
{
    size_t window = l->args.size, stride = l->args.stride;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t oh = 0; oh < l->out.h; oh++)
            for (size_t ow = 0; ow < l->out.w; ow++) {
                double sum = 0.0, best = -INFINITY;
                for (size_t kh = 0; kh < window; kh++)
                    for (size_t kw = 0; kw < window; kw++) {
                        double v = x[(c * l->in.h + oh * stride + kh) * l->in.w + ow * stride + kw];
                        sum += v;
                        best = v > best || isnan(v) ? v : best;
                    }
                *y++ = average ? sum / (double)(window * window) : best;
            }
}

static void ref_linear(const struct dml_layer *l, const double *w, const double *x, double *y)
{
    size_t n = dml_layer_size(l->out), d = dml_layer_size(l->in);
    for (size_t i = 0; i < n; i++) {
        y[i] = w[n * d + i];
        for (size_t j = 0; j < d; j++)
            y[i] += w[i * d + j] * x[j];
    }
}

static void ref_global(const struct dml_layer *l, const double *x, double *y)
{
    size_t places = (size_t)l->in.h * l->in.w;
    for (size_t i = 0; i < l->in.c; i++) {
        y[i] = 0.0;
        for (size_t j = 0; j < places; j++)
            y[i] += x[i * places + j] / (double)places;
    }
}

/* Sequences here are [C][T], as pictures are. */
static void ref_layer_norm(const struct dml_layer *l, const double *w, const double *x, double *y)
{
    size_t c = l->in.c, t = (size_t)l->in.h * l->in.w;
    for (size_t j = 0; j < t; j++) {
        double mean = 0.0, var = 0.0;
        for (size_t i = 0; i < c; i++)
            mean += x[i * t + j] / (double)c;
        for (size_t i = 0; i < c; i++)
            var += pow(x[i * t + j] - mean, 2.0) / (double)c;
        for (size_t i = 0; i < c; i++)
            y[i * t + j] = w[i] * (x[i * t + j] - mean) / sqrt(var + l->args.epsilon) + w[c + i];
    }
}

/* One number of q, k or v (row i of W) at position j. */
static double ref_project(const double *w, const double *bias, const double *x, size_t c, size_t t,
                          size_t i, size_t j)
{
    double sum = bias[i];
    for (size_t m = 0; m < c; m++)
        sum += w[i * c + m] * x[m * t + j];
    return sum;
}

static void ref_attention(const struct dml_layer *l, const double *w, const double *x, double *y)
{
    size_t c = l->in.c, t = (size_t)l->in.h * l->in.w, d = c / l->args.size;
    const double *w2 = w + 3 * c * c, *bias = w + 4 * c * c;
    double *mixed = calloc(c * t, sizeof(double)), *a = malloc(t * sizeof(double));
    for (size_t h = 0; h < l->args.size; h++)
        for (size_t j = 0; j < t; j++) {
            double sum = 0.0;
            for (size_t m = 0; m <= j; m++) {
                double dot = 0.0;
                for (size_t i = h * d; i < (h + 1) * d; i++)
                    dot += ref_project(w, bias, x, c, t, i, j) *
                           ref_project(w, bias, x, c, t, c + i, m);
                a[m] = exp(dot / sqrt((double)d));
                sum += a[m];
            }
            for (size_t m = 0; m <= j; m++)
                for (size_t i = h * d; i < (h + 1) * d; i++)
                    mixed[i * t + j] += a[m] / sum * ref_project(w, bias, x, c, t, 2 * c + i, m);
        }
    for (size_t i = 0; i < c; i++)
        for (size_t j = 0; j < t; j++)
            y[i * t + j] = ref_project(w2, bias + 3 * c, mixed, c, t, i, j);
    free(mixed);
    free(a);
}

static void ref_embedding(const struct dml_layer *l, const double *w, const double *x, double *y)
{
    size_t c = l->out.c, t = l->out.h;
    for (size_t j = 0; j < t; j++) {
        double top = (double)(l->args.groups - 1), v = x[j] < 0.0 ? 0.0 : x[j] > top ? top : x[j];
        for (size_t i = 0; i < c; i++)
            y[i * t + j] = w[(size_t)(v + 0.5) * c + i];
    }
}

static void ref_position(const struct dml_layer *l, const double *w, const double *x, double *y)
{
    size_t c = l->in.c, t = (size_t)l->in.h * l->in.w;
    for (size_t i = 0; i < c * t; i++)
        y[i] = x[i] + w[i % t * c + i / t];
}

/* One sample through one layer. mask: what dropout multiplies with. */
static void ref_layer(const struct dml_layer *l, const double *w, const float *mask,
                      const double *x, const double *also, double *y)
{
    const char *name = l->type->name;
    if (!strcmp(name, "conv"))
        ref_conv(l, w, x, y);
    else if (!strcmp(name, "linear"))
        ref_linear(l, w, x, y);
    else if (!strcmp(name, "max-pool") || !strcmp(name, "avg-pool"))
        ref_pool(l, x, y, name[0] == 'a');
    else if (!strcmp(name, "global-avg-pool"))
        ref_global(l, x, y);
    else if (!strcmp(name, "layer-norm"))
        ref_layer_norm(l, w, x, y);
    else if (!strcmp(name, "attention"))
        ref_attention(l, w, x, y);
    else if (!strcmp(name, "embedding"))
        ref_embedding(l, w, x, y);
    else if (!strcmp(name, "position"))
        ref_position(l, w, x, y);
    else
        for (size_t i = 0; i < dml_layer_size(l->out); i++)
            y[i] = !strcmp(name, "dropout") ? x[i] * (mask ? (double)mask[i] : 1.0)
                   : !strcmp(name, "add")   ? x[i] + also[i]
                                            : ref_pointwise(l, name, x[i]);
}

/* Places by channels becomes channels by places; what a layer with channels last gives. */
__attribute__((unused)) static void ref_to_planes(const struct dml_layer *l, float *y, size_t batch)
{
    size_t c = l->out.c, places = (size_t)l->out.h * l->out.w, n = c * places;
    float *t = malloc(n * sizeof(float));
    for (size_t b = 0; l->out_order == DML_ORDER_HWC && b < batch; b++, y += n) {
        memcpy(t, y, n * sizeof(float));
        for (size_t i = 0; i < n; i++)
            y[i] = t[i % places * c + i / places];
    }
    free(t);
}

/*
 * B samples through all layers, always in planes: reorder layers do nothing. mask [B][D] is for a
 * model with one dropout layer.
 */
__attribute__((unused)) static void ref_forward(const struct dml_model *m, const double *vec,
                                                const double *x, size_t batch, const float *mask,
                                                double *y)
{
    double **out = calloc(m->n_layers, sizeof(*out));
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        size_t d = dml_layer_size(l->in), n = dml_layer_size(l->out);
        const double *from = l->from < 0 ? x : out[l->from];
        const double *also = l->also == DML_LAYER_NONE ? NULL : l->also < 0 ? x : out[l->also];
        out[i] = malloc(batch * n * sizeof(double));
        if (!strcmp(l->type->name, "batch-norm"))
            ref_batch_norm(l, vec + l->params_at, from, batch, out[i]);
        for (size_t b = 0; b < batch && strcmp(l->type->name, "batch-norm") != 0; b++)
            ref_layer(l, vec + l->params_at, mask ? mask + b * d : NULL, from + b * d,
                      also ? also + b * d : NULL, out[i] + b * n);
    }
    memcpy(y, out[m->n_layers - 1], batch * dml_model_n_outputs(m) * sizeof(double));
    for (size_t i = 0; i < m->n_layers; i++)
        free(out[i]);
    free(out);
}
