/*
 * max-pool, avg-pool and global-avg-pool.
 *
 * The first two: a window of P×P moved in steps of `stride` (the window's size unless it
 * is given), no padding, what does not fill a window at the right and lower edge is left out, as
 * PyTorch does it. max-pool remembers the winner's place, the first one of equals; what is not a
 * number wins, so that a run that diverged says so.
 */
#include "nn/layer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"

#define POOL_OPTS(section)                                                                         \
    {                                                                                              \
        {section,                                                                                  \
         "window",                                                                                 \
         DML_OPT_UINT,                                                                             \
         offsetof(struct dml_layer_args, size),                                                    \
         .min = 1,                                                                                 \
         .max = 65536,                                                                             \
         .help = "Height and width of the window"},                                                \
            {section,                                                                              \
             "stride",                                                                             \
             DML_OPT_UINT,                                                                         \
             offsetof(struct dml_layer_args, stride),                                              \
             .min = 1,                                                                             \
             .max = 65536,                                                                         \
             .help = "Step of the window; its size unless given"},                                 \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

static const struct dml_opt max_opts[] = POOL_OPTS("max-pool");
static const struct dml_opt avg_opts[] = POOL_OPTS("avg-pool");

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    uint64_t window = l->args.size;
    if (l->args.stride == 0)
        l->args.stride = window;
    if (window > l->in.h || window > l->in.w) {
        snprintf(why, why_len, "a window of %llu×%llu does not fit", (unsigned long long)window,
                 (unsigned long long)window);
        return -EINVAL;
    }
    l->out.c = l->in.c;
    l->out.h = (uint32_t)((l->in.h - window) / l->args.stride + 1);
    l->out.w = (uint32_t)((l->in.w - window) / l->args.stride + 1);
    l->macs = dml_layer_size(l->out) * window * window / 8; /* comparisons, vectorised */
    return 0;
}

static int prepare_max(struct dml_layer *l, char *why, size_t why_len)
{
    int r = prepare(l, why, why_len);
    if (r < 0)
        return r;
    l->n_saved = dml_layer_size(l->out);
    return 0;
}

static bool is_two_by_two(const struct dml_layer *l)
{
    return l->args.size == 2 && l->args.stride == 2 && l->in.h % 2 == 0 && l->in.w % 2 == 0;
}

static void max_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    size_t h = l->in.h, w = l->in.w, window = l->args.size, stride = l->args.stride;
    const struct dml_kernel_windows windows = {.w = w,
                                               .c = l->in.c,
                                               .out_h = l->out.h,
                                               .out_w = l->out.w,
                                               .window = window,
                                               .stride = stride};
    for (size_t b = 0; b < p->batch; b++) {
        const float *x = p->x + b * n_in;
        float *y = p->y + b * n_out;
        uint32_t *at = p->saved ? (uint32_t *)(void *)(p->saved + b * n_out) : NULL;
        if (l->in_order == DML_ORDER_HWC) {
            l->kernel->channels->max_windows(&windows, x, y, at);
            continue;
        }
        if (is_two_by_two(l)) {
            l->kernel->max_pool_2(x, l->in.c * (h / 2), w, y, at);
            continue;
        }
        size_t i = 0;
        for (size_t c = 0; c < l->in.c; c++)
            for (size_t oh = 0; oh < l->out.h; oh++)
                for (size_t ow = 0; ow < l->out.w; ow++, i++) {
                    size_t corner = (c * h + oh * stride) * w + ow * stride, best = corner;
                    for (size_t kh = 0; kh < window; kh++)
                        for (size_t kw = 0; kw < window; kw++) {
                            float v = x[corner + kh * w + kw];
                            if (v > x[best] || isnan(v))
                                best = corner + kh * w + kw;
                        }
                    y[i] = x[best];
                    if (at)
                        at[i] = (uint32_t)best;
                }
    }
}

static void max_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (!p->dx)
        return;
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    memset(p->dx, 0, p->batch * n_in * sizeof(float));
    for (size_t b = 0; b < p->batch; b++) {
        const uint32_t *at = (const uint32_t *)(const void *)(p->saved + b * n_out);
        const float *dy = p->dy + b * n_out;
        float *dx = p->dx + b * n_in;
        for (size_t i = 0; i < n_out; i++)
            dx[at[i]] += dy[i];
    }
}

/* Calls for every window: the average is the same walk forward and backward. */
static void avg_walk(const struct dml_layer *l, const float *x, float *y, const float *dy,
                     float *dx)
{
    size_t h = l->in.h, w = l->in.w, window = l->args.size, stride = l->args.stride, i = 0;
    float share = 1.0f / (float)(window * window);
    for (size_t c = 0; c < l->in.c; c++)
        for (size_t oh = 0; oh < l->out.h; oh++)
            for (size_t ow = 0; ow < l->out.w; ow++, i++) {
                size_t corner = (c * h + oh * stride) * w + ow * stride;
                float sum = 0.0f, back = dy ? dy[i] * share : 0.0f;
                for (size_t kh = 0; kh < window; kh++)
                    for (size_t kw = 0; kw < window; kw++) {
                        if (dx)
                            dx[corner + kh * w + kw] += back;
                        else
                            sum += x[corner + kh * w + kw];
                    }
                if (y)
                    y[i] = sum * share;
            }
}

static void avg_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    for (size_t b = 0; b < p->batch; b++)
        avg_walk(l, p->x + b * dml_layer_size(l->in), p->y + b * dml_layer_size(l->out), NULL,
                 NULL);
}

static void avg_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (!p->dx)
        return;
    size_t n_in = dml_layer_size(l->in);
    memset(p->dx, 0, p->batch * n_in * sizeof(float));
    for (size_t b = 0; b < p->batch; b++)
        avg_walk(l, NULL, NULL, p->dy + b * dml_layer_size(l->out), p->dx + b * n_in);
}

/* ---- the mean of each channel ------------------------------------------------------------- */

static int prepare_global(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    l->out = (struct dml_layer_shape){.c = l->in.c, .h = 1, .w = 1};
    return 0;
}

static void global_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, n = (size_t)l->in.h * l->in.w;
    float share = 1.0f / (float)n;
    for (size_t b = 0; b < p->batch; b++) {
        const float *x = p->x + b * c * n;
        float *y = p->y + b * c;
        memset(y, 0, c * sizeof(float));
        if (l->in_order == DML_ORDER_HWC)
            l->kernel->channels->add_rows(x, n, c, y);
        for (size_t i = 0; l->in_order != DML_ORDER_HWC && i < c * n; i++)
            y[i / n] += x[i];
        for (size_t i = 0; i < c; i++)
            y[i] *= share;
    }
}

static void global_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, n = (size_t)l->in.h * l->in.w;
    float share = 1.0f / (float)n;
    bool last = l->in_order == DML_ORDER_HWC;
    for (size_t b = 0; p->dx && b < p->batch; b++)
        for (size_t i = 0; i < c * n; i++)
            p->dx[b * c * n + i] = p->dy[b * c + (last ? i % c : i / n)] * share;
}

static const struct dml_opt no_opts[] = {{0}};

const struct dml_layer_type dml_global_avg_pool = {
    .name = "global-avg-pool",
    .usage = "global-avg-pool",
    .opts = no_opts,
    .order = dml_layer_any_order,
    .prepare = prepare_global,
    .forward = global_forward,
    .backward = global_backward,
};

const struct dml_layer_type dml_max_pool = {
    .name = "max-pool",
    .usage = "max-pool WINDOW [stride S]",
    .opts = max_opts,
    .n_bare = 1,
    .n_required = 1,
    .order = dml_layer_any_order,
    .prepare = prepare_max,
    .forward = max_forward,
    .backward = max_backward,
};

const struct dml_layer_type dml_avg_pool = {
    .name = "avg-pool",
    .usage = "avg-pool WINDOW [stride S]",
    .opts = avg_opts,
    .n_bare = 1,
    .n_required = 1,
    .prepare = prepare,
    .forward = avg_forward,
    .backward = avg_backward,
};
