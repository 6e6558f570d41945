/*
 * Dealing samples to workers. All four kinds are one scheme: decide for every sample its owner,
 * then collect the owners' lists, so that "every sample to exactly one" holds by construction and
 * every list is ascending.
 *
 * iid        the shuffled samples are cut at r·N/R.
 * unequal    the shuffled samples are cut where the cumulated shares alpha^r fall, moved just so
 * far that nobody gets none. label      R·L places for labels_per_worker = L classes each are given
 * to the classes in turn (in shuffled order); L successive places are L different classes because L
 * <= K. The samples of a class are divided evenly over its places. Without L·R >= K a class would
 *            have no owner; that is refused rather than bent.
 *            Source: McMahan et al. 2017, section 3 ("pathological non-IID"), which cuts the sorted
 *            samples into R·L pieces instead and so gives some workers a class more.
 * dirichlet  Worker r draws its class mix q_r ~ Dir(alpha · p), p the classes' shares of the
 * training set. The workers then take a sample each in turn: a class drawn by q_r among those that
 *            are not used up, the next sample of that class. Sizes differ by at most one, and
 *            alpha -> infinity is iid.
 *            Source: Hsu, Qi, Brown 2019, section 3.
 */
#include "data/shard.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"

struct dml_shards *dml_shards_free(struct dml_shards *shards)
{
    if (!shards)
        return NULL;
    for (size_t r = 0; shards->index && r < shards->n_shards; r++)
        free(shards->index[r]);
    free(shards->index);
    free(shards->n);
    free(shards);
    return NULL;
}

static uint32_t *shuffled(struct dml_rng *rng, size_t n)
{
    uint32_t *index = dml_mem_array(n, sizeof(*index));
    if (!index)
        return NULL;
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)i;
    dml_rng_shuffle(rng, index, n);
    return index;
}

/* The samples sorted by class, shuffled within: class k is order[start[k] … start[k + 1]). */
struct by_class {
    uint32_t *order;
    size_t *start;
    uint32_t n_classes;
};

static void by_class_done(struct by_class *c)
{
    free(c->order);
    free(c->start);
}

static int by_class_init(struct by_class *c, const struct dml_dataset *ds, struct dml_rng *rng)
{
    _cleanup_(dml_mem_freep) uint32_t *index = shuffled(rng, ds->n_samples);
    c->n_classes = ds->n_classes;
    c->order = dml_mem_array(ds->n_samples, sizeof(*c->order));
    c->start = dml_mem_array((size_t)ds->n_classes + 2, sizeof(*c->start));
    if (!index || !c->order || !c->start)
        return -ENOMEM;
    /* Counting sort; start[] runs one ahead while it is used as the write position. */
    for (size_t i = 0; i < ds->n_samples; i++)
        c->start[ds->labels[i] + 2]++;
    for (size_t k = 2; k < (size_t)ds->n_classes + 2; k++)
        c->start[k] += c->start[k - 1];
    for (size_t i = 0; i < ds->n_samples; i++)
        c->order[c->start[ds->labels[index[i]] + 1]++] = index[i];
    return 0;
}

static size_t class_size(const struct by_class *c, size_t k)
{
    return c->start[k + 1] - c->start[k];
}

static int deal_iid(struct dml_rng *rng, size_t n, size_t n_shards, uint32_t *owner)
{
    _cleanup_(dml_mem_freep) uint32_t *index = shuffled(rng, n);
    if (!index)
        return -ENOMEM;
    for (size_t r = 0, i = 0; r < n_shards; r++)
        for (size_t end = (size_t)((uint64_t)(r + 1) * n / n_shards); i < end; i++)
            owner[index[i]] = (uint32_t)r;
    return 0;
}

static int deal_unequal(struct dml_rng *rng, size_t n, size_t n_shards, double alpha,
                        uint32_t *owner)
{
    _cleanup_(dml_mem_freep) uint32_t *index = shuffled(rng, n);
    if (!index)
        return -ENOMEM;
    /* Relative to the largest share, so that no power overflows. */
    double last = alpha > 1 ? (double)(n_shards - 1) : 0, total = 0, sum = 0;
    for (size_t r = 0; r < n_shards; r++)
        total += pow(alpha, (double)r - last);
    for (size_t r = 0, i = 0; r < n_shards; r++) {
        sum += pow(alpha, (double)r - last);
        size_t end = (size_t)llrint((double)n * (sum / total)), most = n - (n_shards - 1 - r);
        end = end < i + 1 ? i + 1 : end > most ? most : end;
        if (r == n_shards - 1)
            end = n;
        for (; i < end; i++)
            owner[index[i]] = (uint32_t)r;
    }
    return 0;
}

static int deal_label(struct dml_rng *rng, const struct dml_dataset *ds, uint64_t per_worker,
                      size_t n_shards, uint32_t *owner, struct dml_err *err)
{
    _cleanup_(by_class_done) struct by_class c = {0};
    int r = by_class_init(&c, ds, rng);
    if (r < 0)
        return r;
    size_t n_present = 0;
    _cleanup_(dml_mem_freep) uint32_t *present = dml_mem_array(c.n_classes, sizeof(*present));
    if (!present)
        return -ENOMEM;
    for (uint32_t k = 0; k < c.n_classes; k++)
        if (class_size(&c, k))
            present[n_present++] = k;
    if (per_worker < 1 || per_worker > n_present || per_worker * n_shards < n_present)
        return dml_err_set(
            err, -EINVAL,
            "labels-per-worker = %" PRIu64 ": %zu workers and %zu classes take %zu to %zu, "
            "so that every class has an owner",
            per_worker, n_shards, n_present, (n_present + n_shards - 1) / n_shards, n_present);
    dml_rng_shuffle(rng, present, n_present);

    size_t n_places = per_worker * n_shards;
    _cleanup_(dml_mem_freep) bool *served = dml_mem_array(n_shards, sizeof(*served));
    if (!served)
        return -ENOMEM;
    for (size_t j = 0; j < n_places; j++) {
        size_t p = j % n_present, k = present[p], size = class_size(&c, k);
        size_t places = (n_places - p + n_present - 1) / n_present, place = j / n_present;
        const uint32_t *samples = c.order + c.start[k];
        for (size_t i = place * size / places; i < (place + 1) * size / places; i++) {
            owner[samples[i]] = (uint32_t)(j / per_worker);
            served[j / per_worker] = true;
        }
    }
    for (size_t i = 0; i < n_shards; i++)
        if (!served[i])
            return dml_err_set(err, -EINVAL,
                               "partition = label: worker %zu would get no sample, because its "
                               "classes have too few; raise labels-per-worker",
                               i + 1);
    return 0;
}

/* q: [K] ~ Dir(alpha · p), up to a factor: normalising happens in the draw. */
static void draw_mix(struct dml_rng *rng, const struct by_class *c, size_t n, double alpha,
                     double *q)
{
    double sum = 0;
    for (size_t k = 0; k < c->n_classes; k++) {
        double p = (double)class_size(c, k) / (double)n;
        q[k] = p > 0 ? dml_rng_gamma(rng, alpha * p) : 0;
        sum += q[k];
    }
    if (sum > 0 && isfinite(sum))
        return;
    /* So small an alpha that every gamma underflowed: the limit is a single class. */
    size_t i = (size_t)dml_rng_below(rng, n);
    for (size_t k = 0; k < c->n_classes; k++)
        q[k] = i >= c->start[k] && i < c->start[k + 1];
}

/* A class that is not used up, by the weights q; by what is left when q names only used-up ones. */
static size_t draw_class(struct dml_rng *rng, const struct by_class *c, const size_t *used,
                         const double *q)
{
    double sum = 0;
    size_t left = 0, pick = 0;
    for (size_t k = 0; k < c->n_classes; k++)
        if (used[k] < class_size(c, k)) {
            sum += q[k];
            left += class_size(c, k) - used[k];
            pick = k;
        }
    if (sum > 0) {
        double u = dml_rng_uniform(rng) * sum;
        for (size_t k = 0; k < c->n_classes; k++)
            if (used[k] < class_size(c, k) && q[k] > 0) {
                pick = k;
                if ((u -= q[k]) < 0)
                    break;
            }
        return pick;
    }
    size_t i = (size_t)dml_rng_below(rng, left);
    for (size_t k = 0; k < c->n_classes; k++) {
        size_t here = class_size(c, k) - used[k];
        if (i < here)
            return k;
        i -= here;
    }
    return pick;
}

static int deal_dirichlet(struct dml_rng *rng, const struct dml_dataset *ds, double alpha,
                          size_t n_shards, uint32_t *owner)
{
    _cleanup_(by_class_done) struct by_class c = {0};
    int r = by_class_init(&c, ds, rng);
    if (r < 0)
        return r;
    size_t n_mix;
    if (!dml_mem_mul(n_shards, c.n_classes, &n_mix))
        return -ENOMEM;
    _cleanup_(dml_mem_freep) double *mix = dml_mem_array(n_mix, sizeof(*mix));
    _cleanup_(dml_mem_freep) size_t *used = dml_mem_array(c.n_classes, sizeof(*used));
    if (!mix || !used)
        return -ENOMEM;
    for (size_t i = 0; i < n_shards; i++)
        draw_mix(rng, &c, ds->n_samples, alpha, mix + i * c.n_classes);
    for (size_t i = 0; i < ds->n_samples; i++) {
        size_t k = draw_class(rng, &c, used, mix + i % n_shards * c.n_classes);
        owner[c.order[c.start[k] + used[k]++]] = (uint32_t)(i % n_shards);
    }
    return 0;
}

/* From an owner per sample to a list per owner. */
static int collect(const uint32_t *owner, size_t n, size_t n_shards, struct dml_shards **ret)
{
    _cleanup_(dml_shards_freep) struct dml_shards *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->n_shards = n_shards;
    s->index = dml_mem_array(n_shards, sizeof(*s->index));
    s->n = dml_mem_array(n_shards, sizeof(*s->n));
    if (!s->index || !s->n)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        s->n[owner[i]]++;
    for (size_t r = 0; r < n_shards; r++) {
        s->index[r] = dml_mem_array(s->n[r], sizeof(**s->index));
        if (!s->index[r])
            return -ENOMEM;
        s->n[r] = 0;
    }
    for (size_t i = 0; i < n; i++)
        s->index[owner[i]][s->n[owner[i]]++] = (uint32_t)i;
    *ret = s;
    s = NULL;
    return 0;
}

int dml_shard_make(const struct dml_dataset *train, const struct dml_data_options *o, uint64_t seed,
                   size_t n_shards, struct dml_shards **ret, struct dml_err *err)
{
    size_t n = train->n_samples;
    if (!n_shards)
        return dml_err_set(err, -EINVAL, "there is no worker to give samples to");
    if (n < n_shards)
        return dml_err_set(err, -EINVAL,
                           "%zu training samples cannot be dealt to %zu workers: each needs one", n,
                           n_shards);
    bool by_label = o->partition == DML_PARTITION_LABEL || o->partition == DML_PARTITION_DIRICHLET;
    if (by_label && !train->n_classes)
        return dml_err_set(err, -EINVAL,
                           "partition = %s needs classes, and this is a regression: iid or "
                           "unequal",
                           o->partition == DML_PARTITION_LABEL ? "label" : "dirichlet");

    _cleanup_(dml_mem_freep) uint32_t *owner = dml_mem_array(n, sizeof(*owner));
    if (!owner)
        return -ENOMEM;
    struct dml_rng rng;
    dml_rng_init(&rng, seed, 0, DML_RNG_SHARD, 0);
    int r;
    if (o->partition == DML_PARTITION_LABEL)
        r = deal_label(&rng, train, o->labels_per_worker, n_shards, owner, err);
    else if (o->partition == DML_PARTITION_DIRICHLET)
        r = deal_dirichlet(&rng, train, o->alpha, n_shards, owner);
    else if (o->partition == DML_PARTITION_UNEQUAL)
        r = deal_unequal(&rng, n, n_shards, o->alpha, owner);
    else
        r = deal_iid(&rng, n, n_shards, owner);
    return r < 0 ? r : collect(owner, n, n_shards, ret);
}
