/*
 * A matrix leaves a model for each of its runs, and an SD card is small; so the oldest go. Age is
 * read from the names: a file's time says when it was copied. A Pi without a battery may have had
 * any time, also a later one than now; so a name is always newer than those that are there.
 *
 * Whoever wants to keep a model gives it a name of his own, as most do when they copy it to where
 * it is used; hence only names that end the way ours do are looked at.
 */
#include "master/models.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "report/event.h"

#define SUFFIX ".dmlmodel"

/* A stamp, 'd' for a digit: the time, without the ':' that other systems do not like in names. */
static const char form[] = "ddddddddTddddddZ";
enum { FORM_LEN = sizeof(form) - 1, NUMBER_LEN = 9 };

char *dml_models_path(const char *dir, const struct dml_event_run *run, const char *stamp)
{
    char name[160];
    size_t n = (size_t)snprintf(name, sizeof(name), "%s-%s", run->testcase, run->label);
    for (size_t i = 0; i < n && i < sizeof(name) - 1; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._=-", name[i]))
            name[i] = '-';
    return dml_mem_printf("%s/%s-r%u-%s" SUFFIX, dir, name, run->i_repeat + 1, stamp);
}

static bool has_form(const char *s)
{
    for (size_t i = 0; i < FORM_LEN; i++)
        if (form[i] == 'd' ? !isdigit((unsigned char)s[i]) : s[i] != form[i])
            return false;
    return true;
}

struct found {
    char *name;
    const char *stamp; /* in name, up to the suffix */
    size_t stamp_len;
    unsigned long n_same;
};

/* Takes NAME-CASE-rREPEAT-STAMP.dmlmodel apart, STAMP being a time or a time and -NUMBER. */
static bool is_ours(const char *name, struct found *ret)
{
    size_t len = strlen(name);
    if (name[0] == '.' || len < strlen(SUFFIX) || strcmp(name + len - strlen(SUFFIX), SUFFIX) != 0)
        return false;
    const char *end = name + len - strlen(SUFFIX), *p = end;
    while (p > name && isdigit((unsigned char)p[-1]))
        p--;
    ret->n_same = 1;
    if (end - p > NUMBER_LEN)
        return false;
    if (p < end && p - name > FORM_LEN && p[-1] == '-') {
        ret->n_same = strtoul(p, NULL, 10);
        p--;
    } else {
        p = end;
    }
    if (p - name < FORM_LEN || !has_form(p - FORM_LEN))
        return false;
    ret->stamp = p - FORM_LEN;
    ret->stamp_len = (size_t)(end - ret->stamp);
    p = ret->stamp; /* before it: -rREPEAT- */
    if (p - name < 4 || *--p != '-' || !isdigit((unsigned char)p[-1]))
        return false;
    while (p > name && isdigit((unsigned char)p[-1]))
        p--;
    return p - name >= 3 && p[-1] == 'r' && p[-2] == '-';
}

/* The newest first; of one experiment in order of name, so that the folder's order decides nothing.
 */
static int newest_first(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int by_time = strncmp(y->stamp, x->stamp, FORM_LEN);
    if (by_time || x->n_same != y->n_same)
        return by_time ? by_time : x->n_same < y->n_same ? 1 : -1;
    return strcmp(y->name, x->name);
}

/* Adds what is in the folder to io_found. Returns 0 or a negative errno; what was added is the
 * caller's to free() even then. */
static int look(DIR *d, struct found **io_found, size_t *io_n)
{
    size_t room = *io_n;
    for (struct dirent *entry; (entry = readdir(d));) {
        struct found f;
        struct stat st;
        if (!is_ours(entry->d_name, &f) ||
            fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
            continue;
        if (*io_n == room) {
            room = room ? 2 * room : 64;
            struct found *more = realloc(*io_found, room * sizeof(*more));
            if (!more)
                return -ENOMEM;
            *io_found = more;
        }
        f.name = strdup(entry->d_name);
        if (!f.name)
            return -ENOMEM;
        f.stamp = f.name + (f.stamp - entry->d_name);
        (*io_found)[(*io_n)++] = f;
    }
    return 0;
}

static void found_free(struct found *found, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(found[i].name);
    free(found);
}

/* Moves a stamp behind another one. */
static void move_behind(char io_stamp[FORM_LEN + 1], unsigned long *io_n_same, const char *stamp,
                        unsigned long n_same)
{
    int order = strncmp(stamp, io_stamp, FORM_LEN);
    if (order < 0 || (order == 0 && n_same < *io_n_same))
        return;
    memcpy(io_stamp, stamp, FORM_LEN);
    *io_n_same = n_same + 1;
}

void dml_models_stamp(const char *dir, char io_stamp[DML_MODELS_STAMP_MAX], unsigned *io_n_same)
{
    char wall[24], stamp[FORM_LEN + 1] = "";
    size_t len = 0, n = 0;
    unsigned long n_same = 1;
    struct found *found = NULL;
    dml_clock_wall_text(wall, sizeof(wall));
    for (const char *p = wall; *p && len < FORM_LEN; p++)
        if (*p != ':' && *p != '-')
            stamp[len++] = *p;
    if (*io_n_same)
        move_behind(stamp, &n_same, io_stamp, *io_n_same);
    DIR *d = opendir(dir);
    if (d)
        (void)look(d, &found, &n);
    for (size_t i = 0; i < n; i++)
        move_behind(stamp, &n_same, found[i].stamp, found[i].n_same);
    found_free(found, n);
    if (d)
        (void)closedir(d);
    *io_n_same = (unsigned)n_same;
    if (n_same > 1)
        snprintf(io_stamp, DML_MODELS_STAMP_MAX, "%s-%lu", stamp, n_same);
    else
        snprintf(io_stamp, DML_MODELS_STAMP_MAX, "%s", stamp);
}

int dml_models_prune(const char *dir, uint64_t n_keep, const char *stamp)
{
    struct found *found = NULL;
    size_t n = 0;
    int ret = 0, n_removed = 0;
    if (!n_keep)
        return 0;
    DIR *d = opendir(dir);
    if (!d)
        return -errno;
    ret = look(d, &found, &n);
    if (!ret && n > n_keep) {
        qsort(found, n, sizeof(*found), newest_first);
        for (size_t i = n_keep; i < n; i++) {
            bool current = found[i].stamp_len == strlen(stamp) &&
                           !strncmp(found[i].stamp, stamp, found[i].stamp_len);
            if (current)
                continue;
            if (!unlinkat(dirfd(d), found[i].name, 0))
                n_removed++;
            else if (!ret)
                ret = -errno;
        }
    }
    found_free(found, n);
    (void)closedir(d);
    return ret ? ret : n_removed;
}
