/*
 * Each check is a sentence that says what does not fit and what would. Whether files exist, a model
 * fits the data or a node has the cores is not known here: the run says so.
 */
#include "conf/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/text.h"
#include "conf/parallel.h"

/* The kernel enforces a share of a core as a quota of each 100 ms. Below a twentieth a worker gets
 * slices under 5 ms, and the times measured would be the scheduler's. */
#define CORE_SHARE_MIN 0.05

#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

struct where {
    const char *file;
    unsigned line;
};

static struct where find(const struct dml_ini *ini, const char *file, const char *section,
                         const char *key)
{
    const struct dml_ini_entry *e = dml_ini_find(ini, section, key);
    return e ? (struct where){e->file, e->line} : (struct where){file, 0};
}

static int check_name(const struct dml_testcase *tc, struct where at, struct dml_err *err)
{
    const char *name = tc->testcase.name;
    if (!name[0] || name[0] == '.' || name[strspn(name, NAME_LETTERS)])
        return dml_err_at(err, -EINVAL, at.file, at.line,
                          "testcase.name = %s: results are filed under it, so it has letters, "
                          "digits, - _ and . only, and no . at its start",
                          name);
    return 0;
}

static int check_cores(const struct dml_testcase *tc, struct where at, struct dml_err *err)
{
    char cores[DML_TEXT_REAL_LEN];
    double share = dml_testcase_cores_per_node(tc);
    if (share != 0.0 && share < CORE_SHARE_MIN)
        return dml_err_at(err, -EINVAL, at.file, at.line,
                          "cores = %s for nodes = %llu is %.2g of a core for each worker; at least "
                          "%g is needed (cores counts those of all workers together)",
                          dml_text_real(tc->testcase.cores, cores),
                          (unsigned long long)tc->testcase.nodes, share, CORE_SHARE_MIN);
    return 0;
}

static const struct dml_dataset_format *find_format(const char *name, const char **ret_nearest)
{
    const char *names[64];
    size_t n = 0;
    const struct dml_dataset_format *const *f = dml_dataset_formats();
    for (; *f && n < ARRAY_SIZE(names); f++) {
        if (!strcmp((*f)->name, name))
            return *f;
        names[n++] = (*f)->name;
    }
    *ret_nearest = dml_opt_nearest(name, names, n);
    return NULL;
}

static int check_data(const struct dml_testcase *tc, struct where at, struct dml_err *err)
{
    const char *name = tc->data.dataset, *nearest = NULL;
    const struct dml_dataset_format *f = find_format(name, &nearest);
    if (!f)
        return dml_err_at(err, -EINVAL, at.file, at.line,
                          "data.dataset = %.64s: no such data set; %s%s%s", name,
                          nearest ? "did you mean " : "dmlctl datasets lists them",
                          nearest ? nearest : "", nearest ? "?" : "");
    if (!f->default_path && !tc->data.path[0])
        return dml_err_at(err, -EINVAL, at.file, at.line,
                          "data.dataset = %s has no usual place: say in [data] path = where its "
                          "files are",
                          name);
    return 0;
}

int dml_check_case(const struct dml_testcase *tc, const struct dml_ini *ini, const char *file,
                   struct dml_err *err)
{
    const struct dml_case_options *c = &tc->testcase;
    struct where nodes = find(ini, file, "testcase", "nodes");
    struct where cores = find(ini, file, "testcase", "cores");
    int r = check_name(tc, find(ini, file, "testcase", "name"), err);
    if (r < 0)
        return r;
    if (!tc->model.name[0]) {
        struct where at = find(ini, file, "model", "name");
        return dml_err_at(err, -EINVAL, at.file, at.line,
                          "no model: say in [model] name = which; dmlctl models lists them");
    }
    if (tc->parallel.paradigm == DML_PARADIGM_STANDALONE && c->nodes > 1)
        return dml_err_at(err, -EINVAL, nodes.file, nodes.line,
                          "paradigm = standalone is one worker alone, not nodes = %llu: write "
                          "nodes = 1, in [testcase standalone] where others have more",
                          (unsigned long long)c->nodes);
    r = check_cores(tc, cores.line ? cores : nodes, err);
    if (r < 0)
        return r;
    if (tc->cluster.min_workers > c->nodes) {
        struct where at = find(ini, file, "cluster", "min-workers");
        return dml_err_at(err, -EINVAL, at.file, at.line,
                          "min-workers = %llu is more than nodes = %llu: the run would never start",
                          (unsigned long long)tc->cluster.min_workers,
                          (unsigned long long)c->nodes);
    }
    r = dml_parallel_check_case(tc, ini, file, err);
    return r < 0 ? r : check_data(tc, find(ini, file, "data", "dataset"), err);
}

int dml_check_labels(const struct dml_testcases *t, const char *file, struct dml_err *err)
{
    for (size_t i = 0; i < t->n_cases; i++)
        for (size_t j = 0; j < i; j++)
            if (!strcmp(t->cases[i].label, t->cases[j].label))
                return dml_err_at(
                    err, -EINVAL, file, 0,
                    "the test case %s occurs twice: two words of a list mean the same",
                    t->cases[i].label);
    return 0;
}
