/*
 * A data set, or a part of one, as bytes: what the master sends a worker and what the worker keeps
 * in its cache under the hash of these bytes.
 *
 * All numbers little-endian. The order:
 *
 *     magic     8 bytes  "dmldata\n"
 *     version   u32      DML_PACK_VERSION
 *     kind      u32      enum dml_dataset_kind
 *     n_samples u64
 *     channels, height, width, n_classes   u32 each
 *     total     u64      length of everything, header included
 *     mean      f32 [C]
 *     scale     f32 [C]
 *     names     per class: u32 length, bytes without control characters; length 0: the class has no
 * name labels    i32 [N] when n_classes > 0, else targets f32 [N] x         u8 or f32 [N][C][H][W]
 *
 * Nothing in it depends on time, addresses or padding, so equal samples give equal bytes. The
 * reader believes nothing: it computes what each part must take and compares with what is left
 * before it allocates, so the memory it asks for is bounded by the bytes it was given.
 */
#include "data/dataset.h"

#include <assert.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"

#define DML_PACK_VERSION 1u
#define HEAD_LEN         48u

static const char magic[8] = {'d', 'm', 'l', 'd', 'a', 't', 'a', '\n'};

struct cursor {
    const unsigned char *at;
    size_t left;
};

static void put(unsigned char **p, const void *data, size_t len)
{
    memcpy(*p, data, len);
    *p += len;
}

static void put32(unsigned char **p, uint32_t v)
{
    v = htole32(v);
    put(p, &v, sizeof(v));
}

static void put64(unsigned char **p, uint64_t v)
{
    v = htole64(v);
    put(p, &v, sizeof(v));
}

static bool take(struct cursor *c, void *to, size_t len)
{
    if (len > c->left)
        return false;
    memcpy(to, c->at, len);
    c->at += len;
    c->left -= len;
    return true;
}

static bool take32(struct cursor *c, uint32_t *ret)
{
    uint32_t v;
    if (!take(c, &v, sizeof(v)))
        return false;
    *ret = le32toh(v);
    return true;
}

static bool take64(struct cursor *c, uint64_t *ret)
{
    uint64_t v;
    if (!take(c, &v, sizeof(v)))
        return false;
    *ret = le64toh(v);
    return true;
}

static size_t value_len(enum dml_dataset_kind kind)
{
    return kind == DML_DATASET_U8 ? 1 : sizeof(float);
}

int dml_dataset_pack(const struct dml_dataset *ds, const uint32_t *index, size_t n,
                     struct dml_buf **ret)
{
    if (!n)
        return -EINVAL;
    size_t row, all, per_channel = 2 * sizeof(float), len = HEAD_LEN + ds->channels * per_channel;
    for (uint32_t k = 0; k < ds->n_classes; k++)
        len += sizeof(uint32_t) + (ds->class_names[k] ? strlen(ds->class_names[k]) : 0);
    if (!dml_mem_mul(dml_dataset_d(ds), value_len(ds->kind), &row) ||
        !dml_mem_mul(n, row + sizeof(uint32_t), &all) || all > DML_DATASET_BYTES_MAX)
        return -ENOMEM;
    len += all;
    struct dml_buf *buf = dml_buf_new(len);
    if (!buf)
        return -ENOMEM;

    unsigned char *p = buf->data;
    put(&p, magic, sizeof(magic));
    put32(&p, DML_PACK_VERSION);
    put32(&p, ds->kind);
    put64(&p, n);
    put32(&p, ds->channels);
    put32(&p, ds->height);
    put32(&p, ds->width);
    put32(&p, ds->n_classes);
    put64(&p, len);
    put(&p, ds->mean, ds->channels * sizeof(float));
    put(&p, ds->scale, ds->channels * sizeof(float));
    for (uint32_t k = 0; k < ds->n_classes; k++) {
        size_t name_len = ds->class_names[k] ? strlen(ds->class_names[k]) : 0;
        put32(&p, (uint32_t)name_len);
        put(&p, name_len ? ds->class_names[k] : "", name_len);
    }
    for (size_t i = 0; i < n; i++) {
        assert(index[i] < ds->n_samples);
        if (ds->n_classes)
            put32(&p, (uint32_t)ds->labels[index[i]]);
        else
            put(&p, &ds->targets[index[i]], sizeof(float));
    }
    for (size_t i = 0; i < n; i++)
        put(&p, (const char *)ds->x + index[i] * row, row);
    assert(p == buf->data + len);
    *ret = buf;
    return 0;
}

static int bad(struct dml_err *err, const char *what)
{
    return dml_err_set(err, -EBADMSG, "packed data set: %s", what);
}

static bool all_finite(const float *v, size_t n)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok &= (bool)isfinite(v[i]);
    return ok;
}

/* What the parts without names take; false when that cannot be, given `left`. */
static bool fits(uint64_t n, size_t channels, uint32_t height, uint32_t width, uint32_t n_classes,
                 enum dml_dataset_kind kind, size_t left)
{
    size_t d, samples;
    if (n > UINT32_MAX || channels > left / (2 * sizeof(float)))
        return false;
    left -= channels * 2 * sizeof(float);
    if (n_classes > left / sizeof(uint32_t))
        return false;
    left -= n_classes * sizeof(uint32_t);
    return dml_mem_mul(channels, height, &d) && dml_mem_mul(d, width, &d) &&
           dml_mem_mul(d, value_len(kind), &d) && d <= left &&
           dml_mem_mul(n, d + sizeof(uint32_t), &samples) && samples <= left;
}

static int take_names(struct cursor *c, struct dml_dataset *ds, struct dml_err *err)
{
    for (uint32_t k = 0; k < ds->n_classes; k++) {
        uint32_t len;
        char name[DML_DATASET_NAME_MAX];
        if (!take32(c, &len) || len >= sizeof(name) || !take(c, name, len))
            return bad(err, "torn or overlong class name");
        for (uint32_t i = 0; i < len; i++)
            if (iscntrl((unsigned char)name[i]))
                return bad(err, "a control character in a class name");
        if (len && !(ds->class_names[k] = strndup(name, len)))
            return -ENOMEM;
    }
    return 0;
}

int dml_dataset_unpack(const void *data, size_t len, struct dml_dataset **ret, struct dml_err *err)
{
    struct cursor c = {data, len};
    char found[sizeof(magic)];
    uint32_t version, kind, channels, height, width, n_classes;
    uint64_t n, total;
    if (!take(&c, found, sizeof(found)) || memcmp(found, magic, sizeof(magic)))
        return bad(err, "it does not begin as one");
    if (!take32(&c, &version))
        return bad(err, "torn header");
    if (version != DML_PACK_VERSION)
        return dml_err_set(err, -EBADMSG, "packed data set: version %u, this program reads %u",
                           version, DML_PACK_VERSION);
    if (!take32(&c, &kind) || !take64(&c, &n) || !take32(&c, &channels) || !take32(&c, &height) ||
        !take32(&c, &width) || !take32(&c, &n_classes) || !take64(&c, &total))
        return bad(err, "torn header");
    if (total != len)
        return dml_err_set(err, -EBADMSG,
                           "packed data set: %zu bytes where its header says %" PRIu64 "", len,
                           total);
    if (kind > DML_DATASET_F32 || n_classes > DML_DATASET_CLASSES_MAX || !n || !channels ||
        !height || !width || !fits(n, channels, height, width, n_classes, kind, c.left))
        return bad(err, "its header is impossible");

    _cleanup_(dml_dataset_freep) struct dml_dataset *ds =
        dml_dataset_new(kind, n, channels, height, width, n_classes);
    if (!ds)
        return -ENOMEM;
    if (!take(&c, ds->mean, channels * sizeof(float)) ||
        !take(&c, ds->scale, channels * sizeof(float)))
        return bad(err, "torn statistics");
    if (!all_finite(ds->mean, channels) || !all_finite(ds->scale, channels))
        return bad(err, "statistics that are no numbers");
    int r = take_names(&c, ds, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        uint32_t label;
        if (!n_classes) {
            if (!take(&c, &ds->targets[i], sizeof(float)) || !isfinite(ds->targets[i]))
                return bad(err, "torn or odd targets");
            continue;
        }
        if (!take32(&c, &label) || label >= n_classes)
            return bad(err, "torn labels, or one out of range");
        ds->labels[i] = (int32_t)label;
    }
    size_t x_len = n * dml_dataset_d(ds) * value_len(kind);
    if (c.left != x_len || !take(&c, ds->x, x_len))
        return bad(err, "samples of the wrong length");
    if (kind == DML_DATASET_F32 && !all_finite(ds->x, n * dml_dataset_d(ds)))
        return bad(err, "inputs that are no numbers");
    *ret = ds;
    ds = NULL;
    return 0;
}
