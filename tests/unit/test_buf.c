/* Memory and buffers: alignment, checked products, references also from several threads. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "tests/tap.h"

static bool aligned(const void *p)
{
    return p && (uintptr_t)p % DML_MEM_ALIGN == 0;
}

static void test_mem(void)
{
    size_t size = 7;
    tap_ok(!dml_mem_mul(SIZE_MAX / 2, 3, &size), "a product that does not fit is refused");
    tap_int((long long)size, 7, "and nothing is set");
    tap_ok(dml_mem_mul(6, 7, &size) && size == 42, "a product");
    tap_ok(dml_mem_array(SIZE_MAX / 4, 8) == NULL, "an array beyond memory is NULL");
    tap_ok(dml_mem_array(SIZE_MAX - 8, 1) == NULL, "also when rounding up would overflow");
    _cleanup_(dml_mem_freep) float *f = dml_mem_floats(1001);
    tap_ok(aligned(f), "floats are aligned");
    bool zero = true;
    for (int i = 0; i < 1001; i++)
        zero &= f[i] == 0.0f;
    tap_ok(zero, "and zero");
    _cleanup_(dml_mem_freep) void *none = dml_mem_array(0, 8);
    tap_ok(none != NULL, "an empty array is a pointer");
    _cleanup_(dml_mem_freep) char *text = dml_mem_printf("%d:%s", 3, "six");
    tap_str(text, "3:six", "printf");
}

static void *juggle(void *arg)
{
    struct dml_buf *buf = arg;
    for (int i = 0; i < 100000; i++) {
        struct dml_buf *mine = dml_buf_ref(buf);
        (void)dml_buf_unref(mine);
    }
    return dml_buf_unref(buf);
}

static void test_buf(void)
{
    struct dml_buf *buf = dml_buf_new_floats(3);
    tap_ok(buf && aligned(buf->data), "data is aligned");
    tap_int((long long)buf->len, 12, "length in bytes");
    dml_buf_floats(buf)[2] = 1.5f;
    tap_ok(dml_buf_is_sole(buf), "one reference");
    struct dml_buf *second = dml_buf_ref(buf);
    tap_ok(second == buf && !dml_buf_is_sole(buf), "two references");
    tap_ok(dml_buf_unref(second) == NULL, "unref returns NULL");
    tap_ok(dml_buf_is_sole(buf), "one again");
    tap_near(dml_buf_floats(buf)[2], 1.5, 0.0, "the data is still there");
    buf = dml_buf_unref(buf);
    tap_ok(dml_buf_unref(NULL) == NULL && dml_buf_ref(NULL) == NULL, "NULL is fine");
    tap_ok(!dml_buf_new(SIZE_MAX - 1) && !dml_buf_new_floats(SIZE_MAX / 2), "sizes are checked");

    _cleanup_(dml_buf_unrefp) struct dml_buf *copy = dml_buf_new_copy("abc", 3);
    tap_ok(copy && copy->len == 3 && !memcmp(copy->data, "abc", 3), "a copy");
    _cleanup_(dml_buf_unrefp) struct dml_buf *empty = dml_buf_new_copy(NULL, 0);
    tap_ok(empty && empty->len == 0, "an empty buffer");

    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        (void)pthread_create(&t[i], NULL, juggle, dml_buf_ref(copy));
    for (int i = 0; i < 4; i++)
        (void)pthread_join(t[i], NULL);
    tap_int(copy->refs, 1, "threads leave the count right");
}

int main(void)
{
    test_mem();
    test_buf();
    return tap_done();
}
