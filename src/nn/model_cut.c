/*
 * Cutting a model.
 *
 * Between two steps there is a cut when every later step reads the output of the one before, or a
 * later one, and reads it finished (conv_norm.c hands on what is not, to save passes over it: in a
 * MobileNetV2 that leaves the narrow places, where there is least to send). A change of order in
 * memory goes with the layer that asked for it, so there is none behind it; people could not name it
 * anyway.
 *
 * A part is made from its layers, as if a model file had listed them: they are prepared already,
 * and sequences that are computed at once lie on one side, so planning makes the same steps of it.
 */
#include "nn/model_cut.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "nn/model_priv.h"

/* Multiply-adds in the time in which one number goes to memory or comes from there: some 5 G/s
 * against 1 G/s on the cores this is for. */
#define MOVE_MACS 4

size_t dml_model_find_cuts(const struct dml_model *m, size_t *ret)
{
    bool is_cut[DML_MODEL_LAYERS_MAX];
    int first_read = (int)m->n_steps; /* by this step and those behind it */
    bool shows = false;               /* a layer behind it is shown to people */
    for (size_t i = m->n_steps; i-- > 0;) {
        const struct dml_layer *l = &m->steps[i];
        first_read = l->from < first_read ? l->from : first_read;
        if (l->also != DML_LAYER_NONE && l->also < first_read)
            first_read = l->also;
        shows = shows || !dml_model_is_hidden(l);
        is_cut[i] = i == 0 || (first_read >= (int)i - 1 && !l->reads_raw && shows &&
                               !dml_model_is_hidden(&m->steps[i - 1]));
    }
    size_t n = 0;
    for (size_t i = 0; i < m->n_steps; i++)
        if (is_cut[i])
            ret[n++] = i;
    ret[n] = m->n_steps;
    return n;
}

size_t dml_model_n_cuts(const struct dml_model *m)
{
    size_t cuts[1 + DML_MODEL_LAYERS_MAX];
    return dml_model_find_cuts(m, cuts);
}

static size_t step_at(const struct dml_model *m, size_t cut)
{
    size_t cuts[1 + DML_MODEL_LAYERS_MAX];
    size_t n = dml_model_find_cuts(m, cuts);
    assert(cut <= n);
    return cuts[cut];
}

/* In the list of layers of m, which may be a part itself. */
static size_t layer_of(const struct dml_model *m, size_t step)
{
    return step < m->n_steps ? m->steps[step].i_layer - m->first_layer : m->n_layers;
}

uint64_t dml_model_cut_cost(const struct dml_model *m, size_t cut)
{
    size_t cuts[1 + DML_MODEL_LAYERS_MAX];
    size_t n = dml_model_find_cuts(m, cuts);
    uint64_t cost = 0;
    assert(cut < n);
    for (size_t i = cuts[cut]; i < cuts[cut + 1]; i++) {
        const struct dml_layer *l = &m->steps[i];
        cost += 3 * (l->macs + MOVE_MACS * (dml_layer_size(l->in) + dml_layer_size(l->out)));
    }
    return cost;
}

size_t dml_model_cut_floats(const struct dml_model *m, size_t cut)
{
    size_t step = step_at(m, cut);
    return dml_layer_size(step ? m->steps[step - 1].out : m->input);
}

unsigned dml_model_cut_layer(const struct dml_model *m, size_t cut)
{
    unsigned number = 1;
    for (size_t i = 0, end = layer_of(m, step_at(m, cut)); i < end; i++)
        number += !dml_model_is_hidden(&m->layers[i]);
    return number;
}

/* Layers [first, end) of `whole`, which read each other and what comes before the first. */
static void take_layers(struct dml_model *m, const struct dml_model *whole, size_t first,
                        size_t end)
{
    m->n_layers = end - first;
    for (size_t i = 0; i < m->n_layers; i++) {
        struct dml_layer *l = &m->layers[i];
        *l = whole->layers[first + i];
        l->from = l->from < (int)first ? DML_LAYER_INPUT : l->from - (int)first;
        if (l->also != DML_LAYER_NONE)
            l->also = l->also < (int)first ? DML_LAYER_INPUT : l->also - (int)first;
        l->n_readers = 0;
    }
}

int dml_model_part(const struct dml_model *m, size_t first, size_t last, struct dml_model_part *ret)
{
    size_t cuts[1 + DML_MODEL_LAYERS_MAX];
    size_t n = dml_model_find_cuts(m, cuts);
    assert(first < last && last <= n);
    size_t first_layer = layer_of(m, cuts[first]), end_layer = layer_of(m, cuts[last]);
    _cleanup_(dml_model_freep) struct dml_model *part = calloc(1, sizeof(*part));
    if (!part)
        return -ENOMEM;
    part->name = dml_mem_printf("%s", m->name);
    part->text = dml_mem_printf("%s", m->text);
    part->layers = calloc(end_layer - first_layer, sizeof(*part->layers));
    if (!part->name || !part->text || !part->layers)
        return -ENOMEM;
    take_layers(part, m, first_layer, end_layer);
    part->first_layer = m->first_layer + (unsigned)first_layer;
    part->whole_macs = dml_model_whole_macs(m);
    part->input = cuts[first] ? m->steps[cuts[first] - 1].out : m->input;
    part->loss = last == n ? m->loss : DML_LOSS_NONE;
    part->smoothing = m->smoothing;
    part->n_codes = last == n ? m->n_codes : 0;
    part->init = m->init;
    int r = dml_model_plan_passes(part, m->name, NULL);
    if (r < 0)
        return r;
    assert(part->n_steps == cuts[last] - cuts[first]);
    *ret = (struct dml_model_part){.model = part,
                                   .params_at = m->layers[first_layer].params_at,
                                   .state_at = m->layers[first_layer].state_at};
    part = NULL;
    return 0;
}
