/*
 * Parts of a model: they tile the flat block, and one after the other they are the whole model, bit
 * for bit, at every place where it can be cut.
 */
#include "nn/model_cut.h"

#include <errno.h>

#include "nn/bench_cuts.h"
#include "nn/model_priv.h"
#include "tests/unit/part_models.h"

enum { B = 3 };

static const struct dml_model_training training = {.seed = 5, .rank = 2, .step = 9, .first = 4};

/* What a pass gives: of the whole model, or of its parts in turn. */
struct outcome {
    float *state, *y, *grad, *dx;
    double loss;
    size_t correct;
};

static struct outcome outcome_new(const struct dml_model *m, const float *vec)
{
    struct outcome o = {.state = dml_mem_floats(dml_model_n_state(m)),
                        .y = dml_mem_floats(B * dml_model_n_outputs(m)),
                        .grad = dml_mem_floats(dml_model_n_params(m)),
                        .dx = dml_mem_floats(B * dml_model_n_inputs(m))};
    memcpy(o.state, vec + dml_model_n_params(m), dml_model_n_state(m) * sizeof(float));
    return o;
}

static void outcome_done(struct outcome *o)
{
    free(o->state);
    free(o->y);
    free(o->grad);
    free(o->dx);
}

struct data {
    float *vec, *x, targets[B];
    int32_t labels[B];
};

/* A piece of work on the way: what crosses its cuts. */
struct link {
    struct dml_model_part part;
    float *vec, *x, *y, *dy, *dx, *space;
};

static void link_init(const struct dml_model *m, const struct data *d, size_t first, size_t last,
                      struct link *ret)
{
    struct link l = {0};
    tap_failed += dml_model_part(m, first, last, &l.part) != 0;
    const struct dml_model *p = l.part.model;
    l.vec = dml_mem_floats(dml_model_n_vec(p));
    memcpy(l.vec, d->vec + l.part.params_at, dml_model_n_params(p) * sizeof(float));
    memcpy(l.vec + dml_model_n_params(p), d->vec + dml_model_n_params(m) + l.part.state_at,
           dml_model_n_state(p) * sizeof(float));
    l.x = dml_mem_floats(B * dml_model_n_inputs(p));
    l.dx = dml_mem_floats(B * dml_model_n_inputs(p));
    l.y = dml_mem_floats(B * dml_model_n_outputs(p));
    l.dy = dml_mem_floats(B * dml_model_n_outputs(p));
    l.space = dml_mem_floats(dml_model_workspace(p, B, true));
    *ret = l;
}

static void link_done(struct link *l)
{
    dml_model_free(l->part.model);
    free(l->vec);
    free(l->x);
    free(l->y);
    free(l->dy);
    free(l->dx);
    free(l->space);
}

/* The model in parts, cut at cuts[0 … n] (0 and the last one included). */
static struct outcome run(const struct dml_model *m, const struct data *d, const size_t *cuts,
                          size_t n)
{
    struct outcome o = outcome_new(m, d->vec);
    struct link *links = calloc(n, sizeof(*links));
    for (size_t i = 0; i < n; i++) {
        struct link *l = &links[i];
        link_init(m, d, cuts[i], cuts[i + 1], l);
        const struct dml_model *p = l->part.model;
        memcpy(l->x, i ? links[i - 1].y : d->x, B * dml_model_n_inputs(p) * sizeof(float));
        dml_model_forward(p, l->vec, o.state + l->part.state_at, l->x, B, &training, l->space,
                          l->y);
    }
    const struct link *end = &links[n - 1];
    memcpy(o.y, end->y, B * dml_model_n_outputs(m) * sizeof(float));
    dml_model_loss_grad(end->part.model, d->x, end->y, d->labels, d->targets, B, B, &o.loss,
                        &o.correct, end->dy);
    for (size_t i = n; i-- > 0;) {
        struct link *l = &links[i];
        dml_model_backward(l->part.model, l->vec, l->x, l->dy, B, &training, l->space,
                           o.grad + l->part.params_at, l->dx);
        memcpy(i ? links[i - 1].dy : o.dx, l->dx,
               B * dml_model_n_inputs(l->part.model) * sizeof(float));
    }
    for (size_t i = 0; i < n; i++)
        link_done(&links[i]);
    free(links);
    return o;
}

static double distance(const float *a, const float *b, size_t n)
{
    double off = 0.0;
    for (size_t i = 0; i < n; i++)
        off = fmax(off, isnan(a[i]) ? INFINITY : fabs((double)a[i] - (double)b[i]));
    return off;
}

/* Bit for bit: the same loops over the same numbers in the same order. */
static double off(const struct dml_model *m, const struct outcome *a, const struct outcome *b)
{
    double most = distance(a->y, b->y, B * dml_model_n_outputs(m));
    most = fmax(most, distance(a->grad, b->grad, dml_model_n_params(m)));
    most = fmax(most, distance(a->state, b->state, dml_model_n_state(m)));
    most = fmax(most, distance(a->dx, b->dx, B * dml_model_n_inputs(m)));
    return fmax(most, fabs(a->loss - b->loss));
}

static void test_tiles(const struct dml_model *m)
{
    size_t n = dml_model_n_cuts(m), params = 0, state = 0, layers = 0, wrong = 0;
    uint64_t macs = 0;
    for (size_t i = 0; i < n; i++) {
        struct dml_model_part p;
        if (dml_model_part(m, i, i + 1, &p) != 0)
            return;
        wrong += p.params_at != params || p.state_at != state;
        wrong += dml_model_cut_floats(m, i) != dml_model_n_inputs(p.model);
        wrong += dml_model_cut_floats(m, i + 1) != dml_model_n_outputs(p.model);
        wrong += dml_model_cut_cost(m, i) == 0 || dml_model_n_cuts(p.model) != 1;
        wrong += i > 0 && dml_model_cut_layer(m, i) <= dml_model_cut_layer(m, i - 1);
        wrong += (dml_model_loss(p.model) == DML_LOSS_NONE) != (i + 1 < n);
        params += dml_model_n_params(p.model);
        state += dml_model_n_state(p.model);
        layers += dml_model_n_layers(p.model);
        macs += dml_model_macs(p.model);
        dml_model_free(p.model);
    }
    tap_int((long long)wrong, 0, "pieces follow each other");
    tap_int((long long)params, (long long)dml_model_n_params(m), "parameters of all pieces");
    tap_int((long long)state, (long long)dml_model_n_state(m), "state of all pieces");
    tap_int((long long)layers, (long long)dml_model_n_layers(m), "layers of all pieces");
    tap_int((long long)macs, (long long)dml_model_macs(m), "multiply-adds of all pieces");
    tap_int(dml_model_cut_layer(m, 0), 1, "the first layer is number 1");
}

/* First weights are drawn from streams named by layer: a part begins with the whole's. */
static void test_init(const struct dml_model *m, const float *vec)
{
    size_t n = dml_model_n_cuts(m);
    struct dml_model_part p;
    if (n < 2 || dml_model_part(m, n / 2, n, &p) != 0)
        return;
    _cleanup_(dml_mem_freep) float *own = dml_mem_floats(dml_model_n_vec(p.model));
    dml_model_init(p.model, own, 3);
    tap_ok(!memcmp(own, vec + p.params_at, dml_model_n_params(p.model) * sizeof(float)),
           "a part's first weights are those of the whole");
    dml_model_free(p.model);
}

static void test_model(const char *name)
{
    _cleanup_(dml_model_freep) struct dml_model *m = part_model(name);
    if (!m)
        return;
    size_t n = dml_model_n_cuts(m), whole[2] = {0, n}, all[1 + DML_MODEL_LAYERS_MAX];
    struct data d = {.vec = dml_mem_floats(dml_model_n_vec(m)),
                     .x = dml_mem_floats(B * dml_model_n_inputs(m))};
    dml_model_init(m, d.vec, 3);
    part_data(m, B, 11, d.x, d.labels, d.targets);
    tap_note("%s: %zu steps, %zu cuts", dml_model_name(m), m->n_steps, n);
    test_tiles(m);
    test_init(m, d.vec);

    /* The model itself, not a part from end to end. */
    struct outcome want = outcome_new(m, d.vec);
    float *space = dml_mem_floats(dml_model_workspace(m, B, true));
    float *dy = dml_mem_floats(B * dml_model_n_outputs(m));
    dml_model_forward(m, d.vec, want.state, d.x, B, &training, space, want.y);
    dml_model_loss_grad(m, d.x, want.y, d.labels, d.targets, B, B, &want.loss, &want.correct, dy);
    dml_model_backward(m, d.vec, d.x, dy, B, &training, space, want.grad, want.dx);
    tap_ok(isfinite(want.loss), "loss %.6f", want.loss);

    for (size_t i = 0; i <= n; i++)
        all[i] = i;
    struct outcome got = run(m, &d, all, n);
    tap_near(off(m, &got, &want), 0.0, 0.0, "all pieces in turn: the same bits");
    tap_int((long long)got.correct, (long long)want.correct, "as many right");
    outcome_done(&got);
    got = run(m, &d, whole, 1);
    tap_near(off(m, &got, &want), 0.0, 0.0, "one part, from end to end: the same bits");
    outcome_done(&got);
    double most = 0.0;
    for (size_t cut = 1; cut < n; cut++) {
        const size_t two[3] = {0, cut, n};
        got = run(m, &d, two, 2);
        most = fmax(most, off(m, &got, &want));
        outcome_done(&got);
    }
    tap_near(most, 0.0, 0.0, "every cut in two: the same bits");
    outcome_done(&want);
    free(space);
    free(dy);
    free(d.vec);
    free(d.x);
}

/* Where a model can be cut, and how people number it. */
static void test_places(void)
{
    static const struct {
        const char *name;
        size_t n;
        unsigned second; /* number of the first layer behind cut 1 */
    } want[] = {
        /* two times conv + relu + pool, two times linear + relu, linear */
        {"cifar-cnn", 5, 4},
        /* conv + batch-norm + relu, three blocks with a relu behind each, pooling, linear */
        {"resnet-8", 9, 4},
        /* embedding, position, eight blocks, layer-norm, conv */
        {"char-transformer", 12, 2},
    };
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = part_model(want[i].name);
        tap_int((long long)dml_model_n_cuts(m), (long long)want[i].n, "pieces");
        tap_int(dml_model_cut_layer(m, 1), want[i].second, "number of the layer behind cut 1");
    }
}

/* Of measured time only that there is some. */
static void test_measured(void)
{
    static const char text[] = "name uneven\ninput 500\nlinear 500\ntanh\nlinear 4\n";
    _cleanup_(dml_model_freep) struct dml_model *m = part_model(text);
    double us[3] = {-1.0, -1.0, -1.0};
    struct dml_err err = {0};
    tap_int((long long)dml_model_n_cuts(m), 3, "three pieces");
    tap_int(dml_bench_cuts(m, 8, false, 0.02, NULL, us, &err), 0, "are measured");
    tap_ok(us[0] > 0.0 && us[1] > 0.0 && us[2] > 0.0 && isfinite(us[0] + us[1] + us[2]),
           "linear 500 %.2f us, tanh %.2f us, linear 4 %.2f us", us[0], us[1], us[2]);
    tap_ok(dml_model_cut_cost(m, 0) > dml_model_cut_cost(m, 2) &&
               dml_model_cut_cost(m, 2) > dml_model_cut_cost(m, 1),
           "estimated: the large layer costs most, tanh least");
    tap_int(dml_bench_cuts(m, 8, true, 0.02, NULL, us, &err), 0, "and with forward twice");
    tap_ok(us[0] > 0.0 && us[1] > 0.0 && us[2] > 0.0 && isfinite(us[0] + us[1] + us[2]),
           "linear 500 %.2f us, tanh %.2f us, linear 4 %.2f us", us[0], us[1], us[2]);
    tap_int(dml_bench_cuts(m, 0, false, 0.02, NULL, us, &err), -EINVAL, "a batch of 0 is refused");
}

int main(void)
{
    for (size_t i = 0; part_models[i]; i++)
        test_model(part_models[i]);
    test_places();
    test_measured();
    return tap_done();
}
