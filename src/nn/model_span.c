/*
 * Spans: runs of steps between cuts of a model. With recompute a training pass keeps what passes
 * from one span to the next, and backward computes the inside of a span again when it gets there;
 * all spans take turns in one place in memory, and the last of them is still there when backward
 * begins.
 *
 * So a pass holds, per sample, the sum of what crosses the cuts chosen, and the largest inside.
 * Where to cut is looked for: with a limit on the inside of a span, the cheapest set of cuts is
 * that of a shortest path; limits are tried from the whole model downwards until no piece fits.
 * That comes out near the square root of what a chain of equal layers would keep (Chen, Xu, Zhang,
 * Guestrin 2016, "Training deep nets with sublinear memory cost"), and in a MobileNetV2 at the
 * narrow places between its blocks.
 *
 * A value that the next step would overwrite cannot be kept, so there is no cut.
 */
#include <stdint.h>
#include <string.h>

#include "nn/model_priv.h"

#define FINENESS 16 /* of the limits: each is smaller by at least this fraction */

/* Pieces that cannot be cut, and what lies between them; floats per sample. */
struct pieces {
    size_t n;
    size_t cuts[1 + DML_MODEL_LAYERS_MAX];    /* the first step of each, then n_steps */
    uint64_t sums[1 + DML_MODEL_LAYERS_MAX];  /* of what the pieces before hold */
    uint64_t cross[1 + DML_MODEL_LAYERS_MAX]; /* kept when there is a cut; 0 at the end */
};

/* The path found: where the span that ends at a cut begins. */
struct path {
    size_t first[1 + DML_MODEL_LAYERS_MAX];
    uint64_t largest; /* inside of a span */
};

static void find_pieces(const struct dml_model *m, struct pieces *ret)
{
    bool is_lost[1 + DML_MODEL_LAYERS_MAX] = {false};
    size_t cuts[1 + DML_MODEL_LAYERS_MAX], n = dml_model_find_cuts(m, cuts);
    for (size_t i = 0; i < m->n_steps; i++)
        if (m->steps[i].in_place)
            is_lost[m->steps[i].from + 1] = true;
    ret->n = 0;
    for (size_t i = 0; i < n; i++)
        if (!is_lost[cuts[i]])
            ret->cuts[ret->n++] = cuts[i];
    ret->cuts[ret->n] = m->n_steps;
    ret->sums[0] = ret->cross[0] = 0;
    for (size_t k = 0; k < ret->n; k++) {
        uint64_t sum = 0;
        for (size_t i = ret->cuts[k]; i < ret->cuts[k + 1]; i++) {
            const struct dml_layer *l = &m->steps[i];
            sum += (l->in_place ? 0 : dml_layer_size(l->out)) + l->n_saved;
        }
        ret->sums[k + 1] = ret->sums[k] + sum;
        ret->cross[k + 1] = k + 1 < ret->n ? dml_layer_size(m->steps[ret->cuts[k + 1] - 1].out) : 0;
    }
}

/* Cuts that cost least with no span above the limit. Returns what is held, UINT64_MAX: none. */
static uint64_t find_path(const struct pieces *p, uint64_t limit, struct path *ret)
{
    uint64_t least[1 + DML_MODEL_LAYERS_MAX] = {0};
    for (size_t end = 1; end <= p->n; end++) {
        least[end] = UINT64_MAX;
        for (size_t i = end; i-- > 0 && p->sums[end] - p->sums[i] - p->cross[end] <= limit;) {
            if (least[i] == UINT64_MAX || least[i] + p->cross[end] >= least[end])
                continue;
            least[end] = least[i] + p->cross[end];
            ret->first[end] = i;
        }
    }
    if (least[p->n] == UINT64_MAX)
        return UINT64_MAX;
    ret->largest = 0;
    for (size_t end = p->n; end > 0; end = ret->first[end]) {
        uint64_t inside = p->sums[end] - p->sums[ret->first[end]] - p->cross[end];
        ret->largest = inside > ret->largest ? inside : ret->largest;
    }
    return least[p->n] + ret->largest;
}

static void mark(struct dml_model *m, const struct pieces *p, const struct path *path)
{
    for (size_t end = p->n; end > 0; end = path->first[end]) {
        size_t first = p->cuts[path->first[end]], i = p->cuts[end] - 1;
        for (size_t k = first; k <= i; k++)
            m->steps[k].span = (unsigned)first;
        while (m->steps[i].in_place)
            i = (size_t)m->steps[i].from;
        m->steps[i].stays = end < p->n;
    }
}

void dml_model_plan_spans(struct dml_model *m)
{
    struct pieces p;
    struct path path, best = {.largest = 0};
    find_pieces(m, &p);
    uint64_t limit = p.sums[p.n], least = UINT64_MAX, held;
    while ((held = find_path(&p, limit, &path)) != UINT64_MAX) {
        if (held < least) {
            least = held;
            best = path;
        }
        if (path.largest == 0)
            break;
        limit = path.largest - 1 - (path.largest - 1) / FINENESS;
    }
    mark(m, &p, &best);
}
