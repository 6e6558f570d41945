/* Keys that a person wrote, looked up in option tables; and what to say when there is no such key.
 */
#pragma once

#include "base/opt.h"

struct dml_err;
struct dml_ini_entry;

/*
 * The row for the section and key of `entry` in any of `tables` (ends with NULL).
 * Returns 0, or -EINVAL: err has file, line, the word, and the nearest known section or key, also
 * when the key is right but in the wrong section.
 */
int dml_known_find(const struct dml_opt *const *tables, const struct dml_ini_entry *entry,
                   const struct dml_opt **ret, struct dml_err *err);
