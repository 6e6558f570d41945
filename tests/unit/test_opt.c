/* Option tables: every type, ranges, suggestions, and that what is printed is read back. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/rng.h"
#include "tests/tap.h"

struct target {
    bool flag;
    uint64_t n, big, ahead;
    double rate, any;
    char *text, *needed;
    int kind;
    uint64_t wait, size;
};

static const struct dml_opt opts[] = {
    {"one", "flag", DML_OPT_BOOL, offsetof(struct target, flag), .dflt = "no", .help = "A flag."},
    {"one", "rounds", DML_OPT_UINT, offsetof(struct target, n), .min = 1, .max = 1000000,
     .dflt = "10", .unit = "rounds", .help = "How often everybody trains and sends its answer."},
    {"one", "seed", DML_OPT_UINT, offsetof(struct target, big), .dflt = "1", .help = "Seed."},
    {"one", "ahead", DML_OPT_UINT, offsetof(struct target, ahead), .min = 0, .max = 9, .dflt = "2",
     .unit = "steps", .choices = "unbounded", .help = "How far."},
    {"one", "learning-rate", DML_OPT_REAL, offsetof(struct target, rate), .min = 0, .max = 10,
     .dflt = "0.01", .help = "Step size."},
    {"two", "any", DML_OPT_REAL, offsetof(struct target, any), .min = -1, .max = -2, .dflt = "0",
     .help = "At least -1."},
    {"two", "text", DML_OPT_TEXT, offsetof(struct target, text), .dflt = "", .help = "Text."},
    {"two", "needed", DML_OPT_TEXT, offsetof(struct target, needed), .min = 1, .max = 5,
     .dflt = "abc", .help = "Some text."},
    {"two", "optimizer", DML_OPT_CHOICE, offsetof(struct target, kind), .dflt = "sgd",
     .choices = "sgd adam adamw", .help = "Rule."},
    {"two", "deadline", DML_OPT_DURATION, offsetof(struct target, wait), .min = 0.25, .max = 3600,
     .dflt = "90 s", .help = "Deadline."},
    {"two", "cache", DML_OPT_BYTES, offsetof(struct target, size), .min = 1024, .max = 0x1p40,
     .dflt = "64 MiB", .help = "Cache."},
    {0},
};

static struct dml_err err;

static int set(struct target *t, const char *name, const char *value)
{
    memset(&err, 0, sizeof(err));
    return dml_opt_set(dml_opt_find(opts, NULL, name), t, value, "f.conf", 7, &err);
}

static void refused(struct target *t, const char *name, const char *value, const char *words)
{
    char what[120];
    (void)snprintf(what, sizeof(what), "%s = %.40s is refused", name, value);
    struct target before = *t;
    tap_int(set(t, name, value), -EINVAL, what);
    tap_has(err.text, words, "with the right words");
    tap_ok(!memcmp(&before, t, sizeof(before)), "and nothing changed");
}

static void test_defaults(struct target *t)
{
    tap_int(dml_opt_defaults(opts, t), 0, "defaults");
    tap_ok(!t->flag && t->n == 10 && t->big == 1 && t->rate == 0.01 && t->kind == 0, "numbers");
    tap_str(t->text, "", "empty text");
    tap_str(t->needed, "abc", "text");
    tap_int((long long)t->wait, 90000000, "duration");
    tap_int((long long)t->size, 64 << 20, "bytes");
    tap_ok(!dml_opt_find(opts, "one", "optimizer"), "find looks at the section");
    tap_ok(dml_opt_find(opts, "two", "optimizer") == &opts[8], "and finds");
    tap_ok(!dml_opt_find(opts, NULL, "optimize"), "a part of a name is no name");

    static const struct dml_opt bad[] = {
        {"x", "text", DML_OPT_TEXT, offsetof(struct target, text), .dflt = "leaks?"},
        {"x", "n", DML_OPT_UINT, offsetof(struct target, n), .dflt = "ten"},
        {"x", "needed", DML_OPT_TEXT, offsetof(struct target, needed), .dflt = "never"},
        {0},
    };
    struct target other;
    memset(&other, 0xff, sizeof(other));
    tap_int(dml_opt_defaults(bad, &other), -EINVAL, "a default that is none");
    dml_opt_done(bad, &other);
    tap_ok(other.text == NULL && other.needed == NULL, "can be cleaned up half-way");
}

static void test_values(struct target *t)
{
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
                                                                                "off", "0"};
    for (int i = 0; i < 4; i++) {
        tap_ok(set(t, "flag", yes[i]) == 0 && t->flag, "%s", yes[i]);
        tap_ok(set(t, "flag", no[i]) == 0 && !t->flag, "%s", no[i]);
    }
    refused(t, "flag", "Yes", "one.flag = Yes: must be yes or no");

    tap_ok(set(t, "rounds", "1000000") == 0 && t->n == 1000000, "the upper end belongs to it");
    refused(t, "rounds", "1000001", "must be a whole number, 1 to 1000000 rounds");
    refused(t, "rounds", "0", "1 to 1000000 rounds");
    static const char *const odd[] = {"-1",   "+1",  " 1", "1 ",  "1.0",
                                      "0x10", "1e3", "",   "ten", "99999999999999999999"};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
        refused(t, "rounds", odd[i], "whole number");
    tap_str(err.file, "f.conf", "the file");
    tap_int(err.line, 7, "and the line are named");
    tap_ok(set(t, "seed", "18446744073709551615") == 0 && t->big == UINT64_MAX, "2^64 - 1");

    tap_ok(set(t, "ahead", "unbounded") == 0 && t->ahead == UINT64_MAX, "a word for a number");
    tap_ok(set(t, "ahead", "9") == 0 && t->ahead == 9, "or a number");
    refused(t, "ahead", "10", "must be a whole number, 0 to 9 steps, or unbounded");
    refused(t, "ahead", "unbound", "0 to 9 steps, or unbounded");
    refused(t, "rounds", "unbounded", "whole number");

    tap_ok(set(t, "learning-rate", "1e-3") == 0 && t->rate == 1e-3, "1e-3");
    tap_ok(set(t, "learning-rate", ".5") == 0 && t->rate == 0.5, ".5");
    static const char *const unreal[] = {"nan", "inf", "1e999", "0x1p3", "1,5", "", "e", "1 2"};
    for (size_t i = 0; i < ARRAY_SIZE(unreal); i++)
        refused(t, "learning-rate", unreal[i], "must be a number, 0 to 10");
    refused(t, "learning-rate", "-0.1", "0 to 10");
    refused(t, "any", "-1.5", "at least -1");
    tap_int(set(t, "any", "1e300"), 0, "no upper limit");

    tap_ok(set(t, "text", "a b  c") == 0 && !strcmp(t->text, "a b  c"), "text as it is");
    refused(t, "needed", "", "1 to 5 bytes long");
    refused(t, "needed", "sixsix", "1 to 5 bytes long");

    tap_ok(set(t, "optimizer", "adamw") == 0 && t->kind == 2, "a choice");
    refused(t, "optimizer", "adm", "one of sgd adam adamw; did you mean adam?");
    refused(t, "optimizer", "zzzzzz", "one of sgd adam adamw");
    tap_ok(!strstr(err.text, "mean"), "no suggestion where nothing is near");
    refused(t, "optimizer", "sgd adam", "one of");
    refused(t, "optimizer", "", "one of");
}

static void test_units(struct target *t)
{
    static const struct {
        const char *text;
        uint64_t us;
    } times[] = {{"250 ms", 250000},    {"90", 90000000},     {"90s", 90000000},
                 {"1.5 s", 1500000},    {"5 min", 300000000}, {"1 h", 3600000000},
                 {"300000 us", 300000}, {"0.5  sec", 500000}};
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        (void)set(t, "deadline", times[i].text);
        tap_int((long long)t->wait, (long long)times[i].us, times[i].text);
    }
    refused(t, "deadline", "2 h", "a time such as 250 ms, 90 s, 5 min or 2 h, 250 ms to 1 h");
    refused(t, "deadline", "90 sheep", "a time");
    refused(t, "deadline", "s", "a time");
    refused(t, "deadline", "-5 s", "a time");
    refused(t, "deadline", "1e3 s", "a time");
    refused(t, "deadline", "18446744073709551615 h", "a time");
    refused(t, "deadline", "1.2.3 s", "a time");

    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"4096", 4096},       {"2 KiB", 2048},   {"1.5GiB", UINT64_C(3) << 29},
                 {"1 GB", 1000000000}, {"64M", 64 << 20}, {"2048 B", 2048}};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        (void)set(t, "cache", sizes[i].text);
        tap_int((long long)t->size, (long long)sizes[i].bytes, sizes[i].text);
    }
    refused(t, "cache", "1 B", "1 KiB to 1 TiB");
    refused(t, "cache", "16777216 TiB", "a size");
}

static char *print(const struct dml_opt *opt, const struct target *t)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    (void)dml_opt_print_value(opt, t, f);
    (void)fclose(f);
    return text;
}

/* Prints a field and reads it back into `other`. */
static const char *round_trip(const char *name, const struct target *t, struct target *other)
{
    static char shown[200];
    _cleanup_(dml_mem_freep) char *text = print(dml_opt_find(opts, NULL, name), t);
    (void)snprintf(shown, sizeof(shown), "%s = %s", name, text);
    if (set(other, name, text) < 0)
        tap_ok(false, "%s is not read back: %s", shown, err.text);
    return shown;
}

static void test_round_trip(struct target *t)
{
    struct target o;
    (void)dml_opt_defaults(opts, &o);
    struct dml_rng rng;
    dml_rng_init(&rng, 1, 0, DML_RNG_TEST, 0);
    int bad = 0;
    for (int i = 0; i < 2000; i++) {
        t->big = dml_rng_u64(&rng) >> dml_rng_below(&rng, 64);
        t->any = ldexp(dml_rng_uniform(&rng), (int)dml_rng_below(&rng, 600) - 300);
        t->wait = 250000 + dml_rng_below(&rng, 3599750001);
        if (i % 2)
            t->wait = t->wait / 1000000 * 1000000 + 1000000;
        t->size = 1024 + dml_rng_below(&rng, UINT64_C(1) << 30);
        t->kind = (int)dml_rng_below(&rng, 3);
        t->flag = i % 3;
        (void)round_trip("seed", t, &o);
        (void)round_trip("any", t, &o);
        (void)round_trip("deadline", t, &o);
        (void)round_trip("cache", t, &o);
        (void)round_trip("optimizer", t, &o);
        (void)round_trip("flag", t, &o);
        bad += t->big != o.big || t->any != o.any || t->wait != o.wait || t->size != o.size ||
               t->kind != o.kind || t->flag != o.flag;
    }
    tap_int(bad, 0, "2000 random structs survive printing and parsing bit for bit");
    (void)set(t, "text", "weird # ; = text");
    (void)round_trip("text", t, &o);
    tap_str(o.text, t->text, "text survives");
    t->wait = 300000000;
    tap_str(round_trip("deadline", t, &o), "deadline = 5 min", "in the largest unit that fits");
    t->ahead = UINT64_MAX;
    tap_str(round_trip("ahead", t, &o), "ahead = unbounded", "the word is printed");
    tap_ok(o.ahead == UINT64_MAX, "and read back");
    t->any = 0.1;
    tap_str(round_trip("any", t, &o), "any = 0.1", "in as few digits as needed");
    dml_opt_done(opts, &o);
}

static void test_nearest(void)
{
    static const char *const words[] = {"rounds",       "batch-size", "learning-rate", "seed", "ip",
                                        "local-epochs", NULL};
    size_t n = ARRAY_SIZE(words);
    tap_str(dml_opt_nearest("round", words, n), "rounds", "one letter missing");
    tap_str(dml_opt_nearest("seeed", words, n), "seed", "one too many");
    tap_str(dml_opt_nearest("sede", words, n), "seed", "two exchanged");
    tap_str(dml_opt_nearest("BATCH_SIZE", words, n), "batch-size", "capitals and underscores");
    tap_str(dml_opt_nearest("learnrate", words, n), "learning-rate", "a part left out");
    tap_str(dml_opt_nearest("lr", words, n), NULL, "nothing in common, nothing suggested");
    tap_str(dml_opt_nearest("", words, n), NULL, "nothing for nothing");
    tap_str(dml_opt_nearest("rounds", words, 0), NULL, "nothing among nothing");
    char longest[5000];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    tap_str(dml_opt_nearest(longest, words, n), NULL, "a very long word is no slip");
}

static void test_help(void)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    dml_opt_help(opts, f);
    (void)fclose(f);
    for (const struct dml_opt *o = opts; o->name; o++)
        tap_has(text, o->name, "help has the key");
    tap_has(text, "[one]\n  flag = no", "sections and defaults");
    tap_has(text, "(sgd adam adamw)", "choices");
    tap_has(text, "(250 ms to 1 h)", "ranges");
    size_t widest = 0;
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        widest = strcspn(p, "\n") > widest ? strcspn(p, "\n") : widest;
    tap_ok(widest <= 79, "no line wider than 79 columns: %zu", widest);
    free(text);

    char buf[20];
    tap_str(dml_opt_choice(&opts[8], 1, buf, sizeof(buf)), "adam", "word 1");
    tap_str(dml_opt_choice(&opts[8], 3, buf, sizeof(buf)), "", "no word 3");
    tap_str(dml_opt_choice(&opts[8], -1, buf, sizeof(buf)), "", "no word -1");
}

int main(void)
{
    struct target t = {0};
    test_defaults(&t);
    test_values(&t);
    test_units(&t);
    test_round_trip(&t);
    test_nearest();
    test_help();
    dml_opt_done(opts, &t);
    tap_ok(t.text == NULL && t.needed == NULL, "done leaves NULL");
    return tap_done();
}
