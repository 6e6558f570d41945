/*
 * The two layers that nobody writes: the sum at the end of a residual block, and the change of
 * order between planes [C][H·W] and channels last [H·W][C]. The backward pass of a sum moves
 * nothing; model_plan.c hands the gradient to both sides.
 */
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/layer.h"

static const struct dml_opt no_opts[] = {{0}};

static int prepare_add(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = l->in;
    return 0;
}

static void add_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    l->kernel->channels->add(p->x, p->also, p->y, p->batch * dml_layer_size(l->in));
}

static int prepare_reorder(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = l->in;
    l->out_order = l->in_order == DML_ORDER_CHW ? DML_ORDER_HWC : DML_ORDER_CHW;
    return 0;
}

static void reorder(const struct dml_layer *l, const float *x, size_t batch, bool back, float *y)
{
    size_t places = (size_t)l->in.h * l->in.w, c = l->in.c, n = dml_layer_size(l->in);
    bool to_last = (l->in_order == DML_ORDER_CHW) != back;
    for (size_t b = 0; b < batch; b++)
        l->kernel->channels->turn(x + b * n, to_last ? c : places, to_last ? places : c, y + b * n);
}

static void reorder_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    reorder(l, p->x, p->batch, false, p->y);
}

static void reorder_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (p->dx)
        reorder(l, p->dy, p->batch, true, p->dx);
}

const struct dml_layer_type dml_add = {
    .name = "add",
    .usage = "add",
    .opts = no_opts,
    .is_internal = true,
    .may_work_in_place = true,
    .order = dml_layer_any_order,
    .prepare = prepare_add,
    .forward = add_forward,
};

const struct dml_layer_type dml_reorder = {
    .name = "reorder",
    .usage = "reorder",
    .opts = no_opts,
    .is_internal = true,
    .order = dml_layer_any_order,
    .prepare = prepare_reorder,
    .forward = reorder_forward,
    .backward = reorder_backward,
};
