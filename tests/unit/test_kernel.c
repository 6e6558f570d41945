/*
 * The hot loops of every level this processor can run, and the matrix product, against three plain
 * loops in double, over shapes that do not fit the vectors.
 *
 * Tolerance: a sum of n products of numbers below 1 is right to about n·6e-8 times its size; the
 * longest has 400 and reaches some 10, so 2e-4 would be the worst case, and 3e-5 is what random
 * signs leave of it.
 */
#include "nn/kernel.h"

#include "base/mem.h"
#include "nn/gemm.h"
#include "tests/tap.h"
#include "tests/unit/nn_ref.h"

#define TOLERANCE 3e-5

static double worst;

static void differ(double got, double want)
{
    double off = fabs(got - want);
    if (!(off <= worst))
        worst = off;
}

static float *numbers(size_t n, uint32_t seed)
{
    float *x = dml_mem_floats(n + 4 * DML_KERNEL_SLACK);
    ref_fill(x, n + 4 * DML_KERNEL_SLACK, 1.0, seed);
    return x;
}

static void test_gemm(void)
{
    static const size_t sizes[][3] = {{1, 1, 1},  {2, 3, 4},    {5, 1, 7},   {17, 33, 9},
                                      {6, 75, 3}, {32, 64, 64}, {3, 10, 84}, {1, 120, 400}};
    worst = 0.0;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        for (unsigned t = 0; t < 4; t++)
            for (unsigned keep = 0; keep < 2; keep++) {
                size_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2], pad = i % 3;
                bool ta = t & 1, tb = t & 2;
                size_t lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad, ldc = n + pad;
                float *a = numbers(lda * (ta ? k : m), 1), *b = numbers(ldb * (tb ? n : k), 2);
                float *c = numbers(ldc * m, 3), *want = numbers(ldc * m, 3);
                float beta = keep ? 1.0f : 0.0f;
                if (!keep)
                    c[0] = NAN; /* beta 0 ignores it */
                dml_gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
                dml_gemm_naive(ta, tb, m, n, k, a, lda, b, ldb, beta, want, ldc);
                for (size_t j = 0; j < m * ldc; j++)
                    differ((double)c[j], (double)want[j]);
                free(a);
                free(b);
                free(c);
                free(want);
            }
    tap_ok(worst < TOLERANCE, "gemm, max difference %.1e", worst);
}

static void test_shifted(const struct dml_kernel *k)
{
    static const size_t ns[] = {1, 3, 8, 17, 31, 64, 65, 140, 200};
    worst = 0.0;
    for (size_t o = 1; o <= 20; o += o < 8 ? 1 : 3)
        for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
            size_t n = ns[i], n_k = 5 + 13 * i, row = dml_kernel_round(n);
            float *x = numbers(3 * n + n_k, 4), *wt = numbers(n_k * o, 5), *bias = numbers(o, 6);
            float *y = numbers(o * row, 7);
            uint32_t *at = dml_mem_array(n_k, sizeof(uint32_t));
            for (size_t j = 0; j < n_k; j++)
                at[j] = (uint32_t)((j * 7) % (2 * n + n_k));
            k->shifted_gemm(x, at, n_k, wt, bias, o, n, y, row);
            for (size_t c = 0; c < o; c++)
                for (size_t p = 0; p < n; p++) {
                    double want = (double)bias[c];
                    for (size_t j = 0; j < n_k; j++)
                        want += (double)wt[j * o + c] * (double)x[at[j] + p];
                    differ((double)y[c * row + p], want);
                }
            free(x);
            free(wt);
            free(bias);
            free(y);
            free(at);
        }
    tap_ok(worst < TOLERANCE, "%s: shifted_gemm, max difference %.1e", k->name, worst);
}

static void test_patch(const struct dml_kernel *k)
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
                k->patch_dw(&p, x, at, v, n, dw);
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
                k->patch_dx(&p, w, at, v, n, dx);
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
    tap_ok(worst < TOLERANCE, "%s: patch_dw, patch_dx, max difference %.1e", k->name, worst);
}

static void test_pool(const struct dml_kernel *k)
{
    bool same = true;
    for (size_t w = 2; w <= 70; w += 2) {
        size_t rows = 3, half = w / 2;
        float *x = numbers(2 * rows * w, (uint32_t)w), *y = numbers(rows * half, 1);
        float *plain = numbers(rows * half, 1);
        uint32_t *at = dml_mem_array(rows * half, sizeof(uint32_t));
        if (w > 4)
            x[3] = x[2] = x[w + 2] = x[w + 3] = 9.0f; /* of equals the first wins */
        k->max_pool_2(x, rows, w, y, at);
        k->max_pool_2(x, rows, w, plain, NULL);
        for (size_t i = 0; i < rows * half; i++) {
            size_t corner = i / half * 2 * w + i % half * 2, best = corner;
            const size_t others[] = {corner + 1, corner + w, corner + w + 1};
            for (size_t j = 0; j < 3; j++)
                best = x[others[j]] > x[best] ? others[j] : best;
            same = same && at[i] == best && y[i] == x[best] && plain[i] == x[best];
        }
        free(x);
        free(y);
        free(plain);
        free(at);
    }
    tap_ok(same, "%s: max_pool_2 finds the first of the largest", k->name);
}

static void test_relu_pool(const struct dml_kernel *k)
{
    bool same = true;
    for (size_t w = 1; w <= 40; w++) {
        const struct dml_kernel_pool p = {
            .n = 3, .h = 2, .w = w, .x_row = 2 * w + 3, .x_plane = 4 * (2 * w + 3) + 5};
        size_t n = p.n * p.h * p.w;
        float *x = numbers(p.n * p.x_plane + DML_KERNEL_SLACK, (uint32_t)w);
        float *y = numbers(n, 1), *plain = numbers(n, 1);
        uint32_t *at = dml_mem_array(n, sizeof(uint32_t));
        x[0] = x[1] = x[p.x_row] = x[p.x_row + 1] = 9.0f; /* of equals the first wins */
        k->relu_pool_2(&p, x, y, at);
        k->relu_pool_2(&p, x, plain, NULL);
        for (size_t i = 0; i < n; i++) {
            const float *plane = x + i / (p.h * w) * p.x_plane;
            size_t corner = i / w % p.h * 2 * p.x_row + i % w * 2, best = corner;
            const size_t others[] = {corner + 1, corner + p.x_row, corner + p.x_row + 1};
            for (size_t j = 0; j < 3; j++)
                best = plane[others[j]] > plane[best] ? others[j] : best;
            float want = plane[best] > 0.0f ? plane[best] : 0.0f;
            same = same && at[i] == best && y[i] == want && plain[i] == want;
        }
        free(x);
        free(y);
        free(plain);
        free(at);
    }
    tap_ok(same, "%s: relu_pool_2 finds the first of the largest", k->name);
}

static void test_pointwise(const struct dml_kernel *k)
{
    enum { N = 37 };
    float *x = numbers(N, 11), *g = numbers(N, 12), *y = numbers(N, 13), *dx = numbers(N, 14);
    x[5] = 0.0f;
    x[6] = NAN;
    k->relu(x, y, N);
    bool same = true;
    for (size_t i = 0; i < N; i++)
        same = same && (i == 6 ? isnan(y[i]) : y[i] == (x[i] > 0.0f ? x[i] : 0.0f));
    tap_ok(same, "%s: relu, not a number stays one", k->name);
    k->relu_back(y, g, dx, N);
    same = true;
    for (size_t i = 0; i < N; i++)
        same = same && dx[i] == (y[i] > 0.0f ? g[i] : 0.0f);
    tap_ok(same, "%s: relu_back", k->name);

    float *w = numbers(N, 15), *m = numbers(N, 16), *old = numbers(N, 15);
    float *v = numbers(N, 17), *old_m = numbers(N, 16), *old_v = numbers(N, 17);
    worst = 0.0;
    k->sgd(w, g, m, N, 0.1f, 0.9f, 0.01f);
    for (size_t i = 0; i < N; i++) {
        double want = 0.9 * (double)old_m[i] + (double)g[i] + 0.01 * (double)old[i];
        differ((double)m[i], want);
        differ((double)w[i], (double)old[i] - 0.1 * want);
        w[i] = old[i];
    }
    k->sgd(w, g, NULL, N, 0.1f, 0.9f, 0.01f);
    for (size_t i = 0; i < N; i++)
        differ((double)w[i], (double)old[i] - 0.1 * ((double)g[i] + 0.01 * (double)old[i]));
    tap_ok(worst < TOLERANCE, "%s: sgd, max difference %.1e", k->name, worst);

    const struct dml_kernel_adam c = {0.9f, 0.99f, 1e-3f, 0.1f, 0.01f, 0.1f, 3.0f, 0.01f, 0.95f};
    worst = 0.0;
    for (size_t i = 0; i < N; i++) {
        v[i] = old_v[i] = fabsf(v[i]);
        w[i] = old[i];
        m[i] = old_m[i];
    }
    k->adam(w, g, m, v, N, &c);
    for (size_t i = 0; i < N; i++) {
        double d = (double)g[i] + 0.01 * (double)old[i];
        double want_m = 0.9 * (double)old_m[i] + 0.1 * d;
        double want_v = 0.99 * (double)old_v[i] + 0.01 * d * d;
        differ((double)m[i], want_m);
        differ((double)v[i], want_v);
        differ((double)w[i], (double)old[i] * 0.95 - 0.1 * want_m / (sqrt(want_v) * 3.0 + 1e-3));
    }
    tap_ok(worst < TOLERANCE, "%s: adam, max difference %.1e", k->name, worst);
    free(x);
    free(g);
    free(y);
    free(dx);
    free(w);
    free(m);
    free(v);
    free(old);
    free(old_m);
    free(old_v);
}

int main(void)
{
    test_gemm();
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++) {
        test_shifted(k);
        test_patch(k);
        test_pool(k);
        test_relu_pool(k);
        test_pointwise(k);
    }
    return tap_done();
}
