/*
 * From text to test cases, in the order that makes the first message the most useful one: the
 * file's form, the names of keys, the number of cases, then case by case its values, and last
 * whether they fit together.
 *
 * A strategy's keys are described by its plugin, so the plugins that [strategy] name lists are
 * opened before the other keys of that section are looked up. With several strategies in one matrix
 * a key must be known to each of them.
 */
#include "conf/testcase.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/text.h"
#include "conf/check.h"
#include "conf/expand.h"
#include "conf/known.h"
#include "conf/override.h"
#include "conf/parallel.h"
#include "conf/sections.h"

struct reading {
    const struct dml_ini *ini;
    struct dml_override override;
    const char *file;
    const char *plugin_dir;
    struct dml_expand expand;
    struct dml_loader **loaders; /* of the strategies named, once a key of theirs was met */
    size_t n_loaders;
};

static void done_reading(struct reading *rd)
{
    dml_expand_done(&rd->expand);
    dml_override_done(&rd->override);
    for (size_t i = 0; i < rd->n_loaders; i++)
        dml_loader_close(rd->loaders[i]);
    free(rd->loaders);
}

static void done_case(struct dml_testcase *tc)
{
    if (tc->strategy_options)
        dml_opt_done(dml_loader_strategy(tc->plugin)->opts, tc->strategy_options);
    free(tc->strategy_options);
    dml_loader_close(tc->plugin);
    for (const struct dml_section *s = dml_sections; s->opts; s++)
        dml_opt_done(s->opts, (char *)tc + s->offset);
    free(tc->label);
}

struct dml_testcases *dml_testcases_free(struct dml_testcases *t)
{
    for (size_t i = 0; t && i < t->n_cases; i++)
        done_case(&t->cases[i]);
    for (size_t i = 0; t && i < t->n_models; i++) {
        free(t->models[i].name);
        free(t->models[i].text);
    }
    if (t) {
        free(t->models);
        free(t->cases);
    }
    free(t);
    return NULL;
}

/* Opens a strategy for the line that names it. */
static int open_strategy(const struct reading *rd, const char *name, struct dml_loader **ret,
                         struct dml_err *err)
{
    struct dml_err why = {0};
    int r = dml_loader_open(rd->plugin_dir, name, ret, &why);
    if (r >= 0)
        return 0;
    const struct dml_ini_entry *e = dml_ini_find(rd->ini, "strategy", "name");
    char text[sizeof(why.file) + sizeof(why.text) + 16];
    return dml_err_at(err, r == -ENOMEM ? r : -EINVAL, e ? e->file : rd->file, e ? e->line : 0,
                      "strategy.name = %.64s: %s", name,
                      dml_err_format(&why, r, text, sizeof(text)));
}

/* Opens every strategy of the matrix. */
static int open_strategies(struct reading *rd, struct dml_err *err)
{
    const struct dml_opt *tables[DML_SECTIONS_N + 2], *row = NULL;
    dml_sections_tables(NULL, tables);
    for (size_t i = 0; !row; i++)
        row = dml_opt_find(tables[i], "strategy", "name");
    struct dml_ini_entry dflt = {.value = row->dflt};
    const struct dml_ini_entry *e = dml_ini_find(rd->ini, "strategy", "name");
    struct dml_expand names = {0};
    int r = dml_expand_add(&names, e ? e : &dflt, row, false, ~0u);
    size_t n = r == 0 ? names.items[0].n_words : 0;
    rd->loaders = calloc(n + 1, sizeof(struct dml_loader *));
    if (!rd->loaders)
        r = -ENOMEM;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = open_strategy(rd, names.items[0].words[i], &rd->loaders[i], err);
        rd->n_loaders += r == 0;
    }
    dml_expand_done(&names);
    return r;
}

/* Finds the row of one entry and adds it to the matrix. */
static int add_entry(struct reading *rd, const struct dml_override_entry *own, struct dml_err *err)
{
    const struct dml_ini_entry *e = &own->entry;
    unsigned paradigms = own->paradigms;
    for (int kind = 0; kind < DML_PARADIGM_MAX_; kind++)
        if (!dml_parallel_uses(kind, e->section, e->key))
            paradigms &= ~(1u << kind);
    const struct dml_opt *tables[DML_SECTIONS_N + 2], *row = NULL;
    bool is_plugin = !strcmp(e->section, "strategy") && strcmp(e->key, "name") != 0;
    int r = 0;
    if (!is_plugin) {
        dml_sections_tables(NULL, tables);
        r = dml_known_find(tables, e, &row, err);
        return r < 0 ? r : dml_expand_add(&rd->expand, e, row, false, paradigms);
    }
    if (!rd->plugin_dir)
        return 0;
    if (!rd->loaders)
        r = open_strategies(rd, err);
    for (size_t i = 0; r == 0 && i < rd->n_loaders; i++) {
        dml_sections_tables(dml_loader_strategy(rd->loaders[i])->opts, tables);
        r = dml_known_find(tables, e, &row, err);
    }
    return r < 0 ? r : dml_expand_add(&rd->expand, e, row, true, paradigms);
}

/* nodes = 2:4 sets two keys; the row is that of nodes. */
static int set_pair(struct dml_testcase *tc, const struct dml_expand_item *item, const char *word,
                    struct dml_err *err)
{
    const struct dml_ini_entry *e = item->entry;
    const char *colon = strchr(word, ':');
    const struct dml_opt *cores = dml_opt_find(dml_sections[0].opts, "testcase", "cores");
    _cleanup_(dml_mem_freep) char *nodes = strndup(word, (size_t)(colon - word));
    if (!nodes)
        return -ENOMEM;
    int r = dml_sections_set(tc, item->row, nodes, e->file, e->line, err);
    return r < 0 ? r : dml_sections_set(tc, cores, colon + 1, e->file, e->line, err);
}

static bool is_pairs(const struct dml_expand_item *item)
{
    return !item->is_plugin && !strcmp(item->row->section, "testcase") &&
           !strcmp(item->row->name, "nodes") && strchr(item->entry->value, ':');
}

static int check_pairs(const struct reading *rd, const struct dml_expand_item *item,
                       struct dml_err *err)
{
    const struct dml_ini_entry *cores = NULL;
    for (int kind = 0; kind < DML_PARADIGM_MAX_ && !cores; kind++)
        if (item->paradigms >> kind & 1u)
            cores = dml_ini_find(dml_override_view(&rd->override, kind), "testcase", "cores");
    if (cores)
        return dml_err_at(err, -EINVAL, cores->file, cores->line,
                          "cores is set twice: nodes = %.60s in line %u says it already",
                          item->entry->value, item->entry->line);
    for (size_t i = 0; i < item->n_words; i++)
        if (!strchr(item->words[i], ':'))
            return dml_err_at(err, -EINVAL, item->entry->file, item->entry->line,
                              "testcase.nodes = %.60s: %.20s has no cores; write N:C for all or "
                              "for none",
                              item->entry->value, item->words[i]);
    return 0;
}

/* "cifar10-nodes" from "/etc/dml/cifar10-nodes.conf". */
static int name_from_file(struct dml_testcase *tc, const char *file)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    size_t len = strlen(base);
    if (len > 5 && !strcmp(base + len - 5, ".conf"))
        len -= 5;
    char *name = strndup(base, len < 64 ? len : 64);
    if (!name)
        return -ENOMEM;
    for (char *p = name; *p; p++)
        if (!strchr("._-", *p) && !((*p | 32) >= 'a' && (*p | 32) <= 'z') &&
            !(*p >= '0' && *p <= '9'))
            *p = '-';
    if (name[0] == '.')
        name[0] = '-';
    free(tc->testcase.name);
    tc->testcase.name = name[0] ? name : (free(name), strdup("testcase"));
    return tc->testcase.name ? 0 : -ENOMEM;
}

/* Sets the plugin and its options; a paradigm that takes none gets none. */
static int fill_strategy(struct dml_testcase *tc, const struct reading *rd, size_t i_case,
                         struct dml_err *err)
{
    if (!dml_parallel_takes_strategy(tc->parallel.paradigm)) {
        tc->strategy[0] = '\0';
        return 0;
    }
    if (!rd->plugin_dir)
        return 0;
    int r = open_strategy(rd, tc->strategy, &tc->plugin, err);
    const struct dml_strategy *s = r < 0 ? NULL : dml_loader_strategy(tc->plugin);
    if (!s || !s->opts)
        return r;
    tc->strategy_options = calloc(1, s->opts_size);
    if (!tc->strategy_options)
        return -ENOMEM;
    r = dml_opt_defaults(s->opts, tc->strategy_options);
    if (r == -EINVAL)
        return dml_err_at(err, r, rd->file, 0, "strategy %s has a default outside its own range",
                          s->name);
    for (size_t i = 0; r == 0 && i < rd->expand.n_items; i++) {
        const struct dml_expand_item *item = &rd->expand.items[i];
        if (!item->is_plugin)
            continue;
        const struct dml_opt *row = dml_opt_find(s->opts, "strategy", item->entry->key);
        r = dml_opt_set(row, tc->strategy_options, dml_expand_word(item, i_case), item->entry->file,
                        item->entry->line, err);
    }
    return r;
}

/* Whether an entry holds in a case and means something to it. */
static bool applies(const struct dml_expand_item *item, const struct dml_testcase *tc)
{
    return item->paradigms >> tc->parallel.paradigm & 1u;
}

/* "3:6", then key=word for every list but nodes and cores. */
static int fill_label(struct dml_testcase *tc, const struct dml_expand *x, size_t i_case)
{
    char *label = NULL, cores[DML_TEXT_REAL_LEN];
    size_t len;
    FILE *f = open_memstream(&label, &len);
    if (!f)
        return -ENOMEM;
    fprintf(f, "%llu", (unsigned long long)tc->testcase.nodes);
    if (tc->testcase.cores != 0.0)
        fprintf(f, ":%s", dml_text_real(tc->testcase.cores, cores));
    for (size_t i = 0; i < x->n_items; i++) {
        const struct dml_expand_item *item = &x->items[i];
        const struct dml_ini_entry *e = item->entry;
        if (item->n_words == 1 || !strcmp(e->section, "testcase") || !applies(item, tc))
            continue;
        /* Two sections have a key `name`: what it names says more. */
        fprintf(f, " %s=%s", strcmp(e->key, "name") ? e->key : e->section,
                dml_expand_word(item, i_case));
    }
    if (fclose(f) != 0 || !label) {
        free(label);
        return -ENOMEM;
    }
    tc->label = label;
    return 0;
}

static int set_item(struct dml_testcase *tc, const struct dml_expand_item *item, size_t i_case,
                    struct dml_err *err)
{
    const char *word = dml_expand_word(item, i_case);
    return is_pairs(item)
               ? set_pair(tc, item, word, err)
               : dml_sections_set(tc, item->row, word, item->entry->file, item->entry->line, err);
}

/* Which paradigm it is decides which other entries hold. */
static int fill_paradigm(struct dml_testcase *tc, const struct reading *rd, size_t i_case,
                         struct dml_err *err)
{
    for (size_t i = 0; i < rd->expand.n_items; i++) {
        const struct dml_ini_entry *e = rd->expand.items[i].entry;
        if (!strcmp(e->section, "parallel") && !strcmp(e->key, "paradigm"))
            return set_item(tc, &rd->expand.items[i], i_case, err);
    }
    return 0;
}

static int fill_case(struct dml_testcase *tc, const struct reading *rd, size_t i_case,
                     struct dml_err *err)
{
    int r = 0;
    for (const struct dml_section *s = dml_sections; r == 0 && s->opts; s++)
        r = dml_opt_defaults(s->opts, (char *)tc + s->offset);
    if (r == 0)
        r = fill_paradigm(tc, rd, i_case, err);
    for (size_t i = 0; r == 0 && i < rd->expand.n_items; i++) {
        const struct dml_expand_item *item = &rd->expand.items[i];
        if (!item->is_plugin && applies(item, tc))
            r = set_item(tc, item, i_case, err);
    }
    if (r == 0 && !tc->testcase.name[0])
        r = name_from_file(tc, rd->file);
    if (r == 0)
        r = fill_strategy(tc, rd, i_case, err);
    if (r == 0)
        r = dml_check_case(tc, dml_override_view(&rd->override, tc->parallel.paradigm), rd->file,
                           err);
    return r < 0 ? r : fill_label(tc, &rd->expand, i_case);
}

/* A list that means nothing to the case's paradigm repeats the case: true for all but the first. */
static bool is_repeated(const struct dml_testcase *tc, const struct dml_expand *x, size_t i_case)
{
    for (size_t i = 0; i < x->n_items; i++)
        if (dml_expand_index(&x->items[i], i_case) > 0 && !applies(&x->items[i], tc))
            return true;
    return false;
}

static int fill_cases(struct dml_testcases *t, const struct reading *rd, struct dml_err *err)
{
    unsigned paradigms = 0; /* bit k: kind k occurs */
    t->cases = calloc(rd->expand.n_cases, sizeof(*t->cases));
    if (!t->cases)
        return -ENOMEM;
    for (size_t i = 0; i < rd->expand.n_cases; i++) {
        struct dml_testcase *tc = &t->cases[t->n_cases++];
        int r = fill_case(tc, rd, i, err);
        if (r < 0)
            return r;
        paradigms |= 1u << tc->parallel.paradigm;
        if (is_repeated(tc, &rd->expand, i)) {
            done_case(tc);
            *tc = (struct dml_testcase){0};
            t->n_cases--;
        }
    }
    int r = dml_override_check(&rd->override, paradigms, err);
    return r < 0 ? r : dml_check_labels(t, rd->file, err);
}

static int read_cases(const struct dml_ini *ini, const char *file, const char *plugin_dir,
                      struct dml_testcases **ret, struct dml_err *err)
{
    _cleanup_(done_reading) struct reading rd = {
        .ini = ini, .file = file, .plugin_dir = plugin_dir};
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = calloc(1, sizeof(*t));
    int r = t ? dml_override_init(&rd.override, ini, err) : -ENOMEM;
    for (size_t i = 0; r == 0 && i < rd.override.n_entries; i++)
        r = add_entry(&rd, &rd.override.entries[i], err);
    if (r == 0)
        r = dml_expand_count(&rd.expand, err);
    for (size_t i = 0; r == 0 && i < rd.expand.n_items; i++)
        if (is_pairs(&rd.expand.items[i]))
            r = check_pairs(&rd, &rd.expand.items[i], err);
    if (r == 0)
        r = fill_cases(t, &rd, err);
    if (r < 0)
        return r;
    *ret = t;
    t = NULL;
    return 0;
}

int dml_testcase_load(const char *path, const char *plugin_dir, struct dml_testcases **ret,
                      struct dml_err *err)
{
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    int r = ini ? dml_ini_load(ini, path, err) : -ENOMEM;
    if (r == 0)
        r = dml_ini_load_dropins(ini, path, err);
    return r < 0 ? r : read_cases(ini, path, plugin_dir, ret, err);
}

int dml_testcase_parse(const char *text, size_t len, const char *file, const char *plugin_dir,
                       struct dml_testcases **ret, struct dml_err *err)
{
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    int r = ini ? dml_ini_parse(ini, text, len, file, err) : -ENOMEM;
    return r < 0 ? r : read_cases(ini, file, plugin_dir, ret, err);
}

double dml_testcase_cores_per_node(const struct dml_testcase *tc)
{
    return tc->testcase.cores / (double)tc->testcase.nodes;
}
