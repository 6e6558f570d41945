/*
 * The models that tests of parts and stages go through: those that are shipped, and small ones with
 * what those lack. With numbers to feed them.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/dataset.h"
#include "nn/model.h"
#include "tests/tap.h"

static const char *const part_models[] = {
    "cifar-cnn",
    "sdss-mlp",
    "resnet-8",
    "mobilenetv2",
    "char-transformer",
    /* dropout; a relu as the first layer, numbers moved behind it */
    "name drops\ninput 3 8 8\ndropout 0.2\nrelu\nconv 6 kernel 3\nrelu\nmax-pool 2\n"
    "dropout 0.3\nlinear 20\ntanh\ndropout 0.5\nlinear 4\n",
    /* blocks in blocks, no batch-norm, planes and channels last */
    "name blocks\ninput 2 6 6\nconv 4 kernel 3 padding 1\nresidual\nconv 4 kernel 3 padding 1\n"
    "residual\nlayer-norm\nconv 4 kernel 1\nend\nrelu\nend\nmax-pool 2\nlinear 5\n"
    "loss cross-entropy smoothing 0.1\n",
    /* enough work for several threads */
    "name wide\ninput 300\nlinear 400\nrelu\ndropout 0.3\nlinear 300\nrelu\ndropout 0.5\n"
    "linear 5\n",
    "name number\ninput 5\nlinear 7\nsigmoid\nlinear 1\nloss mse\n",
    "name single\ninput 5\nlinear 3\n",
    NULL,
};

__attribute__((unused)) static struct dml_model *part_model(const char *name)
{
    const char *top = getenv("top_srcdir");
    struct dml_err err = {0};
    struct dml_model *m = NULL;
    if (strchr(name, '\n')) {
        int r = dml_model_parse(name, strlen(name), "test", &m, &err);
        tap_ok(r == 0, "a model of the test's own: %s", r < 0 ? err.text : dml_model_name(m));
        return m;
    }
    _cleanup_(dml_mem_freep) char *dir = dml_mem_printf("%s/etc/models", top ? top : ".");
    const char *const dirs[] = {dir, NULL};
    tap_ok(dml_model_load(name, dirs, &m, &err) == 0, "%s loads", name);
    return m;
}

/* x [B][D], labels [B], targets [B], as the model takes them. */
__attribute__((unused)) static void part_data(const struct dml_model *m, size_t batch,
                                              uint64_t seed, float *x, int32_t *labels,
                                              float *targets)
{
    bool codes = dml_model_loss(m) == DML_LOSS_NEXT_TOKEN;
    size_t n_classes = dml_model_n_classes(m);
    struct dml_rng rng;
    dml_rng_init(&rng, seed, 0, DML_RNG_TEST, 0);
    for (size_t i = 0; i < batch * dml_model_n_inputs(m); i++)
        x[i] = codes ? (float)dml_rng_below(&rng, n_classes) : (float)dml_rng_normal(&rng);
    for (size_t i = 0; i < batch; i++) {
        labels[i] = (int32_t)dml_rng_below(&rng, n_classes);
        targets[i] = (float)dml_rng_normal(&rng);
    }
}

/* The same, n of them, as a data set. Caller frees. */
__attribute__((unused)) static struct dml_dataset *part_samples(const struct dml_model *m,
                                                                uint32_t n)
{
    uint32_t c, h, w, n_classes = (uint32_t)dml_model_n_classes(m);
    _cleanup_(dml_mem_freep) float *targets = dml_mem_floats(n);
    dml_model_input_shape(m, &c, &h, &w);
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, n, c, h, w, n_classes);
    part_data(m, n, 3, ds->x, ds->labels, targets);
    return ds;
}
