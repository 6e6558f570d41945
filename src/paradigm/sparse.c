#include "paradigm/sparse.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "nn/vec.h"

enum form { DENSE, MASK, LIST, N_FORMS };

struct header {
    uint32_t form, zero;
    uint64_t count;
};

static size_t length(enum form form, uint64_t count, size_t n)
{
    size_t values = (size_t)count * sizeof(float);
    if (form == MASK)
        values += dml_sparse_words(n) * sizeof(uint64_t);
    if (form == LIST)
        values += (size_t)count * sizeof(uint32_t);
    return sizeof(struct header) + values;
}

static enum form shortest(uint64_t count, size_t n)
{
    enum form form = length(LIST, count, n) < length(MASK, count, n) ? LIST : MASK;
    return length(form, count, n) < length(DENSE, n, n) ? form : DENSE;
}

size_t dml_sparse_room(size_t n)
{
    return length(DENSE, n, n);
}

size_t dml_sparse_choose(const float *change, const float *value, size_t n, double factor,
                         double threshold, uint64_t *mask)
{
    float scale = (float)fabs(factor), least = (float)threshold;
    size_t count = 0;
    for (size_t at = 0; at < n; at += 64) {
        size_t end = n - at < 64 ? n - at : 64;
        uint64_t word = 0;
        for (size_t i = 0; i < end; i++) {
            bool is_significant = scale * fabsf(change[at + i]) > least * fabsf(value[at + i]);
            word |= (uint64_t)is_significant << i;
        }
        mask[at / 64] = word;
        count += (size_t)__builtin_popcountll(word);
    }
    return count;
}

static void choose_all(uint64_t *mask, size_t n)
{
    memset(mask, 0xff, n / 64 * sizeof(uint64_t));
    if (n % 64)
        mask[n / 64] = (UINT64_C(1) << n % 64) - 1;
}

static uint64_t count_of(const uint64_t *mask, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < dml_sparse_words(n); i++)
        count += (uint64_t)__builtin_popcountll(mask[i]);
    return count;
}

size_t dml_sparse_pack(const float *x, uint64_t *io_mask, size_t n, unsigned char *out)
{
    assert(n <= DML_SPARSE_N_MAX && (uintptr_t)out % sizeof(uint64_t) == 0);
    uint64_t count = count_of(io_mask, n);
    struct header h = {.form = shortest(count, n), .count = count};
    unsigned char *body = out + sizeof(h);
    if (h.form == DENSE) {
        choose_all(io_mask, n);
        h.count = n;
        memcpy(body, x, n * sizeof(float));
        memcpy(out, &h, sizeof(h));
        return length(DENSE, n, n);
    }
    memcpy(out, &h, sizeof(h));
    size_t len = length((enum form)h.form, count, n), k = 0;
    uint32_t *places = h.form == LIST ? (uint32_t *)(void *)body : NULL;
    float *values = (float *)(void *)(out + len - (size_t)count * sizeof(float));
    if (h.form == MASK)
        memcpy(body, io_mask, dml_sparse_words(n) * sizeof(uint64_t));
    for (size_t w = 0; w < dml_sparse_words(n); w++)
        for (uint64_t word = io_mask[w]; word; word &= word - 1) {
            size_t i = w * 64 + (size_t)__builtin_ctzll(word);
            if (places)
                places[k] = (uint32_t)i;
            values[k++] = x[i];
        }
    return len;
}

static bool places_ascend(const uint32_t *places, size_t count, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (places[i] >= n || (i > 0 && places[i] <= places[i - 1]))
            return false;
    return true;
}

static bool mask_counts(const uint64_t *mask, uint64_t count, size_t n)
{
    return count_of(mask, n) == count && (n % 64 == 0 || mask[n / 64] >> n % 64 == 0);
}

int dml_sparse_check(const unsigned char *bytes, size_t len, size_t n)
{
    assert(n <= DML_SPARSE_N_MAX && (uintptr_t)bytes % sizeof(uint64_t) == 0);
    struct header h;
    if (len < sizeof(h))
        return -EPROTO;
    memcpy(&h, bytes, sizeof(h));
    if (h.form >= N_FORMS || h.zero != 0 || h.count > n || (h.form == DENSE && h.count != n) ||
        len != length((enum form)h.form, h.count, n))
        return -EPROTO;
    const void *body = bytes + sizeof(h);
    bool ok = h.form == DENSE || (h.form == LIST ? places_ascend(body, (size_t)h.count, n)
                                                 : mask_counts(body, h.count, n));
    return ok ? 0 : -EPROTO;
}

size_t dml_sparse_count(const unsigned char *bytes)
{
    struct header h;
    memcpy(&h, bytes, sizeof(h));
    return (size_t)h.count;
}

/* What sound bytes hold, place by place. */
struct cursor {
    struct header h;
    const uint32_t *places;
    const uint64_t *mask;
    const float *values;
};

static struct cursor open_bytes(const unsigned char *bytes, size_t n)
{
    struct cursor c;
    memcpy(&c.h, bytes, sizeof(c.h));
    const void *body = bytes + sizeof(c.h);
    c.places = body;
    c.mask = body;
    c.values = (const float *)(const void *)(bytes + length((enum form)c.h.form, c.h.count, n) -
                                             (size_t)c.h.count * sizeof(float));
    return c;
}

void dml_sparse_set(const unsigned char *bytes, size_t n, float *io_x)
{
    struct cursor c = open_bytes(bytes, n);
    if (c.h.form == DENSE)
        memcpy(io_x, c.values, n * sizeof(float));
    for (size_t k = 0; c.h.form == LIST && k < c.h.count; k++)
        io_x[c.places[k]] = c.values[k];
    for (size_t w = 0, k = 0; c.h.form == MASK && w < dml_sparse_words(n); w++)
        for (uint64_t word = c.mask[w]; word; word &= word - 1)
            io_x[w * 64 + (size_t)__builtin_ctzll(word)] = c.values[k++];
}

void dml_sparse_add(const unsigned char *bytes, size_t n, float *io_x)
{
    struct cursor c = open_bytes(bytes, n);
    if (c.h.form == DENSE)
        dml_vec_axpy(io_x, 1.0f, c.values, n);
    for (size_t k = 0; c.h.form == LIST && k < c.h.count; k++)
        io_x[c.places[k]] += c.values[k];
    for (size_t w = 0, k = 0; c.h.form == MASK && w < dml_sparse_words(n); w++)
        for (uint64_t word = c.mask[w]; word; word &= word - 1)
            io_x[w * 64 + (size_t)__builtin_ctzll(word)] += c.values[k++];
}

void dml_sparse_clear(float *io_x, const uint64_t *mask, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (mask[i / 64] >> i % 64 & 1)
            io_x[i] = 0.0f;
}
