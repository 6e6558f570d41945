/* Where models are cut, against every other way to cut them. */
#include "paradigm/cut.h"

#include <errno.h>
#include <math.h>

#include "base/err.h"
#include "nn/model_cut.h"
#include "part_models.h"
#include "tests/tap.h"

static const char *const models[] = {"mobilenetv2", "cifar-cnn",        "sdss-mlp",
                                     "resnet-20",   "char-transformer", NULL};

/* What cut.c says a run takes. */
#define SEND_MACS 1000

static uint64_t cost_of(const struct dml_model *m, size_t first, size_t last, bool overlap)
{
    uint64_t c = 0, floats = 0;
    for (size_t i = first; i < last; i++)
        c += dml_model_cut_cost(m, i);
    if (first > 0)
        floats += dml_model_cut_floats(m, first);
    if (last < dml_model_n_cuts(m))
        floats += dml_model_cut_floats(m, last);
    uint64_t t = SEND_MACS * floats;
    return !overlap ? c + t : c > t ? c : t;
}

static uint64_t longest(const struct dml_model *m, const size_t *at, size_t n_runs, bool overlap)
{
    uint64_t most = 0;
    for (size_t i = 0; i < n_runs; i++) {
        uint64_t cost = cost_of(m, at[i], at[i + 1], overlap);
        most = cost > most ? cost : most;
    }
    return most;
}

/* Shortest longest run of all ways to cut [first, n) into n_runs. */
static uint64_t brute(const struct dml_model *m, size_t first, size_t n_runs, bool overlap)
{
    size_t n = dml_model_n_cuts(m);
    if (n_runs == 1)
        return cost_of(m, first, n, overlap);
    uint64_t best = UINT64_MAX;
    for (size_t at = first + 1; at + n_runs - 1 <= n; at++) {
        uint64_t here = cost_of(m, first, at, overlap), rest = brute(m, at, n_runs - 1, overlap);
        here = here > rest ? here : rest;
        best = here < best ? here : best;
    }
    return best;
}

static bool is_sound(const struct dml_cut *cut, const struct dml_model *m, size_t n_runs)
{
    bool ok = cut->n_runs == n_runs && cut->at[0] == 0 && cut->at[n_runs] == dml_model_n_cuts(m);
    for (size_t i = 0; ok && i < n_runs; i++)
        ok = cut->at[i] < cut->at[i + 1];
    return ok;
}

static void test_shipped(void)
{
    for (size_t i = 0; models[i]; i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = part_model(models[i]);
        if (!m)
            continue;
        size_t n = dml_model_n_cuts(m);
        unsigned wrong = 0, longer = 0, tried = 0;
        for (unsigned runs = 1; runs <= 4 && runs <= n; runs++)
            for (int overlap = 0; overlap < 2; overlap++) {
                _cleanup_(dml_cut_freep) struct dml_cut *cut = NULL;
                struct dml_cut_options o = {
                    .model = m, .n_stages = runs, .n_chunks = 1, .overlap = overlap};
                struct dml_err err = {0};
                tried++;
                if (dml_cut_make(&o, &cut, &err) < 0 || !is_sound(cut, m, runs)) {
                    wrong++;
                    continue;
                }
                uint64_t got = longest(m, cut->at, runs, overlap);
                uint64_t want = brute(m, 0, runs, overlap);
                if (got != want) {
                    tap_note("%u runs: got %llu, wanted %llu", runs, (unsigned long long)got,
                             (unsigned long long)want);
                    longer++;
                }
            }
        tap_ok(tried >= 6, "%s: %u ways to ask", models[i], tried);
        tap_int(wrong, 0, "all layers, in order");
        tap_int(longer, 0, "no other cut has a shorter longest run");
    }
}

/* S × V runs, and as many as there are pieces. */
static void test_chunks(void)
{
    _cleanup_(dml_model_freep) struct dml_model *m = part_model("mobilenetv2");
    _cleanup_(dml_cut_freep) struct dml_cut *cut = NULL, *all = NULL;
    _cleanup_(dml_mem_freep) char *text = NULL;
    struct dml_cut_options o = {.model = m, .n_stages = 3, .n_chunks = 2, .overlap = true};
    struct dml_err err = {0};
    tap_int(dml_cut_make(&o, &cut, &err), 0, "3 nodes with 2 chunks each");
    tap_ok(cut && is_sound(cut, m, 6), "make six runs");
    if (cut && dml_cut_print(cut, m, &text) == 0)
        tap_note("%s", text);
    tap_ok(text && text[0] == '1' && text[1] == '-' && text[strlen(text) - 1] == '-',
           "which are printed from the first layer to the last");
    o.n_stages = (unsigned)dml_model_n_cuts(m);
    o.n_chunks = 1;
    tap_int(dml_cut_make(&o, &all, &err), 0, "a run for every piece");
    o.n_stages++;
    tap_int(dml_cut_make(&o, &all, &err), -EINVAL, "but not one more");
    tap_has(err.text, "at most", "and a sentence says how many there can be");
}

static int by_key(const struct dml_model *m, const char *layers, struct dml_cut **ret,
                  struct dml_err *err)
{
    struct dml_cut_options o = {.model = m, .n_stages = 3, .n_chunks = 1, .layers = layers};
    *err = (struct dml_err){0};
    return dml_cut_make(&o, ret, err);
}

static void test_key(void)
{
    /* 1 conv, 2 relu, 3 max-pool, 4 linear, 5 tanh, 6 linear */
    _cleanup_(dml_model_freep) struct dml_model *m =
        part_model("name keyed\ninput 3 8 8\nconv 6 kernel 3\nrelu\nmax-pool 2\nlinear 20\ntanh\n"
                   "linear 4\n");
    _cleanup_(dml_cut_freep) struct dml_cut *cut = NULL, *none = NULL;
    _cleanup_(dml_mem_freep) char *text = NULL;
    struct dml_err err;
    tap_int(by_key(m, " 4  6 ", &cut, &err), 0, "cut = 4 6");
    if (cut && dml_cut_print(cut, m, &text) < 0)
        text = NULL;
    tap_str(text, "1-3 4-5 6-", "gives these stages");
    tap_int(by_key(m, "3 6", &none, &err), -EINVAL, "not between relu and max-pool");
    tap_has(err.text, "nearest places are 4", "the next place is named");
    tap_int(by_key(m, "4 7", &none, &err), -EINVAL, "not behind the end");
    tap_has(err.text, "nearest places are 6", "the last place is named");
    tap_int(by_key(m, "1 4", &none, &err), -EINVAL, "not at the beginning");
    tap_int(by_key(m, "6 4", &none, &err), -EINVAL, "not backwards");
    tap_has(err.text, "behind", "which is said");
    tap_int(by_key(m, "4 4", &none, &err), -EINVAL, "not twice at one place");
    tap_int(by_key(m, "4", &none, &err), -EINVAL, "not one for three stages");
    tap_int(by_key(m, "4 5 6", &none, &err), -EINVAL, "nor three");
    tap_has(err.text, "must name 2 layers", "but two");
    tap_int(by_key(m, "4 x", &none, &err), -EINVAL, "not a word");
    tap_has(err.text, "\"x\"", "which is named");
    tap_int(by_key(m, "4 99999999999999999999999999", &none, &err), -EINVAL, "nor any number");
    tap_ok(!none, "and nothing is made then");

    _cleanup_(dml_model_freep) struct dml_model *block =
        part_model("name block\ninput 4\nresidual\nlinear 4\nrelu\nend\n");
    tap_int(by_key(block, "2 3", &none, &err), -EINVAL, "a model of one block");
    tap_has(err.text, "at most 1 run", "cannot be cut");
}

/* A run needs as many MiB as it has pieces. */
static uint64_t pieces(void *arg, size_t i, size_t first, size_t last, uint64_t most)
{
    (void)arg, (void)i, (void)most;
    return (uint64_t)(last - first) << 20;
}

static void test_limit(void)
{
    _cleanup_(dml_model_freep) struct dml_model *m = part_model("mobilenetv2");
    _cleanup_(dml_cut_freep) struct dml_cut *cut = NULL, *none = NULL;
    size_t n = dml_model_n_cuts(m), share = (n + 2) / 3;
    struct dml_cut_options o = {.model = m,
                                .n_stages = 3,
                                .n_chunks = 1,
                                .limit = (uint64_t)share << 20,
                                .memory = pieces};
    struct dml_err err = {0};
    tap_int(dml_cut_make(&o, &cut, &err), 0, "memory for a third of the pieces on each of three");
    bool within = cut && is_sound(cut, m, 3);
    for (size_t i = 0; within && i < 3; i++)
        within = cut->at[i + 1] - cut->at[i] <= share;
    tap_ok(within, "is enough, and kept to");
    o.limit = (uint64_t)(share - 1) << 20;
    char need[80];
    snprintf(need, sizeof(need), "needs %zu.0 MiB, and parallel.node-memory allows %zu.0 MiB",
             share, share - 1);
    tap_int(dml_cut_make(&o, &none, &err), -ENOMEM, "less is not");
    tap_has(err.text, need, "and a sentence says how much the largest needs");
    char layer[40];
    snprintf(layer, sizeof(layer), "%u %u", dml_model_cut_layer(m, 1), dml_model_cut_layer(m, 2));
    o.limit = (uint64_t)share << 20;
    o.layers = layer;
    tap_int(dml_cut_make(&o, &none, &err), -ENOMEM, "a key does not lift the limit");
    tap_has(err.text, "stage 3", "the stage is named");
}

/* ---- all of it, against every other way, with costs and memory of the test's own ------------- */

#define PIECES_MAX 9
#define KIB        1024

/* What pieces need, in KiB; a run needs half as much again for each run before it. */
struct world {
    size_t n;
    double us[PIECES_MAX];
    uint64_t kib[PIECES_MAX];
};

static uint64_t needed(void *arg, size_t i, size_t first, size_t last, uint64_t most)
{
    const struct world *w = arg;
    uint64_t sum = 0;
    for (size_t k = first; k < last; k++)
        sum += w->kib[k] * (2 + i);
    return sum * KIB > most ? most + 1 : sum * KIB; /* as it may */
}

struct best {
    uint64_t longest, crossing, smallest; /* UINT64_MAX: no way */
};

struct way {
    const struct dml_model *m;
    struct world *w;
    const struct dml_cut_options *o;
    uint64_t cost[PIECES_MAX];
    size_t at[PIECES_MAX + 1];
    struct best best;
};

static void judge(struct way *y, size_t n_runs)
{
    const struct dml_cut_options *o = y->o;
    uint64_t longest = 0, crossing = 0, largest = 0;
    for (size_t i = 0; i < n_runs; i++) {
        size_t first = y->at[i], last = y->at[i + 1];
        uint64_t c = 0, floats = 0;
        for (size_t k = first; k < last; k++)
            c += y->cost[k];
        if (first > 0)
            floats += dml_model_cut_floats(y->m, first);
        crossing += floats;
        if (last < y->w->n)
            floats += dml_model_cut_floats(y->m, last);
        uint64_t t = SEND_MACS * floats;
        c = !o->overlap ? c + t : c > t ? c : t;
        longest = c > longest ? c : longest;
    }
    for (size_t stage = 0; stage < o->n_stages; stage++) {
        uint64_t sum = 0;
        for (size_t i = stage; i < n_runs; i += o->n_stages)
            sum += needed(y->w, i, y->at[i], y->at[i + 1], UINT64_MAX);
        largest = sum > largest ? sum : largest;
    }
    struct best *b = &y->best;
    b->smallest = largest < b->smallest ? largest : b->smallest;
    if (o->limit && largest > o->limit)
        return;
    if (longest < b->longest || (longest == b->longest && crossing < b->crossing)) {
        b->longest = longest;
        b->crossing = crossing;
    }
}

static void all_ways(struct way *y, size_t i, size_t n_runs)
{
    if (i == n_runs) {
        y->at[i] = y->w->n;
        judge(y, n_runs);
        return;
    }
    for (size_t at = y->at[i - 1] + 1; at + n_runs - i <= y->w->n; at++) {
        y->at[i] = at;
        all_ways(y, i + 1, n_runs);
    }
}

/* As cut.c takes measured costs: shares of what was estimated in all. */
static void take_costs(struct way *y)
{
    double sum = 0.0, sum_us = 0.0;
    for (size_t i = 0; i < y->w->n; i++) {
        sum += (double)dml_model_cut_cost(y->m, i);
        sum_us += y->w->us[i];
    }
    for (size_t i = 0; i < y->w->n; i++)
        y->cost[i] = 1 + (uint64_t)(sum * y->w->us[i] / sum_us);
}

struct tally {
    unsigned n, n_none, n_binding, n_wrong;
};

static void test_way(const struct dml_model *m, struct world *w, struct dml_cut_options o,
                     struct tally *t)
{
    struct way y = {.m = m, .w = w, .o = &o, .best = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct way got = {.m = m, .w = w, .o = &o, .best = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    size_t n_runs = (size_t)o.n_stages * o.n_chunks;
    struct dml_err err = {0};
    _cleanup_(dml_cut_freep) struct dml_cut *cut = NULL, *free_cut = NULL;
    take_costs(&y);
    take_costs(&got);
    all_ways(&y, 1, n_runs);
    int r = dml_cut_make(&o, &cut, &err);
    bool none = y.best.longest == UINT64_MAX, right = false;
    t->n++;
    t->n_none += none;
    if (none) {
        char need[80];
        snprintf(need, sizeof(need), "needs %.1f MiB", (double)y.best.smallest / 1048576.0);
        right = r == -ENOMEM && strstr(err.text, need);
    } else if (r == 0 && is_sound(cut, m, n_runs)) {
        memcpy(got.at, cut->at, (n_runs + 1) * sizeof(*got.at));
        judge(&got, n_runs);
        right = got.best.longest == y.best.longest && got.best.crossing == y.best.crossing;
        o.limit = 0;
        if (dml_cut_make(&o, &free_cut, &err) == 0)
            t->n_binding += memcmp(cut->at, free_cut->at, (n_runs + 1) * sizeof(*cut->at)) != 0;
    }
    if (!right)
        tap_note("%u x %u, limit %llu: %d %s; longest %llu for %llu, smallest %llu", o.n_stages,
                 o.n_chunks, (unsigned long long)o.limit, r, err.text,
                 (unsigned long long)got.best.longest, (unsigned long long)y.best.longest,
                 (unsigned long long)y.best.smallest);
    t->n_wrong += !right;
}

static void test_search(void)
{
    _cleanup_(dml_model_freep) struct dml_model *m =
        part_model("name nine\ninput 40\nlinear 50\ntanh\nlinear 30\ntanh\nlinear 60\ntanh\n"
                   "linear 20\ntanh\nlinear 4\n");
    static const struct {
        const char *name;
        unsigned n_stages, n_chunks;
    } shapes[] = {{"three stages", 3, 1}, {"a ring of 2 x 2", 2, 2}, {"a ring of 2 x 3", 2, 3}};
    struct world w = {.n = dml_model_n_cuts(m)};
    struct dml_rng rng;
    dml_rng_init(&rng, 7, 0, DML_RNG_TEST, 0);
    tap_int((long long)w.n, PIECES_MAX, "a model of nine pieces");
    for (size_t k = 0; k < ARRAY_SIZE(shapes); k++) {
        struct tally t = {0};
        for (unsigned trial = 0; trial < 200; trial++) {
            uint64_t sum = 0;
            for (size_t i = 0; i < w.n; i++) {
                w.us[i] = 1.0 + (double)dml_rng_below(&rng, 100);
                w.kib[i] = 1 + dml_rng_below(&rng, 3000);
                sum += w.kib[i];
            }
            struct dml_cut_options o = {
                .model = m,
                .n_stages = shapes[k].n_stages,
                .n_chunks = shapes[k].n_chunks,
                .costs_us = w.us,
                .overlap = trial % 2,
                .limit = sum * KIB * (3 + dml_rng_below(&rng, 12)) *
                         shapes[k].n_stages * shapes[k].n_chunks / 18,
                .memory = needed,
                .arg = &w,
            };
            test_way(m, &w, o, &t);
        }
        tap_int((long long)t.n_wrong, 0, shapes[k].name);
        tap_ok(t.n_none > 10 && t.n_binding > 10 && t.n - t.n_none - t.n_binding > 20,
               "of %u, %u have no cut, and in %u it is another than without a limit", t.n, t.n_none,
               t.n_binding);
    }
}

/* A piece that costs more than it seems to is left alone. */
static void test_measured(void)
{
    _cleanup_(dml_model_freep) struct dml_model *m =
        part_model("name even\ninput 500\nlinear 500\nlinear 500\nlinear 500\nlinear 500\n");
    _cleanup_(dml_cut_freep) struct dml_cut *estimated = NULL, *measured = NULL, *given = NULL;
    _cleanup_(dml_mem_freep) char *a = NULL, *b = NULL, *c = NULL;
    static const double us[] = {90.0, 10.0, 10.0, 10.0};
    struct dml_cut_options o = {.model = m, .n_stages = 2, .n_chunks = 1, .overlap = true};
    struct dml_err err = {0};
    tap_int(dml_cut_make(&o, &estimated, &err), 0, "four equal layers on two nodes");
    o.costs_us = us;
    tap_int(dml_cut_make(&o, &measured, &err), 0, "and by what was measured");
    if (!estimated || !measured || dml_cut_print_key(estimated, m, &a) < 0 ||
        dml_cut_print_key(measured, m, &b) < 0)
        return;
    tap_str(a, "3", "estimated: two and two");
    tap_str(b, "2", "the first one measured to take nine times as long: one and three");
    tap_ok(fabs(measured->share[0] - 0.75) < 0.001 && fabs(measured->share[1] - 0.25) < 0.001,
           "shares are told: %.3f and %.3f", measured->share[0], measured->share[1]);
    o.costs_us = NULL;
    o.layers = b;
    tap_int(dml_cut_make(&o, &given, &err), 0, "what is printed is taken as the key");
    tap_str(given && dml_cut_print_key(given, m, &c) == 0 ? c : NULL, b, "and makes the same cut");
}

int main(void)
{
    _cleanup_(dml_model_freep) struct dml_model *m = part_model("mobilenetv2");
    if (!m) /* then none is found: top_srcdir is wrong */
        return tap_done();
    test_shipped();
    test_chunks();
    test_key();
    test_limit();
    test_search();
    test_measured();
    dml_cut_free(NULL);
    return tap_done();
}
