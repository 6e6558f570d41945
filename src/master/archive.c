/*
 * An experiment is run again because something is to be compared, so the results of the last time
 * must not be lost. NAME is always the last of that name; those before have the time in theirs. Two
 * results of one second are told apart by a number.
 */
#include "master/archive.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "report/result.h"

#define PER_SECOND_MAX 1000

/* A stamp that no archived results of that name have: the time of `path`, and a number if need be.
 */
static int choose_stamp(const struct dml_results *r, const char *dir, const struct stat *st,
                        char *ret, size_t ret_len)
{
    struct tm tm;
    if (!gmtime_r(&st->st_mtime, &tm))
        return -EOVERFLOW;
    size_t n = strftime(ret, ret_len, "%Y%m%dT%H%M%SZ", &tm);
    for (int i = 2; i < PER_SECOND_MAX; i++) {
        _cleanup_(dml_mem_freep) char *path = dml_results_path(r, dir, ret, "json");
        if (!path)
            return -ENOMEM;
        if (access(path, F_OK))
            return 0;
        snprintf(ret + n, ret_len - n, "-%d", i);
    }
    return -EEXIST;
}

/* Returns 0 also when there is no such file. */
static int move(const struct dml_results *r, const char *dir, const char *stamp, const char *suffix,
                struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *now = dml_results_path(r, dir, NULL, suffix);
    _cleanup_(dml_mem_freep) char *old = dml_results_path(r, dir, stamp, suffix);
    if (!now || !old)
        return -ENOMEM;
    if (rename(now, old) && errno != ENOENT)
        return dml_err_at(err, -errno, now, 0, "cannot be renamed to %s: %s", old, strerror(errno));
    return 0;
}

int dml_archive_old(const struct dml_results *r, const char *dir, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *json = dml_results_path(r, dir, NULL, "json");
    struct stat st;
    char stamp[32];
    if (!json)
        return -ENOMEM;
    if (stat(json, &st))
        return errno == ENOENT ? 0 : dml_err_at(err, -errno, json, 0, "%s", strerror(errno));
    int ret = choose_stamp(r, dir, &st, stamp, sizeof(stamp));
    if (ret)
        return dml_err_at(err, ret, json, 0, "cannot be kept under another name: %s",
                          strerror(-ret));
    ret = move(r, dir, stamp, "csv", err);
    return ret ? ret : move(r, dir, stamp, "json", err);
}
