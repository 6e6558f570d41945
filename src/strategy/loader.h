/* Finds, checks and opens strategy plugins. The only user of dlopen. */
#pragma once

#include <stddef.h>

#include "base/mem.h"
#include "strategy/strategy.h"

struct dml_err;
struct dml_loader; /* an open plugin */

/*
 * Opens NAME.so from `dir`. Returns 0, -ENOENT (err has the nearest known name), -ELIBBAD (not a
 * plugin, wrong ABI version, broken descriptor: err says which).
 * Owner: caller, dml_loader_close(); the descriptor lives as long.
 */
int dml_loader_open(const char *dir, const char *name, struct dml_loader **ret,
                    struct dml_err *err);
struct dml_loader *dml_loader_close(struct dml_loader *l);
DML_MEM_CLEANUP(struct dml_loader, dml_loader_close);
const struct dml_strategy *dml_loader_strategy(const struct dml_loader *l);

/* Names of all *.so in `dir`, sorted; a NULL-terminated array of own strings in one block with the
 * array: free(*ret). A missing folder gives an empty list. */
int dml_loader_list(const char *dir, char ***ret);

/* The check alone, for tests: 0 or -ELIBBAD. */
int dml_loader_check(const struct dml_strategy *s, const char *name, const char *file,
                     struct dml_err *err);
