/*
 * Values with several words make a matrix: which words hold in case number i.
 *
 * Intended usage: dml_expand_add() for every entry, in the order of the file; dml_expand_count();
 * then for each case and item dml_expand_word().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/opt.h"

struct dml_err;
struct dml_ini_entry;

struct dml_expand_item {
    const struct dml_ini_entry *entry; /* borrowed */
    const struct dml_opt *row;         /* borrowed; only what splitting needs to know */
    bool is_plugin;                    /* a key of the strategy's own */
    unsigned paradigms; /* bit k: it means something where the paradigm is of kind k */
    char *block;                       /* the words */
    const char **words;
    size_t n_words; /* at least 1 */
    size_t stride;  /* cases between two words of this item */
};

struct dml_expand {
    struct dml_expand_item *items;
    size_t n_items, n_room;
    size_t n_cases;
};

/* Splits the entry's value as its row says. Returns 0 or -ENOMEM. entry and row are borrowed. */
int dml_expand_add(struct dml_expand *x, const struct dml_ini_entry *entry,
                   const struct dml_opt *row, bool is_plugin, unsigned paradigms);
void dml_expand_done(struct dml_expand *x);

/* Sets n_cases and the strides: row-major, the last key of the file varies fastest.
 * Returns 0, or -EINVAL when there are more than DML_TESTCASE_CASES_MAX, or a word occurs twice. */
int dml_expand_count(struct dml_expand *x, struct dml_err *err);

/* The item's word in a case, and its index among the item's words. */
const char *dml_expand_word(const struct dml_expand_item *item, size_t i_case);
size_t dml_expand_index(const struct dml_expand_item *item, size_t i_case);
