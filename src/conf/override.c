/*
 * A section's name with a blank in it: the section, then the paradigm. What a paradigm has of its
 * own is taken away from the plain section's entry, so that each entry knows where it holds and
 * nobody has to ask which of two goes first.
 */
#include "conf/override.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/opt.h"
#include "conf/parallel.h"

#define ALL_PARADIGMS ((1u << DML_PARADIGM_MAX_) - 1)
#define SHOWN_MAX     60 /* bytes of somebody's word in a message */

void dml_override_done(struct dml_override *o)
{
    for (size_t i = 0; i < o->n_entries; i++)
        free(o->entries[i].section);
    free(o->entries);
    for (int kind = 0; kind < DML_PARADIGM_MAX_; kind++)
        free(o->views[kind].entries);
    *o = (struct dml_override){0};
}

static int find_paradigm(const struct dml_ini_entry *e, const char *word, int *ret_kind,
                         struct dml_err *err)
{
    const char *names[DML_PARADIGM_MAX_];
    for (int kind = 0; kind < DML_PARADIGM_MAX_; kind++) {
        names[kind] = dml_parallel_name(kind);
        if (!strcmp(names[kind], word)) {
            *ret_kind = kind;
            return 0;
        }
    }
    const char *near = dml_opt_nearest(word, names, DML_PARADIGM_MAX_);
    return dml_err_at(err, -EINVAL, e->file, e->line,
                      "section [%.*s]: %.*s is no paradigm%s%s%s; a section for one paradigm only "
                      "is called like [train server]",
                      SHOWN_MAX, e->section, SHOWN_MAX, word, near ? " (did you mean " : "",
                      near ? near : "", near ? "?)" : "");
}

/* Keys that say something about all test cases of the file, or make the matrix. */
static int check_may_differ(const struct dml_ini_entry *whole, const struct dml_ini_entry *e,
                            struct dml_err *err)
{
    static const char *const shared[][2] = {
        {"testcase", "name"}, {"testcase", "repeats"}, {"parallel", "paradigm"}};
    bool may = strcmp(e->section, "strategy") != 0;
    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        may = may && (strcmp(shared[i][0], e->section) != 0 || strcmp(shared[i][1], e->key) != 0);
    if (may)
        return 0;
    return dml_err_at(err, -EINVAL, e->file, e->line,
                      "%s cannot differ between paradigms: it belongs to [%s], not to [%.*s]",
                      e->key, e->section, SHOWN_MAX, whole->section);
}

/* One entry of the file, its section taken apart. */
static int take(struct dml_override *o, const struct dml_ini_entry *e, struct dml_err *err)
{
    struct dml_override_entry *new = &o->entries[o->n_entries++];
    *new = (struct dml_override_entry){.entry = *e, .paradigms = ALL_PARADIGMS};
    size_t len = strcspn(e->section, " \t");
    if (!e->section[len])
        return 0;
    new->section = strndup(e->section, len);
    if (!new->section)
        return -ENOMEM;
    new->entry.section = new->section;
    int kind = 0;
    int r = find_paradigm(e, e->section + len + strspn(e->section + len, " \t"), &kind, err);
    if (r == 0)
        r = check_may_differ(e, &new->entry, err);
    if (r == 0)
        new->paradigms = 1u << kind;
    return r;
}

/* Entry i holds for one paradigm: the plain one of the same key no longer does. */
static int displace(struct dml_override *o, size_t i, struct dml_err *err)
{
    const struct dml_override_entry *own = &o->entries[i];
    const struct dml_ini_entry *e = &own->entry;
    for (size_t j = 0; j < o->n_entries; j++) {
        struct dml_override_entry *other = &o->entries[j];
        if (j == i || strcmp(other->entry.key, e->key) != 0 ||
            strcmp(other->entry.section, e->section) != 0)
            continue;
        if (!other->section)
            other->paradigms &= ~own->paradigms;
        else if (j < i && other->paradigms == own->paradigms)
            return dml_err_at(err, -EINVAL, e->file, e->line,
                              "%s.%s is already set for that paradigm in line %u", e->section,
                              e->key, other->entry.line);
    }
    return 0;
}

static int make_view(struct dml_override *o, int kind)
{
    struct dml_ini *view = &o->views[kind];
    view->entries = calloc(o->n_entries + 1, sizeof(*view->entries));
    if (!view->entries)
        return -ENOMEM;
    for (size_t i = 0; i < o->n_entries; i++)
        if (o->entries[i].paradigms >> kind & 1u)
            view->entries[view->n_entries++] = o->entries[i].entry;
    return 0;
}

int dml_override_init(struct dml_override *o, const struct dml_ini *ini, struct dml_err *err)
{
    *o = (struct dml_override){0};
    o->entries = calloc(ini->n_entries + 1, sizeof(*o->entries));
    int r = o->entries ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < ini->n_entries; i++)
        r = take(o, &ini->entries[i], err);
    for (size_t i = 0; r == 0 && i < o->n_entries; i++)
        if (o->entries[i].section)
            r = displace(o, i, err);
    for (int kind = 0; r == 0 && kind < DML_PARADIGM_MAX_; kind++)
        r = make_view(o, kind);
    return r;
}

int dml_override_check(const struct dml_override *o, unsigned paradigms, struct dml_err *err)
{
    for (size_t i = 0; i < o->n_entries; i++) {
        const struct dml_override_entry *own = &o->entries[i];
        struct dml_ini_entry e = own->entry;
        const struct dml_ini one = {.entries = &e, .n_entries = 1};
        unsigned there = own->paradigms & paradigms;
        if (!there && own->section)
            return dml_err_at(err, -EINVAL, e.file, e.line,
                              "%s.%s is for a paradigm that no test case of this file has",
                              e.section, e.key);
        if (!there)
            return dml_err_at(err, -EINVAL, e.file, e.line,
                              "%s.%s has no effect: every paradigm of this file has its own",
                              e.section, e.key);
        int r = dml_parallel_check_keys(there, &one, err);
        if (r < 0)
            return r;
    }
    return 0;
}
