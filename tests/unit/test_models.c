/* Trained models: their names, and which of them go when there are too many. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "master/models.h"
#include "report/event.h"
#include "tests/tap.h"

static char dir[] = "/tmp/dml-test-models.XXXXXX";

static void put(const char *name)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fclose(f))
        tap_ok(false, "cannot write %s", path);
}

static bool is_there(const char *name)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, name);
    struct stat st;
    return lstat(path, &st) == 0;
}

static void test_names(void)
{
    char stamp[DML_MODELS_STAMP_MAX] = "", first[DML_MODELS_STAMP_MAX];
    unsigned n_same = 0;
    dml_models_stamp(dir, stamp, &n_same);
    tap_int((long long)strlen(stamp), 16, stamp);
    /* Whether the second falls into the same second is the clock's to say; told apart they are. */
    memcpy(first, stamp, sizeof(first));
    dml_models_stamp("/nowhere/at/all", stamp, &n_same);
    tap_ok(strcmp(first, stamp) != 0, "%s is another than %s", stamp, first);

    const struct dml_event_run run = {
        .testcase = "my test", .label = "3:6, lr=0.1/x", .i_repeat = 1};
    _cleanup_(dml_mem_freep) char *path = dml_models_path("/r", &run, "20261121T141523Z");
    tap_str(path, "/r/my-test-3-6--lr=0.1-x-r2-20261121T141523Z.dmlmodel", "a model's name");
}

/* A clock that was wrong has left models of a time to come. */
static void test_future(void)
{
    static const char *const old[] = {"t-3-3-r1-20991231T235959Z.dmlmodel",
                                      "t-3-3-r1-20991231T235959Z-9.dmlmodel",
                                      "t-3-3-r1-20991230T235959Z-11.dmlmodel"};
    const char *too_long = "t-3-3-r1-20991231T235959Z-12345678901.dmlmodel";
    const struct dml_event_run run = {.testcase = "t", .label = "3-3"};
    for (size_t i = 0; i < ARRAY_SIZE(old); i++)
        put(old[i]);
    put(too_long);
    for (unsigned i = 10; i < 12; i++) {
        char stamp[DML_MODELS_STAMP_MAX] = "", want[DML_MODELS_STAMP_MAX];
        unsigned n_same = 0; /* a master that was started anew */
        dml_models_stamp(dir, stamp, &n_same);
        snprintf(want, sizeof(want), "20991231T235959Z-%u", i);
        tap_str(stamp, want, "a name behind those that are there");
        _cleanup_(dml_mem_freep) char *path = dml_models_path(dir, &run, stamp);
        put(path + strlen(dir) + 1);
        tap_int(dml_models_prune(dir, 1, stamp), i == 10 ? 3 : 1, "those before go");
        tap_ok(is_there(path + strlen(dir) + 1), "and not the new one");
        if (i == 11)
            (void)remove(path);
    }
    tap_ok(is_there(too_long), "a number of eleven digits is not ours");
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, too_long);
    (void)remove(path);
}

static void test_prune(void)
{
    static const char *const by_age[] = {
        "t-3-3-r1-20251231T235959Z.dmlmodel",   "z-1-1-r12-20260101T000000Z.dmlmodel",
        "t-3-3-r1-20260101T000000Z-2.dmlmodel", "t-3-3-r1-20260101T000000Z-10.dmlmodel",
        "a-1-1-r1-20261121T141523Z.dmlmodel",   "a-1-1-r2-20261121T141523Z.dmlmodel",
    };
    static const char *const others[] = {
        "t.json",
        "kept.dmlmodel",
        "kept-20200101T000000Z.dmlmodel",
        "t-3-3-r-20200101T000000Z.dmlmodel",
        "-r1-20200101T000000Z.dmlmodel",
        "t-3-3-r1-20200101T000000.dmlmodel",
        "t-3-3-r1-20200101T000000Z-best.dmlmodel",
        "t-3-3-r1-20200101T000000Z-.dmlmodel",
        "t-3-3-r1-20200101T000000Z.dmlmodel.bak",
        ".t-3-3-r1-20200101T000000Z.dmlmodel",
        "20200101T000000Z.dmlmodel",
        ".dmlmodel",
    };
    const size_t n = ARRAY_SIZE(by_age);
    for (size_t i = 0; i < n; i++)
        put(by_age[i]);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        put(others[i]);
    _cleanup_(dml_mem_freep) char *folder =
        dml_mem_printf("%s/t-3-3-r1-20200101T000000Z.dmlmodel", dir);
    (void)mkdir(folder, 0755);

    tap_int(dml_models_prune(dir, 0, ""), 0, "0 keeps all");
    tap_int(dml_models_prune(dir, n, ""), 0, "as many as may stay");
    for (size_t left = n; left-- > 3;) {
        size_t gone = n - left - 1;
        tap_int(dml_models_prune(dir, left, ""), 1, "one too many");
        tap_ok(!is_there(by_age[gone]) && is_there(by_age[gone + 1]), "%s goes", by_age[gone]);
    }
    tap_int(dml_models_prune(dir, 1, "20261121T141523Z"), 1, "of the running experiment");
    tap_ok(is_there(by_age[4]) && is_there(by_age[5]), "none goes, though only one may stay");
    tap_ok(!is_there(by_age[3]), "but what was there before does");
    tap_int(dml_models_prune(dir, 1, "20261121T141523Z-2"), 1, "by the next one");
    tap_ok(is_there(by_age[5]) && !is_there(by_age[4]), "it is older");
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        tap_ok(is_there(others[i]), "%s stays", others[i]);
    tap_ok(is_there("t-3-3-r1-20200101T000000Z.dmlmodel"), "a folder stays");
    tap_int(dml_models_prune("/nowhere/at/all", 1, ""), -ENOENT, "no such folder");
}

int main(void)
{
    if (!mkdtemp(dir))
        return 99;
    test_names();
    test_future();
    test_prune();
    _cleanup_(dml_mem_freep) char *clean = dml_mem_printf("rm -rf %s", dir);
    return system(clean) == 0 ? tap_done() : 99;
}
