/*
 * Where results are kept: NAME.json and NAME.csv in one folder, written atomically. The file's name
 * is the experiment's, made harmless. Which of them was saved last is written down in LATEST: the
 * times of files change when they are copied, and a Pi's clock may stand wherever it was when it
 * lost its power. Only where nothing is written down do the times decide.
 *
 * The CSV goes first: whoever sees a new JSON may count on the CSV beside it.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"
#include "report/result.h"

#define LATEST      ".latest"    /* holds the name of a file beside it */
#define RESULTS_MAX (256u << 20) /* bytes: a year of rounds; more is not a file of results */

/* Letters, digits, '.', '_', '-' stay; a leading dot would hide the file. Caller frees. */
static char *file_name(const char *name)
{
    char *safe = strdup(*name ? name : "results");
    for (char *p = safe; p && *p; p++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *p) ||
            (p == safe && *p == '.'))
            *p = '_';
    if (safe && strlen(safe) > 200) /* NAME_MAX is 255; room for the suffix and a temporary name */
        safe[200] = '\0';
    return safe;
}

char *dml_results_path(const struct dml_results *r, const char *dir, const char *what,
                       const char *suffix)
{
    _cleanup_(dml_mem_freep) char *name = file_name(r->name);
    return name ? dml_mem_printf("%s/%s%s%s.%s", dir, name, what ? "-" : "", what ? what : "",
                                 suffix)
                : NULL;
}

int dml_results_prepare(const char *dir, struct dml_err *err)
{
    int r = dml_fileio_mkdirs(dir, 0755, err);
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/.dml-probe", dir);
    if (r == 0 && !path)
        r = -ENOMEM;
    if (r == 0)
        r = dml_fileio_write(path, "?", 1, 0600, err);
    if (r == 0)
        (void)unlink(path);
    return r;
}

/* The file beside LATEST that it names, if it still is one. Caller frees; NULL: none. */
static char *latest(const char *dir)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/" LATEST, dir);
    _cleanup_(dml_mem_freep) char *name = NULL;
    size_t len = 0;
    struct stat st;
    if (!path || dml_fileio_read(path, NAME_MAX, &name, &len, NULL) < 0)
        return NULL;
    name[strcspn(name, "\n")] = '\0';
    if (!name[0] || name[0] == '.' || strchr(name, '/'))
        return NULL;
    char *named = dml_mem_printf("%s/%s", dir, name);
    if (named && (stat(named, &st) || !S_ISREG(st.st_mode))) {
        free(named);
        named = NULL;
    }
    return named;
}

/* Writes only what changes: results are saved once a minute, and a card wears. */
static int set_latest(const char *dir, const char *json_path, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *now = latest(dir);
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/" LATEST, dir);
    _cleanup_(dml_mem_freep) char *name = dml_mem_printf("%s\n", strrchr(json_path, '/') + 1);
    if (!path || !name)
        return -ENOMEM;
    if (now && !strcmp(now, json_path))
        return 0;
    return dml_fileio_write(path, name, strlen(name), 0644, err);
}

int dml_results_save(const struct dml_results *r, const char *dir, char **ret_path,
                     struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *csv = NULL, *json = NULL;
    _cleanup_(dml_mem_freep) char *csv_path = dml_results_path(r, dir, NULL, "csv");
    _cleanup_(dml_mem_freep) char *json_path = dml_results_path(r, dir, NULL, "json");
    if (!csv_path || !json_path)
        return -ENOMEM;
    int e = dml_fileio_mkdirs(dir, 0755, err);
    if (e >= 0)
        e = dml_results_to_csv(r, &csv);
    if (e >= 0)
        e = dml_results_to_json(r, &json);
    if (e >= 0)
        e = dml_fileio_write(csv_path, csv, strlen(csv), 0644, err);
    if (e >= 0)
        e = dml_fileio_write(json_path, json, strlen(json), 0644, err);
    if (e >= 0)
        e = set_latest(dir, json_path, err);
    if (e < 0)
        return e;
    *ret_path = json_path;
    json_path = NULL;
    return 0;
}

int dml_results_load(const char *path, struct dml_results **ret, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len = 0;
    int r = dml_fileio_read(path, RESULTS_MAX, &text, &len, err);
    return r < 0 ? r : dml_results_from_json(text, len, path, ret, err);
}

/* Later wins; of the same instant the later name, so that the answer never depends on the folder's
 * order. */
static int newer(const struct timespec *a, const char *a_name, const struct timespec *b,
                 const char *b_name)
{
    if (a->tv_sec != b->tv_sec)
        return a->tv_sec > b->tv_sec;
    if (a->tv_nsec != b->tv_nsec)
        return a->tv_nsec > b->tv_nsec;
    return strcmp(a_name, b_name) > 0;
}

static void closedirp(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

int dml_results_newest(const char *dir, char **ret_path, struct dml_err *err)
{
    char *saved_last = latest(dir);
    if (saved_last) {
        *ret_path = saved_last;
        return 0;
    }
    _cleanup_(closedirp) DIR *d = opendir(dir);
    if (!d)
        return dml_err_set(err, -errno, "cannot read the results in %s: %s", dir, strerror(errno));
    struct timespec best_time = {0};
    _cleanup_(dml_mem_freep) char *best = NULL;
    for (struct dirent *entry; (entry = readdir(d));) {
        const char *dot = strrchr(entry->d_name, '.');
        struct stat st;
        if (entry->d_name[0] == '.' || !dot || strcmp(dot, ".json") ||
            fstatat(dirfd(d), entry->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (best && !newer(&st.st_mtim, entry->d_name, &best_time, best))
            continue;
        char *name = strdup(entry->d_name);
        if (!name)
            return -ENOMEM;
        free(best);
        best = name;
        best_time = st.st_mtim;
    }
    if (!best)
        return dml_err_set(err, -ENOENT, "there are no results in %s yet", dir);
    char *path = dml_mem_printf("%s/%s", dir, best);
    if (!path)
        return -ENOMEM;
    *ret_path = path;
    return 0;
}
