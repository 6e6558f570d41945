/* Shards: every sample to exactly one worker, whatever the kind; and what each kind promises. */
#include <errno.h>

#include "data/shard.h"
#include "tests/unit/data_files.h"

/* n samples of n_classes, sorted by class, class k with about twice the samples of class k + 1. */
static struct dml_dataset *make(size_t n, uint32_t n_classes)
{
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_U8, n, 1, 1, 1, n_classes);
    for (size_t i = 0; i < n && n_classes; i++) {
        uint32_t k = 0;
        for (size_t left = n - i; k + 1 < n_classes && left <= n >> (k + 1); k++)
            ;
        ds->labels[i] = (int32_t)k;
    }
    return ds;
}

/* Exactly once each, ascending, nobody empty. */
static bool is_partition(const struct dml_shards *s, size_t n)
{
    _cleanup_(dml_mem_freep) unsigned char *seen = dml_mem_array(n, 1);
    size_t total = 0;
    for (size_t r = 0; r < s->n_shards; r++) {
        if (!s->n[r])
            return false;
        for (size_t i = 0; i < s->n[r]; i++) {
            if (s->index[r][i] >= n || seen[s->index[r][i]]++)
                return false;
            if (i && s->index[r][i] <= s->index[r][i - 1])
                return false;
        }
        total += s->n[r];
    }
    return total == n;
}

static bool is_equal(const struct dml_shards *a, const struct dml_shards *b)
{
    for (size_t r = 0; r < a->n_shards; r++)
        if (a->n[r] != b->n[r] || memcmp(a->index[r], b->index[r], a->n[r] * sizeof(uint32_t)))
            return false;
    return a->n_shards == b->n_shards;
}

/* The largest class's share of shard r. */
static double purity(const struct dml_dataset *ds, const struct dml_shards *s, size_t r)
{
    size_t n[64] = {0}, most = 0;
    for (size_t i = 0; i < s->n[r]; i++) {
        size_t here = ++n[ds->labels[s->index[r][i]]];
        most = here > most ? here : most;
    }
    return (double)most / (double)s->n[r];
}

static unsigned classes_of(const struct dml_dataset *ds, const struct dml_shards *s, size_t r)
{
    uint64_t seen = 0;
    for (size_t i = 0; i < s->n[r]; i++)
        seen |= UINT64_C(1) << ds->labels[s->index[r][i]];
    return (unsigned)__builtin_popcountll(seen);
}

static void test_partitions(void)
{
    static const char *const kinds[] = {"iid", "label", "dirichlet", "unequal"};
    static const char *const alphas[] = {"0.001", "0.5", "1", "3", "1e6"};
    static const size_t sizes[][2] = {{64, 1}, {64, 2}, {64, 3}, {64, 63}, {64, 64}, {1000, 7}};
    struct dml_data_options o = data_options("synth");
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
        for (size_t a = 0; a < ARRAY_SIZE(alphas); a++)
            for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                size_t n = sizes[i][0], n_shards = sizes[i][1];
                /* One class per worker has an owner for every class only so. */
                uint32_t n_classes = k == 1 ? (n_shards == 1 ? 1 : 2) : 4;
                _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(n, n_classes);
                _cleanup_(dml_shards_freep) struct dml_shards *s = NULL, *again = NULL,
                                                              *other = NULL;
                struct dml_err err = {0};
                data_set(&o, "partition", kinds[k]);
                data_set(&o, "alpha", alphas[a]);
                data_set(&o, "labels-per-worker", "1");
                int r = dml_shard_make(ds, &o, 5, n_shards, &s, &err);
                /* 64 places for 33 + 31 samples: exactly one each only when the halves are even. */
                if (r == -EINVAL && k == 1 && n_shards >= 63) {
                    tap_has(err.text, "would get no sample", "label, too many workers: refused");
                    continue;
                }
                if (!tap_ok(r == 0 && is_partition(s, n), "%s alpha %s: %zu samples, %zu workers",
                            kinds[k], alphas[a], n, n_shards)) {
                    tap_note("%d %s", r, err.text);
                    continue;
                }
                if (n != 1000)
                    continue;
                tap_int(dml_shard_make(ds, &o, 5, n_shards, &again, NULL), 0, "again");
                tap_ok(is_equal(s, again), "the same seed, the same shards");
                tap_int(dml_shard_make(ds, &o, 6, n_shards, &other, NULL), 0, "another seed");
                tap_ok(!is_equal(s, other), "other shards");
            }
    data_options_done(&o);
}

static void test_iid(struct dml_data_options *o)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(100, 4);
    _cleanup_(dml_shards_freep) struct dml_shards *s = NULL;
    data_set(o, "partition", "iid");
    tap_int(dml_shard_make(ds, o, 1, 7, &s, NULL), 0, "iid");
    unsigned odd = 0;
    for (size_t r = 0; r < 7; r++)
        odd += s->n[r] != 14 && s->n[r] != 15;
    tap_int(odd, 0, "sizes differ by at most one");
    unsigned runs = 0;
    for (size_t i = 1; i < s->n[0]; i++)
        runs += s->index[0][i] == s->index[0][i - 1] + 1;
    tap_ok(runs < 8, "samples are mixed, not cut in a row (%u neighbours)", runs);
}

static void test_label(struct dml_data_options *o)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(1024, 6);
    _cleanup_(dml_shards_freep) struct dml_shards *s = NULL;
    data_set(o, "partition", "label");
    data_set(o, "labels-per-worker", "2");
    tap_int(dml_shard_make(ds, o, 1, 5, &s, NULL), 0, "label");
    unsigned two = 0;
    for (size_t r = 0; r < 5; r++)
        two += classes_of(ds, s, r) == 2;
    tap_int(two, 5, "each worker has two classes");

    struct dml_shards *none = NULL;
    struct dml_err err = {0};
    tap_int(dml_shard_make(ds, o, 1, 2, &none, &err), -EINVAL, "classes without an owner");
    tap_has(err.text, "labels-per-worker = 2: 2 workers and 6 classes take 3 to 6",
            "and the way out");
    data_set(o, "labels-per-worker", "7");
    tap_int(dml_shard_make(ds, o, 1, 5, &none, &err), -EINVAL, "more classes than there are");
    data_set(o, "labels-per-worker", "6");
    tap_int(dml_shard_make(ds, o, 1, 5, &none, &err), 0, "all classes for everyone");
    _cleanup_(dml_dataset_freep) struct dml_dataset *thin =
        dml_dataset_new(DML_DATASET_U8, 50, 1, 1, 1, 2);
    thin->labels[49] = 1;
    data_set(o, "labels-per-worker", "1");
    struct dml_shards *empty = NULL;
    tap_int(dml_shard_make(thin, o, 1, 4, &empty, &err), -EINVAL,
            "a class too small for its owners");
    tap_has(err.text, "would get no sample", "and why");
    (void)dml_shards_free(empty);
    (void)dml_shards_free(none);
}

static void test_dirichlet(struct dml_data_options *o)
{
    /* Classes of 2048, 1024, 512 and 512 samples to 8 workers of 512: pure shards are possible. */
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(4096, 4);
    double pure[2] = {0};
    size_t odd = 0;
    for (int i = 0; i < 2; i++) {
        _cleanup_(dml_shards_freep) struct dml_shards *s = NULL;
        data_set(o, "partition", "dirichlet");
        data_set(o, "alpha", i ? "1000" : "0.01");
        tap_int(dml_shard_make(ds, o, 1, 8, &s, NULL), 0, i ? "alpha 1000" : "alpha 0.01");
        for (size_t r = 0; r < 8; r++) {
            odd += s->n[r] != 512;
            pure[i] += purity(ds, s, r) / 8;
        }
    }
    tap_int((long long)odd, 0, "sizes are equal");
    /* Beta(500, 500) and 512 draws give a worker's share a deviation of 0.027. */
    tap_near(pure[1], 0.5, 0.05, "a large alpha gives everyone the mix of the whole");
    tap_ok(pure[0] > 0.7, "a small one gives most workers mostly one class: %.2f", pure[0]);
}

static void test_unequal(struct dml_data_options *o)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(700, 0);
    _cleanup_(dml_shards_freep) struct dml_shards *s = NULL, *t = NULL;
    data_set(o, "partition", "unequal");
    data_set(o, "alpha", "0.5");
    tap_int(dml_shard_make(ds, o, 1, 3, &s, NULL), 0, "unequal, of a regression");
    tap_ok(s->n[0] == 400 && s->n[1] == 200 && s->n[2] == 100, "shares are 4 : 2 : 1");
    data_set(o, "alpha", "2");
    tap_int(dml_shard_make(ds, o, 1, 3, &t, NULL), 0, "the other way");
    tap_ok(t->n[0] == 100 && t->n[1] == 200 && t->n[2] == 400, "shares are 1 : 2 : 4");
}

static void test_bad(struct dml_data_options *o)
{
    static const char *const kinds[] = {"iid", "label", "dirichlet", "unequal"};
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make(5, 2), *table = make(50, 0);
    struct dml_shards *s = NULL;
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct dml_err err = {0};
        data_set(o, "partition", kinds[k]);
        tap_int(dml_shard_make(ds, o, 1, 6, &s, &err), -EINVAL, "more workers than samples");
        tap_has(err.text, "5 training samples cannot be dealt to 6 workers", "and why");
        tap_int(dml_shard_make(ds, o, 1, 0, &s, &err), -EINVAL, "no workers");
        bool classes = k == 1 || k == 2;
        int r = dml_shard_make(table, o, 1, 2, &s, &err);
        tap_int(r, classes ? -EINVAL : 0, kinds[k]);
        if (classes)
            tap_has(err.text, "needs classes", "a regression has none");
        s = dml_shards_free(s);
    }
    tap_ok(!dml_shards_free(NULL), "free takes NULL");
}

int main(void)
{
    struct dml_data_options o = data_options("synth");
    test_partitions();
    test_iid(&o);
    test_label(&o);
    test_dirichlet(&o);
    test_unequal(&o);
    test_bad(&o);
    data_options_done(&o);
    return tap_done();
}
