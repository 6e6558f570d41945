/*
 * What is shipped agrees with the code: every .conf parses, also with its commented-out defaults
 * put in, and every key of the option tables is explained in its manual page.
 */
#include <dirent.h>
#include <errno.h>

#include "base/err.h"
#include "base/fileio.h"
#include "conf/daemon.h"
#include "conf/sections.h"
#include "conf/testcase.h"
#include "tests/tap.h"
#include "tests/unit/testcase_dirs.h"

static char *read_below(const char *top, const char *path)
{
    _cleanup_(dml_mem_freep) char *full = dml_mem_printf("%s/%s", top ? top : ".", path);
    char *text = NULL;
    size_t len;
    struct dml_err err = {0};
    if (dml_fileio_read(full, 1 << 20, &text, &len, &err) < 0)
        tap_ok(false, "%s: %s", path, err.text);
    return text;
}

static char *read_source(const char *path)
{
    return read_below(getenv("top_srcdir"), path);
}

/* "#key = value" becomes "key = value"; returns how many. Prose has no line of that form. */
static int uncomment(char *text)
{
    int n = 0;
    char *to = text;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n');
        size_t word = strspn(p + (*p == '#'), "abcdefghijklmnopqrstuvwxyz-");
        if (*p == '#' && word && !strncmp(p + 1 + word, " =", 2))
            p++, len--, n++;
        memmove(to, p, len);
        to += len;
        p += len;
    }
    *to = '\0';
    return n;
}

static void check_daemon(const struct dml_opt *table, size_t size, const char *path)
{
    _cleanup_(dml_mem_freep) char *text = read_source(path), *target = calloc(1, size);
    _cleanup_(dml_mem_freep) char *copy = dml_mem_printf("%s/copy.conf", plugin_dir);
    if (!text)
        return;
    for (int round = 0; round < 2; round++) {
        struct dml_err err = {0};
        (void)dml_opt_defaults(table, target);
        (void)dml_fileio_write(copy, text, strlen(text), 0644, NULL);
        if (!tap_int(dml_daemon_load(table, target, copy, true, &err), 0,
                     round ? "with its defaults put in" : path))
            tap_note("line %u: %s", err.line, err.text);
        dml_opt_done(table, target);
        if (round == 0)
            tap_ok(uncomment(text) >= 5, "it shows some defaults");
    }
}

static void check_testcase(const char *path)
{
    _cleanup_(dml_mem_freep) char *text = read_source(path);
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = NULL;
    struct dml_err err = {0};
    if (!text)
        return;
    int r = dml_testcase_parse(text, strlen(text), path, plugin_dir, &t, &err);
    if (!tap_int(r, 0, path)) {
        tap_note("line %u: %s", err.line, err.text);
        return;
    }
    /* Every model named is one that is shipped. */
    for (size_t i = 0; i < t->n_cases; i++) {
        _cleanup_(dml_mem_freep) char *model =
            dml_mem_printf("etc/models/%s.model", t->cases[i].model.name);
        _cleanup_(dml_mem_freep) char *content = read_source(model);
        tap_ok(content != NULL, "%s, case %s: model %s", path, t->cases[i].label,
               t->cases[i].model.name);
    }
}

static void check_examples(void)
{
    const char *top = getenv("top_srcdir");
    _cleanup_(dml_mem_freep) char *dir = dml_mem_printf("%s/etc/examples", top ? top : ".");
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".conf") != 0)
            continue;
        _cleanup_(dml_mem_freep) char *path = dml_mem_printf("etc/examples/%s", e->d_name);
        check_testcase(path);
        n++;
    }
    if (d)
        (void)closedir(d);
    tap_ok(n >= 5, "%d examples", n);
}

/* The page, as it is installed, has an entry ".It Ic KEY Pq DEFAULT" for each row. */
static void check_page(const struct dml_opt *table, const char *page, const char *path)
{
    for (const struct dml_opt *o = table; page && o->name; o++) {
        _cleanup_(dml_mem_freep) char *entry =
            o->dflt[0] ? dml_mem_printf("\n.It Ic %s Pq %s\n", o->name, o->dflt)
                       : dml_mem_printf("\n.It Ic %s\n", o->name);
        if (!tap_ok(strstr(page, entry), "%s explains %s.%s", path, o->section, o->name))
            tap_note("no line \"%s\"", entry + 1);
    }
}

static void check_pages(void)
{
    const char *top = getenv("top_builddir");
    _cleanup_(dml_mem_freep) char *master = read_below(top, "man/out/dmlmasterd.conf.5");
    _cleanup_(dml_mem_freep) char *worker = read_below(top, "man/out/dmlworkerd.conf.5");
    _cleanup_(dml_mem_freep) char *testcase = read_below(top, "man/out/testcase.conf.5");
    check_page(dml_master_opts, master, "dmlmasterd.conf(5)");
    check_page(dml_worker_opts, worker, "dmlworkerd.conf(5)");
    for (const struct dml_section *s = dml_sections; s->opts; s++)
        check_page(s->opts, testcase, "testcase.conf(5)");
}

int main(void)
{
    if (!make_plugin_dir())
        return 99;
    check_daemon(dml_master_opts, sizeof(struct dml_master_options), "etc/dmlmasterd.conf");
    check_daemon(dml_worker_opts, sizeof(struct dml_worker_options), "etc/dmlworkerd.conf");
    check_testcase("etc/testcase.conf");
    check_examples();
    check_pages();
    drop_plugin_dir();
    return tap_done();
}
