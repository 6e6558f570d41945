/*
 * Small models drawn at random, the engine against its naive twin in double: output, gradient of
 * the parameters and of the input, inference, with and without recompute, batches of one and of
 * many. How layers are joined into steps, which way a convolution is computed and where numbers lie
 * in the workspace follow from the shapes; nobody would write so many of them down.
 *
 * usage: test_random_models [SEED…]     those models alone, each printed
 *
 * Where a number lies so near a kink (of a relu, or two that are nearly the greatest of a window)
 * that rounding decides on which side, gradients differ by whole terms: such models are skipped,
 * and counted.
 */
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/err.h"
#include "base/rng.h"
#include "nn/model.h"
#include "tests/tap.h"

#include "tests/unit/nn_ref_back.h"

#define N_SEEDS   400
#define MOST_MACS 2000000 /* of a batch: seconds in all, for the twin */
#define KINK      1e-6    /* of the largest number beside it */

/* Of the largest number of its kind. Measured over seeds 1 to 2500: half of it at most. Batch-norm
 * of few samples may divide by a small deviation, which takes digits away; of one place it gives a
 * gradient of nothing but rounding, hence the floor. */
#define ROUNDING      2e-5
#define ROUNDING_NORM 2e-3
#define FLOOR         1e-3
#define FLOOR_NORM    0.1

struct draft {
    struct dml_rng rng;
    char text[2048];
    size_t len;
    uint32_t c, h, w;
    bool norms; /* has batch-norm, and so channels last */
};

/* 0 … n-1 */
static uint32_t below(struct draft *d, uint32_t n)
{
    return (uint32_t)dml_rng_below(&d->rng, n);
}

static bool one_in(struct draft *d, uint32_t n)
{
    return below(d, n) == 0;
}

__attribute__((format(printf, 2, 3))) static void add(struct draft *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    d->len += (size_t)vsnprintf(d->text + d->len, sizeof(d->text) - d->len, format, args);
    va_end(args);
}

static void add_activation(struct draft *d)
{
    static const char *const all[] = {"relu",       "relu", "relu", "relu",   "relu6",
                                      "leaky-relu", "gelu", "tanh", "sigmoid"};
    add(d, "%s\n", all[below(d, ARRAY_SIZE(all))]);
}

static void add_conv(struct draft *d)
{
    static const char *const methods[] = {"", "", " method direct", " method im2col",
                                          " method last"};
    /* As vectors like them, and some ways want them. */
    bool wide = one_in(d, 2), small = wide && d->c % 16 == 0;
    uint32_t k = small ? 3 : one_in(d, 2) ? 1 + below(d, 6) : one_in(d, 2) ? 3 : 5;
    uint32_t pad = one_in(d, 2) ? below(d, k) : 0, less = d->h < d->w ? d->h : d->w;
    if (k > less + 2 * pad) {
        k = 1 + below(d, less);
        pad = 0;
    }
    uint32_t out = 1 + below(d, one_in(d, 2) ? 8 : 40),
             stride = !small && one_in(d, 4) ? 1 + below(d, 3) : 1;
    if (wide)
        out = one_in(d, 2) ? 16 : 32;
    uint32_t groups = d->norms && !small && one_in(d, 3) ? d->c : 1;
    if (groups > 1)
        out = d->c * (1 + below(d, 2));
    add(d, "conv %u kernel %u stride %u padding %u", out, k, stride, pad);
    if (groups > 1)
        add(d, " groups %u", groups);
    if (d->norms)
        add(d, "%s\n", one_in(d, 4) ? "" : " bias no");
    else
        add(d, "%s\n", stride > 1 ? "" : methods[below(d, ARRAY_SIZE(methods))]);
    d->c = out;
    d->h = (d->h + 2 * pad - k) / stride + 1;
    d->w = (d->w + 2 * pad - k) / stride + 1;
    if (d->norms && !one_in(d, 4))
        add(d, "batch-norm\n");
    if (!one_in(d, 4))
        add_activation(d);
}

static void add_pool(struct draft *d)
{
    uint32_t less = d->h < d->w ? d->h : d->w;
    uint32_t size = less >= 2 && !one_in(d, 3) ? 2 : 1 + below(d, less);
    uint32_t stride = one_in(d, 3) ? 1 + below(d, 3) : size;
    add(d, "max-pool %u stride %u\n", size, stride);
    d->h = (d->h - size) / stride + 1;
    d->w = (d->w - size) / stride + 1;
}

static void add_block(struct draft *d)
{
    add(d, "residual\nconv %u kernel 1\n", d->c);
    add_activation(d);
    if (one_in(d, 2)) {
        add(d, "shortcut\n");
        add_activation(d);
    }
    add(d, "end\n");
}

static void draw(struct draft *d, uint64_t seed)
{
    *d = (struct draft){0};
    dml_rng_init(&d->rng, seed, 0, DML_RNG_TEST, 0);
    uint32_t n = 1 + below(d, 4);
    d->norms = one_in(d, 3);
    add(d, "# seed %llu\nname z\n", (unsigned long long)seed);
    if (one_in(d, 5)) {
        add(d, "input %u\n", 1 + below(d, 70));
        for (uint32_t i = 0; i < n; i++) {
            add(d, "linear %u\n", 1 + below(d, one_in(d, 2) ? 90 : 12));
            if (!one_in(d, 4))
                add_activation(d);
        }
    } else {
        d->c = one_in(d, 6) ? 16 : 1 + below(d, one_in(d, 3) ? 20 : 4);
        d->h = 1 + below(d, one_in(d, 5) ? 44 : 14);
        d->w = 1 + below(d, one_in(d, 5) ? 54 : 14);
        add(d, "input %u %u %u\n", d->c, d->h, d->w);
        for (uint32_t i = 0; i < n; i++) {
            if (one_in(d, 6))
                add_block(d);
            else
                add_conv(d);
            if (one_in(d, 2))
                add_pool(d);
        }
        if (one_in(d, 5))
            add(d, "global-avg-pool\n");
        if (one_in(d, 2))
            add(d, "linear %u\nrelu\n", 1 + below(d, 50));
    }
    add(d, "linear %u\n", 2 + below(d, 11));
}

/* ---- kinks -------------------------------------------------------------------------------- */

static bool near(double a, double b, double largest)
{
    return a != b && fabs(a - b) < KINK * largest;
}

static bool has_near_tie(const struct dml_layer *l, const double *x, double largest)
{
    size_t h = l->in.h, w = l->in.w, size = l->args.size, stride = l->args.stride;
    for (size_t i = 0; i < dml_layer_size(l->out); i++) {
        size_t c = i / ((size_t)l->out.h * l->out.w), oh = i / l->out.w % l->out.h;
        const double *corner = x + (c * h + oh * stride) * w + i % l->out.w * stride;
        double top = -INFINITY, second = -INFINITY;
        for (size_t k = 0; k < size * size; k++) {
            double v = corner[k / size * w + k % size];
            if (v > top) {
                second = top;
                top = v;
            } else if (v > second && v < top) {
                second = v;
            }
        }
        if (near(top, second, largest))
            return true;
    }
    return false;
}

static bool has_kink(const struct ref_run *r)
{
    for (size_t i = 0; i < r->m->n_layers; i++) {
        const struct dml_layer *l = &r->m->layers[i];
        const double *x = l->from < 0 ? r->x : r->y[l->from];
        size_t d = dml_layer_size(l->in);
        double largest = 1.0;
        for (size_t j = 0; j < r->batch * d; j++)
            largest = fmax(largest, fabs(x[j]));
        bool bends = strstr(l->type->name, "relu") != NULL;
        for (size_t j = 0; bends && j < r->batch * d; j++)
            if (near(x[j], 0.0, largest) ||
                (!strcmp(l->type->name, "relu6") && near(x[j], 6.0, largest)))
                return true;
        for (size_t b = 0; !strcmp(l->type->name, "max-pool") && b < r->batch; b++)
            if (has_near_tie(l, x + b * d, largest))
                return true;
    }
    return false;
}

/* ---- both --------------------------------------------------------------------------------- */

static float *nans(size_t n)
{
    float *x = dml_mem_floats(n);
    for (size_t i = 0; x && i < n; i++)
        x[i] = NAN;
    return x;
}

static double *widened(const float *x, size_t n)
{
    double *y = ref_zeros(n);
    for (size_t i = 0; i < n; i++)
        y[i] = (double)x[i];
    return y;
}

/* How far y is from the twin's, as a share of what is allowed; not a number counts as far. */
static double off(const char *what, const double *want, const float *y, size_t n, bool norms)
{
    double worst = 0.0, largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        double distance = fabs(want[i] - (double)y[i]);
        worst = distance <= worst ? worst : distance; /* a NaN is not */
        largest = fmax(largest, fabs(want[i]));
    }
    double allowed = norms ? ROUNDING_NORM : ROUNDING, floor = norms ? FLOOR_NORM : FLOOR;
    double share = worst / (allowed * (largest + floor));
    if (!(share <= 1.0))
        tap_note("%s: %g apart, the largest is %g", what, worst, largest);
    return share <= 1.0 ? share : INFINITY;
}

static void show(const struct draft *d)
{
    for (const char *line = d->text; *line; line += strcspn(line, "\n") + 1)
        tap_note("  %.*s", (int)strcspn(line, "\n"), line);
}

struct tally {
    unsigned n_done, n_skipped, n_wrong;
    double worst[2]; /* share of what is allowed: without and with batch-norm */
};

static void compare(const struct dml_model *m, struct draft *d, uint64_t seed, struct tally *t)
{
    size_t most = MOST_MACS / (size_t)(dml_model_macs(m) + 1) + 1;
    size_t batch = one_in(d, 6) ? 40 + below(d, 100) : 1 + below(d, one_in(d, 2) ? 2 : 7);
    batch = batch < most ? batch : most;
    const struct dml_model_training training = {.seed = seed, .recompute = one_in(d, 2)};
    size_t n_params = dml_model_n_params(m), n_x = batch * dml_model_n_inputs(m);
    size_t n_y = batch * dml_model_n_outputs(m);
    float *vec = dml_mem_floats(dml_model_n_vec(m)), *grad = dml_mem_floats(n_params);
    float *x = dml_mem_floats(n_x), *dy = dml_mem_floats(n_y), *y = nans(n_y), *dx = nans(n_x);
    float *space = nans(training.recompute ? dml_model_workspace_recompute(m, batch)
                                           : dml_model_workspace(m, batch, true));
    float *infer_space = nans(dml_model_workspace(m, batch, false));
    dml_model_init(m, vec, seed);
    for (size_t i = 0; i < n_params; i++)
        vec[i] += 0.05f * (float)dml_rng_normal(&d->rng); /* biases, too, and factors of norms */
    ref_fill(x, n_x, 1.0, (uint32_t)(7 * seed + 1));
    ref_fill(dy, n_y, 1.0, (uint32_t)(3 * seed + 5));
    double *vec2 = widened(vec, n_params), *x2 = widened(x, n_x), *dy2 = widened(dy, n_y);
    struct ref_run twin = {.m = m, .vec = vec2, .x = x2, .batch = batch};
    ref_run_forward(&twin);
    bool norms = strstr(d->text, "batch-norm") != NULL;
    if (has_kink(&twin)) {
        t->n_skipped++;
    } else {
        double worst;
        const double *want = twin.y[m->n_layers - 1];
        ref_run_backward(&twin, dy2);
        dml_model_forward(m, vec, vec + n_params, x, batch, &training, space, y);
        worst = off("output", want, y, n_y, norms);
        dml_model_backward(m, vec, x, dy, batch, &training, space, grad, dx);
        worst = fmax(worst, off("gradient of parameters", twin.dparams, grad, n_params, norms));
        worst = fmax(worst, off("gradient of the input", twin.dx, dx, n_x, norms));
        if (!norms) { /* whose running statistics are not the batch's */
            dml_model_forward(m, vec, NULL, x, batch, NULL, infer_space, y);
            worst = fmax(worst, off("inference", want, y, n_y, norms));
        }
        t->n_done++;
        t->n_wrong += worst > 1.0;
        t->worst[norms] = fmax(t->worst[norms], worst);
        if (worst > 1.0) {
            tap_note("batch %zu%s", batch, training.recompute ? ", recompute" : "");
            show(d);
        }
    }
    ref_run_done(&twin);
    void *all[] = {vec, grad, x, dy, y, dx, space, infer_space, vec2, x2, dy2};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        free(all[i]);
}

static struct draft d; /* for crashed() */

/* Says of which model; then it crashes as it would have. */
static void crashed(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, d.text, d.len);
}

static void try(uint64_t seed, bool shows, struct tally *t)
{
    struct dml_err err = {0};
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    draw(&d, seed);
    if (shows)
        show(&d);
    if (dml_model_parse(d.text, d.len, "random", &m, &err) == 0) {
        compare(m, &d, seed, t);
    } else {
        tap_note("refused: %s", err.text);
        show(&d);
        t->n_wrong++;
    }
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = crashed, .sa_flags = (int)SA_RESETHAND};
    struct tally t = {0};
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGABRT, &action, NULL);
    uint64_t n = argc > 1 ? (uint64_t)argc - 1 : N_SEEDS;
    for (uint64_t i = 0; i < n; i++)
        try(argc > 1 ? strtoull(argv[i + 1], NULL, 10) : i + 1, argc > 1, &t);
    tap_ok(t.n_wrong == 0, "of %u models %u are wrong", t.n_done, t.n_wrong);
    tap_note("%u skipped for a kink; furthest apart %.2g of what is allowed, %.2g with batch-norm",
             t.n_skipped, t.worst[0], t.worst[1]);
    tap_ok(argc > 1 || t.n_done >= N_SEEDS * 2 / 3, "%u are not skipped", t.n_done);
    return tap_done();
}
