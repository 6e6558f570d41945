/*
 * Convolution 3×3 by points, for every level this processor can run: what goes to the points and
 * comes back, forward and backward, against plain sums in double, over pictures that fill no tile.
 * The products between them are done in double here, so that what differs is the changes'.
 */
#include "nn/kernel_winograd_3.h"

#include "nn/kernel.h"
#include "tests/tap.h"
#include "tests/unit/kernel_help.h"

#define POINTS DML_WINOGRAD_3_POINTS
#define N      2 /* samples */
#define C      32
#define O      16
#define TAPS   9
#define EDGE   5 /* floats after a buffer that must stay as they are */

/* Of the largest number. A value at a point is a sum of up to a hundred times an input, which is
 * taken back by differences: some ten to fifty roundings of 6e-8. A wrong tap is off by a tenth. */
#define ALLOWED 5e-6

struct subject {
    struct dml_kernel_winograd_3_form in, out;
    size_t n_tiles, n_in, n_out;
    float *x, *dy, *w, *bias, *y, *dx, *dw, *zeros;
    float *u, *v, *e; /* at the points: [36][C][O], [36][tiles][C], [36][tiles][O] */
};

static struct subject make(size_t h, size_t w, size_t pad)
{
    size_t ho = h + 2 * pad - 2, wo = w + 2 * pad - 2;
    struct subject s = {.n_in = N * h * w * C, .n_out = N * ho * wo * O};
    s.zeros = dml_mem_floats(C);
    s.in = (struct dml_kernel_winograd_3_form){.h = h,
                                               .w = w,
                                               .c = C,
                                               .pad = pad,
                                               .rows = (ho + 3) / 4,
                                               .cols = (wo + 3) / 4,
                                               .zeros = s.zeros};
    s.n_tiles = N * s.in.rows * s.in.cols;
    s.out = s.in;
    s.in.point = s.n_tiles * C + 3;
    s.out.h = ho;
    s.out.w = wo;
    s.out.c = O;
    s.out.pad = 0;
    s.out.point = s.n_tiles * O + 7;
    s.x = numbers(s.n_in, 1);
    s.dy = numbers(s.n_out, 2);
    s.w = numbers(TAPS * C * O, 3);
    s.bias = numbers(O, 4);
    s.y = numbers(s.n_out + EDGE, 5);
    s.dx = numbers(s.n_in + EDGE, 6);
    s.dw = numbers(TAPS * C * O + EDGE, 7);
    s.u = numbers(POINTS * C * O, 8);
    s.v = numbers(POINTS * s.in.point, 9);
    s.e = numbers(POINTS * s.out.point, 10);
    return s;
}

static void done(struct subject *s)
{
    float *all[] = {s->x, s->dy, s->w, s->bias, s->y, s->dx, s->dw, s->zeros, s->u, s->v, s->e};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        free(all[i]);
}

/* Tap by tap: y without bias, dx and dw. */
static void naive(const struct subject *s, double *y, double *dx, double *dw)
{
    const struct dml_kernel_winograd_3_form *in = &s->in, *out = &s->out;
    for (size_t i = 0; i < s->n_out; i++) {
        size_t o = i % O, ow = i / O % out->w, oh = i / O / out->w % out->h,
               b = i / O / out->w / out->h;
        for (size_t t = 0; t < TAPS; t++) {
            size_t h = oh + t / 3 - in->pad, w = ow + t % 3 - in->pad;
            if (h >= in->h || w >= in->w)
                continue;
            for (size_t c = 0; c < C; c++) {
                size_t at = ((b * in->h + h) * in->w + w) * C + c, tap = (t * C + c) * O + o;
                y[i] += (double)s->x[at] * (double)s->w[tap];
                dx[at] += (double)s->dy[i] * (double)s->w[tap];
                dw[tap] += (double)s->dy[i] * (double)s->x[at];
            }
        }
    }
}

/* io_c [m][n] = a [m][k] b [k][n], where a, b and c lie as the strides say. */
static void product(size_t m, size_t n, size_t k, const float *a, size_t am, size_t ak,
                    const float *b, size_t bk, size_t bn, float *c)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (size_t l = 0; l < k; l++)
                sum += (double)a[i * am + l * ak] * (double)b[l * bk + j * bn];
            c[i * n + j] = (float)sum;
        }
}

/* As conv_winograd_3.c does it, in two strips. */
static void by_points(const struct dml_kernel *k, struct subject *s, float *du, float *dv)
{
    const struct dml_kernel_winograd_3 *w = k->winograd_3;
    size_t half = s->n_tiles / 2 + 1, t = s->n_tiles;
    w->weights(s->w, C * O, C * O, s->u);
    w->inputs(&s->in, s->x, 0, half, s->v);
    w->inputs(&s->in, s->x, half, t - half, s->v + half * C);
    for (size_t p = 0; p < POINTS; p++)
        product(t, O, C, s->v + p * s->in.point, C, 1, s->u + p * C * O, O, 1,
                s->e + p * s->out.point);
    w->outputs(&s->out, s->e, s->bias, 0, half, s->y);
    w->outputs(&s->out, s->e + half * O, s->bias, half, t - half, s->y);
    w->outputs_back(&s->out, s->dy, 0, half, s->e);
    w->outputs_back(&s->out, s->dy, half, t - half, s->e + half * O);
    for (size_t p = 0; p < POINTS; p++) {
        product(C, O, t, s->v + p * s->in.point, 1, C, s->e + p * s->out.point, O, 1,
                du + p * C * O);
        product(t, C, O, s->e + p * s->out.point, O, 1, s->u + p * C * O, 1, O,
                dv + p * s->in.point);
    }
    w->weights_back(du, C * O, C * O, s->dw);
    w->inputs_back(&s->in, dv, 0, half, s->dx);
    w->inputs_back(&s->in, dv + half * C, half, t - half, s->dx);
}

static bool edges_are(const float *end, uint32_t seed, size_t n)
{
    float *was = numbers(n + EDGE, seed);
    bool same = true;
    for (size_t i = 0; i < EDGE; i++)
        same = same && end[i] == was[n + i];
    free(was);
    return same;
}

static void differ_all(const float *got, const double *want, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        differ((double)got[i] / most, want[i] / most);
}

static void check(const struct dml_kernel *k, size_t h, size_t w, size_t pad)
{
    struct subject s = make(h, w, pad);
    float *dx_was = numbers(s.n_in, 6), *du = dml_mem_floats(POINTS * C * O);
    float *dv = dml_mem_floats(POINTS * s.in.point);
    double *y = calloc(s.n_out, sizeof(double)), *dx = calloc(s.n_in, sizeof(double));
    double *dw = calloc(TAPS * C * O, sizeof(double));
    naive(&s, y, dx, dw);
    by_points(k, &s, du, dv);
    for (size_t i = 0; i < s.n_out; i++)
        y[i] += (double)s.bias[i % O];
    for (size_t i = 0; i < s.n_in; i++)
        dx[i] += (double)dx_was[i];
    differ_all(s.y, y, s.n_out);
    differ_all(s.dx, dx, s.n_in);
    differ_all(s.dw, dw, TAPS * C * O);
    if (!edges_are(s.y + s.n_out, 5, s.n_out) || !edges_are(s.dx + s.n_in, 6, s.n_in) ||
        !edges_are(s.dw + TAPS * C * O, 7, TAPS * C * O))
        worst = INFINITY;
    free(dx_was);
    free(du);
    free(dv);
    free(y);
    free(dx);
    free(dw);
    done(&s);
}

int main(void)
{
    static const size_t sides[][2] = {{3, 3}, {4, 4}, {5, 9}, {6, 6}, {8, 8}, {7, 13}, {12, 4}};
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++)
        for (size_t pad = 0; pad < 3; pad++) {
            worst = 0.0;
            for (size_t j = 0; j < ARRAY_SIZE(sides); j++)
                check(k, sides[j][0], sides[j][1], pad);
            tap_ok(worst < ALLOWED, "%s: padding %zu, max difference %.1e of the largest", k->name,
                   pad, worst);
        }
    return tap_done();
}
