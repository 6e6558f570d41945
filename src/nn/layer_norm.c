/*
 * layer-norm: at each position, its C numbers are brought to mean 0 and variance 1, then multiplied
 * by gamma [C] and beta [C] is added. Channels last, so a position is a row.
 *
 * Backward, with u the normalised row and g = dy gamma, means over the row:
 *   dx = (g - mean(g) - u mean(g u)) / deviation.
 *
 * Source: Ba, Kiros, Hinton 2016.
 */
#include <math.h>

#include "nn/layer.h"

static const struct dml_opt opts[] = {
    {"layer-norm", "epsilon", DML_OPT_REAL, offsetof(struct dml_layer_args, epsilon), .min = 1e-12,
     .max = 1, .dflt = "1e-5", .help = "Added to the variance"},
    {0},
};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = l->in;
    l->n_weights = l->n_biases = l->in.c;
    l->fan_in = l->fan_out = 1;
    l->fill = DML_FILL_ONES;
    l->n_saved = 2 * (size_t)l->in.h * l->in.w; /* mean, 1 / deviation */
    l->macs = 2 * dml_layer_size(l->in);
    return 0;
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, rows = p->batch * l->in.h * l->in.w;
    const float *gamma = p->params, *beta = gamma + c;
    for (size_t r = 0; r < rows; r++) {
        const float *x = p->x + r * c;
        float *y = p->y + r * c, sum = 0.0f, square = 0.0f;
        for (size_t i = 0; i < c; i++)
            sum += x[i];
        float mean = sum / (float)c;
        for (size_t i = 0; i < c; i++)
            square += (x[i] - mean) * (x[i] - mean);
        float inverse = 1.0f / sqrtf(square / (float)c + (float)l->args.epsilon);
        for (size_t i = 0; i < c; i++)
            y[i] = gamma[i] * ((x[i] - mean) * inverse) + beta[i];
        if (p->saved) {
            p->saved[2 * r] = mean;
            p->saved[2 * r + 1] = inverse;
        }
    }
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, rows = p->batch * l->in.h * l->in.w;
    const float *gamma = p->params;
    float *dgamma = p->dparams, *dbeta = dgamma + c;
    for (size_t r = 0; r < rows; r++) {
        const float *x = p->x + r * c, *dy = p->dy + r * c;
        float mean = p->saved[2 * r], inverse = p->saved[2 * r + 1], s1 = 0.0f, s2 = 0.0f;
        for (size_t i = 0; i < c; i++) {
            float u = (x[i] - mean) * inverse, g = dy[i] * gamma[i];
            dgamma[i] += dy[i] * u;
            dbeta[i] += dy[i];
            s1 += g;
            s2 += g * u;
        }
        if (!p->dx)
            continue;
        s1 /= (float)c;
        s2 /= (float)c;
        for (size_t i = 0; i < c; i++)
            p->dx[r * c + i] = inverse * (dy[i] * gamma[i] - s1 - (x[i] - mean) * inverse * s2);
    }
}

const struct dml_layer_type dml_layer_norm = {
    .name = "layer-norm",
    .usage = "layer-norm [epsilon E]",
    .opts = opts,
    .order = dml_layer_hwc,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
