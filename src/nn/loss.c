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
    for (size_t i = 0; i < n; i++)
        sum += expf(y[i] - top);
    *io_correct += best == label && !isnan(sum);
    if (dy) {
        float share = scale / sum;
        for (size_t i = 0; i < n; i++)
            dy[i] = expf(y[i] - top) * share;
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
        for (size_t b = 0; b < batch; b++) {
            assert(labels[b] >= 0 && (size_t)labels[b] < n);
            loss += cross_entropy(y + b * n, n, (size_t)labels[b], m->smoothing, scale,
                                  dy ? dy + b * n : NULL, &correct);
        }
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
