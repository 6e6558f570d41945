/*
 * conv, relu and max-pool 2 done at once, the usual beginning of a network for pictures.
 *
 * Apart they write and read the picture three times forward and three times backward, though what
 * is left of it is a quarter, and most of that work is moving numbers. Together, relu and pooling
 * cost a few instructions per sixteen windows, and what backward needs of them is one place per
 * window. The arithmetic is the same, so are the results: relu and a maximum may change places.
 *
 * Forward has three ways. Filters of 5×5 go by conv_winograd.c, which has the fewest multiply-adds.
 * Of the other two the one with fewer is taken. Either the rows of the shifted product (see
 * conv_direct.c), pooled while they are in the cache: these compute the K-1 places at the end of
 * each row for nothing. Or windows of channels in vectors, pooled in registers, which wants as many
 * output channels as a vector has floats; its picture is laid out in pixels and kept for backward.
 *
 * Backward sees a gradient for each window, which belongs to one of its four places:
 *   dW  for each output channel, over all windows: the winner's patch of x, weighted
 *   dX  for each window, over all channels: the four patches of a window lie in K+1 rows of (K+1)·C
 *       floats; weights, framed by zeros so that they fit there in each of the four ways,
 *       weighted, added to these rows once
 * Nearly every maximum of four is above zero, so dW does not pick out those that are not.
 *
 * A model file does not mention it. model_steps.c looks for the sequence.
 */
#include "nn/conv.h"

#include <stdio.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_patch.h"
#include "nn/kernel_winograd.h"
#include "nn/layer.h"

/* Where things lie in scratch; the same for both directions, which use it one after the other. */
struct plan {
    size_t k, c, o;
    size_t hp, wp;      /* padded picture */
    size_t windows;     /* of a channel */
    size_t span, y_row; /* of the shifted product, see conv_direct.c: length of a row; rounded */
    bool by_windows, by_winograd;
    size_t o_row;         /* of windows: weights of a tap, rounded */
    size_t w_row, w_size; /* packed weights: one row, one output channel */
    size_t f_row;         /* framed weights, see nn/kernel_patch.h */
    uint64_t picture, packed, framed, end;
};

static struct plan plan_of(const struct dml_layer *l)
{
    struct plan n = {.k = l->args.kernel, .c = l->in.c, .o = l->out.c};
    n.hp = l->in.h + 2 * l->args.padding;
    n.wp = l->in.w + 2 * l->args.padding;
    n.windows = (size_t)l->out.h * l->out.w;
    n.span = (n.hp - n.k) * n.wp + n.wp - n.k + 1;
    n.y_row = dml_kernel_round(n.span);
    size_t lanes = l->kernel->patches->lanes;
    n.by_winograd = n.k == DML_WINOGRAD_K;
    n.by_windows =
        !n.by_winograd &&
        (uint64_t)((n.o + lanes - 1) / lanes * lanes) * 4 * n.windows <= (uint64_t)n.o * n.span;
    n.o_row = dml_kernel_round(n.o);
    n.w_row = dml_kernel_round(n.k * n.c);
    n.w_size = n.k * n.w_row;
    n.f_row = dml_kernel_frame_row(n.k, n.c, lanes);
    n.picture = dml_kernel_round((uint64_t)n.c * n.hp * n.wp) + DML_KERNEL_SLACK;
    n.packed = (uint64_t)n.o * n.w_size + DML_KERNEL_SLACK;
    n.framed = (uint64_t)n.o * (n.k + 2) * n.f_row + DML_KERNEL_SLACK;
    uint64_t taps = (uint64_t)n.k * n.k * n.c;
    uint64_t fore =
        n.picture + (n.by_windows ? (taps + 1) * n.o_row
                                  : (uint64_t)n.o * n.y_row + DML_KERNEL_SLACK + taps * (n.o + 1));
    uint64_t back = 2 * n.picture + n.packed + n.framed + n.windows * (3 * (uint64_t)n.o + 1) +
                    2 * n.o + 2 * DML_KERNEL_SLACK;
    if (n.by_winograd)
        fore = dml_conv_winograd_scratch(l);
    n.end = fore > back ? fore : back;
    return n;
}

/* What sample b keeps: of each window the winner's place, h Wp + w in the padded picture; and by
 * windows, the pixels of that picture. */
static uint32_t *winners(const struct dml_layer *l, const struct dml_layer_pass *p, size_t b)
{
    return (uint32_t *)(void *)(p->saved + b * l->n_saved);
}

static float *pixels(const struct dml_layer *l, const struct dml_layer_pass *p, size_t b)
{
    return p->saved + b * l->n_saved + dml_layer_size(l->out);
}

/* ---- forward ------------------------------------------------------------------------------ */

static void forward_by_rows(const struct dml_layer *l, const struct dml_layer_pass *p,
                            const struct plan *n)
{
    const struct dml_kernel_pool pool = {
        .n = n->o, .h = l->out.h, .w = l->out.w, .x_row = n->wp, .x_plane = n->y_row};
    size_t n_k = n->c * n->k * n->k, n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    float *picture = p->scratch, *wide = picture + n->picture;
    float *wt = wide + n->o * n->y_row + DML_KERNEL_SLACK;
    uint32_t *at = (uint32_t *)(void *)(wt + n_k * n->o);

    dml_conv_turn(l, p->params, wt, at);
    memset(picture, 0, n->picture * sizeof(float));
    for (size_t b = 0; b < p->batch; b++) {
        dml_conv_pad_planes(l, p->x + b * n_in, picture);
        l->kernel->shifted_gemm(picture, at, n_k, wt, p->params + n->o * n_k, n->o, n->span, wide,
                                n->y_row);
        l->kernel->relu_pool_2(&pool, wide, p->y + b * n_out, p->saved ? winners(l, p, b) : NULL);
    }
}

static void forward_by_windows(const struct dml_layer *l, const struct dml_layer_pass *p,
                               const struct plan *n)
{
    const struct dml_kernel_windows f = {.k = n->k,
                                         .c = n->c,
                                         .wp = n->wp,
                                         .o = n->o,
                                         .h = l->out.h,
                                         .w = l->out.w,
                                         .w_row = n->o_row};
    size_t taps = n->k * n->k, n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    float *picture = p->scratch, *wt = picture + n->picture, *bias = wt + taps * n->c * n->o_row;

    memset(wt, 0, (taps * n->c + 1) * n->o_row * sizeof(float));
    for (size_t o = 0; o < n->o; o++)
        for (size_t c = 0; c < n->c; c++)
            for (size_t i = 0; i < taps; i++)
                wt[(i * n->c + c) * n->o_row + o] = p->params[(o * n->c + c) * taps + i];
    memcpy(bias, p->params + taps * n->c * n->o, n->o * sizeof(float));
    for (size_t b = 0; b < p->batch; b++) {
        float *x = p->saved ? pixels(l, p, b) : picture;
        if (l->args.padding)
            memset(x, 0, n->picture * sizeof(float));
        dml_conv_planes_to_pixels(l, p->x + b * n_in, x);
        l->kernel->patches->windows(&f, x, wt, bias, p->y + b * n_out,
                                    p->saved ? winners(l, p, b) : NULL);
    }
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    const struct plan n = plan_of(l);
    if (n.by_winograd)
        dml_conv_winograd_forward(l, p);
    else if (n.by_windows)
        forward_by_windows(l, p, &n);
    else
        forward_by_rows(l, p, &n);
}

/* ---- backward ----------------------------------------------------------------------------- */

struct back {
    float *x, *dx; /* [Hp][Wp][C]; x not by windows, whose forward kept it */
    float *dw;     /* [O][K][w_row] */
    float *framed;
    float *v;      /* [O][windows] */
    uint32_t *at;  /* [windows] */
    float *v_last; /* [windows][O] */
    float *won_last;
    float *some_v; /* [O] of one window */
    uint32_t *some_at;
};

static struct back divide(const struct plan *n, float *scratch)
{
    struct back s = {.x = scratch};
    s.dx = s.x + n->picture;
    s.dw = s.dx + n->picture;
    s.framed = s.dw + n->packed;
    s.v_last = s.framed + n->framed;
    s.won_last = s.v_last + n->o * n->windows + DML_KERNEL_SLACK;
    s.v = s.won_last + n->o * n->windows + DML_KERNEL_SLACK;
    s.some_v = s.v + n->o * n->windows;
    s.some_at = (uint32_t *)(void *)(s.some_v + n->o);
    s.at = s.some_at + n->o;
    return s;
}

static void back_to_picture(const struct dml_layer *l, const struct plan *n, const struct back *s,
                            const uint32_t *won, float *dx)
{
    const struct dml_kernel_patches *patches = l->kernel->patches;
    const struct dml_kernel_windows f = {.k = n->k,
                                         .c = n->c,
                                         .wp = n->wp,
                                         .o = n->o,
                                         .h = l->out.h,
                                         .w = l->out.w,
                                         .f_row = n->f_row};
    const float *places = (const float *)(const void *)won; /* moved only */
    patches->to_pixels(s->v, n->windows, n->windows, n->o, s->v_last);
    patches->to_pixels(places, n->windows, n->windows, n->o, s->won_last);
    memset(s->dx, 0, n->picture * sizeof(float));
    patches->windows_dx(&f, s->framed, s->v_last, (const uint32_t *)(const void *)s->won_last,
                        s->some_v, s->some_at, s->dx);
    dml_conv_pixels_to_planes(l, s->dx, dx);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    const struct plan n = plan_of(l);
    const struct dml_kernel_patch patch = {
        .n_rows = n.k, .len = n.k * n.c, .x_row = n.wp * n.c, .w_row = n.w_row};
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    struct back s = divide(&n, p->scratch);
    float *db = p->dparams + n.o * n.c * n.k * n.k;

    if (!n.by_windows)
        memset(s.x, 0, n.picture * sizeof(float));
    memset(s.dw, 0, n.packed * sizeof(float));
    if (p->dx) {
        memset(s.framed, 0, n.framed * sizeof(float));
        dml_conv_pack(l, p->params, (n.k + 2) * n.f_row, n.f_row, s.framed + n.f_row + n.c);
    }
    for (size_t b = 0; b < p->batch; b++) {
        const uint32_t *won = winners(l, p, b);
        const float *x = n.by_windows ? pixels(l, p, b) : s.x;
        if (!n.by_windows)
            dml_conv_planes_to_pixels(l, p->x + b * n_in, s.x);
        for (size_t o = 0; o < n.o; o++) {
            size_t from = o * n.windows;
            db[o] += l->kernel->patches->windows_back(p->y + b * n_out + from,
                                                      p->dy + b * n_out + from, won + from,
                                                      n.windows, (uint32_t)n.c, s.v + from, s.at);
            l->kernel->patches->dw(&patch, x, s.at, s.v + from, n.windows, s.dw + o * n.w_size);
        }
        if (p->dx)
            back_to_picture(l, &n, &s, won, p->dx + b * n_in);
    }
    dml_conv_add_packed(l, s.dw, n.w_size, n.w_row, s.dx, p->dparams);
}

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
    struct plan n = plan_of(&step);
    step.n_saved = dml_layer_size(pool->out) + (n.by_windows ? n.picture : 0);
    step.n_scratch = n.end;
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
    .forward = forward,
    .backward = backward,
};
