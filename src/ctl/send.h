/* What dmlctl run sends to a master: the test case, and what the master cannot read itself. */
#pragma once

#include "rpc/wire.h"

struct dml_err;

/*
 * Reads `file` with its drop-ins, and the model files that it names. Relative paths begin in the
 * current folder, as in dmlctl check and run --local.
 * Returns 0, -ENOENT and other errors of reading, -EINVAL, -E2BIG for too many models, -ENOMEM.
 * Owner: caller, dml_control_request_done().
 */
int dml_send_read(const char *file, struct dml_control_request *ret, struct dml_err *err);
