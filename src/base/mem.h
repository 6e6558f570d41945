/* Memory: checked sizes, aligned blocks, and clean-up of locals. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Every block that SIMD code may touch starts on such a boundary: one AVX-512 register, one line.
 */
#define DML_MEM_ALIGN 64

/* *ret_size = a * b. Returns false, and sets nothing, when the product does not fit. */
bool dml_mem_mul(size_t a, size_t b, size_t *ret_size);

/* Zeroed array of n elements of `size` bytes, aligned to DML_MEM_ALIGN. NULL when out of memory
 * or when the product overflows. Owner: caller, free(). n == 0 gives a valid pointer. */
void *dml_mem_array(size_t n, size_t size);

/* Zeroed floats, aligned to DML_MEM_ALIGN; see dml_mem_array(). */
float *dml_mem_floats(size_t n);

/* printf into a fresh string. NULL when out of memory. Owner: caller, free(). */
char *dml_mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline void dml_mem_freep(void *p)
{
    free(*(void **)p);
}

static inline void dml_mem_closep(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static inline void dml_mem_fclosep(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

/* Defines dml_…_freep() for `_cleanup_(name##p)` from a free function that accepts NULL. */
#define DML_MEM_CLEANUP(type, fn)                                                                  \
    static inline void fn##p(type **p)                                                             \
    {                                                                                              \
        fn(*p);                                                                                    \
    }                                                                                              \
    struct dml_mem_swallow_semicolon
