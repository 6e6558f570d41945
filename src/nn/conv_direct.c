/*
 * Convolution with stride 1 without a column matrix.
 *
 * Forward: with the picture padded to [C][Hp][Wp], tap (c, kh, kw) of all output places is the
 * same memory, shifted; see shifted_gemm in kernel_loops.c. Its rows are Wp wide, of which the
 * first Wo are results.
 *
 * Backward: the picture as [Hp][Wp][C], where a patch is K contiguous runs of K·C floats, and
 * lists of the places where dy is not zero, which behind a relu or a max-pool are few; neither dW
 * nor dX looks at the others:
 *   dW  for each output channel, over its places: patch of x, weighted, summed in registers
 *   dX  for each place, over its channels: weights, weighted, added to the patch once
 * Weights and their gradient are packed to [O][K][K·C, padded] for the call.
 *
 * With relu and max-pool 2 behind it, see conv_pool.c.
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_patch.h"
#include "nn/layer.h"

/* Where things lie in scratch; the same for both directions, which use it one after the other. */
struct plan {
    size_t k, c, o;
    size_t hp, wp; /* padded picture */
    size_t ho, wo;
    size_t span;          /* (Ho-1)·Wp + Wo: length of a row of the shifted product */
    size_t places;        /* Ho·Wo */
    size_t y_row;         /* span, rounded */
    size_t w_row, w_size; /* packed weights: one row, one output channel */
    uint64_t picture, packed, end;
};

static struct plan plan_of(const struct dml_layer *l)
{
    struct plan n = {.k = l->args.kernel, .c = l->in.c, .o = l->out.c};
    n.hp = l->in.h + 2 * l->args.padding;
    n.wp = l->in.w + 2 * l->args.padding;
    n.ho = n.hp - n.k + 1;
    n.wo = n.wp - n.k + 1;
    n.span = (n.ho - 1) * n.wp + n.wo;
    n.places = n.ho * n.wo;
    n.y_row = dml_kernel_round(n.span);
    n.w_row = dml_kernel_round(n.k * n.c);
    n.w_size = n.k * n.w_row;
    n.picture = dml_kernel_round((uint64_t)n.c * n.hp * n.wp) + DML_KERNEL_SLACK;
    n.packed = (uint64_t)n.o * n.w_size + DML_KERNEL_SLACK;
    uint64_t fore = n.picture + (uint64_t)n.o * n.y_row + DML_KERNEL_SLACK +
                    (uint64_t)n.k * n.k * n.c * (n.o + 1);
    uint64_t back =
        2 * n.picture + 2 * n.packed + 4 * (uint64_t)n.places + 2 * (uint64_t)n.places * n.o;
    n.end = fore > back ? fore : back;
    return n;
}

uint64_t dml_conv_direct_scratch(const struct dml_layer *l)
{
    return plan_of(l).end;
}

/* ---- forward ------------------------------------------------------------------------------ */

void dml_conv_direct_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    const struct plan n = plan_of(l);
    size_t n_k = n.c * n.k * n.k, n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    float *picture = p->scratch, *wide = picture + n.picture;
    float *wt = wide + n.o * n.y_row + DML_KERNEL_SLACK;
    uint32_t *at = (uint32_t *)(void *)(wt + n_k * n.o);
    const float *bias = p->params + n.o * n_k;

    dml_conv_turn(l, p->params, wt, at);
    memset(picture, 0, n.picture * sizeof(float));

    for (size_t b = 0; b < p->batch; b++) {
        float *y = p->y + b * n_out;
        dml_conv_pad_planes(l, p->x + b * n_in, picture);
        l->kernel->shifted_gemm(picture, at, n_k, wt, bias, n.o, n.span, wide, n.y_row);
        for (size_t o = 0; o < n.o; o++)
            for (size_t h = 0; h < n.ho; h++)
                memcpy(y + (o * n.ho + h) * n.wo, wide + o * n.y_row + h * n.wp,
                       n.wo * sizeof(float));
    }
}

/* ---- backward ----------------------------------------------------------------------------- */

struct back {
    float *x, *dx;     /* [Hp][Wp][C] */
    float *w, *dw;     /* [O][K][w_row] */
    uint32_t *place;   /* [places] of the picture */
    uint32_t *list_at; /* [places] for one channel … */
    float *list_v;
    uint32_t *count; /* [places] lists of channels … */
    uint32_t *at;    /* [places][O] */
    float *v;
};

static struct back divide(const struct plan *n, float *scratch)
{
    struct back s = {.x = scratch};
    s.dx = s.x + n->picture;
    s.w = s.dx + n->picture;
    s.dw = s.w + n->packed;
    s.list_v = s.dw + n->packed;
    s.v = s.list_v + n->places;
    s.place = (uint32_t *)(void *)(s.v + n->places * n->o);
    s.list_at = s.place + n->places;
    s.count = s.list_at + n->places;
    s.at = s.count + n->places;
    return s;
}

/* Without a branch: behind a relu about half of the numbers are not zero, which no processor can
 * guess. dy is [O][places]. */
static inline void list_channels(const struct plan *n, const float *dy, const struct back *s)
{
    memset(s->count, 0, n->places * sizeof(uint32_t));
    for (size_t o = 0; o < n->o; o++)
        for (size_t i = 0; i < n->places; i++) {
            size_t to = i * n->o + s->count[i];
            s->at[to] = (uint32_t)(o * n->w_size);
            s->v[to] = *dy;
            s->count[i] += dml_kernel_is_not_zero(*dy++);
        }
}

/* dy: [places] of one channel. Returns their sum. */
static inline float list_places(const struct plan *n, const float *dy, const struct back *s,
                                size_t *ret_n)
{
    size_t count = 0;
    float sum = 0.0f;
    for (size_t i = 0; i < n->places; i++) {
        s->list_at[count] = s->place[i];
        s->list_v[count] = dy[i];
        count += dml_kernel_is_not_zero(dy[i]);
    }
    for (size_t i = 0; i < count; i++)
        sum += s->list_v[i];
    *ret_n = count;
    return sum;
}

void dml_conv_direct_backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    const struct plan n = plan_of(l);
    const struct dml_kernel_patch patch = {
        .n_rows = n.k, .len = n.k * n.c, .x_row = n.wp * n.c, .w_row = n.w_row};
    size_t n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    struct back s = divide(&n, p->scratch);
    float *db = p->dparams + n.o * n.c * n.k * n.k;

    memset(s.x, 0, n.picture * sizeof(float));
    memset(s.dw, 0, n.packed * sizeof(float));
    if (p->dx) {
        memset(s.w, 0, n.packed * sizeof(float));
        dml_conv_pack(l, p->params, n.w_size, n.w_row, s.w);
    }
    for (size_t i = 0; i < n.places; i++)
        s.place[i] = (uint32_t)((i / n.wo * n.wp + i % n.wo) * n.c);

    for (size_t b = 0; b < p->batch; b++) {
        const float *dy = p->dy + b * n_out;
        dml_conv_planes_to_pixels(l, p->x + b * n_in, s.x);
        for (size_t o = 0; o < n.o; o++) {
            size_t count;
            db[o] += list_places(&n, dy + o * n.places, &s, &count);
            l->kernel->patches->dw(&patch, s.x, s.list_at, s.list_v, count, s.dw + o * n.w_size);
        }
        if (!p->dx)
            continue;
        list_channels(&n, dy, &s);
        memset(s.dx, 0, n.picture * sizeof(float));
        for (size_t i = 0; i < n.places; i++)
            if (s.count[i])
                l->kernel->patches->dx(&patch, s.w, s.at + i * n.o, s.v + i * n.o, s.count[i],
                                       s.dx + s.place[i]);
        dml_conv_pixels_to_planes(l, s.dx, p->dx + b * n_in);
    }
    dml_conv_add_packed(l, s.dw, n.w_size, n.w_row, s.dx, p->dparams);
}
