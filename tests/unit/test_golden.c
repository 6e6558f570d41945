/*
 * Losses, gradients and parameters against PyTorch's, from the same weights and inputs; see
 * tests/golden/make_golden.py.
 *
 * The golden values are float64, ours float32. A logit is a sum of some hundred products through
 * five layers: right to about 1e-6; gradients likewise, relative to the largest of them. Six steps
 * add rounding of the parameters. Adam divides by the gradient's own size, so where a gradient is a
 * millionth of the others its rounding moves a parameter by a share of a step (1e-3): 2e-5 allows
 * for that and is still a fiftieth of a step.
 */
#include "nn/optim.h"

#include <stdio.h>

#include "tests/unit/golden.h"

#define STEPS 6

struct run {
    const struct dml_model *m;
    size_t batch, n;
    float *vec, *grad, *x, *y, *dy, *space;
    int32_t labels[32];
};

static double gradient(struct run *r)
{
    const struct dml_model_training training = {.seed = 1};
    double loss;
    size_t correct;
    memset(r->grad, 0, r->n * sizeof(float));
    dml_model_forward(r->m, r->vec, r->vec + r->n, r->x, r->batch, &training, r->space, r->y);
    dml_model_loss_grad(r->m, r->x, r->y, r->labels, NULL, r->batch, (double)r->batch, &loss, &correct,
                        r->dy);
    dml_model_backward(r->m, r->vec, r->x, r->dy, r->batch, &training, r->space, r->grad, NULL);
    return loss / (double)r->batch;
}

static void test_gradient(struct run *r, const char *text)
{
    double v[64];
    fill_golden(r->m, r->vec);
    (void)gradient(r);
    size_t n =
        r->batch * dml_model_n_outputs(r->m) < 20 ? r->batch * dml_model_n_outputs(r->m) : 20;
    for (size_t i = 0; i < n; i++)
        v[i] = (double)r->y[i];
    compare(text, "logits", v, n, 1e-5);
    n = 0;
    for (size_t i = 0; i < r->m->n_layers; i++) {
        const struct dml_layer *l = &r->m->layers[i];
        if (!dml_layer_n_params(l))
            continue;
        v[n++] = norm(r->grad + l->params_at, l->n_weights);
        v[n++] = norm(r->grad + l->params_at + l->n_weights, l->n_biases);
    }
    compare(text, "gradient-norms", v, n, 1e-5);
    n = pick(r->grad, r->n, v);
    compare(text, "gradient", v, n, 2e-5);
}

static void test_steps(struct run *r, const char *text, const char *name,
                       const struct dml_train_options *o, double tolerance)
{
    double v[64];
    char key[64];
    struct dml_optim *optim = dml_optim_new(o, r->n);
    fill_golden(r->m, r->vec);
    for (size_t i = 0; i < STEPS; i++) {
        v[i] = gradient(r);
        dml_optim_step(optim, o->learning_rate, r->vec, r->grad);
    }
    snprintf(key, sizeof(key), "loss %s", name);
    compare(text, key, v, STEPS, 1e-5);
    snprintf(key, sizeof(key), "parameters %s", name);
    size_t n = pick(r->vec, r->n, v);
    compare(text, key, v, n, tolerance);
    snprintf(key, sizeof(key), "parameters-norm %s", name);
    v[0] = norm(r->vec, r->n);
    compare(text, key, v, 1, 1e-6);
    dml_optim_free(optim);
}

static void test_model(const char *name, size_t batch)
{
    _cleanup_(dml_mem_freep) char *dir = dml_mem_printf("%s/etc/models", top_srcdir());
    const char *const dirs[] = {dir, NULL};
    struct dml_err err = {0};
    struct dml_model *m = NULL;
    _cleanup_(dml_mem_freep) char *text = read_golden(name);
    if (!text || !tap_ok(dml_model_load(name, dirs, &m, &err) == 0, "%s loads", name))
        return;
    size_t d = dml_model_n_inputs(m), o = dml_model_n_outputs(m);
    struct run r = {.m = m, .batch = batch, .n = dml_model_n_params(m)};
    r.vec = dml_mem_floats(r.n);
    r.grad = dml_mem_floats(r.n);
    r.x = dml_mem_floats(batch * d);
    r.y = dml_mem_floats(batch * o);
    r.dy = dml_mem_floats(batch * o);
    r.space = dml_mem_floats(dml_model_workspace(m, batch, true));
    ref_fill(r.x, batch * d, 1.0, 7);
    for (size_t i = 0; i < batch; i++)
        r.labels[i] = (int32_t)((i * 7 + 3) % o);
    test_gradient(&r, text);

    struct dml_train_options options = {0};
    (void)dml_opt_defaults(dml_train_opts, &options);
    options.learning_rate = 0.05;
    options.momentum = 0.9;
    options.weight_decay = 5e-4;
    test_steps(&r, text, "sgd", &options, 2e-6);
    options.momentum = options.weight_decay = 0.0;
    test_steps(&r, text, "sgd-plain", &options, 2e-6);
    options.learning_rate = 1e-3;
    options.weight_decay = 1e-2;
    options.optimizer = DML_OPTIM_ADAM;
    test_steps(&r, text, "adam", &options, 2e-5);
    options.optimizer = DML_OPTIM_ADAMW;
    test_steps(&r, text, "adamw", &options, 2e-5);
    dml_opt_done(dml_train_opts, &options);
    free(r.vec);
    free(r.grad);
    free(r.x);
    free(r.y);
    free(r.dy);
    free(r.space);
    dml_model_free(m);
}

static void test_schedules(void)
{
    _cleanup_(dml_mem_freep) char *text = read_golden("schedules");
    if (!text)
        return;
    double v[10];
    struct dml_train_options o = {
        .learning_rate = 0.2, .step_epochs = 3, .step_factor = 0.5, .final_rate = 0.1};
    o.schedule = DML_SCHEDULE_STEP;
    for (size_t i = 0; i < 10; i++)
        v[i] = dml_optim_rate(&o, (double)i, 10.0);
    compare(text, "rate step", v, 10, 1e-8);
    tap_near(dml_optim_rate(&o, 2.99, 10.0), 0.2, 0.0, "within an epoch a step stays what it was");
    o.schedule = DML_SCHEDULE_COSINE;
    for (size_t i = 0; i < 10; i++)
        v[i] = dml_optim_rate(&o, (double)i, 10.0);
    compare(text, "rate cosine", v, 10, 1e-8);
    tap_near(dml_optim_rate(&o, 10.0, 10.0), 0.02, 1e-15, "cosine ends at its share");
    o.schedule = DML_SCHEDULE_CONSTANT;
    tap_near(dml_optim_rate(&o, 7.5, 10.0), 0.2, 0.0, "constant is constant");
}

/* Every relu or relu6 a gelu, its line padded with blanks. */
static void make_smooth(char *lines)
{
    for (char *at = lines; (at = strstr(at, "relu")); at += 4)
        memcpy(at, at[4] == '6' ? "gelu " : "gelu", at[4] == '6' ? 5 : 4);
}

/*
 * The models with batch-norm and residual blocks, their dropout taken out and with smoothed labels.
 * Through 50 layers, each of which divides by a deviation, rounding grows to some 1e-4 of the
 * largest gradient (PyTorch's own float32 is no nearer to its float64). Gradients are compared for
 * the smooth twin only: see make_golden.py, and test_blocks.c for those of the model itself.
 */
static void test_normalised(const char *name, size_t batch, bool is_smooth)
{
    _cleanup_(dml_mem_freep) char *path =
        dml_mem_printf("%s/etc/models/%s.model", top_srcdir(), name);
    _cleanup_(dml_mem_freep) char *text = read_golden(name);
    _cleanup_(dml_mem_freep) char *lines = NULL;
    size_t len;
    if (!text || !tap_int(dml_fileio_read(path, 1 << 16, &lines, &len, NULL), 0, path))
        return;
    char *drop = strstr(lines, "dropout 0.2"), changed[8192], key[64];
    if (drop)
        memcpy(drop, "dropout 0.0", 11);
    if (is_smooth)
        make_smooth(lines);
    len = (size_t)snprintf(changed, sizeof(changed), "%s", lines);
    while (len && changed[len - 1] == '\n')
        len--;
    len += (size_t)snprintf(changed + len, sizeof(changed) - len, " smoothing 0.1\n");
    struct dml_model *m = NULL;
    struct dml_err err = {0};
    if (!tap_ok(dml_model_parse(changed, len, name, &m, &err) == 0, "%s parses", name)) {
        tap_note("line %u: %s", err.line, err.text);
        return;
    }
    struct run r = {.m = m, .batch = batch, .n = dml_model_n_params(m)};
    r.vec = dml_mem_floats(dml_model_n_vec(m));
    r.grad = dml_mem_floats(r.n);
    r.x = dml_mem_floats(batch * 3072);
    r.y = dml_mem_floats(batch * 10);
    r.dy = dml_mem_floats(batch * 10);
    r.space = dml_mem_floats(dml_model_workspace(m, batch, true));
    ref_fill(r.x, batch * 3072, 1.0, 7);
    for (size_t i = 0; i < batch; i++)
        r.labels[i] = (int32_t)((i * 7 + 3) % 10);
    dml_model_init(m, r.vec, 1); /* for the running statistics */
    fill_golden(m, r.vec);
    double loss = gradient(&r), v[64];
    tap_note("%s%s", name, is_smooth ? ", smooth" : "");
#define KEY(word) (snprintf(key, sizeof(key), "%s" word, is_smooth ? "smooth " : ""), key)
    for (size_t i = 0; i < 20; i++)
        v[i] = (double)r.y[i];
    compare(text, KEY("logits"), v, 20, 2e-4);
    compare(text, KEY("loss"), &loss, 1, 1e-5);
    size_t n;
    if (is_smooth) {
        n = pick(r.grad, r.n, v);
        compare(text, KEY("gradient"), v, n, 1e-3);
        v[0] = norm(r.grad, r.n);
        compare(text, KEY("gradient-norm"), v, 1, 1e-4);
    }
    n = pick(r.vec + r.n, dml_model_n_state(m), v);
    compare(text, KEY("state"), v, n, 2e-5);
    dml_model_forward(m, r.vec, NULL, r.x, batch, NULL, r.space, r.y);
    for (size_t i = 0; i < 20; i++)
        v[i] = (double)r.y[i];
    compare(text, KEY("logits-inference"), v, 20, 2e-5);
#undef KEY
    free(r.vec);
    free(r.grad);
    free(r.x);
    free(r.y);
    free(r.dy);
    free(r.space);
    dml_model_free(m);
}

int main(void)
{
    test_model("cifar-cnn", 4);
    test_model("sdss-mlp", 16);
    test_schedules();
    for (int is_smooth = 0; is_smooth < 2; is_smooth++) {
        test_normalised("resnet-8", 4, is_smooth);
        test_normalised("resnet-20", 4, is_smooth);
        test_normalised("mobilenetv2", 16, is_smooth);
    }
    return tap_done();
}
