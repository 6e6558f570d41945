/*
 * The master checks the test case, so it goes as it is: then a mistake is told with the line that
 * it has in the file. Only the names of models are looked at here, because their files are of this
 * machine and of this user.
 */
#include "ctl/send.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/ini.h"
#include "nn/model.h"

/* With drop-ins, which a master elsewhere cannot see, everything as one text. */
static int print_entries(const struct dml_ini *ini, char **ret_text)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    for (size_t i = 0; i < ini->n_entries; i++)
        (void)fprintf(f, "[%s]\n%s = %s\n", ini->entries[i].section, ini->entries[i].key,
                      ini->entries[i].value);
    if (fclose(f) != 0) {
        free(text);
        return -ENOMEM;
    }
    *ret_text = text;
    return 0;
}

/* A path from / on that cannot be read here is left to the master. */
static int add_model(const struct dml_ini_entry *e, const char *name,
                     struct dml_control_request *io, struct dml_err *err)
{
    for (size_t i = 0; i < io->n_models; i++)
        if (!strcmp(io->models[i].name, name))
            return 0;
    if (io->n_models == DML_CONTROL_MODELS_MAX)
        return dml_err_at(err, -E2BIG, e->file, e->line,
                          "more than %d model files: write several test cases",
                          DML_CONTROL_MODELS_MAX);
    char *text = NULL;
    size_t len = 0;
    int r = dml_fileio_read(name, DML_MODEL_TEXT_MAX, &text, &len, err);
    if (r < 0 && name[0] == '/' && r != -ENOMEM) {
        if (err)
            *err = (struct dml_err){0};
        return 0;
    }
    if (r == 0 && memchr(text, '\0', len))
        r = dml_err_at(err, -EINVAL, name, 0, "not a text: it contains a zero byte");
    char *own_name = r < 0 ? NULL : strdup(name);
    if (r == 0 && !own_name)
        r = -ENOMEM;
    if (r < 0) {
        free(text);
        return r;
    }
    io->models[io->n_models++] = (struct dml_control_model){own_name, text};
    return 0;
}

/* Of [model], and of sections like [model pipeline]. A path has a slash. */
static int add_models(const struct dml_ini *ini, struct dml_control_request *io,
                      struct dml_err *err)
{
    io->models = calloc(DML_CONTROL_MODELS_MAX, sizeof(*io->models));
    if (!io->models)
        return -ENOMEM;
    for (size_t i = 0; i < ini->n_entries; i++) {
        const struct dml_ini_entry *e = &ini->entries[i];
        size_t len = strcspn(e->section, " \t");
        if (len != 5 || strncmp(e->section, "model", len) != 0 || strcmp(e->key, "name") != 0)
            continue;
        _cleanup_(dml_mem_freep) char *words = strdup(e->value);
        if (!words)
            return -ENOMEM;
        char *rest = NULL;
        for (char *w = strtok_r(words, " \t", &rest); w; w = strtok_r(NULL, " \t", &rest)) {
            int r = strchr(w, '/') ? add_model(e, w, io, err) : 0;
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int dml_send_read(const char *file, struct dml_control_request *ret, struct dml_err *err)
{
    struct dml_control_request q = {.command = DML_CONTROL_RUN};
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    _cleanup_(dml_mem_freep) char *dropins = dml_mem_printf("%s.d", file);
    size_t len = 0;
    q.file = strdup(file);
    q.folder = getcwd(NULL, 0);
    if (!ini || !dropins || !q.file)
        return dml_control_request_done(&q), -ENOMEM;
    int r = dml_fileio_read(file, DML_INI_TEXT_MAX, &q.text, &len, err);
    if (r == 0)
        r = dml_ini_parse(ini, q.text, len, file, err);
    if (r == 0 && access(dropins, F_OK) == 0) {
        r = dml_ini_load_dropins(ini, file, err);
        free(q.text);
        q.text = NULL;
        if (r == 0)
            r = print_entries(ini, &q.text);
    }
    if (r == 0)
        r = add_models(ini, &q, err);
    if (r < 0) {
        dml_control_request_done(&q);
        return r;
    }
    *ret = q;
    return 0;
}
