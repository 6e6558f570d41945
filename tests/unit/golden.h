/*
 * Reading golden values: files of lines "key: number number …", made by the scripts in tests/golden
 * and described there.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fileio.h"
#include "tests/tap.h"
#include "tests/unit/nn_ref.h"

#define SAMPLES 40 /* as many of a vector are kept */

static const char *top_srcdir(void)
{
    const char *dir = getenv("top_srcdir");
    return dir ? dir : ".";
}

/* The numbers of the line "key: …" into v; returns how many. */
static size_t golden(const char *text, const char *key, double *v, size_t max)
{
    size_t key_len = strlen(key), n = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_len) != 0 || line[key_len] != ':')
            continue;
        const char *at = line + key_len + 1;
        while (n < max && *at != '\n') {
            char *end;
            v[n] = strtod(at, &end);
            if (end == at)
                break;
            n++;
            at = end;
        }
        return n;
    }
    return 0;
}

__attribute__((unused)) static void compare(const char *text, const char *key, const double *got, size_t n,
                    double tolerance)
{
    double want[64], off = 0.0, top = 0.0;
    size_t n_want = golden(text, key, want, ARRAY_SIZE(want));
    if (!tap_ok(n_want == n && n > 0, "%s: %zu golden values", key, n))
        return;
    for (size_t i = 0; i < n; i++) {
        double d = fabs(got[i] - want[i]);
        off = d <= off ? off : d; /* a NaN stays */
        top = fmax(top, fabs(want[i]));
    }
    tap_ok(off <= tolerance * fmax(top, 1e-3), "%s: max difference %.2e of %.2e", key, off, top);
    for (size_t i = 0; i < n && i < 5; i++)
        tap_note("%-28s got %.8f, wanted %.8f", key, got[i], want[i]);
}

/* Every (n / SAMPLES)-th number. */
__attribute__((unused)) static size_t pick(const float *x, size_t n, double *ret)
{
    size_t step = n / SAMPLES ? n / SAMPLES : 1, m = 0;
    for (size_t i = 0; i < n && m < SAMPLES; i += step)
        ret[m++] = (double)x[i];
    return m;
}

__attribute__((unused)) static double norm(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

__attribute__((unused)) static char *read_golden(const char *name)
{
    _cleanup_(dml_mem_freep) char *path =
        dml_mem_printf("%s/tests/golden/%s.txt", top_srcdir(), name);
    char *text = NULL;
    size_t len;
    struct dml_err err = {0};
    if (dml_fileio_read(path, 1 << 20, &text, &len, &err) < 0) {
        tap_ok(false, "%s: %s", path, err.text);
        return NULL;
    }
    return text;
}

/*
 * Parameters from the formula, layer by layer, seeds from 100: in +-1/sqrt(fan_in), normalisations
 * in +-1/4 about 1 and 0.
 */
__attribute__((unused)) static void fill_golden(const struct dml_model *m, float *vec)
{
    uint32_t seed = 100;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        bool is_norm = l->fill == DML_FILL_ONES;
        if (!dml_layer_n_params(l))
            continue;
        ref_fill(vec + l->params_at, dml_layer_n_params(l),
                 1.0 / sqrt(is_norm ? 16.0 : (double)l->fan_in), seed++);
        for (size_t j = 0; is_norm && j < l->n_weights; j++)
            vec[l->params_at + j] += 1.0f;
    }
}
