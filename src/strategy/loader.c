/*
 * Opening a strategy plugin: find the file, map it, look at its one symbol, refuse it in one line.
 *
 * RTLD_LOCAL keeps plugins out of each other's way; RTLD_NOW makes a missing symbol fail here and
 * not in the middle of a run. The descriptor is data, so nothing of the plugin has run when the
 * check is done (constructors aside, which a plugin must not have).
 */
#include "strategy/loader.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"

#define SYMBOL       "dml_strategy_plugin"
#define NAME_MAX_LEN 63

struct dml_loader {
    void *handle;
    const struct dml_strategy *strategy;
};

static bool name_is_valid(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= NAME_MAX_LEN &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* A row must describe a field inside the struct and belong to [strategy]. */
static int check_options(const struct dml_strategy *s, const char *file, struct dml_err *err)
{
    for (const struct dml_opt *o = s->opts; o && o->name; o++) {
        if (!o->section || strcmp(o->section, "strategy") != 0)
            return dml_err_at(err, -ELIBBAD, file, 0, "its key %s is not in section strategy",
                              o->name);
        if (!strcmp(o->name, "name"))
            return dml_err_at(err, -ELIBBAD, file, 0, "it takes the key name, which is reserved");
        if (o->type >= DML_OPT_MAX_ || !o->dflt || !o->help || o->offset >= s->opts_size)
            return dml_err_at(err, -ELIBBAD, file, 0, "its key %s has a broken row", o->name);
    }
    return 0;
}

int dml_loader_check(const struct dml_strategy *s, const char *name, const char *file,
                     struct dml_err *err)
{
    if (s->abi != DML_STRATEGY_ABI)
        return dml_err_at(err, -ELIBBAD, file, 0,
                          "made for strategy ABI %u; this dml speaks ABI %u: rebuild it", s->abi,
                          DML_STRATEGY_ABI);
    if (s->size != sizeof(*s))
        return dml_err_at(err, -ELIBBAD, file, 0,
                          "its descriptor has %u bytes instead of %zu: rebuild it", s->size,
                          sizeof(*s));
    if (!s->name || !name_is_valid(s->name) || strcmp(s->name, name) != 0)
        return dml_err_at(err, -ELIBBAD, file, 0, "calls itself \"%s\", its file says \"%s\"",
                          s->name ? s->name : "", name);
    if (!s->summary || !s->source || !s->init || !s->done || !s->begin || !s->add || !s->end)
        return dml_err_at(err, -ELIBBAD, file, 0,
                          "its descriptor lacks a text or a function; all are needed");
    return check_options(s, file, err);
}

/* Says that there is no such strategy, with the nearest that there is. */
static int not_found(const char *dir, const char *name, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char **names = NULL;
    size_t n = 0;
    if (dml_loader_list(dir, &names) == 0)
        while (names[n])
            n++;
    if (n == 0)
        return dml_err_set(err, -ENOENT, "no strategy \"%s\": there are no strategies in %s", name,
                           dir);
    const char *nearest = dml_opt_nearest(name, (const char *const *)names, n);
    if (nearest)
        return dml_err_set(err, -ENOENT, "no strategy \"%s\" in %s; did you mean %s?", name, dir,
                           nearest);
    return dml_err_set(err, -ENOENT, "no strategy \"%s\" in %s; dmlctl strategies lists them", name,
                       dir);
}

int dml_loader_open(const char *dir, const char *name, struct dml_loader **ret, struct dml_err *err)
{
    if (!name_is_valid(name))
        return dml_err_set(err, -ENOENT,
                           "\"%s\" cannot be a strategy: names have a-z, 0-9 and - only", name);
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s.so", dir, name);
    if (!path)
        return -ENOMEM;
    if (access(path, F_OK) != 0)
        return not_found(dir, name, err);

    struct dml_loader *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    int r = 0;
    l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!l->handle)
        r = dml_err_at(err, -ELIBBAD, path, 0, "cannot be loaded: %s", dlerror());
    if (r == 0) {
        l->strategy = dlsym(l->handle, SYMBOL);
        r = l->strategy
                ? dml_loader_check(l->strategy, name, path, err)
                : dml_err_at(err, -ELIBBAD, path, 0, "is no strategy plugin: it has no %s", SYMBOL);
    }
    if (r < 0) {
        dml_loader_close(l);
        return r;
    }
    *ret = l;
    return 0;
}

struct dml_loader *dml_loader_close(struct dml_loader *l)
{
    if (l) {
        if (l->handle)
            (void)dlclose(l->handle);
        free(l);
    }
    return NULL;
}

const struct dml_strategy *dml_loader_strategy(const struct dml_loader *l)
{
    return l->strategy;
}

static int is_plugin(const struct dirent *d)
{
    size_t len = strlen(d->d_name);
    return len > 3 && !strcmp(d->d_name + len - 3, ".so");
}

int dml_loader_list(const char *dir, char ***ret)
{
    struct dirent **found = NULL;
    int n = scandir(dir, &found, is_plugin, alphasort);
    if (n < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return -errno;
        n = 0;
    }
    size_t bytes = ((size_t)n + 1) * sizeof(char *);
    for (int i = 0; i < n; i++)
        bytes += strlen(found[i]->d_name) + 1;
    char **names = malloc(bytes);
    char *text = names ? (char *)(names + n + 1) : NULL;
    for (int i = 0; i < n; i++) {
        if (names) {
            size_t len = strlen(found[i]->d_name) - 3;
            memcpy(text, found[i]->d_name, len);
            text[len] = '\0';
            names[i] = text;
            text += len + 1;
        }
        free(found[i]);
    }
    free(found);
    if (!names)
        return -ENOMEM;
    names[n] = NULL;
    *ret = names;
    return 0;
}
