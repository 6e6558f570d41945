/* The kernel's CPU quota, on a picture of a cgroup tree made of plain files. */
#include "worker/quota.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "tests/tap.h"

static char dir[] = "/tmp/dml-quota-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) {
        printf("Bail out! cannot write %s\n", path);
        exit(1);
    }
}

static void make(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)mkdir(path, 0755);
}

static void holds(const char *name, const char *want, const char *what)
{
    char path[256];
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)dml_fileio_read(path, 4096, &text, &len, NULL);
    tap_str(text, want, what);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    char self[64];
    snprintf(self, sizeof(self), "%s/self", dir);
    struct dml_quota *q = NULL;

    tap_int(dml_quota_open(dir, self, &q), -ENOENT, "no list of cgroups");
    put("self", "4:cpu:/x\n1:name=systemd:/y\n");
    tap_int(dml_quota_open(dir, self, &q), -ENOTSUP, "cgroup v1 alone is not supported");
    put("self", "4:cpu:/x\n0::/unit\n");
    tap_int(dml_quota_open(dir, self, &q), -ENOTSUP, "no such group");
    make("unit");
    put("unit/cgroup.controllers", "cpuset io memory\n");
    tap_int(dml_quota_open(dir, self, &q), -ENOTSUP, "cpuset is not cpu");
    put("unit/cgroup.controllers", "cpuset cpu io\n");
    tap_int(dml_quota_open(dir, self, &q), -ENOENT, "a leaf that takes no process");
    tap_ok(q == NULL, "nothing was set");

    make("unit/train");
    put("unit/train/cgroup.procs", "");
    put("unit/train/cpu.max", "max 100000\n");
    put("unit/cgroup.procs", "");
    put("unit/cgroup.subtree_control", "");
    tap_int(dml_quota_open(dir, self, &q), 0, "a delegated group");
    if (q) {
        char pid[16];
        snprintf(pid, sizeof(pid), "%ld", (long)getpid());
        holds("unit/train/cgroup.procs", pid, "the process moved to the leaf");
        holds("unit/cgroup.subtree_control", "+cpu", "which has the controller");
        tap_int(dml_quota_set(q, 4.0 / 3), 0, "a limit");
        holds("unit/train/cpu.max", "26667 20000", "of one core and a third");
        tap_int(dml_quota_set(q, 0), 0, "no limit");
        holds("unit/train/cpu.max", "max 20000", "is max");
        tap_int(dml_quota_set(q, 0.5), 0, "half a core");
        q = dml_quota_close(q);
        holds("unit/train/cpu.max", "max 20000", "goes with the quota");
    }
    char cmd[64];
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    return system(cmd) == 0 ? tap_done() : 1;
}
