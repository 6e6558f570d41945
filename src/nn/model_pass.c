/*
 * Forward and backward through the chain.
 *
 * The workspace of a training pass:
 *   for each layer that is not in place: y [B][out]; for each layer: saved [B][n_saved];
 *   two gradients [B][widest], which take turns; scratch of the neediest layer.
 * Inference keeps nothing: two buffers [B][widest] take turns, then scratch.
 * Every part starts on a boundary of DML_MEM_ALIGN bytes.
 */
#include "nn/model.h"

#include <assert.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/model_priv.h"

/* Where layer i's output and saved numbers lie. Walks from the front: layers are few. */
struct place {
    size_t y, saved;
};

static size_t part(size_t floats)
{
    return dml_kernel_round(floats);
}

/* The end of the layers' parts; places [n_layers] or NULL. */
static size_t lay_out(const struct dml_model *m, size_t batch, struct place *places)
{
    size_t at = 0, y = 0;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        if (!l->in_place) {
            y = at;
            at += part(batch * dml_layer_size(l->out));
        }
        if (places)
            places[i] = (struct place){.y = y, .saved = at};
        at += part(batch * l->n_saved);
    }
    return at;
}

size_t dml_model_workspace(const struct dml_model *m, size_t batch, bool training)
{
    size_t layers = training ? lay_out(m, batch, NULL) : 0;
    return layers + 2 * part(batch * m->widest) + part(m->scratch);
}

static struct dml_layer_pass pass_of(const struct dml_model *m, const float *vec, size_t batch,
                                     size_t i, const struct dml_model_training *training)
{
    return (struct dml_layer_pass){
        .batch = batch,
        .training = training,
        .i_layer = (unsigned)i,
        .params = vec ? vec + m->layers[i].params_at : NULL, /* a model without parameters */
    };
}

void dml_model_forward(const struct dml_model *m, const float *vec, float *io_state, const float *x,
                       size_t batch, const struct dml_model_training *training, float *workspace,
                       float *y)
{
    assert(batch > 0 && batch <= DML_MODEL_BATCH_MAX);
    assert(m->n_state == 0 || io_state);
    (void)io_state;
    struct place places[DML_MODEL_LAYERS_MAX];
    size_t turn = part(batch * m->widest), end = training ? lay_out(m, batch, places) : 0;
    float *scratch = workspace + end + 2 * turn;
    const float *from = x;
    float *to = workspace;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        struct dml_layer_pass p = pass_of(m, vec, batch, i, training);
        if (training) {
            to = workspace + places[i].y;
            p.saved = l->n_saved ? workspace + places[i].saved : NULL;
        } else if (!l->in_place) {
            to = from == workspace ? workspace + turn : workspace;
        }
        p.x = from;
        p.y = to;
        p.scratch = scratch;
        l->type->forward(l, &p);
        from = to;
    }
    memcpy(y, from, batch * dml_model_n_outputs(m) * sizeof(float));
}

void dml_model_backward(const struct dml_model *m, const float *vec, const float *x, float *dy,
                        size_t batch, float *workspace, float *io_grad, float *dx)
{
    struct place places[DML_MODEL_LAYERS_MAX];
    size_t turn = part(batch * m->widest), end = lay_out(m, batch, places);
    float *turns[2] = {workspace + end, workspace + end + turn};
    float *scratch = workspace + end + 2 * turn, *grad = dy;
    /* Layers before the first with parameters have nothing to learn: their dx is for the caller. */
    size_t first = 0;
    while (!dx && first < m->n_layers && !dml_layer_n_params(&m->layers[first]))
        first++;
    for (size_t i = m->n_layers; i-- > first;) {
        const struct dml_layer *l = &m->layers[i];
        struct dml_layer_pass p = pass_of(m, vec, batch, i, NULL);
        p.x = i == 0 ? x : workspace + places[i - 1].y;
        p.y = workspace + places[i].y;
        p.saved = workspace + places[i].saved;
        p.scratch = scratch;
        p.dy = grad;
        if (i == 0)
            p.dx = dx;
        else if (i == first)
            p.dx = NULL;
        else if (l->type->may_work_in_place)
            p.dx = grad;
        else
            p.dx = grad == turns[0] ? turns[1] : turns[0];
        p.dparams = io_grad + l->params_at;
        l->type->backward(l, &p);
        grad = p.dx;
    }
}
