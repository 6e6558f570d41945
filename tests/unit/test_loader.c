/* Strategy plugins: found, checked, refused in one line; and what fedavg computes. */
#include "strategy/loader.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "tests/tap.h"

static int nothing_init(const void *o, size_t p, size_t n, const float *v, void **ret)
{
    (void)o, (void)p, (void)n, (void)v, (void)ret;
    return 0;
}

static void nothing_done(void *s)
{
    (void)s;
}

static int nothing_begin(void *s, uint64_t round, const float *g)
{
    (void)s, (void)round, (void)g;
    return 0;
}

static int nothing_add(void *s, const struct dml_strategy_update *u)
{
    (void)s, (void)u;
    return 0;
}

static int nothing_end(void *s, float *g)
{
    (void)s, (void)g;
    return 0;
}

static struct dml_strategy sound(void)
{
    return (struct dml_strategy){
        .abi = DML_STRATEGY_ABI,
        .size = sizeof(struct dml_strategy),
        .name = "x",
        .summary = "does nothing",
        .source = "nobody",
        .init = nothing_init,
        .done = nothing_done,
        .begin = nothing_begin,
        .add = nothing_add,
        .end = nothing_end,
    };
}

static void refused(const struct dml_strategy *s, const char *words, const char *what)
{
    struct dml_err err = {0};
    tap_int(dml_loader_check(s, "x", "x.so", &err), -ELIBBAD, what);
    tap_has(err.text, words, "and says why");
}

static void test_check(void)
{
    struct dml_err err = {0};
    struct dml_strategy s = sound();
    tap_int(dml_loader_check(&s, "x", "x.so", &err), 0, "a sound descriptor passes");
    s.abi = DML_STRATEGY_ABI + 1;
    refused(&s, "rebuild it", "another ABI is refused");
    s = sound();
    s.size = 8;
    refused(&s, "8 bytes", "another size is refused");
    s = sound();
    s.name = "y";
    refused(&s, "\"y\"", "another name than the file's is refused");
    s = sound();
    s.name = NULL;
    refused(&s, "calls itself", "no name is refused");
    s = sound();
    s.end = NULL;
    refused(&s, "lacks", "a missing function is refused");

    struct dml_opt rows[2] = {
        {.section = "strategy", .name = "rate", .type = DML_OPT_REAL, .dflt = "1", .help = "h"},
    };
    s = sound();
    s.opts = rows;
    s.opts_size = sizeof(double);
    tap_int(dml_loader_check(&s, "x", "x.so", &err), 0, "own keys pass");
    rows[0].section = "train";
    refused(&s, "section strategy", "a key in a foreign section is refused");
    rows[0].section = "strategy";
    rows[0].offset = 64;
    refused(&s, "broken row", "a field outside the struct is refused");
    rows[0].offset = 0;
    rows[0].name = "name";
    refused(&s, "reserved", "the key `name` is refused");
}

static void test_open(const char *dir)
{
    struct dml_err err = {0};
    _cleanup_(dml_loader_closep) struct dml_loader *l = NULL;
    tap_int(dml_loader_open(dir, "fedavg", &l, &err), 0, "fedavg opens");
    if (!l) {
        tap_note("%s", err.text);
        return;
    }
    struct dml_loader *none = NULL;
    tap_int(dml_loader_open(dir, "fedavgg", &none, &err), -ENOENT, "fedavgg does not");
    tap_has(err.text, "did you mean fedavg?", "and the nearest is named");
    tap_int(dml_loader_open(dir, "../fedavg", &none, &err), -ENOENT, "a path is no name");
    tap_int(dml_loader_open("/nonexistent", "fedavg", &none, &err), -ENOENT,
            "no folder, no plugin");

    char tmp[] = "/tmp/dml-loader-XXXXXX";
    char path[64];
    if (!mkdtemp(tmp))
        return;
    snprintf(path, sizeof(path), "%s/text.so", tmp);
    FILE *f = fopen(path, "w");
    if (f) {
        fputs("not a plugin\n", f);
        fclose(f);
    }
    tap_int(dml_loader_open(tmp, "text", &none, &err), -ELIBBAD, "a text file is refused");
    tap_has(err.text, "cannot be loaded", "and says so");
    _cleanup_(dml_mem_freep) char **names = NULL;
    tap_int(dml_loader_list(tmp, &names), 0, "a folder is listed");
    tap_str(names ? names[0] : NULL, "text", "with what is in it");
    tap_ok(names && names[1] == NULL, "and no more");
    (void)unlink(path);
    (void)rmdir(tmp);

    /* Two clients, 1 and 3 samples: (1·1 + 3·5)/4 = 4, (1·2 + 3·(-2))/4 = -1, exact in binary. */
    const struct dml_strategy *s = dml_loader_strategy(l);
    float global[2] = {0, 0};
    const float a[2] = {1, 2}, b[2] = {5, -2};
    void *state = NULL;
    tap_int(s->init(NULL, 2, 2, global, &state), 0, "fedavg begins");
    for (uint64_t round = 1; round <= 2; round++) {
        tap_int(s->begin(state, round, global), 0, "a round");
        tap_int(s->add(state, &(struct dml_strategy_update){.rank = 1, .n_samples = 1, .vec = a}),
                0, "one client");
        tap_int(s->add(state, &(struct dml_strategy_update){.rank = 2, .n_samples = 3, .vec = b}),
                0, "another");
        tap_int(s->end(state, global), 0, "the mean");
        tap_near(global[0], 4, 0, "weighted by samples");
        tap_near(global[1], -1, 0, "in every coordinate");
    }
    tap_int(s->begin(state, 3, global), 0, "a round without clients");
    tap_int(s->end(state, global), -EDOM, "has no mean");
    s->done(state);
}

int main(void)
{
    const char *build = getenv("top_builddir");
    _cleanup_(dml_mem_freep) char *dir =
        dml_mem_printf("%s/src/plugins/.libs", build ? build : ".");
    test_check();
    test_open(dir);
    return tap_done();
}
