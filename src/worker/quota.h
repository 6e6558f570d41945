/*
 * A share of the CPU held by the kernel: cpu.max in the part of the cgroup tree that systemd
 * delegated to the unit (Delegate=cpu). Source: cgroup-v2.rst of Linux; systemd's
 * CGROUP_DELEGATION.md.
 */
#pragma once

#include "base/mem.h"

struct dml_quota;

/*
 * Moves this process into a group of its own below the unit's, so that the cpu controller may be
 * switched on there. root: where cgroups are mounted, self: the process's list of cgroups; NULL for
 * both: the system's own.
 * Returns 0; -EPERM as root, who could write anywhere and so cannot tell what was delegated;
 * -ENOTSUP without cgroup v2 or its cpu controller; the errno of a write that was refused (nothing
 * delegated). On error everything is as before. Owner: caller.
 */
int dml_quota_open(const char *root, const char *self, struct dml_quota **ret);
struct dml_quota *dml_quota_close(struct dml_quota *q);
DML_MEM_CLEANUP(struct dml_quota, dml_quota_close);

/* cores > 0: at most so many cores of CPU time; 0: no limit. Returns 0 or a negative errno. */
int dml_quota_set(struct dml_quota *q, double cores);
