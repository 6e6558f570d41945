/*
 * relu, tanh, sigmoid. Their derivatives follow from their outputs alone, so they overwrite their
 * input where the layer before allows it.
 */
#include "nn/layer.h"

#include <math.h>

#include "nn/kernel.h"

static const struct dml_opt no_opts[] = {{0}};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = l->in;
    return 0;
}

static size_t total(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    return p->batch * dml_layer_size(l->out);
}

static void relu_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    l->kernel->relu(p->x, p->y, total(l, p));
}

static void relu_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->dx)
        l->kernel->relu_back(p->y, p->dy, p->dx, total(l, p));
}

static void tanh_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    for (size_t i = 0, n = total(l, p); i < n; i++)
        p->y[i] = tanhf(p->x[i]);
}

static void tanh_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (!p->dx)
        return;
    for (size_t i = 0, n = total(l, p); i < n; i++)
        p->dx[i] = p->dy[i] * (1.0f - p->y[i] * p->y[i]);
}

static void sigmoid_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    for (size_t i = 0, n = total(l, p); i < n; i++)
        p->y[i] = 1.0f / (1.0f + expf(-p->x[i]));
}

static void sigmoid_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (!p->dx)
        return;
    for (size_t i = 0, n = total(l, p); i < n; i++)
        p->dx[i] = p->dy[i] * p->y[i] * (1.0f - p->y[i]);
}

const struct dml_layer_type dml_relu = {
    .name = "relu",
    .usage = "relu",
    .opts = no_opts,
    .may_work_in_place = true,
    .needs_y = true,
    .prepare = prepare,
    .forward = relu_forward,
    .backward = relu_backward,
};

const struct dml_layer_type dml_tanh = {
    .name = "tanh",
    .usage = "tanh",
    .opts = no_opts,
    .may_work_in_place = true,
    .needs_y = true,
    .prepare = prepare,
    .forward = tanh_forward,
    .backward = tanh_backward,
};

const struct dml_layer_type dml_sigmoid = {
    .name = "sigmoid",
    .usage = "sigmoid",
    .opts = no_opts,
    .may_work_in_place = true,
    .needs_y = true,
    .prepare = prepare,
    .forward = sigmoid_forward,
    .backward = sigmoid_backward,
};
