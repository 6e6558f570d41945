/*
 * The smooth functions, at every level this processor can run, against libm in double: over the
 * whole range, at its edges, and in every place of a buffer.
 */
#include "nn/kernel_smooth.h"

#include <string.h>

#include "nn/kernel.h"
#include "tests/tap.h"
#include "tests/unit/kernel_help.h"

#define N 20011

typedef void (*map_fn)(const float *x, float *y, size_t n);

static double phi(double x)
{
    return exp(-0.5 * x * x) / sqrt(2.0 * acos(-1.0));
}

static double below(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

static double exact_exp(double x)
{
    return x < -87.0 ? 0.0 : exp(x);
}

static double exact_sigmoid(double x)
{
    return x < -87.0 ? 0.0 : 1.0 / (1.0 + exp(-x));
}

static double exact_gelu(double x)
{
    return x * below(x);
}

static float *range(double from, double to)
{
    float *x = dml_mem_floats(N);
    for (size_t i = 0; i < N; i++)
        x[i] = (float)(from + (to - from) * (double)i / (N - 1));
    return x;
}

/* Where the exact result is 0, nothing else will do. */
static void check_relative(const char *what, const struct dml_kernel *k, map_fn f,
                           double (*exact)(double), double reach, double allowed)
{
    float *x = range(-reach, reach), *y = numbers(N, 2);
    worst = 0.0;
    f(x, y, N);
    for (size_t i = 0; i < N; i++) {
        double want = exact((double)x[i]);
        differ(want != 0.0 ? (double)y[i] / want : (double)y[i] + 1.0, 1.0);
    }
    tap_ok(worst < allowed, "%s: %s between -%g and %g, max relative difference %.1e", k->name,
           what, reach, reach, worst);
    free(x);
    free(y);
}

static void test_values(const struct dml_kernel *k)
{
    const struct dml_kernel_smooth *s = k->smooth;
    check_relative("exp", k, s->exp, exact_exp, 87.9, 2.5e-7);
    check_relative("tanh", k, s->tanh, tanh, 20.0, 4e-7);
    check_relative("tanh", k, s->tanh, tanh, 1e-3, 4e-7);
    check_relative("sigmoid", k, s->sigmoid, exact_sigmoid, 87.9, 4e-7);
    float *x = range(-12.0, 12.0), *y = numbers(N, 2), *dy = numbers(N, 3);
    worst = 0.0;
    s->gelu(x, y, N);
    for (size_t i = 0; i < N; i++)
        differ((double)y[i] / fmax(1.0, fabs((double)x[i])),
               exact_gelu((double)x[i]) / fmax(1.0, fabs((double)x[i])));
    tap_ok(worst < 3e-7, "%s: gelu, max difference %.1e of x", k->name, worst);
    worst = 0.0;
    s->gelu_back(x, dy, y, N);
    for (size_t i = 0; i < N; i++) {
        double at = (double)x[i];
        differ((double)y[i], (double)dy[i] * (below(at) + at * phi(at)));
    }
    tap_ok(worst < 5e-7, "%s: its derivative, max difference %.1e", k->name, worst);
    free(x);
    free(y);
    free(dy);
}

static void test_edges(const struct dml_kernel *k)
{
    const struct dml_kernel_smooth *s = k->smooth;
    const float x[5] = {NAN, -INFINITY, INFINITY, 0.0f, -1e30f};
    float y[5], ones[5] = {1, 1, 1, 1, 1};
    s->exp(x, y, 5);
    tap_ok(isnan(y[0]) && y[1] == 0 && isinf(y[2]) && y[3] == 1 && y[4] == 0,
           "%s: exp at its edges", k->name);
    s->tanh(x, y, 5);
    tap_ok(isnan(y[0]) && y[1] == -1 && y[2] == 1 && y[3] == 0 && y[4] == -1,
           "%s: tanh at its edges", k->name);
    s->sigmoid(x, y, 5);
    tap_ok(isnan(y[0]) && y[1] == 0 && y[2] == 1 && y[3] == 0.5f && y[4] == 0,
           "%s: sigmoid at its edges", k->name);
    s->gelu(x, y, 5);
    tap_ok(isnan(y[0]) && isinf(y[2]) && y[3] == 0 && y[4] == 0, "%s: gelu at its edges", k->name);
    s->gelu_back(x, ones, y, 5);
    tap_ok(isnan(y[0]) && fabsf(y[3] - 0.5f) < 1e-6f && y[4] == 0, "%s: gelu_back at its edges",
           k->name);
}

static bool same_places(map_fn f, const float *x, const float *whole, float *y, size_t from,
                        size_t n)
{
    memset(y, 0x55, (n + 8) * sizeof(float));
    f(x + from, y, n);
    bool same = !memcmp(y, whole + from, n * sizeof(float));
    for (size_t i = n; i < n + 8; i++) {
        uint32_t bits;
        memcpy(&bits, y + i, sizeof(bits));
        same = same && bits == 0x55555555;
    }
    return same;
}

/* The same bits wherever a number stands, and not a float beyond the end; in place, too. */
static void test_places(const struct dml_kernel *k)
{
    const map_fn all[] = {k->smooth->exp, k->smooth->tanh, k->smooth->sigmoid, k->smooth->gelu};
    float *x = numbers(100, 1), whole[100], y[108], back[100];
    bool same = true;
    for (size_t f = 0; f < ARRAY_SIZE(all); f++) {
        all[f](x, whole, 100);
        for (size_t n = 0; n <= 50; n++)
            same = same && same_places(all[f], x, whole, y, n % 7, n);
        memcpy(y, x, 100 * sizeof(float));
        all[f](y, y, 100);
        same = same && !memcmp(y, whole, sizeof(whole));
    }
    k->smooth->gelu_back(x, x, back, 100);
    for (size_t n = 0; n <= 50; n++) {
        memcpy(y, x + 3, n * sizeof(float));
        y[n] = 7.0f;
        k->smooth->gelu_back(x + 3, y, y, n);
        same = same && !memcmp(y, back + 3, n * sizeof(float)) && y[n] == 7.0f;
    }
    tap_ok(same, "%s: the same bits in every place, none beyond the end", k->name);
    free(x);
}

static void test_softmax(const struct dml_kernel *k)
{
    bool kept = true;
    worst = 0.0;
    for (size_t n = 1; n <= 70; n++) {
        float *x = numbers(n, 1), *a = numbers(n + 1, 1), *da = numbers(n + 1, 2);
        float *dy = numbers(n, 2), scale = 3.0f;
        double sum = 0.0, dot = 0.0;
        a[n] = da[n] = 7.0f;
        k->smooth->softmax(a, n, scale);
        for (size_t i = 0; i < n; i++)
            sum += exp((double)scale * (double)x[i]);
        for (size_t i = 0; i < n; i++)
            dot += exp((double)scale * (double)x[i]) / sum * (double)dy[i];
        k->smooth->softmax_back(a, da, n, scale);
        for (size_t i = 0; i < n; i++) {
            double want = exp((double)scale * (double)x[i]) / sum;
            differ((double)a[i], want);
            differ((double)da[i], want * ((double)dy[i] - dot) * (double)scale);
        }
        kept = kept && a[n] == 7.0f && da[n] == 7.0f;
        free(x);
        free(a);
        free(da);
        free(dy);
    }
    tap_ok(worst < 1e-6 && kept, "%s: softmax and back, max difference %.1e", k->name, worst);
    float a[3] = {1e30f, -1e30f, 1e30f}, b[3] = {1.0f, NAN, 2.0f};
    k->smooth->softmax(a, 3, 1.0f);
    tap_ok(a[0] == 0.5f && a[1] == 0.0f && a[2] == 0.5f, "%s: of huge numbers", k->name);
    k->smooth->softmax(b, 3, 1.0f);
    tap_ok(isnan(b[0]) && isnan(b[1]) && isnan(b[2]), "%s: with one that is none", k->name);
}

int main(void)
{
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++) {
        test_values(k);
        test_edges(k);
        test_places(k);
        test_softmax(k);
    }
    return tap_done();
}
