/*
 * A case is a number in a mixed-radix system whose digits are the words of each key. The stride of
 * a key is the product of the lengths of all keys behind it.
 *
 * "90 s 2 min" are two durations: a word that begins with a letter belongs to the number before it
 * wherever the type has units.
 */
#include "conf/expand.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/mem.h"
#include "conf/testcase.h"

static bool has_unit(const struct dml_opt *row)
{
    return row->type == DML_OPT_DURATION || row->type == DML_OPT_BYTES;
}

/* Cuts item->block into words; item->words has room for one per two bytes, and one. */
static void split(struct dml_expand_item *item)
{
    char *p = item->block;
    for (;;) {
        p += strspn(p, " \t\r");
        if (!*p)
            break;
        item->words[item->n_words++] = p;
        p += strcspn(p, " \t\r");
        char *next = p + strspn(p, " \t\r");
        if (has_unit(item->row) && isalpha((unsigned char)*next))
            p = next + strcspn(next, " \t\r");
        if (*p)
            *p++ = '\0';
    }
}

int dml_expand_add(struct dml_expand *x, const struct dml_ini_entry *entry,
                   const struct dml_opt *row, bool is_plugin, unsigned paradigms)
{
    if (x->n_items == x->n_room) {
        size_t n_room = x->n_room ? 2 * x->n_room : 32;
        struct dml_expand_item *grown = realloc(x->items, n_room * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        x->items = grown;
        x->n_room = n_room;
    }
    struct dml_expand_item *item = &x->items[x->n_items];
    *item = (struct dml_expand_item){
        .entry = entry, .row = row, .is_plugin = is_plugin, .paradigms = paradigms};
    item->block = strdup(entry->value);
    item->words = calloc(strlen(entry->value) / 2 + 1, sizeof(*item->words));
    x->n_items++;
    if (!item->block || !item->words)
        return -ENOMEM;
    if (!(row->flags & DML_OPT_WORDS))
        split(item);
    if (item->n_words == 0) {
        /* One value as it is; an empty one is for the row to judge. */
        item->words[0] = item->block;
        item->n_words = 1;
    }
    return 0;
}

void dml_expand_done(struct dml_expand *x)
{
    for (size_t i = 0; i < x->n_items; i++) {
        free(x->items[i].block);
        free(x->items[i].words);
    }
    free(x->items);
    *x = (struct dml_expand){0};
}

/* The second of two equal words, or NULL. At most DML_TESTCASE_CASES_MAX words come here. */
static const char *twice(const struct dml_expand_item *item)
{
    for (size_t i = 1; i < item->n_words; i++)
        for (size_t j = 0; j < i; j++)
            if (!strcmp(item->words[i], item->words[j]))
                return item->words[i];
    return NULL;
}

int dml_expand_count(struct dml_expand *x, struct dml_err *err)
{
    x->n_cases = 1;
    for (size_t i = x->n_items; i-- > 0;) {
        struct dml_expand_item *item = &x->items[i];
        item->stride = x->n_cases;
        size_t n;
        if (!dml_mem_mul(x->n_cases, item->n_words, &n) || n > DML_TESTCASE_CASES_MAX)
            return dml_err_at(err, -EINVAL, item->entry->file, item->entry->line,
                              "%s.%s has %zu words; with the other lists that makes more than %d "
                              "test cases",
                              item->entry->section, item->entry->key, item->n_words,
                              DML_TESTCASE_CASES_MAX);
        x->n_cases = n;
        const char *word = twice(item);
        if (word)
            return dml_err_at(err, -EINVAL, item->entry->file, item->entry->line,
                              "%s.%s: %.60s occurs twice in the list", item->entry->section,
                              item->entry->key, word);
    }
    return 0;
}

size_t dml_expand_index(const struct dml_expand_item *item, size_t i_case)
{
    return i_case / item->stride % item->n_words;
}

const char *dml_expand_word(const struct dml_expand_item *item, size_t i_case)
{
    return item->words[dml_expand_index(item, i_case)];
}
