/*
 * Matrix product.
 *
 * OpenBLAS is told once to stay on the calling thread: the trainer splits a minibatch over its own
 * pinned threads, and a second layer of threads below it would fight for the same cores. Its
 * results depend on the shape of a call and the processor, not on time, so a run repeats bit for
 * bit on one machine.
 */
#include "nn/gemm.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>

#include <cblas.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void stay_on_thread(void)
{
    openblas_set_num_threads(1);
}

void dml_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda,
              const float *b, size_t ldb, float beta, float *io_c, size_t ldc)
{
    assert(m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    assert(lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX);
    if (m == 0 || n == 0)
        return;
    (void)pthread_once(&once, stay_on_thread);
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)k, 1.0f, a, (int)lda, b, (int)ldb, beta, io_c, (int)ldc);
}

void dml_gemm_naive(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda,
                    const float *b, size_t ldb, float beta, float *io_c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (size_t l = 0; l < k; l++)
                sum += (double)(ta ? a[l * lda + i] : a[i * lda + l]) *
                       (double)(tb ? b[j * ldb + l] : b[l * ldb + j]);
            float *c = &io_c[i * ldc + j];
            *c = (float)(beta == 0.0f ? sum : (double)beta * (double)*c + sum);
        }
    }
}
