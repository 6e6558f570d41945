/*
 * One allocation per buffer: the struct fills the first line, the data starts on the next one. The
 * count is touched with the compiler's atomics, not <stdatomic.h>, so that the header stays plain
 * C for every reader of it.
 *
 * A reference is taken relaxed (whoever takes one already holds one). Dropping is release, and the
 * last drop acquires, so that every write made under another reference is seen before the block is
 * freed; is_sole() acquires for the same reason, before its caller writes.
 */
#include "base/buf.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct dml_buf) <= DML_MEM_ALIGN, "the head of a buffer fits in one line");

struct dml_buf *dml_buf_new(size_t len)
{
    if (len > PTRDIFF_MAX - 2 * DML_MEM_ALIGN)
        return NULL;
    size_t lines = len / DML_MEM_ALIGN + 2;
    struct dml_buf *buf = aligned_alloc(DML_MEM_ALIGN, lines * DML_MEM_ALIGN);
    if (!buf)
        return NULL;
    buf->len = len;
    buf->refs = 1;
    buf->data = (unsigned char *)buf + DML_MEM_ALIGN;
    return buf;
}

struct dml_buf *dml_buf_new_floats(size_t n)
{
    size_t len;
    return dml_mem_mul(n, sizeof(float), &len) ? dml_buf_new(len) : NULL;
}

struct dml_buf *dml_buf_new_copy(const void *data, size_t len)
{
    struct dml_buf *buf = dml_buf_new(len);
    if (buf && len)
        memcpy(buf->data, data, len);
    return buf;
}

struct dml_buf *dml_buf_ref(struct dml_buf *buf)
{
    if (buf)
        (void)__atomic_fetch_add(&buf->refs, 1, __ATOMIC_RELAXED);
    return buf;
}

struct dml_buf *dml_buf_unref(struct dml_buf *buf)
{
    if (buf && __atomic_sub_fetch(&buf->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(buf);
    return NULL;
}

bool dml_buf_is_sole(const struct dml_buf *buf)
{
    return __atomic_load_n(&buf->refs, __ATOMIC_ACQUIRE) == 1;
}
