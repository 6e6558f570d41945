/*
 * The hot loops of every level this processor can run, and the matrix product, against three plain
 * loops in double, over shapes that do not fit the vectors.
 */
#include "nn/kernel.h"

#include "nn/gemm.h"
#include "nn/kernel_gemm.h"
#include "tests/tap.h"
#define NUMBERS_SLACK (4 * DML_KERNEL_SLACK)
#include "tests/unit/kernel_help.h"

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

/* One shape in all its variants. The rows are `pad` longer than they need be, except where a matrix
 * ends exactly at its last number; what lies between the rows of c must not change. */
static void product(const struct dml_kernel_gemm *gemm, size_t m, size_t n, size_t k, size_t pad,
                    bool add, bool relu)
{
    const dml_kernel_product_fn fns[] = {gemm->nn, gemm->nt, gemm->tn};
    for (unsigned f = 0; f < 3; f++) {
        bool ta = f == 2, tb = f == 1;
        struct dml_kernel_product p = {.m = m, .n = n, .k = k, .add = add, .relu = relu};
        p.lda = (ta ? m : k) + pad;
        p.ldb = (tb ? k : n) + pad;
        p.ldc = n + pad;
        size_t n_a = (ta ? k : m) * p.lda - pad, n_b = (tb ? n : k) * p.ldb - pad;
        n_a = k ? n_a : 0;
        n_b = k ? n_b : 0;
        float *a = malloc((n_a + 1) * sizeof(float)), *b = malloc((n_b + 1) * sizeof(float));
        float *c = malloc(m * p.ldc * sizeof(float)), *want = malloc(m * p.ldc * sizeof(float));
        float *bias = numbers(n, 4);
        ref_fill(a, n_a, 1.0, 1);
        ref_fill(b, n_b, 1.0, 2);
        ref_fill(c, m * p.ldc, 1.0, 3);
        ref_fill(want, m * p.ldc, 1.0, 3);
        if (!add)
            c[0] = NAN; /* it is not read */
        p.a = a;
        p.b = b;
        p.c = c;
        p.bias = pad == 1 ? NULL : bias;
        fns[f](&p);
        dml_gemm_naive(ta, tb, m, n, k, a, p.lda, b, p.ldb, add ? 1.0f : 0.0f, want, p.ldc);
        for (size_t i = 0; i < m * p.ldc; i++) {
            bool inside = i % p.ldc < n;
            double w = (double)want[i] + (inside && p.bias ? (double)bias[i % p.ldc] : 0.0);
            differ((double)c[i], inside && relu && w < 0.0 ? 0.0 : w);
        }
        free(a);
        free(b);
        free(c);
        free(want);
        free(bias);
    }
}

static void test_products(const struct dml_kernel *kernel)
{
    const struct dml_kernel_gemm *gemm = kernel->gemm;
    static const size_t ks[] = {0, 1, 2, 3, 4, 7, 16, 33, 64, 75, 100};
    worst = 0.0;
    for (size_t m = 1; m <= 13; m += m < 7 ? 1 : 3)
        for (size_t n = 1; n <= 70; n += n < 20 ? 1 : 7)
            for (size_t i = 0; i < ARRAY_SIZE(ks); i++)
                product(gemm, m, n, ks[i], (m + n + i) % 3, (m + i) % 2, (n + i) % 2);
    tap_ok(worst < TOLERANCE, "%s: products of odd shapes, max difference %.1e", kernel->name,
           worst);
    static const size_t shapes[][3] = {{32, 120, 400}, {4, 120, 400}, {120, 400, 32},
                                       {32, 10, 84},   {6, 784, 75},  {20, 96, 700}};
    worst = 0.0;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
        for (unsigned v = 0; v < 4; v++)
            product(gemm, shapes[i][0], shapes[i][1], shapes[i][2], 0, v & 1, v & 2);
    tap_ok(worst < 2 * TOLERANCE, "%s: products of the models' shapes, max difference %.1e",
           kernel->name, worst);
    float a[3] = {1.0f, NAN, -1.0f}, b[1] = {1.0f}, c[3];
    const struct dml_kernel_product p = {
        .m = 3, .n = 1, .k = 1, .a = a, .lda = 1, .b = b, .ldb = 1, .c = c, .ldc = 1, .relu = true};
    gemm->nn(&p);
    tap_ok(c[0] == 1.0f && isnan(c[1]) && c[2] == 0.0f, "%s: not a number goes through relu",
           kernel->name);
}

/* Few rows: another way to the same bits. With a bias, here of zeros, tiles do it. */
static void test_outer(const struct dml_kernel *kernel)
{
    size_t n_products = 0, n_off = 0;
    for (size_t k = 1; k <= 5; k++)
        for (size_t m = 1; m <= 5; m++)
            for (size_t n = 8; n <= 67; n++) {
                _cleanup_(dml_mem_freep) float *a = malloc(k * m * sizeof(float));
                _cleanup_(dml_mem_freep) float *b = malloc(k * n * sizeof(float));
                _cleanup_(dml_mem_freep) float *c = malloc(m * n * sizeof(float));
                _cleanup_(dml_mem_freep) float *tiles = malloc(m * n * sizeof(float));
                _cleanup_(dml_mem_freep) float *zeros = dml_mem_floats(n);
                ref_fill(a, k * m, 1.0, 1);
                ref_fill(b, k * n, 1.0, 2);
                ref_fill(c, m * n, 1.0, 3);
                ref_fill(tiles, m * n, 1.0, 3);
                a[0] = 0.0f;
                b[n - 1] = -0.0f;
                struct dml_kernel_product p = {.m = m,
                                               .n = n,
                                               .k = k,
                                               .a = a,
                                               .lda = m,
                                               .b = b,
                                               .ldb = n,
                                               .c = c,
                                               .ldc = n,
                                               .add = n % 2};
                kernel->gemm->tn(&p);
                p.c = tiles;
                p.bias = zeros;
                kernel->gemm->tn(&p);
                n_products++;
                n_off += memcmp(c, tiles, m * n * sizeof(float)) != 0;
            }
    tap_ok(n_off == 0, "%s: of %zu products of few rows, %zu differ in their bits from tiles",
           kernel->name, n_products, n_off);
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

/* What is not a number wins, wherever in its window it lies and however much the others are. */
static void test_pool_not_a_number(const struct dml_kernel *k)
{
    enum { W = 45 }; /* windows: whole vectors of every level, and some more */
    const struct dml_kernel_pool p = {.n = 1, .h = 1, .w = W, .x_row = 2 * W, .x_plane = 4 * W};
    float *x = numbers(4 * W + DML_KERNEL_SLACK, 1), y[4][W];
    uint32_t at[W];
    unsigned wrong = 0;
    for (size_t place = 0; place < 4; place++) {
        for (size_t i = 0; i < 4 * W; i++)
            x[i] = (float)(i % 7) - 2.0f;
        for (size_t j = 0; j < W; j += 3)
            x[place / 2 * 2 * W + 2 * j + place % 2] = NAN;
        k->max_pool_2(x, 1, 2 * W, y[0], at);
        k->max_pool_2(x, 1, 2 * W, y[1], NULL);
        k->relu_pool_2(&p, x, y[2], at);
        k->relu_pool_2(&p, x, y[3], NULL);
        for (size_t i = 0; i < 4 * W; i++)
            wrong += !isnan(y[i / W][i % W]) != (i % W % 3 != 0);
    }
    free(x);
    tap_ok(wrong == 0, "%s: pooling keeps what is not a number, wrong for %u windows", k->name,
           wrong);
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

static void test_sum_rows(const struct dml_kernel *k)
{
    worst = 0.0;
    bool same = true;
    for (size_t cols = 1; cols <= 70; cols += cols < 20 ? 1 : 7)
        for (size_t rows = 0; rows < 8; rows += 3)
            for (unsigned masked = 0; masked < 2; masked++) {
                float *y = numbers(rows * cols, 1), *dy = numbers(rows * cols, 2);
                float *dz = numbers(rows * cols, 3), *sum = numbers(cols, 4);
                float *old = numbers(cols, 4);
                k->sum_rows(masked ? y : NULL, dy, rows, cols, masked ? dz : NULL, sum);
                for (size_t c = 0; c < cols; c++) {
                    double want = (double)old[c];
                    for (size_t i = c; i < rows * cols; i += cols) {
                        float v = !masked || y[i] > 0.0f ? dy[i] : 0.0f;
                        want += (double)v;
                        same = same && (!masked || dz[i] == v);
                    }
                    differ((double)sum[c], want);
                }
                free(y);
                free(dy);
                free(dz);
                free(sum);
                free(old);
            }
    tap_ok(worst < TOLERANCE && same, "%s: sum_rows, max difference %.1e", k->name, worst);
}

static uint32_t mixed(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* Against the same hash one by one, up to a length that fills no vector; and with a key that makes
 * the places wrap round. */
static void test_drop(const struct dml_kernel *k)
{
    enum { N = 1003 };
    const uint64_t keys[2] = {UINT64_C(0x0123456789abcdef), UINT64_C(0xfffffff0fffffff0)};
    const uint32_t limit = 1u << 30; /* a quarter */
    float *x = numbers(N, 3), *mask = numbers(N, 4), *y = numbers(N, 5);
    size_t n_wrong = 0, n_dropped[2] = {0}, n_same = 0;
    for (size_t i_key = 0; i_key < 2; i_key++) {
        uint32_t low = (uint32_t)keys[i_key], high = (uint32_t)(keys[i_key] >> 32);
        k->drop(keys[i_key], limit, 1.5f, x, N - i_key, mask, y);
        for (uint32_t i = 0; i < N - i_key; i++) {
            float want = mixed(mixed(i + low) + high) < limit ? 0.0f : 1.5f;
            n_wrong += mask[i] != want || y[i] != x[i] * want;
            n_dropped[i_key] += want == 0.0f;
        }
    }
    tap_ok(n_wrong == 0, "%s: drop, %zu masks or products are wrong", k->name, n_wrong);
    for (size_t i_key = 0; i_key < 2; i_key++) /* five deviations of N draws */
        tap_near((double)n_dropped[i_key], N / 4.0, 69.0, "drop: a quarter of them");
    float end = y[N - 1];
    k->drop(keys[0], 0, 1.0f, x, N - 1, mask, y);
    for (size_t i = 0; i < N - 1; i++)
        n_same += y[i] == x[i];
    tap_ok(n_same == N - 1 && y[N - 1] == end, "%s: drop nothing: %zu of %d stay, none behind",
           k->name, n_same, N - 1);
    k->times(x, x, y, N - 1);
    for (size_t i = n_wrong = 0; i < N - 1; i++)
        n_wrong += y[i] != x[i] * x[i];
    tap_ok(n_wrong == 0 && y[N - 1] == end, "%s: times, %zu products are wrong", k->name, n_wrong);
    free(x);
    free(mask);
    free(y);
}

static void test_get(void)
{
    const struct dml_kernel *first = dml_kernel_nth(0), *best = first, *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++)
        best = k;
    unsetenv("DML_KERNEL");
    tap_str(dml_kernel_get()->name, best->name, "the best level is taken");
    tap_note("level %s", dml_kernel_get()->name);
    setenv("DML_KERNEL", "sse9", 1);
    tap_str(dml_kernel_get()->name, best->name,
            "the best, when another is asked for than there is");
    setenv("DML_KERNEL", first->name, 1);
    tap_str(dml_kernel_get()->name, first->name, "the level that is asked for");
}

int main(void)
{
    test_get();
    test_gemm();
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++) {
        test_products(k);
        test_outer(k);
        test_sum_rows(k);
        test_drop(k);
        test_shifted(k);
        test_pool(k);
        test_relu_pool(k);
        test_pool_not_a_number(k);
        test_pointwise(k);
    }
    return tap_done();
}
