/*
 * One forward, one backward. A node first makes as many forward operations as are needed until its
 * first backward one can come; from then on it makes one of each in turn, which bounds what it has
 * to keep; in the end come the backward ones that are left. Source: PipeDream (Narayanan et al.
 * 2019), in the synchronous form of Narayanan et al., SC 2021, section 2.2, for V > 1 the
 * interleaved one of the same paper.
 *
 * With V > 1 the micro-batches go round in groups: a group passes the first chunk, then the second,
 * and so on; back likewise, the last chunk first. The paper has groups of S and so wants M to be a
 * multiple of S. A group smaller than S leaves gaps, since its first micro-batch is not round yet
 * when its last has left, and between full groups such gaps can even lock the ring. Therefore the M
 * micro-batches are dealt to M div S groups, as evenly as can be, the larger ones first: none has
 * less than S. With M < S there is one group and the gap is not to be had cheaper.
 *
 * All this is for transfers that take no time. In the steady state of one-forward-one-backward what
 * a node sends is what the next waits for, so whatever a transfer takes is added to the step twice
 * per micro-batch, hidden or not. To hide it each node must have something else to do: it goes one
 * more forward operation ahead for each node behind it (with V > 1 for itself too, and groups have
 * at least 2 S), as if the links were nodes. A step of 16 micro-batches on four nodes whose
 * transfers take as long as a forward operation then takes 63 of them instead of 85; 57 would be
 * without transfers.
 */
#include "paradigm/schedule.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Order of the operations of one direction. */
struct order {
    unsigned n_micro, n_chunks, n_groups;
    unsigned first, size; /* of the group at hand */
    unsigned i_group, i_chunk, i_micro;
};

static unsigned group_size(const struct order *o, unsigned i_group)
{
    return o->n_micro / o->n_groups + (i_group < o->n_micro % o->n_groups);
}

static struct order order_of(unsigned n_stages, unsigned n_chunks, unsigned n_micro, bool hides)
{
    unsigned least = hides ? 2 * n_stages : n_stages;
    struct order o = {
        .n_micro = n_micro,
        .n_chunks = n_chunks,
        .n_groups = n_micro >= least ? n_micro / least : 1,
    };
    o.size = group_size(&o, 0);
    return o;
}

static struct dml_schedule_op next(struct order *o, bool backward)
{
    struct dml_schedule_op op = {
        .backward = backward,
        .micro = o->first + o->i_micro,
        .chunk = backward ? o->n_chunks - 1 - o->i_chunk : o->i_chunk,
    };
    if (++o->i_micro < o->size)
        return op;
    o->i_micro = 0;
    if (++o->i_chunk < o->n_chunks)
        return op;
    o->i_chunk = 0;
    o->first += o->size;
    o->size = group_size(o, ++o->i_group);
    return op;
}

/* Forward operations before the first backward one, besides the one that pairs with it. */
static size_t warm_up(const struct order *o, unsigned n_stages, unsigned node, bool hides)
{
    size_t behind = n_stages - 1 - node; /* nodes behind this one */
    if (o->n_chunks == 1)
        return hides ? 2 * behind : behind;
    return 2 * behind + (size_t)(o->n_chunks - 1) * o->size + (hides ? behind + 1 : 0);
}

static int count_slots(struct dml_schedule *s, unsigned n_chunks)
{
    unsigned *now = calloc(n_chunks, sizeof(*now));
    if (!now)
        return -ENOMEM;
    for (size_t i = 0; i < s->n_ops; i++) {
        unsigned chunk = s->ops[i].chunk;
        if (s->ops[i].backward)
            now[chunk]--;
        else if (++now[chunk] > s->n_slots[chunk])
            s->n_slots[chunk] = now[chunk];
    }
    free(now);
    return 0;
}

int dml_schedule_make(unsigned n_stages, unsigned n_chunks, unsigned n_micro, unsigned node,
                      bool hides, struct dml_schedule **ret)
{
    assert(n_stages && n_chunks && n_micro && node < n_stages);
    size_t n = 0, n_ops = 0;
    if (!dml_mem_mul(n_chunks, n_micro, &n) || !dml_mem_mul(2, n, &n_ops))
        return -ENOMEM;
    _cleanup_(dml_schedule_freep) struct dml_schedule *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->n_ops = n_ops;
    s->ops = calloc(n_ops, sizeof(*s->ops));
    s->n_slots = calloc(n_chunks, sizeof(*s->n_slots));
    if (!s->ops || !s->n_slots)
        return -ENOMEM;

    struct order forward = order_of(n_stages, n_chunks, n_micro, hides), backward = forward;
    size_t warm = warm_up(&forward, n_stages, node, hides), at = 0;
    for (size_t i = 0; i < n + warm; i++) {
        if (i < n)
            s->ops[at++] = next(&forward, false);
        if (i >= warm)
            s->ops[at++] = next(&backward, true);
    }
    assert(at == n_ops);
    int r = count_slots(s, n_chunks);
    if (r < 0)
        return r;
    *ret = s;
    s = NULL;
    return 0;
}

struct dml_schedule *dml_schedule_free(struct dml_schedule *s)
{
    if (!s)
        return NULL;
    free(s->ops);
    free(s->n_slots);
    free(s);
    return NULL;
}
