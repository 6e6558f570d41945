/*
 * The master: workers join it, dmlctl asks it, its run thread leads test cases.
 *
 * Intended usage (master/main.c): block the signals it will wait for, dml_master_check(),
 * dml_master_new(), then look at is_live, status and is_done from time to time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "conf/daemon.h"
#include "conf/testcase.h"

struct dml_err;
struct dml_master;

/* The configured test case, checked as far as it can be without workers; *ret NULL when none is
 * configured. Owner: caller, dml_testcases_free(). */
int dml_master_check(const struct dml_master_options *o, struct dml_testcases **ret,
                     struct dml_err *err);

/*
 * Starts everything. *io_cases, taken over when it is not NULL, is run at once. o: borrowed.
 * Returns 0, -EADDRINUSE, -EINVAL …, with a sentence.
 */
int dml_master_new(const struct dml_master_options *o, struct dml_testcases **io_cases,
                   struct dml_master **ret, struct dml_err *err);

/*
 * Reads the configured test case again and runs it, as at the start; workers stay connected.
 * Returns 0, -EBUSY while another one runs, -ENOENT when none is configured, or what is wrong with
 * it; each with a sentence, and nothing changes then.
 */
int dml_master_reload(struct dml_master *m, struct dml_err *err);

/* Stops what runs, saves what there is, hangs up. Blocks: a second or two. NULL is fine. */
struct dml_master *dml_master_free(struct dml_master *m);
DML_MEM_CLEANUP(struct dml_master, dml_master_free);

uint16_t dml_master_port(const struct dml_master *m);
bool dml_master_is_live(struct dml_master *m);

/* Whether the test case given to dml_master_new() is over; *ret_failed: not everything of it went
 * well. */
bool dml_master_is_done(struct dml_master *m, bool *ret_failed);

/* One line for people. Returns buf. */
const char *dml_master_status(struct dml_master *m, char *buf, size_t buf_len);
