/*
 * flatten: C×H×W becomes a row of numbers. Since samples lie in memory as rows anyway, it moves
 * nothing unless it is the first layer; and linear takes any shape, so it is never needed, only
 * allowed, for people who expect it.
 */
#include "nn/layer.h"

#include <string.h>

static const struct dml_opt no_opts[] = {{0}};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = (struct dml_layer_shape){.c = (uint32_t)dml_layer_size(l->in), .h = 1, .w = 1};
    return 0;
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->y != p->x)
        memcpy(p->y, p->x, p->batch * dml_layer_size(l->in) * sizeof(float));
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->dx && p->dx != p->dy)
        memcpy(p->dx, p->dy, p->batch * dml_layer_size(l->in) * sizeof(float));
}

const struct dml_layer_type dml_flatten = {
    .name = "flatten",
    .usage = "flatten",
    .opts = no_opts,
    .may_work_in_place = true,
    .is_copy = true,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
