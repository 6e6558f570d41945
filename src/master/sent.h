/*
 * A test case that dmlctl sends is written where dmlctl runs: its models and relative paths are
 * those of that folder, which the master may not be able to read, or have.
 */
#pragma once

#include <stdbool.h>

#include "conf/testcase.h"
#include "rpc/wire.h"

struct dml_err;

/* Borrowed for the call. */
struct dml_sent {
    const struct dml_control_request *request;
    bool is_local;        /* dmlctl runs on this machine */
    const char *data_dir; /* of the master; "": none */
};

/*
 * Hands the cases the models that came along, lets relative paths of data sets begin in dmlctl's
 * folder, unless data_dir or, with placement = local, each node's own says where they begin, and
 * looks whether this process can read them.
 * Returns 0, -EINVAL (a relative path from another machine), -ENOENT, -EACCES (err says which user
 * cannot read it and what to do), -ENOMEM.
 */
int dml_sent_unpack(const struct dml_sent *s, struct dml_testcases *io_cases, struct dml_err *err);
