/*
 * An answer to a slip should end the search for it. From the best to the poorest: the key exists,
 * but in another section; a key of this section is spelt nearly so; a key of another section is;
 * the list of what this section knows.
 */
#include "conf/known.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/mem.h"

#define WORDS_MAX 160 /* keys of all sections; about 70 in a test case */
#define SHOWN_MAX 60  /* bytes of somebody's word in a message */

struct words {
    const char *name[WORDS_MAX];
    const struct dml_opt *row[WORDS_MAX];
    size_t n;
};

/* Names of the rows in `section`; NULL: of all. */
static void collect(const struct dml_opt *const *tables, const char *section, struct words *ret)
{
    ret->n = 0;
    for (; *tables; tables++) {
        for (const struct dml_opt *o = *tables; o->name && ret->n < WORDS_MAX; o++) {
            if (section && strcmp(o->section, section))
                continue;
            ret->row[ret->n] = o;
            ret->name[ret->n++] = o->name;
        }
    }
}

static void collect_sections(const struct dml_opt *const *tables, struct words *ret)
{
    ret->n = 0;
    for (; *tables; tables++) {
        for (const struct dml_opt *o = *tables; o->name && ret->n < WORDS_MAX; o++) {
            bool seen = false;
            for (size_t i = 0; i < ret->n; i++)
                seen |= !strcmp(ret->name[i], o->section);
            if (!seen)
                ret->name[ret->n++] = o->section;
        }
    }
}

static const char *join(const struct words *w, char *buf, size_t buf_len)
{
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < w->n && used < buf_len; i++)
        used += (size_t)snprintf(buf + used, buf_len - used, "%s%s", i ? " " : "", w->name[i]);
    return buf;
}

static int unknown_section(const struct dml_opt *const *tables, const struct dml_ini_entry *e,
                           struct dml_err *err)
{
    struct words w;
    char list[400];
    collect_sections(tables, &w);
    const char *near = dml_opt_nearest(e->section, w.name, w.n);
    if (near)
        return dml_err_at(err, -EINVAL, e->file, e->line,
                          "unknown section [%.*s]; did you mean [%s]?", SHOWN_MAX, e->section,
                          near);
    return dml_err_at(err, -EINVAL, e->file, e->line, "unknown section [%.*s]; known are: %s",
                      SHOWN_MAX, e->section, join(&w, list, sizeof(list)));
}

static int unknown_key(const struct dml_opt *const *tables, const struct dml_ini_entry *e,
                       struct dml_err *err)
{
    struct words own, all;
    char hint[600], list[500];
    collect(tables, e->section, &own);
    collect(tables, NULL, &all);
    const struct dml_opt *other = NULL;
    for (size_t i = 0; i < all.n && !other; i++)
        if (!strcmp(all.name[i], e->key))
            other = all.row[i];
    const char *near = dml_opt_nearest(e->key, own.name, own.n);
    const char *near_other = dml_opt_nearest(e->key, all.name, all.n);
    if (other)
        (void)snprintf(hint, sizeof(hint), "it belongs to [%s]", other->section);
    else if (near)
        (void)snprintf(hint, sizeof(hint), "did you mean %s?", near);
    else if (near_other)
        for (size_t i = 0; i < all.n; i++) {
            if (all.name[i] == near_other)
                (void)snprintf(hint, sizeof(hint), "did you mean %s in [%s]?", near_other,
                               all.row[i]->section);
        }
    else
        (void)snprintf(hint, sizeof(hint), "[%s] knows: %s", e->section,
                       join(&own, list, sizeof(list)));
    return dml_err_at(err, -EINVAL, e->file, e->line, "unknown key \"%.*s\" in [%s]; %s", SHOWN_MAX,
                      e->key, e->section, hint);
}

int dml_known_find(const struct dml_opt *const *tables, const struct dml_ini_entry *e,
                   const struct dml_opt **ret, struct dml_err *err)
{
    bool section = false;
    for (const struct dml_opt *const *t = tables; *t; t++) {
        const struct dml_opt *row = dml_opt_find(*t, e->section, e->key);
        if (row) {
            *ret = row;
            return 0;
        }
        for (const struct dml_opt *o = *t; o->name; o++)
            section |= !strcmp(o->section, e->section);
    }
    return section ? unknown_key(tables, e, err) : unknown_section(tables, e, err);
}
