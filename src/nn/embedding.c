/*
 * embedding: a row of T codes becomes a sequence of T vectors, each looked up in a table [V][C].
 * position: adds a learned vector to each position, table [T][C].
 *
 * A code comes as a float; what is not a whole number below V is taken as the nearest that is.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/layer.h"
#include "nn/model.h"

static const struct dml_opt opts[] = {
    {"embedding", "codes", DML_OPT_UINT, offsetof(struct dml_layer_args, groups), .min = 1,
     .max = 65536, .help = "How many different codes there are"},
    {"embedding", "size", DML_OPT_UINT, offsetof(struct dml_layer_args, size), .min = 1,
     .max = 65536, .help = "Numbers that stand for a code"},
    {0},
};
static const struct dml_opt no_opts[] = {{0}};

static int prepare_embedding(struct dml_layer *l, char *why, size_t why_len)
{
    uint64_t n = l->args.groups * l->args.size;
    if (l->from != DML_LAYER_INPUT || l->in.h * l->in.w != 1) {
        snprintf(why, why_len, "it must be the first layer and take a row of codes");
        return -EINVAL;
    }
    if (n > DML_MODEL_PARAMS_MAX || (uint64_t)l->in.c * l->args.size > UINT32_MAX) {
        snprintf(why, why_len, "its table would have %llu parameters, at most %u are allowed",
                 (unsigned long long)n, DML_MODEL_PARAMS_MAX);
        return -EINVAL;
    }
    l->out = (struct dml_layer_shape){.c = (uint32_t)l->args.size, .h = l->in.c, .w = 1};
    l->out_order = DML_ORDER_HWC;
    l->n_weights = (size_t)n;
    l->fan_in = l->fan_out = 1;
    l->fill = DML_FILL_NORMAL;
    return 0;
}

static size_t code(const struct dml_layer *l, float x)
{
    float top = (float)(l->args.groups - 1);
    return x > 0.0f ? (size_t)(x < top ? x + 0.5f : top) : 0; /* not a number: 0 */
}

static void embedding_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->out.c;
    for (size_t i = 0; i < p->batch * l->in.c; i++)
        memcpy(p->y + i * c, p->params + code(l, p->x[i]) * c, c * sizeof(float));
}

static void embedding_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->out.c;
    for (size_t i = 0; i < p->batch * l->in.c; i++)
        l->kernel->channels->add_rows(p->dy + i * c, 1, c, p->dparams + code(l, p->x[i]) * c);
    if (p->dx) /* a code has no slope */
        memset(p->dx, 0, p->batch * l->in.c * sizeof(float));
}

static int prepare_position(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = l->in;
    l->n_weights = dml_layer_size(l->in);
    l->fan_in = l->fan_out = 1;
    l->fill = DML_FILL_NORMAL;
    return 0;
}

static void position_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t n = dml_layer_size(l->in);
    for (size_t b = 0; b < p->batch; b++)
        l->kernel->channels->add(p->x + b * n, p->params, p->y + b * n, n);
}

static void position_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t n = dml_layer_size(l->in);
    l->kernel->channels->add_rows(p->dy, p->batch, n, p->dparams);
    if (p->dx && p->dx != p->dy)
        memcpy(p->dx, p->dy, p->batch * n * sizeof(float));
}

const struct dml_layer_type dml_embedding = {
    .name = "embedding",
    .usage = "embedding CODES size C",
    .opts = opts,
    .n_bare = 1,
    .n_required = 2,
    .prepare = prepare_embedding,
    .forward = embedding_forward,
    .backward = embedding_backward,
};

const struct dml_layer_type dml_position = {
    .name = "position",
    .usage = "position",
    .opts = no_opts,
    .may_work_in_place = true,
    .order = dml_layer_hwc,
    .prepare = prepare_position,
    .forward = position_forward,
    .backward = position_backward,
};
