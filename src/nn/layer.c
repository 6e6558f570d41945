/* The families of layers. */
#include "nn/layer.h"

#include <string.h>

static const struct dml_layer_type *const types[] = {
    &dml_conv,      &dml_linear,          &dml_relu,
    &dml_relu6,     &dml_leaky_relu,      &dml_gelu,
    &dml_tanh,      &dml_sigmoid,         &dml_max_pool,
    &dml_avg_pool,  &dml_global_avg_pool, &dml_batch_norm,
    &dml_flatten,   &dml_dropout,         &dml_layer_norm,
    &dml_embedding, &dml_position,        &dml_attention,
    NULL,
};

const struct dml_layer_type *const *dml_layer_types(void)
{
    return types;
}

const struct dml_layer_type *dml_layer_find(const char *name)
{
    for (size_t i = 0; types[i]; i++)
        if (!strcmp(types[i]->name, name))
            return types[i];
    return NULL;
}

enum dml_layer_order dml_layer_any_order(const struct dml_layer *l)
{
    (void)l;
    return DML_ORDER_ANY;
}

enum dml_layer_order dml_layer_hwc(const struct dml_layer *l)
{
    (void)l;
    return DML_ORDER_HWC;
}
