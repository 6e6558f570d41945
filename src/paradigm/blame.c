#include "paradigm/blame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dml_blame_init(struct dml_blame *b, uint32_t size)
{
    *b = (struct dml_blame){.size = size};
    b->about = calloc(size, sizeof(*b->about));
    b->unreachable = calloc(size, sizeof(*b->unreachable));
    b->tries = calloc((size_t)size * size, sizeof(*b->tries));
    return b->about && b->unreachable && b->tries ? 0 : -ENOMEM;
}

void dml_blame_done(struct dml_blame *b)
{
    free(b->about);
    free(b->unreachable);
    free(b->tries);
    *b = (struct dml_blame){0};
}

void dml_blame_again(struct dml_blame *b)
{
    memset(b->about, 0, b->size * sizeof(*b->about));
    memset(b->unreachable, 0, b->size * sizeof(*b->unreachable));
    b->n = 0;
    b->waits = false;
}

void dml_blame_leg(struct dml_blame *b)
{
    dml_blame_again(b);
    memset(b->tries, 0, (size_t)b->size * b->size);
    b->n_knots = 0;
}

void dml_blame_add(struct dml_blame *b, uint32_t from, uint32_t about, bool unreachable)
{
    b->n += b->about[from] == 0;
    b->waits |= !unreachable;
    b->about[from] = about;
    b->unreachable[from] = unreachable;
}

/* Somebody hears nothing of `rank`, which says nothing itself. */
static bool is_silent(const struct dml_blame *b, const uint32_t *ranks, unsigned n,
                      const bool *answered, uint32_t rank)
{
    if (answered[rank] || b->about[rank])
        return false;
    for (unsigned i = 0; i < n; i++)
        if (b->about[ranks[i]] == rank && !b->unreachable[ranks[i]])
            return true;
    return false;
}

bool dml_blame_is_ripe(const struct dml_blame *b, const uint32_t *ranks, unsigned n,
                       const bool *answered)
{
    for (unsigned i = 0; i < n; i++)
        if (!answered[ranks[i]] && !b->about[ranks[i]])
            return false;
    return true;
}

enum dml_blame_verdict dml_blame_judge(struct dml_blame *b, const uint32_t *ranks, unsigned n,
                                       const bool *answered, uint32_t *ret_a, uint32_t *ret_b)
{
    enum dml_blame_verdict verdict = DML_BLAME_AGAIN;
    bool pair = false;
    for (unsigned i = 0; i < n; i++) {
        if (is_silent(b, ranks, n, answered, ranks[i])) {
            *ret_a = ranks[i];
            return DML_BLAME_SILENT;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        uint32_t a = ranks[i], other = b->about[a];
        bool mutual = other && b->about[other] == a;
        if (!other || (!b->unreachable[a] && !mutual) || (mutual && a > other))
            continue; /* nothing between these two, or counted with the lower of them */
        unsigned char *tries = &b->tries[a < other ? a * b->size + other : other * b->size + a];
        pair = true;
        if (++*tries >= DML_BLAME_TRIES) {
            *ret_a = a;
            *ret_b = other;
            verdict = DML_BLAME_PAIR;
        }
    }
    if (pair)
        return verdict;
    for (unsigned i = 0; i < n; i++) {
        if (b->about[ranks[i]]) {
            *ret_a = ranks[i];
            *ret_b = b->about[ranks[i]];
        }
    }
    return ++b->n_knots >= DML_BLAME_TRIES ? DML_BLAME_KNOT : DML_BLAME_AGAIN;
}
