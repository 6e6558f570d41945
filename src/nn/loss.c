/*
 * Losses over a slice of a minibatch.
 *
 * Cross-entropy takes logits and subtracts the largest before exp(), so nothing overflows; the loss
 * of a sample is log(sum of exp) - logit of its label, its gradient softmax - one-hot. With label
 * smoothing s, the label counts 1 - s and all n classes together s: the loss becomes
 * log(sum of exp) - (1 - s) logit of the label - s mean of the logits (Szegedy et al. 2016). Sums
 * over samples are kept in double, which makes slices add up to the same figure closely enough to
 * print.
 */
#include "nn/model.h"

#include <assert.h>
#include <math.h>

#include "nn/kernel.h"
#include "nn/kernel_smooth.h"
#include "nn/model_priv.h"

static double cross_entropy(const float *y, size_t n, size_t label, double smoothing, float scale,
                            float *dy, size_t *io_correct)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (y[i] > y[best])
            best = i;
    /* With a NaN anywhere the loss must be NaN, even where comparisons passed it by. */
    float top = y[best], sum = 0.0f;
    for (size_t i = 0; i < n; i++) {
        float e = expf(y[i] - top);
        sum += e;
        if (dy)
            dy[i] = e;
    }
    *io_correct += best == label && !isnan(sum);
    if (dy) {
        float share = scale / sum;
        for (size_t i = 0; i < n; i++)
            dy[i] *= share;
        dy[label] -= scale * (float)(1.0 - smoothing);
    }
    double loss = log((double)sum) + (double)top - (double)y[label];
    if (smoothing == 0.0)
        return loss;
    double mean = 0.0;
    float each = scale * (float)(smoothing / (double)n);
    for (size_t i = 0; i < n; i++) {
        mean += (double)y[i] / (double)n;
        if (dy)
            dy[i] -= each;
    }
    return loss + smoothing * ((double)y[label] - mean);
}

/* How many sums of exp() are multiplied before a logarithm is taken of them all: each is at most
 * the number of classes, so that 16 stay below 1e308. */
#define LOGS 16

/* cross_entropy() of many samples with dy: the exponentials of all of them at once. */
static double cross_entropies(const struct dml_model *m, const float *y, const int32_t *labels,
                              size_t batch, float scale, float *dy, size_t *io_correct)
{
    size_t n = dml_model_n_outputs(m), correct = 0;
    float hit = scale * (float)(1.0 - m->smoothing);
    float each = scale * (float)(m->smoothing / (double)n);
    double loss = 0.0, product = 1.0;
    for (size_t b = 0; b < batch; b++) {
        const float *from = y + b * n;
        float *to = dy + b * n, top = from[0];
        for (size_t i = 1; i < n; i++)
            top = from[i] > top ? from[i] : top;
        for (size_t i = 0; i < n; i++)
            to[i] = from[i] - top;
    }
    for (size_t b = 0; b < batch; b++)
        loss -= (double)dy[b * n + (size_t)labels[b]];
    m->steps[0].kernel->smooth->exp(dy, dy, batch * n);
    for (size_t b = 0; b < batch; b++) {
        const float *from = y + b * n;
        float *to = dy + b * n, sum = 0.0f;
        size_t label = (size_t)labels[b], better = 0;
        for (size_t i = 0; i < n; i++)
            sum += to[i];
        for (size_t i = 0; i < n; i++) /* of equals the first counts */
            better += i < label ? from[i] >= from[label] : from[i] > from[label];
        correct += better == 0 && !isnan(sum);
        float share = scale / sum;
        for (size_t i = 0; i < n; i++)
            to[i] = to[i] * share - each;
        to[label] -= hit;
        product *= (double)sum;
        if (b % LOGS == LOGS - 1 || b + 1 == batch) {
            loss += log(product);
            product = 1.0;
        }
    }
    *io_correct += correct;
    if (m->smoothing == 0.0)
        return loss;
    /* The label counts 1 - smoothing, and all together smoothing. */
    for (size_t b = 0; b < batch; b++) {
        const float *from = y + b * n;
        double mean = 0.0;
        for (size_t i = 0; i < n; i++)
            mean += (double)from[i] / (double)n;
        loss += m->smoothing * ((double)from[labels[b]] - mean);
    }
    return loss;
}

/* One sequence: the mean over its positions. Only the last one counts as right or wrong. */
static double next_token(const struct dml_model *m, const float *x, const float *y, int32_t label,
                         float scale, float *dy, size_t *io_correct)
{
    size_t v = dml_model_n_classes(m), t = dml_model_n_outputs(m) / v;
    double loss = 0.0;
    for (size_t i = 0; i < t; i++) {
        float top = (float)(v - 1), next = i + 1 < t ? x[i + 1] : (float)label;
        size_t code = next > 0.0f ? (size_t)(next < top ? next + 0.5f : top) : 0, ignored = 0;
        loss += cross_entropy(y + i * v, v, code, m->smoothing, scale / (float)t,
                              dy ? dy + i * v : NULL, i + 1 < t ? &ignored : io_correct);
    }
    return loss / (double)t;
}

void dml_model_loss_grad(const struct dml_model *m, const float *x, const float *y,
                         const int32_t *labels, const float *targets, size_t batch, double divisor,
                         double *ret_loss, size_t *ret_correct, float *dy)
{
    size_t n = dml_model_n_outputs(m), correct = 0;
    double loss = 0.0;
    float scale = (float)(1.0 / divisor);
    if (dml_model_loss(m) == DML_LOSS_NEXT_TOKEN) {
        size_t d = dml_model_n_codes(m);
        for (size_t b = 0; b < batch; b++) {
            assert(labels[b] >= 0 && (size_t)labels[b] < dml_model_n_classes(m));
            loss += next_token(m, x + b * d, y + b * n, labels[b], scale, dy ? dy + b * n : NULL,
                               &correct);
        }
    } else if (dml_model_loss(m) == DML_LOSS_CROSS_ENTROPY) {
        for (size_t b = 0; b < batch; b++)
            assert(labels[b] >= 0 && (size_t)labels[b] < n);
        if (dy)
            loss = cross_entropies(m, y, labels, batch, scale, dy, &correct);
        for (size_t b = 0; b < batch && !dy; b++)
            loss += cross_entropy(y + b * n, n, (size_t)labels[b], m->smoothing, scale, NULL,
                                  &correct);
    } else {
        assert(dml_model_loss(m) == DML_LOSS_MSE && n == 1);
        for (size_t b = 0; b < batch; b++) {
            float off = y[b] - targets[b];
            loss += (double)off * (double)off;
            if (dy)
                dy[b] = 2.0f * off * scale;
        }
    }
    *ret_loss = loss;
    *ret_correct = correct;
}
