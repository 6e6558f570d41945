/*
 * conv: a two-dimensional convolution (cross-correlation, as everywhere in this field) with square
 * kernel, zero padding and stride.
 *
 * With few channels the column matrix of the textbook costs more than it gains: it copies every
 * pixel K·K times to feed a product too thin for a BLAS. So stride 1 with short patches goes the
 * direct way, unless there are so many output channels that listing dy costs more than the
 * product. Measured, one thread, AVX-512, K = 3 on 16×16, time of im2col / direct: 0.8 for C = 1,
 * O = 6; 0.5 for 3, 32; 1.3 for 6, 16; 2.4 for 16, 16; 1.9 for 32, 32; 1.4 for 64, 64 when relu and
 * max-pool follow; without them 0.4, 0.3, 0.7, 1.5, 1.1, 0.8.
 *
 * A model with batch-norm, with groups or with sequences is computed with channels last, and its
 * convolutions follow; so do filters of 3×3 with many channels, which have the fastest way there.
 * `method` forces one way; tests and benchmarks compare them.
 */
#include "nn/conv.h"

#include <errno.h>
#include <stdio.h>

#include "nn/layer.h"
#include "nn/model.h"

/* Patches (C·K·K) for which the direct way is chosen. */
#define DIRECT_PATCH_MAX        512
#define DIRECT_PATCH_PER_OUTPUT 3

static const struct dml_opt opts[] = {
    {"conv", "channels", DML_OPT_UINT, offsetof(struct dml_layer_args, size), .min = 1,
     .max = 65536, .help = "Channels it gives"},
    {"conv", "kernel", DML_OPT_UINT, offsetof(struct dml_layer_args, kernel), .min = 1, .max = 255,
     .help = "Height and width of the kernel"},
    {"conv", "stride", DML_OPT_UINT, offsetof(struct dml_layer_args, stride), .min = 1,
     .max = 65536, .dflt = "1", .help = "Step of the kernel"},
    {"conv", "padding", DML_OPT_UINT, offsetof(struct dml_layer_args, padding), .min = 0,
     .max = 254, .dflt = "0", .help = "Rows and columns of zeros on each side"},
    {"conv", "groups", DML_OPT_UINT, offsetof(struct dml_layer_args, groups), .min = 1,
     .max = 65536, .dflt = "1", .help = "Groups of channels that do not see each other"},
    {"conv", "bias", DML_OPT_BOOL, offsetof(struct dml_layer_args, bias), .dflt = "yes",
     .help = "Whether a number is added to each channel"},
    {"conv", "method", DML_OPT_CHOICE, offsetof(struct dml_layer_args, method), .dflt = "auto",
     .choices = "auto direct im2col last",
     .help = "How it is computed, for tests and measurements"},
    {0},
};

bool dml_conv_is_depthwise(const struct dml_layer *l)
{
    return l->args.groups > 1 && l->args.groups == l->in.c && l->args.groups == l->args.size;
}

static enum dml_layer_order order(const struct dml_layer *l)
{
    int method = l->args.method;
    if (method == DML_CONV_DIRECT || method == DML_CONV_IM2COL)
        return DML_ORDER_CHW;
    bool last = method == DML_CONV_LAST || l->args.groups > 1 || l->prefers_hwc ||
                dml_conv_is_winograd_3(l) ||
                (l->in_order == DML_ORDER_HWC && l->in.h * l->in.w > 1);
    return last ? DML_ORDER_HWC : DML_ORDER_CHW;
}

static uint64_t scratch(const struct dml_layer *l)
{
    if (l->in_order == DML_ORDER_HWC)
        return dml_conv_last_scratch(l);
    return l->args.method == DML_CONV_DIRECT ? dml_conv_direct_scratch(l)
                                             : dml_conv_im2col_scratch(l);
}

static int check_groups(const struct dml_layer *l, char *why, size_t why_len)
{
    uint64_t groups = l->args.groups;
    if (l->in.c % groups || l->args.size % groups) {
        snprintf(why, why_len,
                 "%llu groups must divide the %u channels it takes and the %llu it gives",
                 (unsigned long long)groups, l->in.c, (unsigned long long)l->args.size);
        return -EINVAL;
    }
    if (groups > 1 && (l->args.method == DML_CONV_DIRECT || l->args.method == DML_CONV_IM2COL)) {
        snprintf(why, why_len, "with groups only the methods auto and last are possible");
        return -EINVAL;
    }
    return 0;
}

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    uint64_t k = l->args.kernel, pad = l->args.padding, stride = l->args.stride;
    if (k > l->in.h + 2 * pad || k > l->in.w + 2 * pad) {
        snprintf(why, why_len, "a kernel of %llu×%llu does not fit, even with its padding of %llu",
                 (unsigned long long)k, (unsigned long long)k, (unsigned long long)pad);
        return -EINVAL;
    }
    if (pad >= k) {
        snprintf(why, why_len,
                 "padding %llu makes places that see only zeros; less than the "
                 "kernel (%llu) is allowed",
                 (unsigned long long)pad, (unsigned long long)k);
        return -EINVAL;
    }
    int r = check_groups(l, why, why_len);
    if (r < 0)
        return r;
    if (l->args.method == DML_CONV_DIRECT && (stride != 1 || !l->args.bias)) {
        snprintf(why, why_len, "method direct needs stride 1 and a bias");
        return -EINVAL;
    }
    l->out.c = (uint32_t)l->args.size;
    l->out.h = (uint32_t)((l->in.h + 2 * pad - k) / stride + 1);
    l->out.w = (uint32_t)((l->in.w + 2 * pad - k) / stride + 1);
    uint64_t patch = l->in.c / l->args.groups * k * k;
    uint64_t n = patch * l->args.size + l->args.size;
    if (n > DML_MODEL_PARAMS_MAX) {
        snprintf(why, why_len, "it would have %llu parameters, at most %u are allowed",
                 (unsigned long long)n, DML_MODEL_PARAMS_MAX);
        return -EINVAL;
    }
    if (l->in_order == DML_ORDER_HWC)
        l->args.method = DML_CONV_LAST;
    else if (l->args.method == DML_CONV_AUTO)
        l->args.method = stride == 1 && l->args.bias && patch <= DIRECT_PATCH_MAX &&
                                 patch >= DIRECT_PATCH_PER_OUTPUT * l->args.size
                             ? DML_CONV_DIRECT
                             : DML_CONV_IM2COL;
    l->n_weights = (size_t)(patch * l->args.size);
    l->n_biases = l->args.bias ? (size_t)l->args.size : 0;
    l->fan_in = (size_t)patch;
    l->fan_out = (size_t)(l->args.size * k * k); /* as PyTorch counts it, groups or not */
    l->macs = (uint64_t)l->n_weights * l->out.h * l->out.w;
    l->n_scratch = scratch(l);
    return 0;
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (l->args.method == DML_CONV_LAST)
        dml_conv_last_forward(l, p);
    else if (l->args.method == DML_CONV_DIRECT)
        dml_conv_direct_forward(l, p);
    else
        dml_conv_im2col_forward(l, p);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (l->args.method == DML_CONV_LAST)
        dml_conv_last_backward(l, p);
    else if (l->args.method == DML_CONV_DIRECT)
        dml_conv_direct_backward(l, p);
    else
        dml_conv_im2col_backward(l, p);
}

const struct dml_layer_type dml_conv = {
    .name = "conv",
    .usage = "conv CHANNELS kernel K [stride S] [padding P] [groups G] [bias no]",
    .opts = opts,
    .n_bare = 1,
    .n_required = 2,
    .order = order,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
