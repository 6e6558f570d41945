#include "paradigm/collective.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void dml_collective_some(struct dml_collective *c, struct dml_group *g, unsigned first,
                         unsigned stride, unsigned count)
{
    *c = (struct dml_collective){.g = g, .n = count, .i = count};
    for (unsigned k = 0; k < count; k++) {
        c->members[k] = first + k * stride;
        if (c->members[k] == g->i)
            c->i = k;
    }
    assert(c->i < count);
}

void dml_collective_all(struct dml_collective *c, struct dml_group *g)
{
    dml_collective_some(c, g, 0, 1, g->n);
}

/* Where piece k of R of a vector of n floats begins. */
static size_t piece_at(const struct dml_collective *c, size_t n, unsigned k)
{
    return (size_t)((uint64_t)n * k / c->n);
}

static struct dml_buf *copy_of(struct dml_group *g, const float *x, size_t n)
{
    struct dml_buf *buf = dml_group_buf(g, n);
    if (buf)
        memcpy(buf->data, x, n * sizeof(float));
    return buf;
}

static void add(float *io_x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        io_x[i] = y[i] + io_x[i];
}

/*
 * Step k of R-1: sends piece `out` to the right, takes piece `in` from the left, which is added to
 * what is there, or replaces it. Pieces of no floats do not travel.
 */
static int pass(struct dml_collective *c, uint64_t tag, float *io_x, size_t n, unsigned out,
                unsigned in, bool sum)
{
    unsigned right = c->members[(c->i + 1) % c->n], left = c->members[(c->i + c->n - 1) % c->n];
    size_t out_at = piece_at(c, n, out), out_n = piece_at(c, n, out + 1) - out_at;
    size_t in_at = piece_at(c, n, in), in_n = piece_at(c, n, in + 1) - in_at;
    if (out_n) {
        struct dml_buf *buf = copy_of(c->g, io_x + out_at, out_n);
        int r = buf ? dml_group_send(c->g, right, tag, buf) : -ENOMEM;
        if (r < 0)
            return r;
    }
    if (!in_n)
        return 0;
    _cleanup_(dml_buf_unrefp) struct dml_buf *buf = NULL;
    int r = dml_group_recv_floats(c->g, left, tag, in_n, &buf);
    if (r < 0)
        return r;
    if (sum)
        add(io_x + in_at, dml_buf_floats(buf), in_n);
    else
        memcpy(io_x + in_at, buf->data, in_n * sizeof(float));
    return 0;
}

int dml_collective_sum(struct dml_collective *c, uint64_t tag, float *io_x, size_t n)
{
    unsigned R = c->n;
    int r = 0;
    for (unsigned k = 0; r == 0 && k + 1 < R; k++)
        r = pass(c, tag + k, io_x, n, (c->i + R - k) % R, (c->i + 2 * R - k - 1) % R, true);
    for (unsigned k = 0; r == 0 && k + 1 < R; k++)
        r = pass(c, tag + R + k, io_x, n, (c->i + 1 + R - k) % R, (c->i + R - k) % R, false);
    return r;
}

int dml_collective_mean(struct dml_collective *c, uint64_t tag, float *io_x, size_t n)
{
    int r = dml_collective_sum(c, tag, io_x, n);
    for (size_t i = 0; r == 0 && c->n > 1 && i < n; i++)
        io_x[i] /= (float)c->n;
    return r;
}

/*
 * In round k everybody tells the one 2^k places on, which has then heard, over others, of all
 * 2^(k+1) before it. Source: Hensgen, Finkel & Manber 1988, Two algorithms for barrier
 * synchronization.
 */
int dml_collective_barrier(struct dml_collective *c, uint64_t tag)
{
    int r = 0;
    for (unsigned far = 1; r == 0 && far < c->n; far *= 2, tag++) {
        struct dml_buf *none = NULL;
        r = dml_group_send(c->g, c->members[(c->i + far) % c->n], tag, NULL);
        if (r == 0)
            r = dml_group_recv(c->g, c->members[(c->i + c->n - far) % c->n], tag, &none);
        (void)dml_buf_unref(none);
    }
    return r;
}
