/* Where models are cut, against every other way to cut them. */
#include "paradigm/cut.h"

#include <errno.h>

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
static uint64_t pieces(void *arg, size_t first, size_t last)
{
    (void)arg;
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
    o.limit = (uint64_t)(n / 3 - 1) << 20;
    tap_int(dml_cut_make(&o, &none, &err), -ENOMEM, "less is not");
    tap_has(err.text, "MiB", "and a sentence says how much");
    char layer[40];
    snprintf(layer, sizeof(layer), "%u %u", dml_model_cut_layer(m, 1), dml_model_cut_layer(m, 2));
    o.limit = (uint64_t)share << 20;
    o.layers = layer;
    tap_int(dml_cut_make(&o, &none, &err), -ENOMEM, "a key does not lift the limit");
    tap_has(err.text, "stage 3", "the stage is named");
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
    dml_cut_free(NULL);
    return tap_done();
}
