/*
 * relu, relu6, leaky-relu, tanh, sigmoid, gelu. The derivatives of all but gelu follow from their
 * outputs alone, so they overwrite their input where the layer before allows it. gelu is the exact
 * one, x Phi(x), not its approximation by tanh.
 */
#include "nn/layer.h"

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/kernel_smooth.h"

static const struct dml_opt no_opts[] = {{0}};

static const struct dml_opt leaky_opts[] = {
    {"leaky-relu", "slope", DML_OPT_REAL, offsetof(struct dml_layer_args, rate), .min = 1e-6,
     .max = 1, .dflt = "0.01", .help = "What negative numbers are multiplied by"},
    {0},
};

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

static void relu6_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    l->kernel->channels->relu6(p->x, p->y, total(l, p));
}

static void relu6_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->dx)
        l->kernel->channels->relu6_back(p->y, p->dy, p->dx, total(l, p));
}

static void leaky_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    float slope = (float)l->args.rate;
    for (size_t i = 0, n = total(l, p); i < n; i++)
        p->y[i] = p->x[i] < 0.0f ? p->x[i] * slope : p->x[i];
}

/* Slopes are positive, so y has the sign of x. */
static void leaky_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    float slope = (float)l->args.rate;
    if (!p->dx)
        return;
    for (size_t i = 0, n = total(l, p); i < n; i++)
        p->dx[i] = p->y[i] > 0.0f ? p->dy[i] : p->dy[i] * slope;
}

static void gelu_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    l->kernel->smooth->gelu(p->x, p->y, total(l, p));
}

static void gelu_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->dx)
        l->kernel->smooth->gelu_back(p->x, p->dy, p->dx, total(l, p));
}

static void tanh_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    l->kernel->smooth->tanh(p->x, p->y, total(l, p));
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
    l->kernel->smooth->sigmoid(p->x, p->y, total(l, p));
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
    .order = dml_layer_any_order,
    .prepare = prepare,
    .forward = relu_forward,
    .backward = relu_backward,
};

const struct dml_layer_type dml_relu6 = {
    .name = "relu6",
    .usage = "relu6",
    .opts = no_opts,
    .may_work_in_place = true,
    .needs_y = true,
    .order = dml_layer_any_order,
    .prepare = prepare,
    .forward = relu6_forward,
    .backward = relu6_backward,
};

const struct dml_layer_type dml_leaky_relu = {
    .name = "leaky-relu",
    .usage = "leaky-relu [SLOPE]",
    .opts = leaky_opts,
    .n_bare = 1,
    .may_work_in_place = true,
    .needs_y = true,
    .order = dml_layer_any_order,
    .prepare = prepare,
    .forward = leaky_forward,
    .backward = leaky_backward,
};

const struct dml_layer_type dml_gelu = {
    .name = "gelu",
    .usage = "gelu",
    .opts = no_opts,
    .order = dml_layer_any_order,
    .prepare = prepare,
    .forward = gelu_forward,
    .backward = gelu_backward,
};

const struct dml_layer_type dml_tanh = {
    .name = "tanh",
    .usage = "tanh",
    .opts = no_opts,
    .may_work_in_place = true,
    .needs_y = true,
    .order = dml_layer_any_order,
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
    .order = dml_layer_any_order,
    .prepare = prepare,
    .forward = sigmoid_forward,
    .backward = sigmoid_backward,
};
