/*
 * A block of bytes with a reference count: what travels between ranks.
 *
 * A buffer that has been handed to a comm is read by threads we do not control (the network, the
 * other ranks of a local run), so the rule is: whoever made it may write to it only while
 * dml_buf_is_sole() holds. Sending takes a reference instead of a copy; broadcasting a model to
 * ten workers costs one block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_buf {
    size_t len;          /* bytes */
    unsigned refs;       /* atomic */
    unsigned char *data; /* DML_MEM_ALIGN-aligned, `len` bytes */
};

/* Zero-filled? No: contents are undefined. NULL when out of memory. Owner: caller, dml_buf_unref().
 */
struct dml_buf *dml_buf_new(size_t len);

/* Room for n floats. */
struct dml_buf *dml_buf_new_floats(size_t n);

/* A copy of `len` bytes. */
struct dml_buf *dml_buf_new_copy(const void *data, size_t len);

/* Returns `buf` itself; NULL is fine. */
struct dml_buf *dml_buf_ref(struct dml_buf *buf);

/* Returns NULL. NULL is fine. The last reference frees. */
struct dml_buf *dml_buf_unref(struct dml_buf *buf);

/* True when the caller holds the only reference, so that it may write. */
bool dml_buf_is_sole(const struct dml_buf *buf);

static inline float *dml_buf_floats(struct dml_buf *buf)
{
    return (float *)(void *)buf->data;
}

static inline void dml_buf_unrefp(struct dml_buf **p)
{
    (void)dml_buf_unref(*p);
}
