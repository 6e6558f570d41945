/*
 * Option tables: one row describes one key completely, and everything else is derived from it:
 * parsing, range checks, defaults, `dmlctl check`, error messages with the nearest key, help.
 *
 * Intended usage:
 *     struct foo_options { uint64_t n; double rate; char *path; };
 *     const struct dml_opt foo_opts[] = {
 *         {"foo", "n", DML_OPT_UINT, offsetof(struct foo_options, n), .min = 1, .max = 9,
 *          .dflt = "3", .unit = "", .help = "How many"},
 *         {0},
 *     };
 *     dml_opt_defaults(foo_opts, &o);  dml_opt_set(…);  dml_opt_done(foo_opts, &o);
 *
 * This header is installed: strategy plugins describe their keys with it.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct dml_err;

enum dml_opt_type {
    DML_OPT_BOOL,     /* bool: yes/no, true/false, on/off, 1/0 */
    DML_OPT_UINT,     /* uint64_t */
    DML_OPT_REAL,     /* double, finite */
    DML_OPT_TEXT,     /* char *, owned by the struct; empty text allowed unless min >= 1 */
    DML_OPT_CHOICE,   /* int: index into `choices` */
    DML_OPT_DURATION, /* uint64_t microseconds: "90 s", "5 min", "250 ms", plain number = seconds */
    DML_OPT_BYTES,    /* uint64_t: "64 MiB", "1 GB", plain number = bytes */
    DML_OPT_MAX_
};

struct dml_opt {
    const char *section;
    const char *name;
    enum dml_opt_type type;
    size_t offset;       /* of the field in the target struct */
    double min, max;     /* inclusive; seconds for durations, bytes for texts; both 0: no limit;
                            max < min: no upper limit */
    const char *dflt;    /* text as a user would write it */
    const char *unit;    /* "" or NULL when none */
    const char *choices; /* CHOICE: "adam sgd": words separated by one space; UINT: NULL, or the one
                            word that stands for UINT64_MAX, whatever the range: "unbounded" */
    const char *help;    /* one sentence */
    unsigned flags;
};

/* Several words are one value (features = u g r i z), not a matrix of test cases. */
#define DML_OPT_WORDS 1u

/* Sets every field to its default. Zeroes nothing else. Returns 0, -ENOMEM, or -EINVAL when a
 * default does not fit its own row (a plugin's table comes from outside). */
int dml_opt_defaults(const struct dml_opt *table, void *target);

/* Frees the texts. Safe on a zeroed struct and after a failed dml_opt_defaults(). */
void dml_opt_done(const struct dml_opt *table, void *target);

/* The row, or NULL. `section` NULL: in any section. */
const struct dml_opt *dml_opt_find(const struct dml_opt *table, const char *section,
                                   const char *name);

/*
 * Parses `value` into the field of `target`. Returns 0, -EINVAL or -ENOMEM.
 * Errors: err names file:line, section.key, what was found and what is allowed (range with unit,
 * or the choices with the nearest one).
 */
int dml_opt_set(const struct dml_opt *opt, void *target, const char *value, const char *file,
                unsigned line, struct dml_err *err);

/*
 * The word of `n` `words` nearest to `word` (Damerau-Levenshtein), or NULL when none is near
 * enough to be worth a suggestion.
 */
const char *dml_opt_nearest(const char *word, const char *const *words, size_t n);

/* Value of one field as a user would write it, so that parsing it gives the field back exactly. */
int dml_opt_print_value(const struct dml_opt *opt, const void *target, FILE *f);

/* One line per row: "key = default   unit   help", grouped by section, wrapped for a terminal. */
void dml_opt_help(const struct dml_opt *table, FILE *f);

/* Word number `i` of a CHOICE row into buf. Returns buf; "" when out of range. */
const char *dml_opt_choice(const struct dml_opt *opt, int i, char *buf, size_t buf_len);
