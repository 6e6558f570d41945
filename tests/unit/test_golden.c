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

#include "base/err.h"
#include "base/fileio.h"
#include "tests/tap.h"
#include "tests/unit/nn_ref.h"

#define STEPS   6
#define SAMPLES 40

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

static void compare(const char *text, const char *key, const double *got, size_t n,
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
static size_t pick(const float *x, size_t n, double *ret)
{
    size_t step = n / SAMPLES ? n / SAMPLES : 1, m = 0;
    for (size_t i = 0; i < n && m < SAMPLES; i += step)
        ret[m++] = (double)x[i];
    return m;
}

static double norm(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

struct run {
    const struct dml_model *m;
    size_t batch, n;
    float *vec, *grad, *x, *y, *dy, *space;
    int32_t labels[32];
};

static void fill(struct run *r)
{
    uint32_t seed = 100;
    for (size_t i = 0; i < r->m->n_layers; i++) {
        const struct dml_layer *l = &r->m->layers[i];
        if (dml_layer_n_params(l))
            ref_fill(r->vec + l->params_at, dml_layer_n_params(l), 1.0 / sqrt((double)l->fan_in),
                     seed++);
    }
}

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
    fill(r);
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
    fill(r);
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

static char *read_golden(const char *name)
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

/*
 * The models with batch-norm and residual blocks, their dropout taken out and with smoothed labels.
 * Through 50 layers, each of which divides by a deviation, rounding grows to some 1e-4 of the
 * largest gradient (PyTorch's own float32 is no nearer to its float64).
 */
static void test_normalised(const char *name, size_t batch, uint32_t x_seed)
{
    _cleanup_(dml_mem_freep) char *path =
        dml_mem_printf("%s/etc/models/%s.model", top_srcdir(), name);
    _cleanup_(dml_mem_freep) char *text = read_golden(name);
    _cleanup_(dml_mem_freep) char *lines = NULL;
    size_t len;
    if (!text || !tap_int(dml_fileio_read(path, 1 << 16, &lines, &len, NULL), 0, path))
        return;
    char *drop = strstr(lines, "dropout 0.2"), changed[8192];
    if (drop)
        memcpy(drop, "dropout 0.0", 11);
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
    ref_fill(r.x, batch * 3072, 1.0, x_seed);
    for (size_t i = 0; i < batch; i++)
        r.labels[i] = (int32_t)((i * 7 + 3) % 10);
    dml_model_init(m, r.vec, 1); /* for the running statistics */
    uint32_t seed = 100;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        bool is_norm = l->fill == DML_FILL_ONES;
        if (!dml_layer_n_params(l))
            continue;
        ref_fill(r.vec + l->params_at, dml_layer_n_params(l),
                 1.0 / sqrt(is_norm ? 16.0 : (double)l->fan_in), seed++);
        for (size_t j = 0; is_norm && j < l->n_weights; j++)
            r.vec[l->params_at + j] += 1.0f;
    }
    double loss = gradient(&r), v[64];
    tap_note("%s", name);
    for (size_t i = 0; i < 20; i++)
        v[i] = (double)r.y[i];
    compare(text, "logits", v, 20, 2e-4);
    compare(text, "loss", &loss, 1, 1e-5);
    size_t n = pick(r.grad, r.n, v);
    compare(text, "gradient", v, n, 1e-3);
    v[0] = norm(r.grad, r.n);
    compare(text, "gradient-norm", v, 1, 1e-4);
    n = pick(r.vec + r.n, dml_model_n_state(m), v);
    compare(text, "state", v, n, 2e-5);
    dml_model_forward(m, r.vec, NULL, r.x, batch, NULL, r.space, r.y);
    for (size_t i = 0; i < 20; i++)
        v[i] = (double)r.y[i];
    compare(text, "logits-inference", v, 20, 2e-5);
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
    test_normalised("resnet-8", 4, 7);
    test_normalised("resnet-20", 4, 7);
    test_normalised("mobilenetv2", 16, 12);
    return tap_done();
}
