/*
 * conv, relu and max-pool 2 done at once, the usual beginning of a network for pictures.
 *
 * Apart they write and read the picture three times forward and three times backward, though what
 * is left of it is a quarter, and most of that work is moving numbers. Together, relu and pooling
 * cost a few instructions per sixteen windows, and what backward needs of them is one place per
 * window. The arithmetic is the same, so are the results: relu and a maximum may change places.
 *
 * A model file does not mention it. model_steps.c looks for the sequence.
 */
#include <stdio.h>

#include "nn/conv.h"
#include "nn/layer.h"

/* Whether the outputs of the first two are read by the next alone is for the caller to know. */
bool dml_conv_pool_join(const struct dml_layer *l, struct dml_layer *ret)
{
    const struct dml_layer *conv = &l[0], *pool = &l[2];
    if (conv->type != &dml_conv || conv->args.method != DML_CONV_DIRECT || l[1].type != &dml_relu ||
        pool->type != &dml_max_pool || pool->args.size != 2 || pool->args.stride != 2)
        return false;
    struct dml_layer step = *conv;
    step.type = &dml_conv_pool;
    step.out = pool->out;
    step.out_order = pool->out_order;
    step.n_saved = dml_layer_size(pool->out);
    step.n_scratch = dml_conv_direct_scratch(&step);
    (void)snprintf(step.words, sizeof(step.words), "%.60s, %.20s, %.40s", conv->words, l[1].words,
                   pool->words);
    *ret = step;
    return true;
}

const struct dml_layer_type dml_conv_pool = {
    .name = "conv-pool",
    .usage = "conv, relu, max-pool 2",
    .is_internal = true,
    .needs_y = true,
    .forward = dml_conv_direct_forward,
    .backward = dml_conv_direct_backward,
};
