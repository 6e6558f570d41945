/*
 * Sparse vectors from a worker: two bytes say how long the vector should be. What is found sound
 * stays inside it, which the sanitizers watch, and can be packed again.
 */
#include "paradigm/sparse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    size_t n = 1 + (size_t)data[0] + 256 * (size_t)(data[1] % 16), n_bytes = len - 2;
    _cleanup_(dml_mem_freep) unsigned char *bytes = malloc(n_bytes ? n_bytes : 1);
    _cleanup_(dml_mem_freep) float *x = calloc(n, sizeof(float));
    if (!bytes || !x)
        return 0;
    memcpy(bytes, data + 2, n_bytes);
    if (dml_sparse_check(bytes, n_bytes, n) < 0)
        return 0;
    if (dml_sparse_count(bytes) > n)
        abort();
    dml_sparse_add(bytes, n, x);
    dml_sparse_set(bytes, n, x);
    return 0;
}
