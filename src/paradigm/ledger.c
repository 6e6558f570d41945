#include "paradigm/ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/testcase.h"
#include "nn/vec.h"
#include "paradigm/sparse.h"

struct member {
    bool in, owed;            /* owed: an answer to its last push */
    uint64_t clock;
    struct dml_buf *gradient; /* staleness 0: of step `clock`, waiting for the others' */
    float *known;             /* [P] the parameters as it has them; with the filter only */
};

struct dml_ledger {
    struct dml_ledger_options o;
    struct member *members; /* [n_ranks + 1] */
    unsigned n_members;
    uint64_t limit;         /* the first step that may not begin */
    struct dml_optim *optim;
    float *scratch;         /* [P] a gradient, or what changed */
    uint64_t *mask;
    struct dml_buf *answer; /* staleness 0 without filter: the same for all */
    uint64_t saved;         /* bytes */
};

int dml_ledger_new(const struct dml_ledger_options *o, struct dml_ledger **ret)
{
    _cleanup_(dml_ledger_freep) struct dml_ledger *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->o = *o;
    l->limit = UINT64_MAX;
    l->members = calloc((size_t)o->n_ranks + 1, sizeof(*l->members));
    l->optim = dml_optim_new(o->train, o->n_params);
    l->scratch = dml_mem_floats(o->n_params);
    l->mask = dml_mem_array(dml_sparse_words(o->n_params) + 1, sizeof(uint64_t));
    if (!l->members || !l->optim || !l->scratch || !l->mask)
        return -ENOMEM;
    *ret = l;
    l = NULL;
    return 0;
}

struct dml_ledger *dml_ledger_free(struct dml_ledger *l)
{
    if (!l)
        return NULL;
    for (uint32_t rank = 1; l->members && rank <= l->o.n_ranks; rank++) {
        (void)dml_buf_unref(l->members[rank].gradient);
        free(l->members[rank].known);
    }
    free(l->members);
    dml_optim_free(l->optim);
    free(l->scratch);
    free(l->mask);
    (void)dml_buf_unref(l->answer);
    free(l);
    return NULL;
}

static uint64_t slowest(const struct dml_ledger *l)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t rank = 1; rank <= l->o.n_ranks; rank++)
        if (l->members[rank].in && l->members[rank].clock < least)
            least = l->members[rank].clock;
    return least;
}

int dml_ledger_admit(struct dml_ledger *l, uint32_t rank)
{
    struct member *m = &l->members[rank];
    assert(!m->in);
    if (l->o.significance > 0.0) {
        if (!m->known && !(m->known = dml_mem_floats(l->o.n_params)))
            return -ENOMEM;
        memcpy(m->known, l->o.vec, l->o.n_params * sizeof(float));
    }
    /* Alone again: where it or whoever came furthest has been. */
    uint64_t clock = slowest(l);
    for (uint32_t other = 1; l->n_members == 0 && other <= l->o.n_ranks; other++)
        if (clock == UINT64_MAX || l->members[other].clock > clock)
            clock = l->members[other].clock;
    m->clock = clock;
    m->in = true;
    m->owed = false;
    l->n_members++;
    return 0;
}

void dml_ledger_drop(struct dml_ledger *l, uint32_t rank)
{
    struct member *m = &l->members[rank];
    if (!m->in)
        return;
    m->in = m->owed = false;
    m->gradient = dml_buf_unref(m->gradient);
    l->n_members--;
}

bool dml_ledger_has(const struct dml_ledger *l, uint32_t rank)
{
    return l->members[rank].in;
}

unsigned dml_ledger_n_members(const struct dml_ledger *l)
{
    return l->n_members;
}

uint64_t dml_ledger_clock(const struct dml_ledger *l, uint32_t rank)
{
    return l->members[rank].clock;
}

uint64_t dml_ledger_handed_in(const struct dml_ledger *l, uint32_t rank)
{
    return l->members[rank].clock + (l->members[rank].gradient ? 1 : 0);
}

size_t dml_ledger_batch(const struct dml_ledger *l, uint32_t rank, uint64_t step)
{
    uint64_t batch = l->o.train->batch_size, n = l->o.n_samples[rank - 1];
    uint64_t at = step % l->o.steps_per_epoch * batch, left = at < n ? n - at : 0;
    return (size_t)(left < batch ? left : batch);
}

/* Samples of all members' minibatches of a step. */
static uint64_t step_samples(const struct dml_ledger *l, uint64_t step)
{
    uint64_t n = 0;
    for (uint32_t rank = 1; rank <= l->o.n_ranks; rank++)
        if (l->members[rank].in)
            n += dml_ledger_batch(l, rank, step);
    return n;
}

static void add(struct dml_ledger *l, const struct dml_buf *gradient)
{
    dml_sparse_add(gradient->data, l->o.n_params, l->scratch);
}

/* One step of the optimiser with the sum in scratch, which stands for n samples. */
static void apply(struct dml_ledger *l, uint64_t step, uint64_t n, double share)
{
    double epoch = (double)(step / l->o.steps_per_epoch) +
                   (double)(step % l->o.steps_per_epoch) / (double)l->o.steps_per_epoch;
    dml_vec_scale(l->scratch, (float)((double)l->o.train->batch_size / (double)n), l->o.n_params);
    dml_optim_step(l->optim, share * dml_optim_rate(l->o.train, epoch, (double)l->o.n_epochs),
                   l->o.vec, l->scratch);
    l->answer = dml_buf_unref(l->answer);
}

static void clear(struct dml_ledger *l)
{
    memset(l->scratch, 0, l->o.n_params * sizeof(float));
}

static void count(struct dml_ledger *l, size_t len)
{
    l->saved += dml_sparse_room(l->o.n_params) - len;
}

int dml_ledger_push(struct dml_ledger *l, uint32_t rank, uint64_t step, struct dml_buf *gradient)
{
    struct member *m = &l->members[rank];
    if (!m->in || step != m->clock || step >= l->o.n_epochs * l->o.steps_per_epoch || m->gradient ||
        !gradient || dml_sparse_check(gradient->data, gradient->len, l->o.n_params) < 0)
        return -EPROTO;
    count(l, gradient->len);
    m->owed = step + 1 < l->o.n_epochs * l->o.steps_per_epoch;
    if (l->o.staleness == 0) {
        m->gradient = dml_buf_ref(gradient);
        return 0;
    }
    uint64_t n = dml_ledger_batch(l, rank, step);
    if (n > 0) {
        clear(l);
        add(l, gradient);
        apply(l, step, n, (double)n / (double)step_samples(l, step));
    }
    m->clock++;
    return 0;
}

bool dml_ledger_settle(struct dml_ledger *l, unsigned least)
{
    if (l->o.staleness != 0 || l->n_members == 0 || l->n_members < least)
        return false;
    for (uint32_t rank = 1; rank <= l->o.n_ranks; rank++)
        if (l->members[rank].in && !l->members[rank].gradient)
            return false;
    uint64_t step = slowest(l), n = step_samples(l, step);
    clear(l);
    for (uint32_t rank = 1; rank <= l->o.n_ranks; rank++) {
        struct member *m = &l->members[rank];
        if (!m->in)
            continue;
        add(l, m->gradient);
        m->gradient = dml_buf_unref(m->gradient);
        m->clock++;
    }
    if (n > 0)
        apply(l, step, n, 1.0);
    return true;
}

void dml_ledger_limit(struct dml_ledger *l, uint64_t first)
{
    l->limit = first;
}

uint64_t dml_ledger_grant(const struct dml_ledger *l)
{
    uint64_t least = slowest(l);
    uint64_t grant = least > UINT64_MAX - l->o.staleness ? UINT64_MAX : least + l->o.staleness;
    return grant < l->limit ? grant : l->limit - 1;
}

uint32_t dml_ledger_answerable(const struct dml_ledger *l)
{
    uint64_t grant = dml_ledger_grant(l);
    for (uint32_t rank = 1; rank <= l->o.n_ranks; rank++) {
        const struct member *m = &l->members[rank];
        if (m->in && m->owed && !m->gradient && m->clock <= grant)
            return rank;
    }
    return 0;
}

/* All parameters as they are, one block for all who ask before the next step. */
static int answer_all(struct dml_ledger *l, struct dml_buf **ret)
{
    size_t n = l->o.n_params;
    if (!l->answer) {
        l->answer = dml_buf_new(dml_sparse_room(n));
        if (!l->answer)
            return -ENOMEM;
        memset(l->mask, 0xff, dml_sparse_words(n) * sizeof(uint64_t));
        (void)dml_sparse_pack(l->o.vec, l->mask, n, l->answer->data);
    }
    *ret = dml_buf_ref(l->answer);
    return 0;
}

static int answer_changes(struct dml_ledger *l, struct member *m, struct dml_buf **ret)
{
    size_t n = l->o.n_params;
    struct dml_buf *body = dml_buf_new(dml_sparse_room(n));
    if (!body)
        return -ENOMEM;
    memcpy(l->scratch, l->o.vec, n * sizeof(float));
    dml_vec_axpy(l->scratch, -1.0f, m->known, n);
    (void)dml_sparse_choose(l->scratch, l->o.vec, n, 1.0, l->o.significance, l->mask);
    body->len = dml_sparse_pack(l->o.vec, l->mask, n, body->data);
    dml_sparse_set(body->data, n, m->known);
    *ret = body;
    return 0;
}

int dml_ledger_answer(struct dml_ledger *l, uint32_t rank, struct dml_buf **ret)
{
    struct member *m = &l->members[rank];
    int r = l->o.significance > 0.0 ? answer_changes(l, m, ret) : answer_all(l, ret);
    if (r < 0)
        return r;
    m->owed = false;
    count(l, (*ret)->len);
    return 0;
}

uint64_t dml_ledger_saved(const struct dml_ledger *l)
{
    return l->saved;
}
