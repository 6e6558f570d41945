/*
 * Keys for one paradigm only: [train server] says what [train] says, for the test cases of a matrix
 * that are trained by the server, and goes before it. So one file can compare paradigms that want
 * different numbers of nodes or minibatches of different sizes.
 *
 * Intended usage: dml_override_init(); entries[] into the matrix, where an entry holds in the cases
 * of its paradigms; for a case dml_override_view(): the file as that paradigm sees it.
 */
#pragma once

#include "base/ini.h"
#include "conf/testcase.h"

struct dml_err;

struct dml_override_entry {
    struct dml_ini_entry entry; /* its section without the paradigm */
    unsigned paradigms;         /* bit k: holds where the paradigm is of kind k */
    char *section;              /* own; NULL: that of the file */
};

struct dml_override {
    struct dml_override_entry *entries; /* in the order of the file */
    size_t n_entries;
    struct dml_ini views[DML_PARADIGM_MAX_];
};

/* ini is borrowed. Returns 0, -ENOMEM, or -EINVAL with line and section: no such paradigm, a key
 * that all test cases of a file share, a key set twice. done() also after a failed init(). */
int dml_override_init(struct dml_override *o, const struct dml_ini *ini, struct dml_err *err);
void dml_override_done(struct dml_override *o);

/* The entries that hold for a paradigm, as if nothing else were in the file. */
static inline const struct dml_ini *dml_override_view(const struct dml_override *o, int kind)
{
    return &o->views[kind];
}

/* Whether every entry means something to one of the paradigms (bit k: kind k) that it holds for.
 * Returns 0 or -EINVAL with line and key. */
int dml_override_check(const struct dml_override *o, unsigned paradigms, struct dml_err *err);
