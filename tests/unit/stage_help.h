/* A stage to test, and numbers for it. */
#pragma once

#include "nn/stage.h"
#include "tests/unit/part_models.h"

enum { N = 11 };

__attribute__((unused)) static struct dml_train_options options(int optimizer)
{
    struct dml_train_options o = {0};
    (void)dml_opt_defaults(dml_train_opts, &o);
    o.optimizer = optimizer;
    o.seed = 7;
    o.batch_size = N;
    return o;
}

__attribute__((unused)) static struct dml_stage *stage(const struct dml_model *m,
                                                       const struct dml_train_options *train,
                                                       unsigned n_threads, size_t batch,
                                                       unsigned n_slots)
{
    const struct dml_stage_options o = {.model = m,
                                        .train = train,
                                        .cpu = {.n_threads = n_threads, .duty = 1.0},
                                        .batch = batch,
                                        .n_slots = n_slots};
    struct dml_stage *s = NULL;
    struct dml_err err = {0};
    if (dml_stage_new(&o, &s, &err) != 0)
        tap_ok(false, "a stage: %s", err.text);
    return s;
}

struct data {
    float *vec, *x, *targets;
    int32_t *labels;
};

__attribute__((unused)) static struct data data_new(const struct dml_model *m, size_t n)
{
    struct data d = {.vec = dml_mem_floats(dml_model_n_vec(m)),
                     .x = dml_mem_floats(n * dml_model_n_inputs(m)),
                     .targets = dml_mem_floats(n),
                     .labels = dml_mem_array(n, sizeof(int32_t))};
    dml_model_init(m, d.vec, 3);
    part_data(m, n, 11, d.x, d.labels, d.targets);
    return d;
}

__attribute__((unused)) static void data_done(struct data *d)
{
    free(d->vec);
    free(d->x);
    free(d->targets);
    free(d->labels);
}
