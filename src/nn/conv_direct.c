/*
 * Convolution with stride 1 without a column matrix.
 *
 * Forward: with the picture padded to [C][Hp][Wp], tap (c, kh, kw) of all output places is the
 * same memory, shifted; see shifted_gemm in kernel_loops.c. Its rows are Wp wide, of which the
 * first Wo are results.
 *
 * Backward: the picture as [Hp][Wp][C], where a patch is K contiguous runs of K·C floats, and
 * lists of the places where dy is not zero. Behind relu and max-pool these are few, and neither
 * dW nor dX looks at the others:
 *   dW  for each output channel, over its places: patch of x, weighted, summed in registers
 *   dX  for each place, over its channels: weights, weighted, added to the patch once
 * Weights and their gradient are packed to [O][K][K·C, padded] for the call.
 *
 * With relu and max-pool 2 behind it, see conv_pool.c, forward pools the rows of the shifted
 * product while they are in the cache and keeps the winners' places in them; backward then reads a
 * quarter of the gradients, and none of the layers between is ever written.
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/kernel.h"
#include "nn/layer.h"

/* Where things lie in scratch; the same for both directions, which use it one after the other. */
struct plan {
    size_t k, c, o;
    size_t hp, wp;        /* padded picture */
    bool pooled;          /* relu and max-pool 2 follow */
    size_t ho, wo;        /* before pooling */
    size_t span;          /* (Ho-1)·Wp + Wo: length of a row of the shifted product */
    size_t n_dy;          /* gradients that come back, per channel */
    size_t places;        /* that they may belong to: Ho·Wo, or span when pooled */
    size_t y_row;         /* span, rounded */
    size_t w_row, w_size; /* packed weights: one row, one output channel */
    uint64_t picture, packed, end;
};

static struct plan plan_of(const struct dml_layer *l)
{
    struct plan n = {.k = l->args.kernel, .c = l->in.c, .o = l->out.c};
    n.hp = l->in.h + 2 * l->args.padding;
    n.wp = l->in.w + 2 * l->args.padding;
    n.pooled = l->type == &dml_conv_pool;
    n.ho = n.hp - n.k + 1;
    n.wo = n.wp - n.k + 1;
    n.span = (n.ho - 1) * n.wp + n.wo;
    n.n_dy = (size_t)l->out.h * l->out.w;
    n.places = n.pooled ? n.span : n.n_dy;
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

/* Where in the rows of the shifted product the winners of sample b were; pooled only. */
static uint32_t *winners(const struct dml_layer *l, const struct dml_layer_pass *p, size_t b)
{
    return (uint32_t *)(void *)(p->saved + b * dml_layer_size(l->out));
}

/* ---- forward ------------------------------------------------------------------------------ */

static void pad_planes(const struct dml_layer *l, const struct plan *n, const float *x, float *to)
{
    size_t pad = l->args.padding, w = l->in.w;
    if (pad == 0) {
        memcpy(to, x, dml_layer_size(l->in) * sizeof(float));
        return;
    }
    for (size_t c = 0; c < n->c; c++)
        for (size_t h = 0; h < l->in.h; h++)
            memcpy(to + (c * n->hp + h + pad) * n->wp + pad, x + (c * l->in.h + h) * w,
                   w * sizeof(float));
}

void dml_conv_direct_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    const struct plan n = plan_of(l);
    const struct dml_kernel_pool pool = {
        .n = n.o, .h = l->out.h, .w = l->out.w, .x_row = n.wp, .x_plane = n.y_row};
    size_t n_k = n.c * n.k * n.k, n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    float *picture = p->scratch, *wide = picture + n.picture;
    float *wt = wide + n.o * n.y_row + DML_KERNEL_SLACK;
    uint32_t *at = (uint32_t *)(void *)(wt + n_k * n.o);
    const float *bias = p->params + n.o * n_k;

    for (size_t c = 0, i = 0; c < n.c; c++)
        for (size_t kh = 0; kh < n.k; kh++)
            for (size_t kw = 0; kw < n.k; kw++)
                at[i++] = (uint32_t)((c * n.hp + kh) * n.wp + kw);
    for (size_t o = 0; o < n.o; o++)
        for (size_t i = 0; i < n_k; i++)
            wt[i * n.o + o] = p->params[o * n_k + i];
    memset(picture, 0, n.picture * sizeof(float));

    for (size_t b = 0; b < p->batch; b++) {
        float *y = p->y + b * n_out;
        pad_planes(l, &n, p->x + b * n_in, picture);
        l->kernel->shifted_gemm(picture, at, n_k, wt, bias, n.o, n.span, wide, n.y_row);
        if (n.pooled) {
            l->kernel->relu_pool_2(&pool, wide, y, p->saved ? winners(l, p, b) : NULL);
            continue;
        }
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

/* Between the model's [O][C][K][K] and [O][K][K·C, padded]. */
static void pack(const struct plan *n, const float *w, float *packed)
{
    memset(packed, 0, n->packed * sizeof(float));
    for (size_t o = 0; o < n->o; o++)
        for (size_t c = 0; c < n->c; c++)
            for (size_t kh = 0; kh < n->k; kh++)
                for (size_t kw = 0; kw < n->k; kw++)
                    packed[o * n->w_size + kh * n->w_row + kw * n->c + c] = *w++;
}

static void add_packed(const struct plan *n, const float *packed, float *io_w)
{
    for (size_t o = 0; o < n->o; o++)
        for (size_t c = 0; c < n->c; c++)
            for (size_t kh = 0; kh < n->k; kh++)
                for (size_t kw = 0; kw < n->k; kw++)
                    *io_w++ += packed[o * n->w_size + kh * n->w_row + kw * n->c + c];
}

static void planes_to_pixels(const struct dml_layer *l, const struct plan *n, const float *x,
                             float *to)
{
    to += (l->args.padding * n->wp + l->args.padding) * n->c;
    for (size_t c = 0; c < n->c; c++)
        for (size_t h = 0; h < l->in.h; h++)
            for (size_t w = 0; w < l->in.w; w++)
                to[(h * n->wp + w) * n->c + c] = *x++;
}

static void pixels_to_planes(const struct dml_layer *l, const struct plan *n, const float *from,
                             float *dx)
{
    from += (l->args.padding * n->wp + l->args.padding) * n->c;
    for (size_t c = 0; c < n->c; c++)
        for (size_t h = 0; h < l->in.h; h++)
            for (size_t w = 0; w < l->in.w; w++)
                *dx++ = from[(h * n->wp + w) * n->c + c];
}

/* 0 for both zeros, 1 for all else, a NaN included. As integers: comparing floats with a NaN in
 * mind takes three times as long. */
static inline uint32_t is_not_zero(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits << 1 != 0;
}

/* What comes back for one sample: of output channel o, gradient i belongs to place at(i). */
struct dy {
    const float *dy, *y;    /* [O][n_dy]; y only when pooled */
    const uint32_t *winner; /* NULL: gradient i belongs to place i */
};

/* Behind relu: nothing comes back through what was cut off. y is a relu's, so its sign is that of
 * its bits but for a NaN's, and no branch is needed, which would go wrong every third time. */
static inline float value(const struct dy *d, size_t i)
{
    if (!d->winner)
        return d->dy[i];
    float v;
    int32_t y, bits;
    memcpy(&y, &d->y[i], sizeof(y));
    memcpy(&bits, &d->dy[i], sizeof(bits));
    bits &= -(int32_t)(y > 0 && y <= 0x7f800000); /* up to infinity */
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static inline size_t place(const struct dy *d, size_t first, size_t i)
{
    return d->winner ? d->winner[first + i] : i;
}

/* Without a branch: about every fourth number is not zero, which no processor can guess. */
static inline void list_channels(const struct plan *n, const struct dy *d, const struct back *s)
{
    memset(s->count, 0, n->places * sizeof(uint32_t));
    for (size_t o = 0, first = 0; o < n->o; o++, first += n->n_dy)
        for (size_t i = 0; i < n->n_dy; i++) {
            size_t at = place(d, first, i), to = at * n->o + s->count[at];
            float v = value(d, first + i);
            s->at[to] = (uint32_t)(o * n->w_size);
            s->v[to] = v;
            s->count[at] += is_not_zero(v);
        }
}

static inline float list_places(const struct plan *n, const struct dy *d, size_t first,
                                const struct back *s, size_t *ret_n)
{
    size_t count = 0;
    float sum = 0.0f;
    for (size_t i = 0; i < n->n_dy; i++) {
        float v = value(d, first + i);
        s->list_at[count] = s->place[place(d, first, i)];
        s->list_v[count] = v;
        count += is_not_zero(v);
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
    if (p->dx)
        pack(&n, p->params, s.w);
    for (size_t i = 0; i < n.places; i++)
        s.place[i] = (uint32_t)((n.pooled ? i : i / n.wo * n.wp + i % n.wo) * n.c);

    for (size_t b = 0; b < p->batch; b++) {
        const struct dy dy = {.dy = p->dy + b * n_out,
                              .y = p->y + b * n_out,
                              .winner = n.pooled ? winners(l, p, b) : NULL};
        planes_to_pixels(l, &n, p->x + b * n_in, s.x);
        for (size_t o = 0; o < n.o; o++) {
            size_t count;
            db[o] += list_places(&n, &dy, o * n.n_dy, &s, &count);
            l->kernel->patch_dw(&patch, s.x, s.list_at, s.list_v, count, s.dw + o * n.w_size);
        }
        if (!p->dx)
            continue;
        list_channels(&n, &dy, &s);
        memset(s.dx, 0, n.picture * sizeof(float));
        for (size_t i = 0; i < n.places; i++)
            if (s.count[i])
                l->kernel->patch_dx(&patch, s.w, s.at + i * n.o, s.v + i * n.o, s.count[i],
                                    s.dx + s.place[i]);
        pixels_to_planes(l, &n, s.dx, p->dx + b * n_in);
    }
    add_packed(&n, s.dw, p->dparams);
}
