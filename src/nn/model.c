/* What a model is asked for: its sizes, its file, its picture for people. */
#include "nn/model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/opt.h"
#include "nn/model_cut.h"
#include "nn/model_priv.h"

struct dml_model *dml_model_free(struct dml_model *m)
{
    if (!m)
        return NULL;
    free(m->name);
    free(m->text);
    free(m->layers);
    free(m->steps);
    free(m);
    return NULL;
}

const char *dml_model_name(const struct dml_model *m)
{
    return m->name;
}

const char *dml_model_text(const struct dml_model *m)
{
    return m->text;
}

size_t dml_model_n_params(const struct dml_model *m)
{
    return m->n_params;
}

size_t dml_model_n_state(const struct dml_model *m)
{
    return m->n_state;
}

size_t dml_model_n_inputs(const struct dml_model *m)
{
    return dml_layer_size(m->input);
}

void dml_model_input_shape(const struct dml_model *m, uint32_t *ret_c, uint32_t *ret_h,
                           uint32_t *ret_w)
{
    *ret_c = m->input.c;
    *ret_h = m->input.h;
    *ret_w = m->input.w;
}

size_t dml_model_n_outputs(const struct dml_model *m)
{
    return dml_layer_size(m->layers[m->n_layers - 1].out);
}

size_t dml_model_n_classes(const struct dml_model *m)
{
    return m->loss == DML_LOSS_NEXT_TOKEN ? m->layers[m->n_layers - 1].out.c
                                          : dml_model_n_outputs(m);
}

enum dml_model_loss dml_model_loss(const struct dml_model *m)
{
    return m->loss;
}

size_t dml_model_n_codes(const struct dml_model *m)
{
    return m->n_codes;
}

size_t dml_model_n_layers(const struct dml_model *m)
{
    return m->n_layers;
}

size_t dml_model_meeting_room(const struct dml_model *m)
{
    return m->meeting_room;
}

uint64_t dml_model_macs(const struct dml_model *m)
{
    return m->macs;
}

uint64_t dml_model_whole_macs(const struct dml_model *m)
{
    return m->whole_macs ? m->whole_macs : m->macs;
}

/* ---- files -------------------------------------------------------------------------------- */

static int load_path(const char *path, struct dml_model **ret, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    int r = dml_fileio_read(path, DML_MODEL_TEXT_MAX, &text, &len, err);
    return r < 0 ? r : dml_model_parse(text, len, path, ret, err);
}

/* Names of the models in dirs, for a message; every one an own string. */
static size_t known_names(const char *const *dirs, char **names, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; dirs && dirs[i]; i++) {
        DIR *dir = opendir(dirs[i]);
        if (!dir)
            continue;
        for (const struct dirent *e; n < max && (e = readdir(dir));) {
            size_t len = strlen(e->d_name);
            if (len > 6 && !strcmp(e->d_name + len - 6, ".model") &&
                (names[n] = strndup(e->d_name, len - 6)))
                n++;
        }
        closedir(dir);
    }
    return n;
}

static int unknown_name(const char *name, const char *const *dirs, struct dml_err *err)
{
    char *names[64];
    size_t n = known_names(dirs, names, ARRAY_SIZE(names));
    const char *near = n ? dml_opt_nearest(name, (const char *const *)names, n) : NULL;
    if (near)
        (void)dml_err_set(err, 0, "no model is named \"%s\"; did you mean \"%s\"?", name, near);
    else
        (void)dml_err_set(err, 0,
                          "no model is named \"%s\"; `dmlctl models` lists them, and a path to a "
                          "model file needs a /",
                          name);
    while (n)
        free(names[--n]);
    return -ENOENT;
}

int dml_model_load(const char *name, const char *const *dirs, struct dml_model **ret,
                   struct dml_err *err)
{
    if (strchr(name, '/'))
        return load_path(name, ret, err);
    for (size_t i = 0; dirs && dirs[i]; i++) {
        _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s.model", dirs[i], name);
        if (!path)
            return -ENOMEM;
        if (access(path, F_OK) == 0)
            return load_path(path, ret, err);
    }
    return unknown_name(name, dirs, err);
}

/* ---- for people --------------------------------------------------------------------------- */

/* "3×32×32", or "6" for a row. Returns columns on a terminal: × is one of them, but two bytes. */
static int print_shape(FILE *f, struct dml_layer_shape s)
{
    if (s.h == 1 && s.w == 1)
        return fprintf(f, "%u", s.c);
    return fprintf(f, "%u×%u×%u", s.c, s.h, s.w) - 2;
}

bool dml_model_is_hidden(const struct dml_layer *l)
{
    return l->type == &dml_reorder;
}

int dml_model_print(const struct dml_model *m, char **ret_text)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    int width = 0;
    size_t cut = 0, n_cuts = dml_model_n_cuts(m);
    unsigned number = 0;
    for (size_t i = 0; i < m->n_layers; i++)
        if (!dml_model_is_hidden(&m->layers[i]) &&
            (int)(strlen(m->layers[i].words) + 2 * m->layers[i].depth) > width)
            width = (int)(strlen(m->layers[i].words) + 2 * m->layers[i].depth);
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        if (dml_model_is_hidden(l))
            continue;
        int indent = 2 * (int)l->depth;
        if (cut < n_cuts && dml_model_cut_layer(m, cut) == ++number) {
            fprintf(f, "%3u  ", number);
            cut++;
        } else {
            fprintf(f, "     ");
        }
        fprintf(f, "%*s%-*s   ", indent, "", width - indent, l->words);
        int columns = print_shape(f, l->in);
        fputs(" → ", f);
        columns += print_shape(f, l->out);
        if (dml_layer_n_params(l))
            fprintf(f, "%*s%zu parameters", columns < 24 ? 24 - columns : 1, "",
                    dml_layer_n_params(l));
        fputc('\n', f);
    }
    fprintf(f, "%zu parameters, loss %s", m->n_params,
            m->loss == DML_LOSS_MSE          ? "mse"
            : m->loss == DML_LOSS_NEXT_TOKEN ? "next-token"
            : m->loss == DML_LOSS_NONE       ? "none"
                                             : "cross-entropy");
    if (m->smoothing > 0.0)
        fprintf(f, " smoothing %g", m->smoothing);
    fputc('\n', f);
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        free(text);
        return -ENOMEM;
    }
    *ret_text = text;
    return 0;
}

int dml_model_check_data(const struct dml_model *m, uint32_t c, uint32_t h, uint32_t w,
                         uint32_t n_classes, struct dml_err *err)
{
    const struct dml_layer_shape *in = &m->input;
    if (in->c != c || in->h != h || in->w != w)
        return dml_err_set(err, -EINVAL,
                           "model %s takes samples of %u×%u×%u, the data set has %u×%u×%u", m->name,
                           in->c, in->h, in->w, c, h, w);
    if (n_classes == 0 && m->loss != DML_LOSS_MSE)
        return dml_err_set(err, -EINVAL,
                           "model %s is for classes (loss cross-entropy), the data set has numbers "
                           "to predict",
                           m->name);
    if (n_classes > 0 && m->loss == DML_LOSS_MSE)
        return dml_err_set(err, -EINVAL,
                           "model %s predicts a number (loss mse), the data set has %u classes",
                           m->name, n_classes);
    if (n_classes > 0 && dml_model_n_classes(m) != n_classes)
        return dml_err_set(err, -EINVAL, "model %s has %zu outputs, the data set has %u classes",
                           m->name, dml_model_n_classes(m), n_classes);
    return 0;
}
