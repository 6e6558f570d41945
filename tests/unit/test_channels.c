/*
 * The loops with channels last, of every level this processor can run, against their definitions
 * in double: channels that fill no vector, one and a part, several; pictures that are all edge.
 */
#include "nn/kernel_channels.h"

#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_depthwise.h"
#include "tests/tap.h"
#include "tests/unit/kernel_help.h"

#define N 3 /* pictures */

/* ---- depthwise ---------------------------------------------------------------------------- */

/* All three at once, tap by tap. */
static void naive(const struct dml_kernel_filter *f, const float *x, const float *wt,
                  const float *bias, const float *dy, double *y, double *dx, double *dwt)
{
    size_t c = f->c;
    for (size_t i = 0; i < N * f->ho * f->wo * c; i++) {
        size_t at = i % c, ow = i / c % f->wo, oh = i / c / f->wo % f->ho,
               b = i / c / f->wo / f->ho;
        y[i] = bias ? (double)bias[at] : 0.0;
        for (size_t t = 0; t < f->k * f->k; t++) {
            long h = (long)(oh * f->stride + t / f->k) - (long)f->pad;
            long w = (long)(ow * f->stride + t % f->k) - (long)f->pad;
            if (h < 0 || w < 0 || h >= (long)f->h || w >= (long)f->w)
                continue;
            size_t in = ((b * f->h + (size_t)h) * f->w + (size_t)w) * c + at;
            y[i] += (double)wt[t * c + at] * (double)x[in];
            dx[in] += (double)wt[t * c + at] * (double)dy[i];
            dwt[t * c + at] += (double)x[in] * (double)dy[i];
        }
    }
}

static void check_filter(const struct dml_kernel *k, const struct dml_kernel_filter *f)
{
    size_t n_in = N * f->h * f->w * f->c, n_out = N * f->ho * f->wo * f->c;
    size_t n_w = f->k * f->k * f->c;
    float *x = numbers(n_in, 1), *wt = numbers(n_w, 2), *bias = numbers(f->c, 3);
    float *dy = numbers(n_out, 4), *y = numbers(n_out, 5), *dx = numbers(n_in, 6);
    float *dwt = numbers(n_w, 7), *bare = numbers(n_out, 8);
    double *want_y = calloc(n_out, sizeof(double)), *want_dx = calloc(n_in, sizeof(double));
    double *want_dwt = calloc(n_w, sizeof(double));
    for (size_t i = 0; i < n_w; i++)
        want_dwt[i] = (double)dwt[i];
    naive(f, x, wt, bias, dy, want_y, want_dx, want_dwt);
    k->depthwise->forward(f, N, x, wt, bias, y);
    k->depthwise->forward(f, N, x, wt, NULL, bare);
    k->depthwise->dx(f, N, dy, wt, dx);
    k->depthwise->dw(f, N, x, dy, dwt);
    for (size_t i = 0; i < n_out; i++) {
        differ((double)y[i], want_y[i]);
        differ((double)bare[i], want_y[i] - (double)bias[i % f->c]);
    }
    for (size_t i = 0; i < n_in; i++)
        differ((double)dx[i], want_dx[i]);
    for (size_t i = 0; i < n_w; i++)
        differ((double)dwt[i], want_dwt[i]);
    free(x);
    free(wt);
    free(bias);
    free(dy);
    free(y);
    free(bare);
    free(dx);
    free(dwt);
    free(want_y);
    free(want_dx);
    free(want_dwt);
}

static void test_depthwise(const struct dml_kernel *k)
{
    static const size_t channels[] = {1, 5, 8, 19, 32, 40};
    static const size_t kernels[][3] = {{3, 1, 1}, {3, 2, 1}, {3, 1, 0}, {3, 1, 2}, {3, 3, 1},
                                        {3, 2, 0}, {5, 1, 2}, {5, 2, 2}, {2, 1, 1}, {1, 1, 0}};
    for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
        worst = 0.0;
        for (size_t j = 0; j < ARRAY_SIZE(channels); j++)
            for (size_t h = 1; h <= 6; h++)
                for (size_t w = 1; w <= 6; w++) {
                    struct dml_kernel_filter f = {.c = channels[j],
                                                  .k = kernels[i][0],
                                                  .stride = kernels[i][1],
                                                  .pad = kernels[i][2],
                                                  .h = h,
                                                  .w = w};
                    if (h + 2 * f.pad < f.k || w + 2 * f.pad < f.k)
                        continue;
                    f.ho = (h + 2 * f.pad - f.k) / f.stride + 1;
                    f.wo = (w + 2 * f.pad - f.k) / f.stride + 1;
                    check_filter(k, &f);
                }
        tap_ok(worst < TOLERANCE, "%s: depthwise %zu, stride %zu, padding %zu, max difference %.1e",
               k->name, kernels[i][0], kernels[i][1], kernels[i][2], worst);
    }
}

/* ---- rows --------------------------------------------------------------------------------- */

struct rows {
    size_t rows, c;
    float *x, *dy, *a, *b, *mean, *y, *g;
    double *s1, *s2;
    struct dml_kernel_clip clip;
};

static void init(struct rows *r, size_t rows, size_t c, float lo, float hi)
{
    *r = (struct rows){.rows = rows, .c = c};
    r->x = numbers(rows * c, 1);
    r->dy = numbers(rows * c, 2);
    r->a = numbers(c, 3);
    r->b = numbers(c, 4);
    r->mean = numbers(c, 5);
    r->y = numbers(rows * c, 6);
    r->g = numbers(rows * c, 7);
    r->s1 = calloc(c, sizeof(double));
    r->s2 = calloc(c, sizeof(double));
    for (size_t i = 0; i < c; i++)
        r->s1[i] = r->s2[i] = (double)i; /* added to, not overwritten */
    r->clip = (struct dml_kernel_clip){r->a, r->b, r->mean, lo, hi};
}

static void done(struct rows *r)
{
    free(r->x);
    free(r->dy);
    free(r->a);
    free(r->b);
    free(r->mean);
    free(r->y);
    free(r->g);
    free(r->s1);
    free(r->s2);
}

static void check_sums(const struct dml_kernel *k, size_t rows, size_t c)
{
    struct rows r;
    init(&r, rows, c, 0.0f, 1.0f);
    k->channels->sums(r.x, rows, c, r.mean, r.s1, r.s2);
    for (size_t i = 0; i < c; i++) {
        double s1 = (double)i, s2 = (double)i;
        for (size_t j = 0; j < rows; j++) {
            double off = (double)r.x[j * c + i] - (double)r.mean[i];
            s1 += off;
            s2 += off * off;
        }
        differ(r.s1[i] / (double)rows, s1 / (double)rows);
        differ(r.s2[i] / (double)rows, s2 / (double)rows);
    }
    done(&r);
}

/* clip, sums_back (with and without a place for g, in place too), cut_back. */
static void check_clip(const struct dml_kernel *k, size_t rows, size_t c, float lo, float hi)
{
    struct rows r, bare;
    init(&r, rows, c, lo, hi);
    init(&bare, rows, c, lo, hi);
    const struct dml_kernel_channels *ch = k->channels;
    ch->clip(r.x, rows, c, &r.clip, r.y);
    ch->sums_back(r.x, r.dy, rows, c, &r.clip, r.g, r.s1, r.s2);
    ch->cut_back(r.x, r.dy, rows, c, &r.clip, bare.g);
    for (size_t i = 0; i < rows * c; i++) {
        double v = (double)r.a[i % c] * (double)r.x[i] + (double)r.b[i % c];
        differ((double)r.y[i], v < (double)lo ? (double)lo : v > (double)hi ? (double)hi : v);
        if (fabs(v - (double)lo) > 1e-6 && fabs(v - (double)hi) > 1e-6)
            differ((double)r.g[i], v > (double)lo && v < (double)hi ? (double)r.dy[i] : 0.0);
        differ((double)bare.g[i], (double)r.g[i]);
    }
    for (size_t i = 0; i < c; i++) {
        double s1 = (double)i, s2 = (double)i;
        for (size_t j = i; j < rows * c; j += c) {
            s1 += (double)r.g[j];
            s2 += (double)r.g[j] * ((double)r.x[j] - (double)r.mean[i]);
        }
        differ(r.s1[i], s1);
        differ(r.s2[i], s2);
    }
    ch->sums_back(bare.x, bare.dy, rows, c, &bare.clip, NULL, bare.s1, bare.s2);
    ch->sums_back(r.x, r.dy, rows, c, &r.clip, r.dy, r.s1, r.s2);
    ch->clip(r.x, rows, c, &r.clip, r.x);
    for (size_t i = 0; i < rows * c; i++) {
        differ((double)r.dy[i], (double)r.g[i]);
        differ((double)r.x[i], (double)r.y[i]);
    }
    for (size_t i = 0; i < c; i++)
        differ(2.0 * bare.s1[i], r.s1[i] + (double)i);
    done(&r);
    done(&bare);
}

static void check_mix(const struct dml_kernel *k, size_t rows, size_t c)
{
    struct rows r;
    init(&r, rows, c, 0.0f, 1.0f);
    k->channels->mix(r.x, r.dy, rows, c, r.a, r.b, r.mean, r.y);
    for (size_t i = 0; i < rows * c; i++)
        differ((double)r.y[i], (double)r.a[i % c] * (double)r.dy[i] +
                                   (double)r.b[i % c] * (double)r.x[i] + (double)r.mean[i % c]);
    done(&r);
}

static void test_rows(const struct dml_kernel *k)
{
    static const size_t channels[] = {1, 4, 7, 8, 16, 24, 33, 64, 75, 130};
    static const size_t counts[] = {1, 5, 64, 150};
    double sums = 0.0, clips = 0.0, mixes = 0.0;
    for (size_t i = 0; i < ARRAY_SIZE(channels) * ARRAY_SIZE(counts); i++) {
        size_t c = channels[i / ARRAY_SIZE(counts)], rows = counts[i % ARRAY_SIZE(counts)];
        worst = 0.0;
        check_sums(k, rows, c);
        sums = fmax(sums, worst);
        worst = 0.0;
        check_clip(k, rows, c, 0.0f, 0.5f);
        check_clip(k, rows, c, 0.0f, INFINITY);
        check_clip(k, rows, c, -INFINITY, INFINITY);
        clips = isnan(worst) ? worst : fmax(clips, worst);
        worst = 0.0;
        check_mix(k, rows, c);
        mixes = fmax(mixes, worst);
    }
    tap_ok(sums < TOLERANCE, "%s: sums, max difference %.1e", k->name, sums);
    tap_ok(clips < TOLERANCE, "%s: clip and back, max difference %.1e", k->name, clips);
    tap_ok(mixes < TOLERANCE, "%s: mix, max difference %.1e", k->name, mixes);
}

/* A run that diverged must say so. */
static void test_nan(const struct dml_kernel *k)
{
    float x[40], y[40], one[40], zero[40] = {0};
    const struct dml_kernel_clip clip = {one, zero, zero, 0.0f, 6.0f};
    bool all = true;
    for (size_t i = 0; i < 40; i++) {
        x[i] = NAN;
        one[i] = 1.0f;
    }
    k->channels->clip(x, 1, 40, &clip, y);
    for (size_t i = 0; i < 40; i++)
        all = all && isnan(y[i]);
    tap_ok(all, "%s: what is not a number is not cut off to one: %g, %g", k->name, (double)y[0],
           (double)y[39]);
}

static void test_turn(const struct dml_kernel *k)
{
    bool same = true;
    for (size_t rows = 1; rows < 12; rows++)
        for (size_t columns = 1; columns < 12; columns++) {
            float *x = numbers(rows * columns, 1), *y = numbers(rows * columns + 1, 2), end;
            end = y[rows * columns];
            k->channels->turn(x, rows, columns, y);
            for (size_t i = 0; i < rows * columns; i++)
                same = same && y[i % columns * rows + i / columns] == x[i];
            same = same && y[rows * columns] == end;
            free(x);
            free(y);
        }
    tap_ok(same, "%s: rows to columns", k->name);
}

static bool is_more(float v, float than)
{
    return v > than || (isnan(v) && !isnan(than));
}

static bool check_windows(const struct dml_kernel *k, const struct dml_kernel_windows *f, size_t h)
{
    size_t n_in = h * f->w * f->c, n_out = f->out_h * f->out_w * f->c;
    float *x = numbers(n_in, 1), *y = numbers(n_out, 2), *bare = numbers(n_out, 3);
    uint32_t *at = dml_mem_array(n_out, sizeof(*at));
    bool same = true;
    for (size_t i = 0; i < n_in; i++) /* with ties, and a few that are no numbers */
        x[i] = i % 23 == 5 ? NAN : floorf(x[i] * 4.0f);
    k->channels->max_windows(f, x, y, at);
    k->channels->max_windows(f, x, bare, NULL);
    for (size_t i = 0; i < n_out; i++) {
        size_t c = i % f->c, w = i / f->c % f->out_w, row = i / f->c / f->out_w;
        size_t corner = (row * f->w + w) * f->stride * f->c + c, best = corner;
        for (size_t t = 0; t < f->window * f->window; t++) {
            size_t here = corner + (t / f->window * f->w + t % f->window) * f->c;
            if (is_more(x[here], x[best]))
                best = here;
        }
        same = same && at[i] == best && !memcmp(&y[i], &x[best], sizeof(*y)) &&
               !memcmp(&bare[i], &x[best], sizeof(*y));
    }
    free(x);
    free(y);
    free(bare);
    free(at);
    return same;
}

static void test_windows(const struct dml_kernel *k)
{
    static const size_t channels[] = {1, 4, 7, 16, 19, 40};
    bool same = true;
    for (size_t i = 0; i < ARRAY_SIZE(channels); i++)
        for (size_t window = 1; window < 4; window++)
            for (size_t stride = 1; stride < 4; stride++) {
                const struct dml_kernel_windows f = {.w = 9,
                                                     .c = channels[i],
                                                     .out_h = (7 - window) / stride + 1,
                                                     .out_w = (9 - window) / stride + 1,
                                                     .window = window,
                                                     .stride = stride};
                same = same && check_windows(k, &f, 7);
            }
    tap_ok(same, "%s: the greatest of windows, and where it is", k->name);
}

int main(void)
{
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++) {
        test_depthwise(k);
        test_rows(k);
        test_nan(k);
        test_turn(k);
        test_windows(k);
    }
    return tap_done();
}
