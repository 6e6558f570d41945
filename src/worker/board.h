/* What this machine is and how it feels: the worker's half of the hello and of every heartbeat. */
#pragma once

#include "rpc/wire.h"

struct dml_err;

/*
 * Fills everything but gflops, which takes time to measure.
 * root: "" or a folder that stands for / (tests). id: "" = the host's name.
 * max_cores: 0 = all that the scheduler lets this process use.
 * Returns 0, or -EINVAL when id has letters outside [A-Za-z0-9._-] or is longer than 63.
 */
int dml_board_hello(const char *root, const char *id, unsigned max_cores, struct dml_hello *ret,
                    struct dml_err *err);

/* Never fails: what cannot be read is negative. Reads five small files of /proc and /sys. */
void dml_board_health(const char *root, struct dml_health *ret);
