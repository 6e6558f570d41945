/*
 * Forward of convolution 5×5, relu and max-pool 2 in Winograd's way; nn/kernel_winograd.h says what
 * that is. The picture is taken to the eight points, there is a matrix product for each point and
 * each of a window's two rows, in which the rows of the filter are shifts of the same memory, and
 * outputs are made, pooled and cut off at once. It has 40 % of the plain way's multiply-adds.
 */
#include "nn/conv.h"

#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_patch.h"
#include "nn/kernel_winograd.h"
#include "nn/layer.h"

#define K    DML_WINOGRAD_K
#define SUMS 16384 /* at a time: 64 KiB */

static struct dml_kernel_winograd_form form_of(const struct dml_layer *l)
{
    struct dml_kernel_winograd_form f = {.c = l->in.c, .o = l->out.c, .h = l->out.h, .w = l->out.w};
    f.tiles = (f.w + 1) / 2;
    f.x_row = 4 * f.tiles + 4;
    f.wp = l->in.w + 2 * l->args.padding;
    f.half = dml_kernel_round((f.h + K / 2) * f.tiles) + DML_KERNEL_ROW;
    f.v_point = 2 * f.c * f.half + DML_KERNEL_SLACK;
    f.u_point = dml_kernel_round(f.c * K * f.o) + DML_KERNEL_ROW;
    uint64_t most = SUMS / (2 * DML_WINOGRAD_POINTS * (uint64_t)f.o * f.tiles);
    f.band = most < 1 ? 1 : most < f.h ? (size_t)most : f.h;
    f.m_row = dml_kernel_round(f.band * f.tiles);
    return f;
}

/* Where things lie in scratch; uint64_t, since nobody has asked yet whether there is so much. */
struct plan {
    uint64_t v, m, some, u, wt, at, zeros, end; /* the picture is at 0 */
};

static struct plan plan_of(const struct dml_kernel_winograd_form *f)
{
    uint64_t taps = (uint64_t)f->c * K;
    struct plan n;
    n.v = (uint64_t)f->c * (2 * f->h + K - 1) * f->x_row + DML_KERNEL_SLACK;
    n.m = n.v + DML_WINOGRAD_POINTS * (2 * (uint64_t)f->c * f->half + DML_KERNEL_SLACK);
    n.some = n.m + 2 * DML_WINOGRAD_POINTS * (uint64_t)f->o * f->m_row + DML_KERNEL_SLACK;
    n.u = n.some + 6 * (uint64_t)f->m_row + DML_KERNEL_SLACK;
    n.wt = n.u + DML_WINOGRAD_POINTS * (uint64_t)f->u_point;
    n.at = n.wt + taps * K * f->o + DML_KERNEL_SLACK;
    n.zeros = n.at + 2 * taps;
    n.end = n.zeros + f->o;
    return n;
}

uint64_t dml_conv_winograd_scratch(const struct dml_layer *l)
{
    const struct dml_kernel_winograd_form f = form_of(l);
    return plan_of(&f).end;
}

/* Rows of the padded picture that outputs depend on, in rows of whole tiles. What is laid out so
 * already is read where it is, `with_slack` as there is a sample behind it. */
static const float *lay_out(const struct dml_layer *l, const struct dml_kernel_winograd_form *f,
                            const float *x, bool with_slack, float *to)
{
    size_t pad = l->args.padding, h = l->in.h, w = l->in.w, rows = 2 * f->h + K - 1;
    size_t n_row = f->x_row - pad < w ? f->x_row - pad : w;
    if (with_slack && pad == 0 && f->x_row == w && rows == h && f->c * h * w >= DML_KERNEL_SLACK)
        return x;
    for (size_t c = 0; c < f->c; c++)
        for (size_t i = 0; i < h && i + pad < rows; i++)
            memcpy(to + (c * rows + i + pad) * f->x_row + pad, x + (c * h + i) * w,
                   n_row * sizeof(float));
    return to;
}

/* at [2][C·5]: where the rows of the filter begin, for both rows of a window; places. */
static void set_tables(const struct dml_kernel_winograd_form *f, uint32_t *at, int32_t *places)
{
    for (size_t below = 0; below < 2; below++)
        for (size_t c = 0; c < f->c; c++)
            for (size_t row = below; row < below + K; row++)
                *at++ = (uint32_t)((2 * c + row % 2) * f->half + row / 2 * f->tiles);
    for (size_t h = 0; h < f->band; h++)
        for (size_t t = 0; t < f->tiles; t++) {
            *places++ = (int32_t)(2 * h * f->wp + 4 * t);
            *places++ = (int32_t)(2 * h * f->wp + 4 * t);
        }
}

void dml_conv_winograd_forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    const struct dml_kernel_winograd_form f = form_of(l);
    const struct plan n = plan_of(&f);
    size_t n_k = f.c * K, n_in = dml_layer_size(l->in), n_out = dml_layer_size(l->out);
    float *picture = p->scratch, *v = picture + n.v, *m = picture + n.m, *u = picture + n.u;
    float *zeros = picture + n.zeros;
    const float *bias = p->params + n_k * K * f.o;
    uint32_t *at = (uint32_t *)(void *)(picture + n.at);
    int32_t *places = (int32_t *)(void *)(picture + n.some);
    const struct dml_kernel_winograd_some some = {
        .places = places, .won = places + 2 * f.m_row, .y = picture + n.some + 4 * f.m_row};

    l->kernel->patches->to_pixels(p->params, n_k * K, n_k * K, f.o, picture + n.wt);
    l->kernel->winograd->weights(&f, picture + n.wt, u);
    set_tables(&f, at, places);
    memset(zeros, 0, f.o * sizeof(float));
    memset(picture, 0, n.v * sizeof(float));
    for (size_t b = 0; b < p->batch; b++) {
        const float *x = lay_out(l, &f, p->x + b * n_in, b + 1 < p->batch, picture);
        l->kernel->winograd->inputs(&f, x, v);
        int32_t *won = p->saved ? (int32_t *)(void *)(p->saved + b * l->n_saved) : NULL;
        for (size_t first = 0; first < f.h; first += f.band) {
            size_t rows = f.h - first < f.band ? f.h - first : f.band;
            for (size_t i = 0; i < 2 * DML_WINOGRAD_POINTS; i++) {
                size_t row = i / DML_WINOGRAD_POINTS, point = i % DML_WINOGRAD_POINTS;
                l->kernel->shifted_gemm(v + point * f.v_point + first * f.tiles, at + row * n_k,
                                        n_k, u + point * f.u_point, zeros, f.o, rows * f.tiles,
                                        m + i * f.o * f.m_row, f.m_row);
            }
            l->kernel->winograd->outputs(&f, first, rows, m, bias, &some, p->y + b * n_out, won);
        }
    }
}
