/*
 * Aligned memory comes from aligned_alloc(), whose size must be a multiple of the alignment; the
 * padding also lets a vector loop read, not write, up to one line past the last element.
 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

bool dml_mem_mul(size_t a, size_t b, size_t *ret_size)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *ret_size = product;
    return true;
}

void *dml_mem_array(size_t n, size_t size)
{
    size_t len;
    if (!dml_mem_mul(n, size, &len) || len > PTRDIFF_MAX - DML_MEM_ALIGN)
        return NULL;
    size_t lines = len / DML_MEM_ALIGN + 1;
    void *p = aligned_alloc(DML_MEM_ALIGN, lines * DML_MEM_ALIGN);
    if (p)
        memset(p, 0, lines * DML_MEM_ALIGN);
    return p;
}

float *dml_mem_floats(size_t n)
{
    return dml_mem_array(n, sizeof(float));
}

char *dml_mem_printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = len < 0 ? NULL : malloc((size_t)len + 1);
    if (!text)
        return NULL;
    va_start(ap, fmt);
    (void)vsnprintf(text, (size_t)len + 1, fmt, ap);
    va_end(ap);
    return text;
}
