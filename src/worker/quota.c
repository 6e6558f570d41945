/*
 * A group may not hold processes and hand controllers to its children at once, so the worker first
 * steps down into the leaf "train" and then enables cpu for it; the leaf's cpu.max is the limit.
 * The leaf goes with the unit: systemd removes what it delegated.
 *
 * Heartbeats live in the same process and under the same limit. That is on purpose: a share of a
 * core means all of dml, and a heartbeat needs microseconds.
 */
#include "worker/quota.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fileio.h"

#define LEAF "train"

/* 20 ms: short beside a round, long beside a scheduler's tick, so that quotas of a few per cent
 * stay exact. The kernel takes 1 ms to 1 s. */
#define PERIOD_US 20000

struct dml_quota {
    char *max_path;
};

static int write_word(const char *dir, const char *name, const char *word)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, name);
    if (!path)
        return -ENOMEM;
    _cleanup_(dml_mem_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t len = strlen(word);
    ssize_t n = write(fd, word, len);
    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

/* Whether the blank-separated list in the file has the word. */
static bool lists(const char *dir, const char *name, const char *word)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, name);
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    if (!path || dml_fileio_read(path, 4096, &text, &len, NULL) < 0)
        return false;
    char *rest = text;
    for (char *w; (w = strsep(&rest, " \n"));)
        if (!strcmp(w, word))
            return true;
    return false;
}

/* The process's group in the unified hierarchy: the line "0::/path". */
static int own_group(const char *self, char **ret)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    int r = dml_fileio_read(self, 65536, &text, &len, NULL);
    if (r < 0)
        return r;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        *ret = strdup(line + 3);
        return *ret ? 0 : -ENOMEM;
    }
    return -ENOTSUP;
}

int dml_quota_open(const char *root, const char *self, struct dml_quota **ret)
{
    bool is_system = !root;
    root = root ? root : "/sys/fs/cgroup";
    if (is_system && geteuid() == 0)
        return -EPERM;
    _cleanup_(dml_mem_freep) char *group = NULL;
    int r = own_group(self ? self : "/proc/self/cgroup", &group);
    if (r < 0)
        return r;
    _cleanup_(dml_mem_freep) char *unit = dml_mem_printf("%s%s", root, group);
    _cleanup_(dml_mem_freep) char *leaf = unit ? dml_mem_printf("%s/" LEAF, unit) : NULL;
    if (!leaf)
        return -ENOMEM;
    if (!lists(unit, "cgroup.controllers", "cpu"))
        return -ENOTSUP;

    if (mkdir(leaf, 0755) != 0 && errno != EEXIST)
        return -errno;
    char pid[16];
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    r = write_word(leaf, "cgroup.procs", pid);
    if (r == 0)
        r = write_word(unit, "cgroup.subtree_control", "+cpu");
    if (r < 0) {
        (void)write_word(unit, "cgroup.procs", pid);
        (void)rmdir(leaf);
        return r;
    }
    struct dml_quota *q = calloc(1, sizeof(*q));
    if (q)
        q->max_path = dml_mem_printf("%s/cpu.max", leaf);
    if (!q || !q->max_path) {
        free(q);
        return -ENOMEM;
    }
    *ret = q;
    return 0;
}

struct dml_quota *dml_quota_close(struct dml_quota *q)
{
    if (q) {
        (void)dml_quota_set(q, 0);
        free(q->max_path);
    }
    free(q);
    return NULL;
}

int dml_quota_set(struct dml_quota *q, double cores)
{
    char text[48];
    if (cores > 0.0)
        snprintf(text, sizeof(text), "%.0f %d", cores * PERIOD_US, PERIOD_US);
    else
        snprintf(text, sizeof(text), "max %d", PERIOD_US);
    _cleanup_(dml_mem_closep) int fd = open(q->max_path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    if (fd < 0)
        return -errno;
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}
