/*
 * Every layer, every loss and the character transformer against PyTorch in double precision; see
 * tests/golden/make_layers.py.
 *
 * Tolerances are shares of the largest golden value. A layer alone is a few hundred float products:
 * 5e-6 forward; 2e-5 backward, where an activation's slope comes on top. The transformer is 18
 * normalised layers deep: 2e-5 and 2e-4.
 */
#include "nn/optim.h"

#include "tests/unit/golden.h"

#define BATCH   3
#define FORWARD 5e-6
#define BACK    2e-5

/* What stands behind "key: ", to the end of the line. */
static bool word_of(const char *section, const char *key, char *ret, size_t len)
{
    const char *at = strstr(section, key);
    if (!at)
        return false;
    (void)snprintf(ret, len, "%.*s", (int)strcspn(at + strlen(key), "\n"), at + strlen(key));
    return true;
}

static bool has(const char *section, const char *key)
{
    double v;
    return golden(section, key, &v, 1) == 1;
}

struct subject {
    struct dml_model *m;
    const struct dml_layer *last;
    size_t d, o, n;
    float *vec, *x, *y, *r, *grad, *dx, *space;
};

static void done(struct subject *s)
{
    free(s->vec);
    free(s->x);
    free(s->y);
    free(s->r);
    free(s->grad);
    free(s->dx);
    free(s->space);
    dml_model_free(s->m);
}

static bool make(struct subject *s, const char *lines, size_t batch)
{
    char text[1024];
    struct dml_err err = {0};
    (void)snprintf(text, sizeof(text), "name t\n%s\n", lines);
    for (char *c = text; *c; c++)
        *c = *c == ';' ? '\n' : *c;
    if (!tap_ok(dml_model_parse(text, strlen(text), "t", &s->m, &err) == 0, "%s", lines)) {
        tap_note("line %u: %s", err.line, err.text);
        return false;
    }
    s->last = &s->m->layers[s->m->n_layers - 1];
    s->d = dml_model_n_inputs(s->m);
    s->o = dml_model_n_outputs(s->m);
    s->n = dml_model_n_params(s->m);
    s->vec = dml_mem_floats(dml_model_n_vec(s->m));
    s->x = dml_mem_floats(batch * s->d);
    s->y = dml_mem_floats(batch * s->o);
    s->r = dml_mem_floats(batch * s->o);
    s->grad = dml_mem_floats(s->n);
    s->dx = dml_mem_floats(batch * s->d);
    s->space = dml_mem_floats(dml_model_workspace(s->m, batch, true));
    dml_model_init(s->m, s->vec, 1); /* for the running statistics */
    return true;
}

/* Whole numbers below n_codes from the formula. */
static void fill_codes(float *x, size_t n, double n_codes, uint32_t seed)
{
    struct ref_lcg g = {seed};
    for (size_t i = 0; i < n; i++)
        x[i] = (float)floor((0.5 * (2.0 * ref_uniform(&g) - 1.0) + 0.5) * n_codes);
}

/* r is filled in planes; a model whose last layer has channels last wants it so. */
static void fill_r(const struct subject *s)
{
    size_t c = s->last->out.c, places = (size_t)s->last->out.h * s->last->out.w;
    ref_fill(s->r, BATCH * s->o, 1.0, 3);
    float *planes = dml_mem_floats(s->o);
    for (size_t b = 0; s->last->out_order == DML_ORDER_HWC && b < BATCH; b++) {
        float *r = s->r + b * s->o;
        memcpy(planes, r, s->o * sizeof(float));
        for (size_t i = 0; i < s->o; i++)
            r[i % places * c + i / places] = planes[i];
    }
    free(planes);
}

static void pick_and_compare(const char *section, const char *key, const float *x, size_t n,
                             double tolerance)
{
    double v[SAMPLES];
    size_t m = pick(x, n, v);
    compare(section, key, v, m, tolerance);
}

static void test_layer(const char *section)
{
    char lines[512], bound[32];
    struct subject s = {0};
    if (!tap_ok(word_of(section, "\nmodel: ", lines, sizeof(lines)) &&
                    word_of(section, "\nbound: ", bound, sizeof(bound)),
                "%.*s", (int)strcspn(section, "\n"), section) ||
        !make(&s, lines, BATCH)) {
        done(&s);
        return;
    }
    const struct dml_model_training training = {.seed = 1};
    double size = strtod(bound, NULL);
    if (size < 0.0)
        fill_codes(s.x, BATCH * s.d, -size, 7);
    else
        ref_fill(s.x, BATCH * s.d, size, 7);
    uint32_t seed = 100;
    for (size_t i = 0; i < s.m->n_layers; i++) {
        const struct dml_layer *l = &s.m->layers[i];
        if (!dml_layer_n_params(l))
            continue;
        ref_fill(s.vec + l->params_at, dml_layer_n_params(l), 0.5, seed++);
        for (size_t j = 0; l->fill == DML_FILL_ONES && j < l->n_weights; j++)
            s.vec[l->params_at + j] += 1.0f;
    }
    fill_r(&s);
    dml_model_forward(s.m, s.vec, s.vec + s.n, s.x, BATCH, &training, s.space, s.y);
    dml_model_backward(s.m, s.vec, s.x, s.r, BATCH, &training, s.space, s.grad, s.dx);
    ref_to_planes(s.last, s.y, BATCH);
    pick_and_compare(section, "y", s.y, BATCH * s.o, FORWARD);
    if (size > 0.0)
        pick_and_compare(section, "dx", s.dx, BATCH * s.d, BACK);
    if (s.n)
        pick_and_compare(section, "dparams", s.grad, s.n, BACK);
    tap_ok((dml_model_n_state(s.m) > 0) == has(section, "state"), "running statistics, if any");
    if (dml_model_n_state(s.m)) {
        pick_and_compare(section, "state", s.vec + s.n, dml_model_n_state(s.m), FORWARD);
        dml_model_forward(s.m, s.vec, NULL, s.x, BATCH, NULL, s.space, s.y);
        ref_to_planes(s.last, s.y, BATCH);
        pick_and_compare(section, "y-inference", s.y, BATCH * s.o, FORWARD);
    }
    done(&s);
}

static void test_loss(const char *section, const char *loss)
{
    enum { B = 5, N = 7, T = 6, V = 5 };
    char lines[128];
    bool is_mse = !strncmp(loss, "mse", 3), is_next = !strncmp(loss, "next", 4);
    (void)snprintf(lines, sizeof(lines), "%s;loss %s",
                   is_mse    ? "input 2;linear 1"
                   : is_next ? "input 6;embedding 5 size 5"
                             : "input 2;linear 7",
                   loss);
    struct subject s = {0};
    if (!make(&s, lines, B)) {
        done(&s);
        return;
    }
    int32_t labels[B];
    float targets[B], dy[B * T * V];
    double sum, mean;
    size_t correct, n = B * s.o, classes = is_next ? V : N;
    for (size_t i = 0; i < B; i++)
        labels[i] = (int32_t)((i * 7 + 3) % classes);
    fill_codes(s.x, B * s.d, V, 13);
    ref_fill(s.y, n, 4.0, 11);
    ref_fill(targets, B, 4.0, 12);
    dml_model_loss_grad(s.m, s.x, s.y, labels, targets, B, (double)B, &sum, &correct, dy);
    mean = sum / (double)B;
    compare(section, "loss", &mean, 1, 1e-6);
    pick_and_compare(section, "dy", dy, n, 1e-6);
    done(&s);
}

static void test_layers(void)
{
    _cleanup_(dml_mem_freep) char *text = read_golden("layers");
    size_t n = 0;
    for (const char *at = text ? strstr(text, "\ncase: ") : NULL, *next; at; at = next, n++) {
        next = strstr(at + 1, "\ncase: ");
        _cleanup_(dml_mem_freep) char *section =
            strndup(at + 1, next ? (size_t)(next - at - 1) : strlen(at + 1));
        char name[64];
        if (section && word_of(section, "case: loss ", name, sizeof(name)))
            test_loss(section, name);
        else if (section)
            test_layer(section);
    }
    tap_ok(n == 42, "%zu cases, wanted 41", n);
}

/* The shipped model, its parameters from the formula; smoothing: "" or " smoothing S". */
static void test_transformer(const char *file, const char *smoothing)
{
    enum { B = 2, STEPS = 6 };
    _cleanup_(dml_mem_freep) char *path =
        dml_mem_printf("%s/etc/models/char-transformer.model", top_srcdir());
    _cleanup_(dml_mem_freep) char *text = read_golden(file);
    _cleanup_(dml_mem_freep) char *model = NULL;
    size_t len;
    if (!text || !tap_int(dml_fileio_read(path, 1 << 16, &model, &len, NULL), 0, path))
        return;
    while (len && (model[len - 1] == '\n' || model[len - 1] == ' '))
        model[--len] = '\0';
    _cleanup_(dml_mem_freep) char *lines = dml_mem_printf("%s%s\n", model, smoothing);
    struct dml_model *m = NULL;
    if (!tap_int(dml_model_parse(lines, strlen(lines), file, &m, NULL), 0, file))
        return;
    size_t n = dml_model_n_params(m), o = dml_model_n_outputs(m), d = dml_model_n_inputs(m);
    float *vec = dml_mem_floats(n), *grad = dml_mem_floats(n), *x = dml_mem_floats(B * d);
    float *y = dml_mem_floats(B * o), *dy = dml_mem_floats(B * o);
    float *space = dml_mem_floats(dml_model_workspace(m, B, true));
    const struct dml_model_training training = {.seed = 1};
    struct dml_train_options options = {0};
    (void)dml_opt_defaults(dml_train_opts, &options);
    options.optimizer = DML_OPTIM_ADAM;
    options.momentum = options.weight_decay = 0.0;
    struct dml_optim *optim = dml_optim_new(&options, n);
    fill_golden(m, vec);
    fill_codes(x, B * d, 96.0, 7);
    int32_t labels[B];
    double losses[STEPS], norms[64];
    for (size_t i = 0; i < B; i++)
        labels[i] = (int32_t)((i * 7 + 3) % 96);
    for (size_t i = 0; i < STEPS; i++) {
        size_t correct, n_norms = 0;
        memset(grad, 0, n * sizeof(float));
        dml_model_forward(m, vec, NULL, x, B, &training, space, y);
        if (i == 0)
            pick_and_compare(text, "logits", y, B * o, 2e-5);
        dml_model_loss_grad(m, x, y, labels, NULL, B, (double)B, &losses[i], &correct, dy);
        losses[i] /= (double)B;
        dml_model_backward(m, vec, x, dy, B, &training, space, grad, NULL);
        for (size_t k = 0; i == 0 && k < m->n_layers; k++)
            if (dml_layer_n_params(&m->layers[k]))
                norms[n_norms++] =
                    norm(grad + m->layers[k].params_at, dml_layer_n_params(&m->layers[k]));
        if (i == 0) {
            pick_and_compare(text, "gradient", grad, n, 2e-4);
            compare(text, "gradient-norms", norms, n_norms, 2e-5);
        }
        dml_optim_step(optim, 1e-3, vec, grad);
    }
    compare(text, "loss adam", losses, STEPS, 1e-5);
    dml_optim_free(optim);
    dml_opt_done(dml_train_opts, &options);
    free(vec);
    free(grad);
    free(x);
    free(y);
    free(dy);
    free(space);
    dml_model_free(m);
}

int main(void)
{
    test_layers();
    test_transformer("char-transformer", "");
    test_transformer("char-transformer-smoothing", " smoothing 0.1");
    return tap_done();
}
