/*
 * One sort of work for something that counts instructions; see count.sh.
 *
 * usage: bench_count MODEL.model engine|naive BATCH STEPS
 *
 * STEPS training steps on random data, on this thread: forward, loss, backward, SGD with momentum;
 * by the engine in float32, or by the naive twin of the tests, loops in double from the definitions.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/fileio.h"
#include "nn/optim.h"
#include "tests/unit/nn_ref_back.h"

struct work {
    struct dml_model *m;
    size_t batch, steps;
    float *vec, *x, *targets;
    int32_t *labels;
};

static bool engine(const struct work *w)
{
    const struct dml_model_training training = {.seed = 1};
    struct dml_train_options o = {0};
    size_t p = dml_model_n_params(w->m), n_out = w->batch * dml_model_n_outputs(w->m), correct;
    double loss = 0.0;
    if (dml_opt_defaults(dml_train_opts, &o) < 0)
        return false;
    struct dml_optim *optim = dml_optim_new(&o, p);
    float *y = dml_mem_floats(n_out), *dy = dml_mem_floats(n_out), *grad = dml_mem_floats(p);
    float *space = dml_mem_floats(dml_model_workspace(w->m, w->batch, true));
    bool ok = optim && y && dy && grad && space;
    for (size_t i = 0; ok && i < w->steps; i++) {
        dml_model_forward(w->m, w->vec, w->vec + p, w->x, w->batch, &training, space, y);
        dml_model_loss_grad(w->m, w->x, y, w->labels, w->targets, w->batch, (double)w->batch, &loss,
                            &correct, dy);
        memset(grad, 0, p * sizeof(float));
        dml_model_backward(w->m, w->vec, w->x, dy, w->batch, &training, space, grad, NULL);
        dml_optim_step(optim, 0.01, w->vec, grad);
    }
    free(y);
    free(dy);
    free(grad);
    free(space);
    dml_optim_free(optim);
    dml_opt_done(dml_train_opts, &o);
    return ok && isfinite(loss);
}

static void naive_step(const struct work *w, struct ref_run *r, double *io_vec, double *io_v)
{
    size_t n_out = dml_model_n_outputs(w->m);
    ref_run_forward(r);
    double *y = r->y[w->m->n_layers - 1];
    for (size_t b = 0; b < w->batch; b++, y += n_out) {
        double sum = 0.0;
        for (size_t i = 0; i < n_out; i++)
            sum += exp(y[i]);
        for (size_t i = 0; i < n_out; i++)
            y[i] = (exp(y[i]) / sum - (i == (size_t)w->labels[b] ? 1.0 : 0.0)) / (double)w->batch;
    }
    double *dy = ref_zeros(w->batch * n_out);
    memcpy(dy, y - w->batch * n_out, w->batch * n_out * sizeof(double));
    ref_run_backward(r, dy);
    free(dy);
    for (size_t i = 0; i < dml_model_n_params(w->m); i++) {
        io_v[i] = 0.9 * io_v[i] + r->dparams[i];
        io_vec[i] -= 0.01 * io_v[i];
    }
    ref_run_done(r);
}

static bool naive(const struct work *w)
{
    size_t p = dml_model_n_params(w->m), d = w->batch * dml_model_n_inputs(w->m);
    double *vec = ref_zeros(p), *v = ref_zeros(p), *x = ref_zeros(d);
    for (size_t i = 0; i < p; i++)
        vec[i] = (double)w->vec[i];
    for (size_t i = 0; i < d; i++)
        x[i] = (double)w->x[i];
    for (size_t i = 0; i < w->steps; i++) {
        struct ref_run r = {.m = w->m, .batch = w->batch, .vec = vec, .x = x};
        naive_step(w, &r, vec, v);
    }
    bool ok = isfinite(vec[0]);
    free(vec);
    free(v);
    free(x);
    return ok;
}

int main(int argc, char **argv)
{
    struct work w = {0};
    struct dml_err err = {0};
    char *text = NULL;
    size_t len;
    bool is_naive = argc == 5 && !strcmp(argv[2], "naive");
    w.batch = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
    w.steps = argc == 5 ? strtoul(argv[4], NULL, 10) : 0;
    if (w.batch < 1 || w.batch > 1024 || (!is_naive && strcmp(argv[2], "engine") != 0)) {
        fprintf(stderr, "usage: bench_count MODEL.model engine|naive BATCH STEPS\n");
        return 64;
    }
    if (dml_fileio_read(argv[1], DML_MODEL_TEXT_MAX, &text, &len, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    char *drop = strstr(text, "\ndropout 0.2"); /* its random numbers are not what is counted */
    if (drop)
        memcpy(drop + 9, "0.0", 3);
    if (dml_model_parse(text, len, argv[1], &w.m, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    size_t d = dml_model_n_inputs(w.m);
    w.vec = dml_mem_floats(dml_model_n_vec(w.m));
    w.x = dml_mem_floats(w.batch * d);
    w.targets = dml_mem_floats(w.batch);
    w.labels = dml_mem_array(w.batch, sizeof(int32_t));
    dml_model_init(w.m, w.vec, 1);
    ref_fill(w.x, w.batch * d, 1.0, 7);
    for (size_t i = 0; i < w.batch; i++)
        w.labels[i] = (int32_t)(i % dml_model_n_classes(w.m));
    bool ok = is_naive ? naive(&w) : engine(&w);
    free(w.vec);
    free(w.x);
    free(w.targets);
    free(w.labels);
    free(text);
    dml_model_free(w.m);
    return ok ? 0 : 1;
}
