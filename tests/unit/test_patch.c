/*
 * The loops over patches of every level this processor can run, against plain loops in double,
 * over shapes that do not fit the vectors.
 */
#include "nn/kernel_patch.h"

#include "nn/kernel.h"
#include "tests/tap.h"
#define NUMBERS_SLACK (4 * DML_KERNEL_SLACK)
#include "tests/unit/kernel_help.h"

static void test_blocks(const struct dml_kernel *k)
{
    worst = 0.0;
    for (size_t rows = 1; rows <= 7; rows++)
        for (size_t len = 1; len <= 70; len += len < 20 ? 1 : 11)
            for (size_t n = 0; n <= 40; n = 3 * n + 1) {
                size_t w_row = dml_kernel_round(len), x_row = len + n;
                struct dml_kernel_patch p = {rows, len, x_row, w_row};
                size_t n_x = x_row * (rows + 2), n_w = w_row * rows * 3;
                float *x = numbers(n_x, 8), *v = numbers(n, 9), *w = numbers(n_w, 10);
                uint32_t at[64];
                /* dw: patches of x, summed into the first block of w */
                float *dw = numbers(n_w, 10);
                for (size_t i = 0; i < n; i++)
                    at[i] = (uint32_t)(i * 5 % (x_row + 1));
                k->patches->dw(&p, x, at, v, n, dw);
                for (size_t r = 0; r < rows; r++)
                    for (size_t j = 0; j < len; j++) {
                        double want = (double)w[r * w_row + j];
                        for (size_t i = 0; i < n; i++)
                            want += (double)v[i] * (double)x[at[i] + r * x_row + j];
                        differ((double)dw[r * w_row + j], want);
                    }
                /* dx: blocks of weights, zero in their padding, added to one patch of x; nothing
                 * else of x may change */
                for (size_t i = 0; i < n_w; i++)
                    if (i % w_row >= len)
                        w[i] = 0.0f;
                float *dx = numbers(n_x, 8);
                for (size_t i = 0; i < n; i++)
                    at[i] = (uint32_t)(i % 3 * rows * w_row);
                k->patches->dx(&p, w, at, v, n, dx);
                for (size_t i = 0; i < n_x; i++) {
                    size_t r = i / x_row, j = i % x_row;
                    double want = (double)x[i];
                    for (size_t s = 0; r < rows && j < len && s < n; s++)
                        want += (double)v[s] * (double)w[at[s] + r * w_row + j];
                    differ((double)dx[i], want);
                }
                free(x);
                free(v);
                free(w);
                free(dw);
                free(dx);
            }
    tap_ok(worst < TOLERANCE, "%s: dw, dx, max difference %.1e", k->name, worst);
}

/* Convolution before relu and pooling at place (h, w), channel o. */
static double at_place(const struct dml_kernel_windows *f, const float *x, const float *wt,
                       const float *bias, size_t o, size_t h, size_t w)
{
    size_t run = f->k * f->c;
    double sum = (double)bias[o];
    for (size_t kh = 0; kh < f->k; kh++)
        for (size_t t = 0; t < run; t++)
            sum += (double)wt[(kh * run + t) * f->w_row + o] *
                   (double)x[((h + kh) * f->wp + w) * f->c + t];
    return sum;
}

/* The winner may be another than the exact sums': where two places come out alike but for
 * rounding, either is right. */
static void test_windows(const struct dml_kernel *k)
{
    bool places = true, alike = true;
    unsigned off = 0;
    worst = 0.0;
    for (size_t o = 1; o <= 40; o += o < 20 ? 1 : 7)
        for (size_t c = 1; c <= 7; c += 3)
            for (size_t w = 1; w <= 5; w++) {
                struct dml_kernel_windows f = {.k = 3,
                                               .c = c,
                                               .wp = 2 * w + 3,
                                               .o = o,
                                               .h = 2,
                                               .w = w,
                                               .w_row = dml_kernel_round(o)};
                size_t n = o * f.h * w, taps = f.k * f.k * c;
                float *x = numbers(f.wp * 6 * c, 3), *wt = numbers(taps * f.w_row, 4);
                float *bias = numbers(f.w_row, 5), *y = numbers(n, 6), *plain = numbers(n, 7);
                uint32_t *won = dml_mem_array(n, sizeof(uint32_t));
                k->patches->windows(&f, x, wt, bias, y, won);
                k->patches->windows(&f, x, wt, bias, plain, NULL);
                for (size_t i = 0; i < n; i++) {
                    size_t channel = i / (f.h * w), h = 2 * (i / w % f.h), left = 2 * (i % w);
                    double best = 0.0;
                    for (size_t q = 0; q < 4; q++)
                        best =
                            fmax(best, at_place(&f, x, wt, bias, channel, h + q / 2, left + q % 2));
                    differ((double)y[i], best);
                    size_t down = won[i] / f.wp - h, right = won[i] % f.wp - left;
                    places = places && down < 2 && right < 2;
                    if (y[i] > 0.0f && places &&
                        fabs(at_place(&f, x, wt, bias, channel, h + down, left + right) - best) >
                            TOLERANCE)
                        off++;
                    alike = alike && y[i] == plain[i];
                }
                free(x);
                free(wt);
                free(bias);
                free(y);
                free(plain);
                free(won);
            }
    tap_ok(worst < TOLERANCE, "%s: windows, max difference %.1e", k->name, worst);
    tap_ok(places && off == 0, "%s: winners lie in their windows, %u are not the greatest", k->name,
           off);
    tap_ok(alike, "%s: the same without winners", k->name);
}

/* Filters of one weight over two windows, the first of which has a place that is not a number. */
static void test_windows_not_a_number(const struct dml_kernel *k)
{
    enum { O = 21, ROW = 32 };
    const struct dml_kernel_windows f = {
        .k = 1, .c = 1, .wp = 4, .o = O, .h = 1, .w = 2, .w_row = ROW};
    float wt[ROW], bias[ROW] = {0}, y[2 * O];
    unsigned wrong = 0;
    for (size_t i = 0; i < ROW; i++)
        wt[i] = 1.0f;
    for (size_t place = 0; place < 4; place++) {
        float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        uint32_t won[2 * O];
        x[place / 2 * 4 + place % 2] = NAN;
        k->patches->windows(&f, x, wt, bias, y, won);
        for (size_t o = 0; o < O; o++)
            wrong += !isnan(y[2 * o]) + !(y[2 * o + 1] == 8.0f);
    }
    tap_ok(wrong == 0, "%s: windows keep what is not a number, wrong %u times", k->name, wrong);
}

static void test_windows_back(const struct dml_kernel *k)
{
    bool same = true;
    worst = 0.0;
    for (size_t n = 1; n <= 70; n++) {
        float *y = numbers(n, 3), *dy = numbers(n, 4), *v = numbers(n, 5);
        uint32_t won[70], at[70];
        double sum = 0.0;
        y[0] = n % 2 ? NAN : 0.0f;
        for (size_t i = 0; i < n; i++)
            won[i] = (uint32_t)(i * 37 % 1000);
        double got = (double)k->patches->windows_back(y, dy, won, n, 6, v, at);
        for (size_t i = 0; i < n; i++) {
            float want = y[i] > 0.0f ? dy[i] : 0.0f;
            same = same && v[i] == want && at[i] == won[i] * 6;
            sum += (double)want;
        }
        differ(got, sum);
        free(y);
        free(dy);
        free(v);
    }
    tap_ok(same, "%s: windows_back lets through what relu let through", k->name);
    tap_ok(worst < TOLERANCE, "%s: windows_back, the sum, max difference %.1e", k->name, worst);
}

/* Weights of channel o, tap (i, j) = row i of [K][C] each, as windows_dx wants them framed. */
static float *frame(const struct dml_kernel_windows *f, const float *w)
{
    size_t run = f->k * f->c, size = (f->k + 2) * f->f_row;
    float *framed = dml_mem_floats(f->o * size + NUMBERS_SLACK);
    for (size_t o = 0; o < f->o; o++)
        for (size_t i = 0; i < f->k; i++)
            for (size_t t = 0; t < run; t++)
                framed[o * size + (i + 1) * f->f_row + f->c + t] = w[(o * f->k + i) * run + t];
    return framed;
}

static void test_windows_dx(const struct dml_kernel *k)
{
    unsigned n_shapes = 0;
    worst = 0.0;
    for (size_t o = 1; o <= 40; o += o < 20 ? 3 : 7)
        for (size_t c = 1; c <= 7; c += 2)
            for (size_t w = 1; w <= 4; w++, n_shapes++) {
                struct dml_kernel_windows f = {.k = 2 + c % 3, .c = c, .o = o, .h = 2, .w = w};
                f.wp = 2 * w + f.k - 1;
                f.f_row = dml_kernel_frame_row(f.k, c, k->patches->lanes);
                size_t n = f.h * w, run = f.k * c, n_x = f.wp * (2 * f.h + f.k - 1) * c;
                float *weights = numbers(o * f.k * run, 3), *v = numbers(n * o, 4);
                float *dx = numbers(n_x, 5), *want = numbers(n_x, 5), *some_v = numbers(o, 6);
                float *framed = frame(&f, weights);
                uint32_t *won = dml_mem_array(n * o + NUMBERS_SLACK, sizeof(uint32_t));
                uint32_t *some_at = dml_mem_array(o, sizeof(uint32_t));
                double *sum = dml_mem_array(n_x, sizeof(double));
                for (size_t i = 0; i < n_x; i++)
                    sum[i] = (double)want[i];
                for (size_t i = 0; i < n * o; i++) {
                    size_t q = i * 7 / 3 % 4, h = 2 * (i / o / w) + q / 2;
                    size_t at = h * f.wp + 2 * (i / o % w) + q % 2;
                    v[i] = i % 5 == 2 ? 0.0f : v[i];
                    won[i] = (uint32_t)at;
                    for (size_t t = 0; t < f.k * run; t++)
                        sum[(at + t / run * f.wp) * c + t % run] +=
                            (double)v[i] * (double)weights[i % o * f.k * run + t];
                }
                k->patches->windows_dx(&f, framed, v, won, some_v, some_at, dx);
                for (size_t i = 0; i < n_x; i++)
                    differ((double)dx[i], sum[i]);
                free(weights);
                free(v);
                free(dx);
                free(want);
                free(some_v);
                free(framed);
                free(won);
                free(some_at);
                free(sum);
            }
    tap_ok(worst < TOLERANCE, "%s: windows_dx, %u shapes, max difference %.1e", k->name, n_shapes,
           worst);
}

/* There and back; nothing besides may be written. */
static void test_pixels(const struct dml_kernel *k)
{
    bool there = true, back = true, kept = true;
    for (size_t c = 1; c <= 9; c++)
        for (size_t n = 1; n <= 40; n++) {
            size_t plane = n + 3;
            float *x = numbers(c * plane, 3), *pixels = numbers(n * c, 4);
            float *again = numbers(c * plane, 5), *old = numbers(c * plane, 5);
            float after = pixels[n * c];
            k->patches->to_pixels(x, plane, n, c, pixels);
            kept = kept && pixels[n * c] == after;
            k->patches->to_planes(pixels, plane, n, c, again);
            for (size_t i = 0; i < c * plane; i++) {
                bool in = i % plane < n;
                there = there && (!in || pixels[i % plane * c + i / plane] == x[i]);
                back = back && (!in || again[i] == x[i]);
                kept = kept && (in || again[i] == old[i]);
            }
            free(x);
            free(pixels);
            free(again);
            free(old);
        }
    tap_ok(there && back, "%s: planes to pixels %d, and back %d", k->name, there, back);
    tap_ok(kept, "%s: nothing besides", k->name);
}

int main(void)
{
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++) {
        test_blocks(k);
        test_windows(k);
        test_windows_not_a_number(k);
        test_windows_back(k);
        test_windows_dx(k);
        test_pixels(k);
    }
    return tap_done();
}
