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
    size_t k = l->args.kernel, o = l->out.c, c = l->in.c;
    const double *bias = w + o * c * k * k;
    for (size_t i = 0; i < o; i++)
        for (size_t oh = 0; oh < l->out.h; oh++)
            for (size_t ow = 0; ow < l->out.w; ow++) {
                double sum = bias[i];
                for (size_t j = 0; j < c; j++)
                    for (size_t kh = 0; kh < k; kh++)
                        for (size_t kw = 0; kw < k; kw++) {
                            long h = (long)(oh * l->args.stride + kh) - (long)l->args.padding;
                            long v = (long)(ow * l->args.stride + kw) - (long)l->args.padding;
                            if (h >= 0 && v >= 0 && h < (long)l->in.h && v < (long)l->in.w)
                                sum += w[((i * c + j) * k + kh) * k + kw] *
                                       x[(j * l->in.h + (size_t)h) * l->in.w + (size_t)v];
                        }
                *y++ = sum;
            }
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
                        best = v > best ? v : best;
                    }
                *y++ = average ? sum / (double)(window * window) : best;
            }
}

/* One sample through one layer. mask: what dropout multiplies with. */
static void ref_layer(const struct dml_layer *l, const double *w, const float *mask,
                      const double *x, double *y)
{
    const char *name = l->type->name;
    size_t n = dml_layer_size(l->out), d = dml_layer_size(l->in);
    if (!strcmp(name, "conv")) {
        ref_conv(l, w, x, y);
    } else if (!strcmp(name, "linear")) {
        for (size_t i = 0; i < n; i++) {
            y[i] = w[n * d + i];
            for (size_t j = 0; j < d; j++)
                y[i] += w[i * d + j] * x[j];
        }
    } else if (!strcmp(name, "max-pool") || !strcmp(name, "avg-pool")) {
        ref_pool(l, x, y, name[0] == 'a');
    } else {
        for (size_t i = 0; i < n; i++)
            y[i] = !strcmp(name, "relu")      ? (x[i] > 0.0 ? x[i] : 0.0)
                   : !strcmp(name, "tanh")    ? tanh(x[i])
                   : !strcmp(name, "sigmoid") ? 1.0 / (1.0 + exp(-x[i]))
                   : !strcmp(name, "dropout") ? x[i] * (mask ? (double)mask[i] : 1.0)
                                              : x[i];
    }
}

/* B samples through the whole chain. mask [B][D] is for a model with one dropout layer. */
__attribute__((unused)) static void ref_forward(const struct dml_model *m, const double *vec,
                                                const double *x, size_t batch, const float *mask,
                                                double *y)
{
    size_t d = dml_model_n_inputs(m), o = dml_model_n_outputs(m);
    double *a = malloc(m->widest * sizeof(double)), *b = malloc(m->widest * sizeof(double));
    for (size_t s = 0; s < batch; s++) {
        memcpy(a, x + s * d, d * sizeof(double));
        for (size_t i = 0; i < m->n_layers; i++) {
            const struct dml_layer *l = &m->layers[i];
            ref_layer(l, vec + l->params_at, mask ? mask + s * dml_layer_size(l->in) : NULL, a, b);
            double *t = a;
            a = b;
            b = t;
        }
        memcpy(y + s * o, a, o * sizeof(double));
    }
    free(a);
    free(b);
}
