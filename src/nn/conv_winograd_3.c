/*
 * Convolutions of 3×3 with stride 1 and channels last, by nn/kernel_winograd_3.h: a quarter of the
 * products. The minibatch goes through in strips of tiles, which are brought to the points, at
 * each of them multiplied with the filters, and brought back; the filters are brought to the points
 * once per pass. A strip is long enough that fetching the filters for it is worth while.
 *
 * In float32 the result is right to about ten roundings of the largest output.
 */
#include <string.h>

#include "nn/conv.h"
#include "nn/kernel.h"
#include "nn/kernel_gemm.h"
#include "nn/kernel_winograd_3.h"
#include "nn/layer.h"

#define POINTS       DML_WINOGRAD_3_POINTS
#define OUT          DML_WINOGRAD_3_OUT
#define TAPS         9
#define STRIP_FLOATS 49152       /* of its inputs and outputs at the points, 192 KiB; but … */
#define STRIP_MIN    32          /* tiles */
#define FILTERS_MAX  (128 * 128) /* pairs of channels: at the points these are 2.25 MiB */

static size_t tiles_of(const struct dml_layer *l)
{
    return (size_t)((l->out.h + OUT - 1) / OUT) * ((l->out.w + OUT - 1) / OUT);
}

bool dml_conv_is_winograd_3(const struct dml_layer *l)
{
    const struct dml_layer_args *a = &l->args;
    uint64_t h = l->in.h + 2 * a->padding, w = l->in.w + 2 * a->padding; /* of y, and 2 */
    return a->kernel == 3 && a->stride == 1 && a->groups == 1 && h > 2 && w > 2 &&
           l->in.c % DML_WINOGRAD_3_CHANNELS == 0 && a->size % DML_WINOGRAD_3_CHANNELS == 0 &&
           l->in.c * a->size <= FILTERS_MAX &&
           (h - 2) * (w - 2) >= 6 * ((h + 1) / OUT) * ((w + 1) / OUT); /* of 16: not mere edges */
}

/* Scratch, each part rounded. Points are a little further apart than they need be: were they a
 * power of two apart, all would fall into the same places of a cache. */
struct space {
    size_t pairs, apart; /* C·O; floats from a point of the filters to the next */
    size_t strip, v_apart, m_apart;
    float *zeros;  /* [the more channels] */
    float *u, *du; /* [36][C][O], u of backward [36][O][C] */
    float *v, *m;  /* [36][strip][C], [36][strip][O] */
    float *w;      /* [9][C][O], or [9][O][C]: instead of v */
};

static uint64_t space_of(const struct dml_layer *l, float *scratch, struct space *ret)
{
    size_t c = l->in.c, o = l->out.c, zeros = c > o ? c : o;
    size_t strip = STRIP_FLOATS / (POINTS * (c + o));
    ret->pairs = c * o;
    ret->apart = c * o + DML_KERNEL_ROW;
    ret->strip = strip < STRIP_MIN ? STRIP_MIN : strip;
    ret->v_apart = ret->strip * c + DML_KERNEL_ROW;
    ret->m_apart = ret->strip * o + DML_KERNEL_ROW;
    size_t v = POINTS * ret->v_apart, w = TAPS * ret->pairs, u = POINTS * ret->apart;
    ret->zeros = scratch;
    ret->u = ret->zeros + zeros;
    ret->du = ret->u + u;
    ret->v = ret->w = ret->du + u;
    ret->m = ret->v + (v > w ? v : w);
    return zeros + 2 * u + (v > w ? v : w) + POINTS * ret->m_apart;
}

uint64_t dml_conv_winograd_3_scratch(const struct dml_layer *l)
{
    struct space s;
    return space_of(l, NULL, &s);
}

static struct dml_kernel_winograd_3_form in_form(const struct dml_layer *l, const struct space *s)
{
    return (struct dml_kernel_winograd_3_form){.h = l->in.h,
                                               .w = l->in.w,
                                               .c = l->in.c,
                                               .pad = (size_t)l->args.padding,
                                               .rows = (l->out.h + OUT - 1) / OUT,
                                               .cols = (l->out.w + OUT - 1) / OUT,
                                               .point = s->v_apart,
                                               .zeros = s->zeros};
}

static struct dml_kernel_winograd_3_form out_form(const struct dml_layer *l, const struct space *s)
{
    struct dml_kernel_winograd_3_form f = in_form(l, s);
    f.h = l->out.h;
    f.w = l->out.w;
    f.c = l->out.c;
    f.pad = 0;
    f.point = s->m_apart;
    return f;
}

/* w [O][C][9] to [9][C][O] or, turned, to [9][O][C]. */
static void sort(const struct dml_layer *l, const float *w, bool turned, float *to)
{
    size_t c = l->in.c, o = l->out.c;
    for (size_t i = 0; i < o; i++)
        for (size_t k = 0; k < c; k++, w += TAPS)
            for (size_t t = 0; t < TAPS; t++)
                to[t * c * o + (turned ? i * c + k : k * o + i)] = w[t];
}

static void sort_back(const struct dml_layer *l, const float *from, float *io_w)
{
    size_t c = l->in.c, o = l->out.c;
    for (size_t i = 0; i < o; i++)
        for (size_t k = 0; k < c; k++, io_w += TAPS)
            for (size_t t = 0; t < TAPS; t++)
                io_w[t] += from[t * c * o + k * o + i];
}

void dml_conv_winograd_3_begin(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct space s;
    (void)space_of(l, p->scratch, &s);
    memset(s.zeros, 0, (size_t)(s.u - s.zeros) * sizeof(float));
    sort(l, p->params, p->dparams != NULL, s.w);
    l->kernel->winograd_3->weights(s.w, s.pairs, s.apart, s.u);
    if (p->dparams)
        memset(s.du, 0, POINTS * s.apart * sizeof(float));
}

/* Strips of nearly equal length. */
static size_t strip_of(const struct space *s, size_t n_tiles)
{
    size_t n = (n_tiles + s->strip - 1) / s->strip;
    return (n_tiles + n - 1) / n;
}

void dml_conv_winograd_3_some(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                              const float *x, float *y)
{
    struct space s;
    (void)space_of(l, p->scratch, &s);
    const struct dml_kernel_winograd_3_form in = in_form(l, &s), out = out_form(l, &s);
    const float *bias = l->n_biases ? p->params + l->n_weights : NULL;
    size_t n_tiles = n * tiles_of(l), strip = strip_of(&s, n_tiles);
    for (size_t at = 0; at < n_tiles; at += strip) {
        size_t some = n_tiles - at < strip ? n_tiles - at : strip;
        l->kernel->winograd_3->inputs(&in, x, at, some, s.v);
        for (size_t i = 0; i < POINTS; i++)
            l->kernel->gemm->nn(&(struct dml_kernel_product){.m = some,
                                                             .n = out.c,
                                                             .k = in.c,
                                                             .a = s.v + i * s.v_apart,
                                                             .lda = in.c,
                                                             .b = s.u + i * s.apart,
                                                             .ldb = out.c,
                                                             .c = s.m + i * s.m_apart,
                                                             .ldc = out.c});
        l->kernel->winograd_3->outputs(&out, s.m, bias, at, some, y);
    }
}

void dml_conv_winograd_3_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                              const float *x, const float *dy, float *dx)
{
    struct space s;
    (void)space_of(l, p->scratch, &s);
    const struct dml_kernel_winograd_3_form in = in_form(l, &s), out = out_form(l, &s);
    size_t n_tiles = n * tiles_of(l), strip = strip_of(&s, n_tiles);
    if (dx)
        memset(dx, 0, n * dml_layer_size(l->in) * sizeof(float));
    for (size_t at = 0; at < n_tiles; at += strip) {
        size_t some = n_tiles - at < strip ? n_tiles - at : strip;
        l->kernel->winograd_3->inputs(&in, x, at, some, s.v);
        l->kernel->winograd_3->outputs_back(&out, dy, at, some, s.m);
        for (size_t i = 0; i < POINTS; i++) {
            float *v = s.v + i * s.v_apart;
            const float *e = s.m + i * s.m_apart;
            l->kernel->gemm->tn(&(struct dml_kernel_product){.m = in.c,
                                                             .n = out.c,
                                                             .k = some,
                                                             .a = v,
                                                             .lda = in.c,
                                                             .b = e,
                                                             .ldb = out.c,
                                                             .c = s.du + i * s.apart,
                                                             .ldc = out.c,
                                                             .add = true});
            if (dx) /* in place of v, which has served */
                l->kernel->gemm->nn(&(struct dml_kernel_product){.m = some,
                                                                 .n = in.c,
                                                                 .k = out.c,
                                                                 .a = e,
                                                                 .lda = out.c,
                                                                 .b = s.u + i * s.apart,
                                                                 .ldb = in.c,
                                                                 .c = v,
                                                                 .ldc = in.c});
        }
        if (dx)
            l->kernel->winograd_3->inputs_back(&in, s.v, at, some, dx);
    }
}

void dml_conv_winograd_3_end(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct space s;
    (void)space_of(l, p->scratch, &s);
    l->kernel->winograd_3->weights_back(s.du, s.pairs, s.apart, s.w);
    sort_back(l, s.w, p->dparams);
}
