/*
 * A pipeline is as fast as its slowest node, so the runs are chosen such that the longest is as
 * short as it can be (cut_search.c), or as the key says; and what they are called.
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
#include "paradigm/cut_search.h"

/* A cut in the making. */
struct search {
    const struct dml_cut_options *o;
    size_t n;          /* pieces */
    uint64_t *before;  /* [n + 1] cost of all pieces before a cut */
    uint64_t *crosses; /* [n + 1] floats that cross it; nothing at the ends */
};

#define MIB(bytes) ((double)(bytes) / 1048576.0)

static int prepare(struct search *s)
{
    const struct dml_model *m = s->o->model;
    const double *us = s->o->costs_us;
    double sum_us = 0.0, sum = 0.0;
    s->n = dml_model_n_cuts(m);
    s->before = dml_mem_array(s->n + 1, sizeof(uint64_t));
    s->crosses = dml_mem_array(s->n + 1, sizeof(uint64_t));
    if (!s->before || !s->crosses)
        return -ENOMEM;
    for (size_t i = 0; i < s->n; i++) {
        sum += (double)dml_model_cut_cost(m, i);
        sum_us += us ? us[i] : 0.0;
    }
    for (size_t i = 0; i < s->n; i++) {
        uint64_t cost = us ? 1 + (uint64_t)(sum * us[i] / sum_us) : dml_model_cut_cost(m, i);
        s->before[i + 1] = s->before[i] + cost;
        s->crosses[i] = i ? dml_model_cut_floats(m, i) : 0;
    }
    return 0;
}

static int by_cost(const struct search *s, struct dml_cut *cut, struct dml_err *err)
{
    const struct dml_cut_options *o = s->o;
    const struct dml_cut_search search = {
        .n = s->n,
        .n_stages = o->n_stages,
        .n_runs = cut->n_runs,
        .before = s->before,
        .crosses = s->crosses,
        .overlap = o->overlap,
        .limit = o->limit,
        .memory = o->memory,
        .arg = o->arg,
    };
    uint64_t need = 0;
    int r = dml_cut_search(&search, cut->at, &need);
    if (r <= 0)
        return r;
    return dml_err_set(err, -ENOMEM,
                       "model %s finds no room on %u nodes: however it is cut, the largest stage "
                       "needs %.1f MiB, and parallel.node-memory allows %.1f MiB: use more nodes, "
                       "a smaller batch-size or more micro-batches, or allow more",
                       dml_model_name(o->model), o->n_stages, MIB(need), MIB(o->limit));
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
        return dml_err_set(err, -EINVAL, "parallel.cut must name %zu layers for %zu %s",
                           cut->n_runs - 1, cut->n_runs,
                           s->o->n_chunks > 1 ? "runs of layers" : "stages");
    cut->at[cut->n_runs] = s->n;
    return 0;
}

static int check_limit(const struct search *s, const struct dml_cut *cut, struct dml_err *err)
{
    const struct dml_cut_options *o = s->o;
    uint64_t largest = 0;
    unsigned which = 0;
    for (unsigned stage = 0; o->limit && stage < o->n_stages; stage++) {
        uint64_t need = 0;
        for (size_t i = stage; i < cut->n_runs; i += o->n_stages)
            need += o->memory(o->arg, i, cut->at[i], cut->at[i + 1], UINT64_MAX);
        which = need > largest ? stage : which;
        largest = need > largest ? need : largest;
    }
    if (largest <= o->limit)
        return 0;
    return dml_err_set(err, -ENOMEM,
                       "parallel.cut: stage %u, the largest, needs %.1f MiB, and "
                       "parallel.node-memory allows %.1f MiB",
                       which + 1, MIB(largest), MIB(o->limit));
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

static void fill_shares(const struct search *s, struct dml_cut *cut)
{
    for (size_t i = 0; i < cut->n_runs; i++)
        cut->share[i] = (double)(s->before[cut->at[i + 1]] - s->before[cut->at[i]]) /
                        (double)s->before[s->n];
}

int dml_cut_make(const struct dml_cut_options *o, struct dml_cut **ret, struct dml_err *err)
{
    assert(o->n_stages && o->n_chunks);
    _cleanup_(dml_cut_freep) struct dml_cut *cut = calloc(1, sizeof(*cut));
    if (!cut)
        return -ENOMEM;
    cut->n_runs = (size_t)o->n_stages * o->n_chunks;
    cut->at = dml_mem_array(cut->n_runs + 1, sizeof(*cut->at));
    cut->share = dml_mem_array(cut->n_runs, sizeof(*cut->share));
    if (!cut->at || !cut->share)
        return -ENOMEM;
    struct search s = {.o = o};
    int r = make(&s, cut, err);
    if (r == 0)
        fill_shares(&s, cut);
    free(s.before);
    free(s.crosses);
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
    free(cut->share);
    free(cut);
    return NULL;
}

/* Closes f, which writes to *io_text. */
static int close_text(FILE *f, char **io_text, char **ret)
{
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        free(*io_text);
        return -ENOMEM;
    }
    *ret = *io_text;
    return 0;
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
    return close_text(f, &text, ret);
}

int dml_cut_print_key(const struct dml_cut *cut, const struct dml_model *model, char **ret)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    for (size_t i = 1; i < cut->n_runs; i++)
        fprintf(f, "%s%u", i > 1 ? " " : "", dml_model_cut_layer(model, cut->at[i]));
    return close_text(f, &text, ret);
}
