/*
 * Own products (nn/kernel_gemm.h) against OpenBLAS at the shapes of the shipped models, GFLOP/s on
 * one thread and their ratio.
 *
 *     make bench-gemm, or bench/bench_gemm
 *
 * Both take turns, and the best of several windows counts. For OpenBLAS bias and relu are not
 * counted; for the own products they come along where a model has them.
 */
#include "nn/kernel_gemm.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "nn/gemm.h"
#include "nn/kernel.h"

#define WINDOWS   7
#define WINDOW_US 4000

enum way { NN, NT, TN };

static const struct {
    const char *what;
    size_t m, n, k; /* of the forward product: B or places, O, D */
} shapes[] = {
    {"mlp 6-64, B 32", 32, 64, 6},
    {"mlp 64-64, B 32", 32, 64, 64},
    {"mlp 64-64, B 128", 128, 64, 64},
    {"mlp 64-32, B 32", 32, 32, 64},
    {"mlp 32-3, B 32", 32, 3, 32},
    {"cnn 400-120, B 4", 4, 120, 400},
    {"cnn 400-120, B 16", 16, 120, 400},
    {"cnn 400-120, B 32", 32, 120, 400},
    {"cnn 400-120, B 128", 128, 120, 400},
    {"cnn 120-84, B 4", 4, 84, 120},
    {"cnn 120-84, B 32", 32, 84, 120},
    {"cnn 84-10, B 4", 4, 10, 84},
    {"cnn 84-10, B 32", 32, 10, 84},
    {"1x1 32-16, 1024 places", 1024, 16, 32},
    {"1x1 16-96, 1024 places", 1024, 96, 16},
    {"1x1 24-144, 256 places", 256, 144, 24},
    {"1x1 144-24, 256 places", 256, 24, 144},
    {"1x1 32-192, 64 places", 64, 192, 32},
    {"1x1 64-384, 32 x 4 places", 128, 384, 64},
    {"1x1 384-64, 32 x 4 places", 128, 64, 384},
    {"1x1 576-96, 32 x 4 places", 128, 96, 576},
    {"1x1 160-960, 32 places", 32, 960, 160},
    {"1x1 960-160, 32 places", 32, 160, 960},
    {"1x1 320-1280, 32 places", 32, 1280, 320},
};

struct subject {
    enum way way;
    struct dml_kernel_product p;
};

static void own(const struct dml_kernel_gemm *gemm, const struct subject *s)
{
    (s->way == NN ? gemm->nn : s->way == NT ? gemm->nt : gemm->tn)(&s->p);
}

static void blas(const struct subject *s)
{
    const struct dml_kernel_product *p = &s->p;
    dml_gemm(s->way == TN, s->way == NT, p->m, p->n, p->k, p->a, p->lda, p->b, p->ldb,
             p->add ? 1.0f : 0.0f, p->c, p->ldc);
}

/* GFLOP/s of one window. */
static double window(const struct dml_kernel_gemm *gemm, const struct subject *s)
{
    uint64_t began = dml_clock_now_us(), now;
    size_t n = 0;
    do {
        for (unsigned i = 0; i < 8; i++, n++) {
            if (gemm)
                own(gemm, s);
            else
                blas(s);
        }
        now = dml_clock_now_us();
    } while (now - began < WINDOW_US);
    return 2e-3 * (double)(s->p.m * s->p.n * s->p.k * n) / (double)(now - began);
}

static void compare(const struct dml_kernel_gemm *gemm, const struct subject *s)
{
    double best[2] = {0};
    for (unsigned w = 0; w < WINDOWS; w++) {
        double ours = window(gemm, s), theirs = window(NULL, s);
        best[0] = ours > best[0] ? ours : best[0];
        best[1] = theirs > best[1] ? theirs : best[1];
    }
    printf("  %6.1f /%6.1f %5.2f", best[0], best[1], best[0] / best[1]);
}

int main(void)
{
    const struct dml_kernel *kernel = dml_kernel_get();
    const size_t n = 1 << 21;
    _cleanup_(dml_mem_freep) float *a = dml_mem_floats(n);
    _cleanup_(dml_mem_freep) float *b = dml_mem_floats(n);
    _cleanup_(dml_mem_freep) float *c = dml_mem_floats(n);
    if (!a || !b || !c)
        return 1;
    for (size_t i = 0; i < n; i++)
        a[i] = b[i] = (float)(i % 17) * 1e-3f;
    printf("%s; GFLOP/s own / OpenBLAS, ratio\n%-28s  %-22s  %-22s  %s\n", kernel->name, "",
           "forward (nt)", "dX (nn)", "dW (tn)");
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        size_t m = shapes[i].m, o = shapes[i].n, d = shapes[i].k;
        const struct subject subjects[] = {
            {NT, {.m = m, .n = o, .k = d, .a = a, .lda = d, .b = b, .ldb = d, .c = c, .ldc = o}},
            {NN, {.m = m, .n = d, .k = o, .a = a, .lda = o, .b = b, .ldb = d, .c = c, .ldc = d}},
            {TN, {.m = o, .n = d, .k = m, .a = a, .lda = o, .b = b, .ldb = d, .c = c, .ldc = d}},
        };
        printf("%-28s", shapes[i].what);
        for (unsigned w = 0; w < ARRAY_SIZE(subjects); w++)
            compare(kernel->gemm, &subjects[w]);
        printf("\n");
    }
    return 0;
}
