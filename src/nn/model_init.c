/*
 * First weights. Layer i draws from a stream of its own, so a model that differs in its last layers
 * begins with the same numbers in the first ones.
 *
 * Source: He et al. 2015 (kaiming); PyTorch's and torchvision's defaults; Radford et al. 2019.
 */
#include <math.h>

#include "base/rng.h"
#include "nn/model_priv.h"

#define LINEAR_DEVIATION 0.01 /* torchvision's MobileNetV2 */
#define NORMAL_DEVIATION 0.02 /* GPT-2 */

static void fill(float *x, size_t n, float v)
{
    for (size_t i = 0; i < n; i++)
        x[i] = v;
}

static void draw_normal(struct dml_rng *rng, double deviation, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(deviation * dml_rng_normal(rng));
}

static void init_weights(const struct dml_model *m, const struct dml_layer *l, struct dml_rng *rng,
                         float *w)
{
    double bound = 1.0 / sqrt((double)l->fan_in);
    if (m->init == DML_INIT_UNIFORM) {
        for (size_t j = 0; j < dml_layer_n_params(l); j++)
            w[j] = (float)(bound * (2.0 * dml_rng_uniform(rng) - 1.0));
        return;
    }
    double deviation = m->init == DML_INIT_NORMAL ? NORMAL_DEVIATION
                       : l->type == &dml_linear   ? LINEAR_DEVIATION
                                                  : sqrt(2.0 / (double)l->fan_out);
    draw_normal(rng, deviation, w, l->n_weights);
    fill(w + l->n_weights, l->n_biases, 0.0f);
}

void dml_model_init(const struct dml_model *m, float *vec, uint64_t seed)
{
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        uint64_t stream = m->first_layer + i;
        float *w = vec + l->params_at, *state = vec + m->n_params + l->state_at;
        if (!dml_layer_n_params(l))
            continue;
        struct dml_rng rng;
        dml_rng_init(&rng, seed, 0, DML_RNG_INIT, stream);
        switch (l->fill) {
        case DML_FILL_ONES:
            fill(w, l->n_weights, 1.0f);
            fill(w + l->n_weights, l->n_biases, 0.0f);
            break;
        case DML_FILL_NORMAL:
            draw_normal(&rng, m->init == DML_INIT_NORMAL ? NORMAL_DEVIATION : 1.0, w,
                        dml_layer_n_params(l));
            break;
        case DML_FILL_WEIGHTS:
            init_weights(m, l, &rng, w);
            break;
        }
        fill(state, l->n_state / 2, 0.0f); /* running means, then running variances */
        fill(state + l->n_state / 2, l->n_state - l->n_state / 2, 1.0f);
    }
}
