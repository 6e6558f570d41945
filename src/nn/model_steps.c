/*
 * From what a model file lists to what is computed: steps are the layers, except that a sequence
 * which is faster done at once becomes one step. Parameters, first weights and what is printed
 * follow the list; the passes follow the steps.
 */
#include <errno.h>
#include <stdlib.h>

#include "nn/conv.h"
#include "nn/linear.h"
#include "nn/model_priv.h"

static void count_readers(struct dml_model *m)
{
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        if (l->from >= 0)
            m->layers[l->from].n_readers++;
        if (l->also >= 0)
            m->layers[l->also].n_readers++;
    }
}

/* Layers i … i + n - 1 read each other in turn, and nobody else reads those before the last. */
static bool is_chain(const struct dml_model *m, size_t i, size_t n)
{
    if (i + n > m->n_layers)
        return false;
    for (size_t k = i; k + 1 < i + n; k++)
        if (m->layers[k].n_readers != 1 || m->layers[k + 1].from != (int)k)
            return false;
    return true;
}

/* Makes one step of layer i and those behind it. Returns how many those are. */
static size_t join(const struct dml_model *m, size_t i, struct dml_layer *step)
{
    const struct dml_layer *l = &m->layers[i];
    if (is_chain(m, i, 3) && (dml_conv_pool_join(l, step) || dml_conv_norm_join(l, 3, step)))
        return 2;
    if (is_chain(m, i, 2) && (dml_linear_join(l, step) || dml_conv_norm_join(l, 2, step)))
        return 1;
    return 0;
}

static void link_steps(struct dml_model *m)
{
    for (size_t i = 0; i < m->n_steps; i++) {
        struct dml_layer *second = &m->steps[i];
        struct dml_layer *first = second->from >= 0 ? &m->steps[second->from] : NULL;
        if (first && first->type == &dml_conv_norm && second->type == &dml_conv_norm &&
            first->n_readers == 1)
            dml_conv_norm_link(first, second);
    }
}

int dml_model_make_steps(struct dml_model *m)
{
    int step_of[DML_MODEL_LAYERS_MAX];
    m->steps = calloc(m->n_layers, sizeof(*m->steps));
    if (!m->steps)
        return -ENOMEM;
    count_readers(m);
    for (size_t i = 0; i < m->n_layers; i++) {
        struct dml_layer *s = &m->steps[m->n_steps];
        m->layers[i].i_layer = m->first_layer + (unsigned)i;
        *s = m->layers[i];
        i += join(m, i, s);
        s->n_readers = m->layers[i].n_readers;
        step_of[i] = (int)m->n_steps++; /* only its last layer is read by others */
        s->from = s->from < 0 ? s->from : step_of[s->from];
        s->also = s->also < 0 ? s->also : step_of[s->also];
    }
    link_steps(m);
    return 0;
}
