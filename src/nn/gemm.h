/*
 * Matrix product in single precision, row-major, on the calling thread: the only door to a BLAS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * io_c [m][n] = beta io_c + op(a) op(b), where op(a) is [m][k] and op(b) is [k][n]; `ta`: a is
 * stored [k][m]; `tb`: b is stored [n][k]. lda, ldb, ldc are the lengths of the stored rows.
 * beta == 0 ignores what io_c held (also NaN).
 */
void dml_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda,
              const float *b, size_t ldb, float beta, float *io_c, size_t ldc);

/* The same, three loops summing in double: what the tests compare with. */
void dml_gemm_naive(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda,
                    const float *b, size_t ldb, float beta, float *io_c, size_t ldc);
