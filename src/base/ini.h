/*
 * INI files as systemd writes them: [section], key = value, # or ; at the start of a line
 * comments, a line ending in \ goes on. UTF-8, no quoting, no nesting.
 *
 * Entries keep file and line, so that a mistake found later can still say where it is. Drop-ins
 * (FILE.d/NAME.conf) are read after FILE in order of name; a later entry for the same key replaces
 * an earlier one. The same key twice in one file is a mistake.
 */
#pragma once

#include <stddef.h>

#include "base/mem.h"

struct dml_err;

#define DML_INI_TEXT_MAX    (1u << 20) /* bytes per file; a test case is some hundred */
#define DML_INI_ENTRIES_MAX 4096

struct dml_ini_entry {
    const char *section, *key, *value; /* value trimmed; "" allowed */
    const char *file;
    unsigned line;
};

struct dml_ini {
    struct dml_ini_entry *entries; /* order of first appearance */
    size_t n_entries;
};

struct dml_ini *dml_ini_new(void);
struct dml_ini *dml_ini_free(struct dml_ini *ini);
DML_MEM_CLEANUP(struct dml_ini, dml_ini_free);

/* Adds the entries of `text` (need not end in NUL). `file` is the name used in messages.
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM; entries read before the mistake stay. */
int dml_ini_parse(struct dml_ini *ini, const char *text, size_t len, const char *file,
                  struct dml_err *err);

/* Adds a file. Returns also the errno of reading it. */
int dml_ini_load(struct dml_ini *ini, const char *path, struct dml_err *err);

/* Adds `path`.d / *.conf in order of name; a missing folder is no error. */
int dml_ini_load_dropins(struct dml_ini *ini, const char *path, struct dml_err *err);

/* The entry, or NULL. */
const struct dml_ini_entry *dml_ini_find(const struct dml_ini *ini, const char *section,
                                         const char *key);
