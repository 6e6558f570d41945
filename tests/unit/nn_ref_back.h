/*
 * The naive twin backward, in double, for models of convolutions, normalisation per channel,
 * activations, pooling and linear layers: gradients of every layer at once, where central
 * differences would take a pass for each parameter. test_blocks.c holds it to PyTorch's float64.
 */
#pragma once

#include "tests/unit/nn_ref.h"

/* One number of one layer whose slope is taken from the other side of the nearest kink. */
struct ref_flip {
    size_t i_layer, at;
};

/* What a model computes for B samples: per layer y and dy [B][out], in planes. */
struct ref_run {
    const struct dml_model *m;
    size_t batch;
    const double *vec, *x; /* [P], [B][D] */
    double **y, **dy;      /* [n_layers] */
    double *dx, *dparams;  /* [B][D], [P] */
    const struct ref_flip *flip;
};

static double *ref_zeros(size_t n)
{
    return calloc(n + 1, sizeof(double));
}

static void ref_conv_back(const struct dml_layer *l, const double *w, const double *x,
                          const double *dy, double *dx, double *dw)
{
    size_t k = l->args.kernel, o = l->out.c, c = l->in.c / l->args.groups, s = l->args.stride;
    size_t per_group = o / l->args.groups;
    double *dbias = dw + o * c * k * k;
    for (size_t i = 0; i < o; i++)
        for (size_t oh = 0; oh < l->out.h; oh++)
            for (size_t ow = 0; ow < l->out.w; ow++, dy++) {
                if (l->args.bias)
                    dbias[i] += *dy;
                for (size_t j = 0; j < c; j++)
                    for (size_t kh = 0; kh < k; kh++)
                        for (size_t kw = 0; kw < k; kw++) {
                            long h = (long)(oh * s + kh) - (long)l->args.padding;
                            long v = (long)(ow * s + kw) - (long)l->args.padding;
                            if (h < 0 || v < 0 || h >= (long)l->in.h || v >= (long)l->in.w)
                                continue;
                            size_t from = i / per_group * c + j;
                            size_t at = (from * l->in.h + (size_t)h) * l->in.w + (size_t)v;
                            size_t tap = ((i * c + j) * k + kh) * k + kw;
                            dw[tap] += *dy * x[at];
                            dx[at] += *dy * w[tap];
                        }
            }
}

static void ref_linear_back(const struct dml_layer *l, const double *w, const double *x,
                            const double *dy, double *dx, double *dw)
{
    size_t n = dml_layer_size(l->out), d = dml_layer_size(l->in);
    for (size_t i = 0; i < n; i++) {
        dw[n * d + i] += dy[i];
        for (size_t j = 0; j < d; j++) {
            dw[i * d + j] += dy[i] * x[j];
            dx[j] += dy[i] * w[i * d + j];
        }
    }
}

static void ref_batch_norm_back(const struct dml_layer *l, const double *w, const double *x,
                                size_t batch, const double *dy, double *dx, double *dw)
{
    size_t c = l->in.c, places = (size_t)l->in.h * l->in.w;
    double n = (double)(batch * places);
    for (size_t i = 0; i < c; i++) {
        double mean = 0.0, var = 0.0, s1 = 0.0, s2 = 0.0;
#define EACH(at)                                                                                   \
    for (size_t b = 0; b < batch; b++)                                                             \
        for (size_t j = 0, at = (b * c + i) * places; j < places; j++, at++)
        EACH(at) mean += x[at] / n;
        EACH(at) var += (x[at] - mean) * (x[at] - mean) / n;
        double deviation = sqrt(var + l->args.epsilon);
        EACH(at)
        {
            s1 += dy[at];
            s2 += dy[at] * (x[at] - mean) / deviation;
        }
        dw[i] += s2;
        dw[c + i] += s1;
        EACH(at)
        dx[at] += w[i] / deviation *
                  (dy[at] - s1 / n - (x[at] - mean) / deviation * s2 / n);
#undef EACH
    }
}

static void ref_pool_back(const struct dml_layer *l, const double *x, const double *dy, double *dx)
{
    size_t window = l->args.size, stride = l->args.stride;
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t oh = 0; oh < l->out.h; oh++)
            for (size_t ow = 0; ow < l->out.w; ow++) {
                size_t best = (c * l->in.h + oh * stride) * l->in.w + ow * stride;
                for (size_t kh = 0, first = best; kh < window; kh++)
                    for (size_t kw = 0; kw < window; kw++) {
                        double v = x[first + kh * l->in.w + kw];
                        if (v > x[best] || isnan(v))
                            best = first + kh * l->in.w + kw;
                    }
                dx[best] += *dy++;
            }
}

/* Derivative of an activation; beyond: as if x lay on the other side of the nearest kink. */
static double ref_slope(const struct dml_layer *l, const char *name, double x, int beyond)
{
    int inside = x > 0.0;
    if (!strcmp(name, "relu6"))
        inside = inside && x < 6.0;
    inside ^= beyond;
    double s = ref_pointwise(l, name, x);
    return !strncmp(name, "relu", 4)     ? (double)inside
           : !strcmp(name, "leaky-relu") ? (inside ? 1.0 : l->args.rate)
           : !strcmp(name, "gelu")       ? 0.5 * (1.0 + erf(x / sqrt(2.0))) +
                                         x * exp(-0.5 * x * x) / sqrt(2.0 * M_PI)
           : !strcmp(name, "tanh")       ? 1.0 - s * s
           : !strcmp(name, "sigmoid")    ? s * (1.0 - s)
                                         : 1.0; /* flatten, reorder, dropout that is off */
}

static void ref_layer_back(const struct ref_run *r, size_t i, const double *x, double *dx)
{
    const struct dml_layer *l = &r->m->layers[i];
    const char *name = l->type->name;
    const double *w = r->vec + l->params_at, *dy = r->dy[i];
    double *dw = r->dparams + l->params_at;
    size_t d = dml_layer_size(l->in), n = dml_layer_size(l->out);
    if (!strcmp(name, "batch-norm")) {
        ref_batch_norm_back(l, w, x, r->batch, dy, dx, dw);
        return;
    }
    for (size_t b = 0; b < r->batch; b++, x += d, dx += d, dy += n) {
        if (!strcmp(name, "conv"))
            ref_conv_back(l, w, x, dy, dx, dw);
        else if (!strcmp(name, "linear"))
            ref_linear_back(l, w, x, dy, dx, dw);
        else if (!strcmp(name, "max-pool"))
            ref_pool_back(l, x, dy, dx);
        else if (!strcmp(name, "global-avg-pool"))
            for (size_t j = 0; j < d; j++)
                dx[j] += dy[j / (d / n)] / (double)(d / n);
        else
            for (size_t j = 0; j < n; j++)
                dx[j] += dy[j] * ref_slope(l, name, x[j],
                                           r->flip && r->flip->i_layer == i &&
                                               r->flip->at == b * n + j);
    }
}

/* Forward through all layers; y of each is kept. */
static void ref_run_forward(struct ref_run *r)
{
    r->y = calloc(r->m->n_layers, sizeof(*r->y));
    r->dy = calloc(r->m->n_layers, sizeof(*r->dy));
    for (size_t i = 0; i < r->m->n_layers; i++) {
        const struct dml_layer *l = &r->m->layers[i];
        size_t d = dml_layer_size(l->in), n = dml_layer_size(l->out);
        const double *from = l->from < 0 ? r->x : r->y[l->from];
        const double *also = l->also == DML_LAYER_NONE ? NULL
                             : l->also < 0             ? r->x
                                                       : r->y[l->also];
        r->y[i] = ref_zeros(r->batch * n);
        r->dy[i] = ref_zeros(r->batch * n);
        if (!strcmp(l->type->name, "batch-norm"))
            ref_batch_norm(l, r->vec + l->params_at, from, r->batch, r->y[i]);
        else
            for (size_t b = 0; b < r->batch; b++)
                ref_layer(l, r->vec + l->params_at, NULL, from + b * d, also ? also + b * d : NULL,
                          r->y[i] + b * n);
    }
    r->dx = ref_zeros(r->batch * dml_model_n_inputs(r->m));
    r->dparams = ref_zeros(dml_model_n_params(r->m));
}

/* dy [B][O] of the last layer; all gradients afresh. */
static void ref_run_backward(struct ref_run *r, const double *dy)
{
    size_t n_layers = r->m->n_layers;
    for (size_t i = 0; i < n_layers; i++)
        memset(r->dy[i], 0, r->batch * dml_layer_size(r->m->layers[i].out) * sizeof(double));
    memset(r->dx, 0, r->batch * dml_model_n_inputs(r->m) * sizeof(double));
    memset(r->dparams, 0, dml_model_n_params(r->m) * sizeof(double));
    memcpy(r->dy[n_layers - 1], dy, r->batch * dml_model_n_outputs(r->m) * sizeof(double));
    for (size_t i = n_layers; i-- > 0;) {
        const struct dml_layer *l = &r->m->layers[i];
        const int sources[2] = {l->from, l->also};
        size_t n = r->batch * dml_layer_size(l->in);
        for (size_t k = 0; k < 2 && l->also != DML_LAYER_NONE; k++) {
            double *to = sources[k] < 0 ? r->dx : r->dy[sources[k]];
            for (size_t j = 0; j < n; j++)
                to[j] += r->dy[i][j];
        }
        if (l->also == DML_LAYER_NONE)
            ref_layer_back(r, i, l->from < 0 ? r->x : r->y[l->from],
                           l->from < 0 ? r->dx : r->dy[l->from]);
    }
}

static void ref_run_done(struct ref_run *r)
{
    for (size_t i = 0; r->y && i < r->m->n_layers; i++) {
        free(r->y[i]);
        free(r->dy[i]);
    }
    free(r->y);
    free(r->dy);
    free(r->dx);
    free(r->dparams);
}
