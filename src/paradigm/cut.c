/*
 * A pipeline is as fast as its slowest node, so the runs are chosen such that the longest is as
 * short as it can be: the linear partition problem, by dynamic programming over the number of runs
 * and their ends. Among all cuts that reach it, those are taken that move least.
 *
 * A run takes the time of its layers, c, and of what its node sends, T: activations on to the next
 * and gradients back to the one before. Where transfers hide behind computing that is max(c, T),
 * else c + T. Only integers are compared: all ranks must agree, whatever processor they have.
 */
#include "paradigm/cut.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "nn/model.h"
#include "nn/model_cut.h"

/* Multiply-adds in the time one float takes to another node: a core of a small board makes some
 * 3 G of them a second when training, 100 Mbit/s carry 3 M floats. */
#define SEND_MACS 1000

struct search {
    const struct dml_cut_options *o;
    size_t n;          /* pieces */
    uint64_t *before;  /* [n + 1] cost of all pieces before a cut */
    uint64_t *crosses; /* [n + 1] floats that cross it; nothing at the ends */
    uint64_t least_over; /* least memory of a run that was over the limit; 0: none was */
    /* Tables over (number of runs, end of the last). */
    uint64_t *best;
    size_t *from;
};

static int prepare(struct search *s)
{
    const struct dml_model *m = s->o->model;
    s->n = dml_model_n_cuts(m);
    s->before = dml_mem_array(s->n + 1, sizeof(uint64_t));
    s->crosses = dml_mem_array(s->n + 1, sizeof(uint64_t));
    if (!s->before || !s->crosses)
        return -ENOMEM;
    for (size_t i = 0; i < s->n; i++) {
        s->before[i + 1] = s->before[i] + dml_model_cut_cost(m, i);
        s->crosses[i] = i ? dml_model_cut_floats(m, i) : 0;
    }
    return 0;
}

static uint64_t run_cost(const struct search *s, size_t first, size_t last)
{
    uint64_t c = s->before[last] - s->before[first];
    uint64_t t = SEND_MACS * (s->crosses[first] + s->crosses[last]);
    return !s->o->overlap ? c + t : c > t ? c : t;
}

static bool fits(struct search *s, size_t first, size_t last)
{
    if (!s->o->limit)
        return true;
    uint64_t need = s->o->memory(s->o->arg, first, last);
    if (need <= s->o->limit)
        return true;
    if (!s->least_over || need < s->least_over)
        s->least_over = need;
    return false;
}

/*
 * Fills from[] with the best partition. `most` UINT64_MAX: the one whose longest run is shortest;
 * otherwise, of those without a run longer than `most`, the one with the fewest floats crossing.
 * Returns what was reached, UINT64_MAX when there is none.
 */
static uint64_t search(struct search *s, size_t n_runs, uint64_t most)
{
    size_t row = s->n + 1;
    for (size_t i = 0; i < (n_runs + 1) * row; i++)
        s->best[i] = UINT64_MAX;
    s->best[0] = 0;
    for (size_t k = 1; k <= n_runs; k++)
        for (size_t last = k; last <= s->n - (n_runs - k); last++)
            for (size_t first = k - 1; first < last; first++) {
                uint64_t so_far = s->best[(k - 1) * row + first], *best = &s->best[k * row + last];
                if (so_far == UINT64_MAX || so_far >= *best)
                    continue;
                uint64_t cost = run_cost(s, first, last);
                if (cost > most)
                    continue;
                uint64_t here = most != UINT64_MAX ? so_far + s->crosses[first]
                                : cost > so_far    ? cost
                                                   : so_far;
                if (here < *best && fits(s, first, last)) {
                    *best = here;
                    s->from[k * row + last] = first;
                }
            }
    return s->best[n_runs * row + s->n];
}

static int by_cost(struct search *s, struct dml_cut *cut, struct dml_err *err)
{
    size_t tables = 0, row = s->n + 1;
    if (!dml_mem_mul(cut->n_runs + 1, row, &tables))
        return -ENOMEM;
    s->best = dml_mem_array(tables, sizeof(*s->best));
    s->from = dml_mem_array(tables, sizeof(*s->from));
    if (!s->best || !s->from)
        return -ENOMEM;
    uint64_t most = search(s, cut->n_runs, UINT64_MAX);
    if (most == UINT64_MAX)
        return dml_err_set(err, -ENOMEM,
                           "model %s cannot be cut into %zu runs of at most %.1f MiB each: the "
                           "smallest that is too large takes %.1f MiB; use more nodes or a smaller "
                           "batch-size",
                           dml_model_name(s->o->model), cut->n_runs,
                           (double)s->o->limit / 1048576.0, (double)s->least_over / 1048576.0);
    (void)search(s, cut->n_runs, most);
    size_t end = s->n;
    for (size_t k = cut->n_runs; k > 0; k--) {
        cut->at[k] = end;
        end = s->from[k * row + end];
    }
    cut->at[0] = 0;
    return 0;
}

/* The last cut whose layer is not behind `layer`. */
static size_t cut_at(const struct dml_model *m, size_t n, uint64_t layer)
{
    size_t at = 0;
    while (at + 1 < n && dml_model_cut_layer(m, at + 1) <= layer)
        at++;
    return at;
}

static int no_such_cut(const struct search *s, uint64_t layer, struct dml_err *err)
{
    const struct dml_model *m = s->o->model;
    size_t below = cut_at(m, s->n, layer);
    char near[60];
    if (s->n == 1)
        return dml_err_set(err, -EINVAL, "model %s cannot be cut anywhere", dml_model_name(m));
    if (below == 0)
        (void)snprintf(near, sizeof(near), "%u", dml_model_cut_layer(m, 1));
    else if (below + 1 == s->n)
        (void)snprintf(near, sizeof(near), "%u", dml_model_cut_layer(m, below));
    else
        (void)snprintf(near, sizeof(near), "%u and %u", dml_model_cut_layer(m, below),
                       dml_model_cut_layer(m, below + 1));
    return dml_err_set(err, -EINVAL,
                       "parallel.cut: model %s cannot be cut before layer %llu; the nearest places "
                       "are %s (`dmlctl models %s` numbers them; a residual block stays whole, and "
                       "so do layers that are computed at once)",
                       dml_model_name(m), (unsigned long long)layer, near, dml_model_name(m));
}

static int by_key(const struct search *s, struct dml_cut *cut, struct dml_err *err)
{
    const struct dml_model *m = s->o->model;
    size_t n = 0;
    for (const char *p = s->o->layers + strspn(s->o->layers, " \t"); *p; p += strspn(p, " \t")) {
        char word[24];
        uint64_t layer;
        size_t len = strcspn(p, " \t");
        (void)snprintf(word, sizeof(word), "%.*s", (int)(len < 20 ? len : 20), p);
        if (len > 20 || !dml_text_to_uint(word, &layer))
            return dml_err_set(err, -EINVAL, "parallel.cut: \"%s\" is not the number of a layer",
                               word);
        size_t at = cut_at(m, s->n, layer);
        if (at == 0 || dml_model_cut_layer(m, at) != layer)
            return no_such_cut(s, layer, err);
        if (at <= cut->at[n])
            return dml_err_set(err, -EINVAL,
                               "parallel.cut: layer %llu does not come behind layer %u",
                               (unsigned long long)layer, dml_model_cut_layer(m, cut->at[n]));
        if (++n == cut->n_runs)
            break;
        cut->at[n] = at;
        p += len;
    }
    if (n + 1 != cut->n_runs)
        return dml_err_set(err, -EINVAL, "parallel.cut must name %zu layers for %zu stages",
                           cut->n_runs - 1, cut->n_runs);
    cut->at[cut->n_runs] = s->n;
    return 0;
}

static int check_limit(struct search *s, const struct dml_cut *cut, struct dml_err *err)
{
    for (size_t i = 0; i < cut->n_runs; i++)
        if (!fits(s, cut->at[i], cut->at[i + 1]))
            return dml_err_set(err, -ENOMEM,
                               "parallel.cut: stage %zu takes %.1f MiB, a node has %.1f MiB", i + 1,
                               (double)s->least_over / 1048576.0, (double)s->o->limit / 1048576.0);
    return 0;
}

static int make(struct search *s, struct dml_cut *cut, struct dml_err *err)
{
    const struct dml_cut_options *o = s->o;
    int r = prepare(s);
    if (r < 0)
        return r;
    if (cut->n_runs > s->n)
        return dml_err_set(err, -EINVAL,
                           "model %s can be cut into at most %zu runs of layers, not into %zu (%u "
                           "stages × %u chunks)",
                           dml_model_name(o->model), s->n, cut->n_runs, o->n_stages, o->n_chunks);
    if (!o->layers || !o->layers[strspn(o->layers, " \t")])
        return by_cost(s, cut, err);
    r = by_key(s, cut, err);
    return r < 0 ? r : check_limit(s, cut, err);
}

int dml_cut_make(const struct dml_cut_options *o, struct dml_cut **ret, struct dml_err *err)
{
    assert(o->n_stages && o->n_chunks);
    _cleanup_(dml_cut_freep) struct dml_cut *cut = calloc(1, sizeof(*cut));
    if (!cut)
        return -ENOMEM;
    cut->n_runs = (size_t)o->n_stages * o->n_chunks;
    cut->at = dml_mem_array(cut->n_runs + 1, sizeof(*cut->at));
    if (!cut->at)
        return -ENOMEM;
    struct search s = {.o = o};
    int r = make(&s, cut, err);
    free(s.before);
    free(s.crosses);
    free(s.best);
    free(s.from);
    if (r < 0)
        return r;
    *ret = cut;
    cut = NULL;
    return 0;
}

struct dml_cut *dml_cut_free(struct dml_cut *cut)
{
    if (!cut)
        return NULL;
    free(cut->at);
    free(cut);
    return NULL;
}

int dml_cut_print(const struct dml_cut *cut, const struct dml_model *model, char **ret)
{
    char *text = NULL;
    size_t len, n = dml_model_n_cuts(model);
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    for (size_t i = 0; i < cut->n_runs; i++) {
        unsigned first = dml_model_cut_layer(model, cut->at[i]);
        size_t end = cut->at[i + 1];
        if (end < n)
            fprintf(f, "%s%u-%u", i ? " " : "", first, dml_model_cut_layer(model, end) - 1);
        else
            fprintf(f, "%s%u-", i ? " " : "", first);
    }
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        free(text);
        return -ENOMEM;
    }
    *ret = text;
    return 0;
}
