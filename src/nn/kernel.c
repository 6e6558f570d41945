/*
 * Which build of the hot loops this processor runs.
 *
 * A Debian amd64 binary is compiled for SSE2, which leaves two thirds of the speed of the usual
 * machine unused; so the loops are also compiled for AVX2 + FMA and for AVX-512 (configure decides
 * whether the compiler can). Arm64's baseline has NEON: there is one table there.
 *
 * The environment may ask for less (DML_KERNEL=avx2), so that levels can be compared and a fault
 * can be laid at the door of one of them. A level that is unknown or not there changes nothing.
 */
#include "nn/kernel.h"

#include <stdlib.h>
#include <string.h>

extern const struct dml_kernel dml_kernel_base;
#ifdef DML_X86_LEVELS
extern const struct dml_kernel dml_kernel_v3, dml_kernel_v4;
#endif

const struct dml_kernel *dml_kernel_nth(size_t i)
{
    const struct dml_kernel *tables[3];
    size_t n = 0;
    tables[n++] = &dml_kernel_base;
#ifdef DML_X86_LEVELS
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        tables[n++] = &dml_kernel_v3;
    if (n == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        tables[n++] = &dml_kernel_v4;
#endif
    return i < n ? tables[i] : NULL;
}

const struct dml_kernel *dml_kernel_get(void)
{
    const struct dml_kernel *best = &dml_kernel_base, *next;
    const char *most = getenv("DML_KERNEL");
    for (size_t i = 0; (next = dml_kernel_nth(i)); i++) {
        best = next;
        if (most && !strcmp(most, best->name))
            break;
    }
    return best;
}
