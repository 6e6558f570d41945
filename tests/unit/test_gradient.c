/*
 * Every layer, forward against its definition in double and backward against central differences
 * of that definition.
 *
 * The scalar that is differentiated is sum of r·y with fixed r. With a step of 1e-5 in double the
 * difference quotient is right to about 1e-9 relative, far better than what is tested: sums of up
 * to some hundred float products, right to about 1e-6 of the largest. The tolerance is 2e-5 of the
 * largest gradient: a wrong tap or a missed pixel is off by ten thousand times that.
 */
#include "nn/model.h"

#include <stdio.h>

#include "base/err.h"
#include "nn/conv.h"
#include "tests/tap.h"
#include "tests/unit/nn_ref.h"

#define TOLERANCE 2e-5
#define STEP      1e-5

static const char *const cases[] = {
    "input 3 8 8\nconv 4 kernel 3 method direct\n",
    "input 3 8 8\nconv 4 kernel 3 method im2col\n",
    "input 1 5 6\nconv 1 kernel 5 method direct\n",
    "input 1 5 5\nconv 1 kernel 1 method direct\n",
    "input 1 1 1\nconv 7 kernel 1 method direct\n",
    "input 2 7 9\nconv 6 kernel 3 padding 1 method direct\n",
    "input 2 7 9\nconv 6 kernel 3 padding 1 method im2col\n",
    "input 2 4 3\nconv 13 kernel 3 padding 2 method direct\n",
    "input 5 9 6\nconv 3 kernel 4 stride 2\n",
    "input 5 9 6\nconv 3 kernel 4 stride 3 padding 2\n",
    "input 3 12 12\nconv 8 kernel 5\nrelu\nmax-pool 2\nconv 5 kernel 3 method direct\nrelu\n",
    "input 2 9 10\nconv 5 kernel 3 padding 1 method direct\nrelu\nmax-pool 2\ntanh\n",
    "input 2 9 7\nconv 16 kernel 3 padding 1 method direct\nrelu\nmax-pool 2\nlinear 3\n",
    "input 3 8 10\nconv 5 kernel 3 method direct\nrelu\nmax-pool 2\nconv 12 kernel 2 padding 1 "
    "method direct\nrelu\nmax-pool 2\nlinear 2\n",
    "input 1 12 10\nconv 6 kernel 5 method direct\nrelu\nmax-pool 2\nlinear 2\n",
    "input 2 9 11\nconv 17 kernel 5 padding 2 method direct\nrelu\nmax-pool 2\nlinear 2\n",
    "input 1 5 7\nconv 3 kernel 5 padding 4 method direct\nrelu\nmax-pool 2\nlinear 2\n",
    "input 1 10 40\nconv 66 kernel 5 method direct\nrelu\nmax-pool 2\nlinear 2\n",
    "input 1 4 36\nconv 3 kernel 3 method direct\nrelu\nmax-pool 2\nlinear 2\n",
    "input 2 10 8\nconv 3 kernel 3 method direct\nrelu\nmax-pool 2\nconv 17 kernel 2 method "
    "direct\nrelu\nmax-pool 2\n",
    "input 2 8 8\nconv 3 kernel 3 method direct\nrelu\nmax-pool 2 stride 1\n",
    "input 2 6 6\nconv 2 kernel 3 padding 1 method direct\nrelu\nresidual\nmax-pool "
    "2\nshortcut\nconv "
    "2 kernel 1 stride 2\nend\n",
    "input 4 2 40\nconv 2 kernel 2 method direct\n",
    "input 17 6 6\nconv 9 kernel 2 method direct\nrelu\n",
    "input 7\nlinear 5\n",
    "input 1\nlinear 2\n",
    "input 2 3 4\nlinear 5\n",
    "input 2 3 4\nflatten\nlinear 5\nrelu\nlinear 3\n",
    "input 9\nrelu\nlinear 2\n",
    "input 9\ntanh\n",
    "input 9\nsigmoid\n",
    "input 9\nlinear 6\ntanh\nflatten\nrelu\nlinear 4\nsigmoid\ntanh\n",
    "input 9\nlinear 8\ntanh\ndropout 0.5\nlinear 3\n",
    "input 3 6 8\nmax-pool 2\n",
    "input 3 7 5\nmax-pool 2\n",
    "input 2 9 9\nmax-pool 3 stride 2\n",
    "input 2 9 9\navg-pool 3 stride 2\nrelu\n",
    "input 3 6 8\navg-pool 2\ntanh\n",
    "input 2 8 8\nmax-pool 2\nflatten\ntanh\nlinear 4\n",
    "input 3 10 10\ndropout 0.3\nconv 4 kernel 3\n",
    "input 9\nrelu6\nlinear 4\nrelu6\n",
    /* each sum doubles what is positive, so that some get beyond 6 */
    "input 9\nrepeat 4\nresidual\nrelu\nend\nend\nrelu6\nlinear 3\n",
    "input 9\nlinear 9\ndropout 0.25\ntanh\n",
    "input 9\nleaky-relu\nlinear 4\nleaky-relu 0.2\nlinear 3\n",
    "input 9\ngelu\nlinear 4\ngelu\n",
    "input 3 4 5\nglobal-avg-pool\nlinear 2\n",
    "input 3 4 5\nconv 6 kernel 1 method last\nglobal-avg-pool\ntanh\n",
    /* channels last */
    "input 3 8 8\nconv 4 kernel 3 method last\n",
    "input 3 8 8\nconv 4 kernel 3 method im2col bias no\n",
    "input 5 9 6\nconv 3 kernel 4 stride 3 padding 2 method last\n",
    "input 5 9 6\nconv 3 kernel 1 method last\ntanh\nconv 7 kernel 1 bias no\n",
    "input 5 9 6\nconv 3 kernel 1 stride 2 method last bias no\n",
    "input 40 7 7\nconv 3 kernel 3 padding 1 method last\n",
    "input 4 9 6\nconv 6 kernel 3 padding 1 groups 2\n",
    "input 6 5 6\nconv 9 kernel 2 stride 2 groups 3 bias no\n",
    "input 6 5 6\nconv 12 kernel 3 groups 6\n",
    "input 4 6 6\nconv 4 kernel 3 method last\nmax-pool 2\nlinear 3\n",
    "input 1 6 6\nconv 4 kernel 3 method last\nrelu\nflatten\nlinear 3\n",
    /* filters of 3×3 by points: the smallest that are; test_random_models has the others */
    "input 2 4 3\nconv 16 kernel 1 method last\nconv 16 kernel 3 padding 1\n",
    "input 2 4 4\nconv 3 kernel 1 method last\nmax-pool 3 stride 1\nlinear 3\n",
    /* depthwise: fewer channels than a vector, one and a half, several; edges everywhere */
    "input 3 6 7\nconv 3 kernel 3 padding 1 groups 3\n",
    "input 24 5 6\nconv 24 kernel 3 padding 1 groups 24\n",
    "input 24 6 5\nconv 24 kernel 3 stride 2 padding 1 groups 24 bias no\n",
    "input 40 2 2\nconv 40 kernel 3 padding 1 groups 40 bias no\n",
    "input 33 1 1\nconv 33 kernel 3 padding 1 stride 2 groups 33\n",
    "input 17 7 7\nconv 17 kernel 5 padding 2 groups 17\n",
    "input 17 8 7\nconv 17 kernel 4 padding 1 stride 3 groups 17\n",
    "input 5 7 7\nconv 5 kernel 3 stride 2 padding 2 groups 5\n",
    "input 18 7 5\nconv 18 kernel 3 groups 18 bias no\n",
    /* batch-norm */
    "input 7\nbatch-norm\n",
    "input 7\nlinear 5\nbatch-norm epsilon 0.01\nrelu\nlinear 3\n",
    "input 3 4 5\nbatch-norm\n",
    "input 3 6 6\nconv 18 kernel 3 bias no\nbatch-norm\nrelu6\nconv 4 kernel 1 bias "
    "no\nbatch-norm\n",
    "input 3 6 6\nconv 4 kernel 3 method im2col\nbatch-norm\ntanh\nmax-pool 2\nbatch-norm\nlinear "
    "2\n",
    /* sequences */
    "input 7\nlayer-norm\n",
    "input 6 5 1\nlayer-norm epsilon 0.01\ntanh\n",
    "input 6 5 1\nposition\ntanh\n",
    "input 6 5 1\nattention 1\n",
    "input 6 5 1\nattention 3\ntanh\nattention 2\n",
    "input 5\nembedding 3 size 4\n",
    "input 5\nembedding 3 size 4\nposition\nrepeat 2\nresidual\nlayer-norm\nattention 2\nend\n"
    "residual\nlayer-norm\nconv 8 kernel 1\ngelu\nconv 4 kernel 1\nend\nend\nlayer-norm\nconv 3 "
    "kernel 1\n",
    /* blocks */
    "input 5\nresidual\nlinear 5\nend\n",
    "input 5\nrepeat 3\nresidual\nlinear 5\ntanh\nend\nend\nlinear 2\n",
    "input 5\nresidual\nlinear 3\nrelu\nshortcut\nlinear 3\ntanh\nend\nrelu\nlinear 2\n",
    "input 5\ntanh\nresidual\nresidual\nresidual\nlinear 5\nend\nend\nend\ntanh\n",
    "input 5\nlinear 4\nrelu\nresidual\nlinear 4\nresidual\nrelu\nlinear "
    "4\nshortcut\nsigmoid\nend\n"
    "relu\nshortcut\nresidual\ntanh\nend\nend\nrelu\nlinear 3\n",
    "input 5\nrelu\nresidual\nrelu\nend\nflatten\nrelu\n",
    "input 5\nlinear 5\nresidual\nflatten\nrelu\nshortcut\nflatten\nend\nflatten\ntanh\n",
    "input 3 6 6\nconv 8 kernel 3 bias no\nbatch-norm\nrelu\nresidual\nconv 6 kernel 3 stride 2 "
    "padding 1 "
    "bias no\nbatch-norm\nrelu\nconv 6 kernel 3 padding 1 bias no\nbatch-norm\nshortcut\nconv 6 "
    "kernel 1 stride 2 bias no\nbatch-norm\nend\nrelu\nglobal-avg-pool\nlinear 3\n",
    "input 4 5 5\nconv 4 kernel 3 padding 1 method direct\nresidual\nconv 4 kernel 3 padding 1 "
    "method "
    "last\nend\ntanh\nresidual\nconv 4 kernel 1 method im2col\nend\n",
    "input 2 4 4\nconv 4 kernel 1 bias no\nbatch-norm\ngelu\nrepeat 2\nresidual\nconv 12 kernel 1 "
    "bias "
    "no\nbatch-norm\ngelu\nconv 12 kernel 3 padding 1 groups 12 bias no\nbatch-norm\ngelu\nconv "
    "4 "
    "kernel 1 bias no\nbatch-norm\nend\nend\nglobal-avg-pool\nlinear 2\n",
    /* convolution, batch-norm and what follows as one step, alone and one after the other */
    "input 3 6 6\nconv 12 kernel 3 stride 2 padding 1 bias no\nbatch-norm\nrelu6\n",
    "input 3 5 4\nconv 9 kernel 3 padding 1 bias no\nbatch-norm\n",
    "input 2 6 6\nconv 20 kernel 1 bias no\nbatch-norm\nrelu6\nconv 20 kernel 3 stride 2 padding "
    "1 groups 20 bias no\nbatch-norm\nrelu\nconv 20 kernel 3 padding 1 groups 20 bias "
    "no\nbatch-norm\nrelu6\nconv 5 kernel 1 bias no\nbatch-norm\n",
    "input 2 5 7\nconv 9 kernel 1 bias no\nbatch-norm\nrelu6\nconv 9 kernel 3 stride 2 padding 1 "
    "groups 9 bias no\nbatch-norm\nrelu6\nconv 6 kernel 2 groups 3 bias no\nbatch-norm\nrelu\n",
    "input 2 2 2\nconv 9 kernel 1 bias no\nbatch-norm\nrelu\nconv 9 kernel 3 stride 2 padding 1 "
    "groups 9 bias no\nbatch-norm\nrelu6\nconv 9 kernel 3 padding 1 groups 9 bias "
    "no\nbatch-norm\nconv 17 kernel 1 bias no\nbatch-norm\nrelu6\nlinear 2\n",
    "input 3 4 4\nconv 8 kernel 1 bias no\nbatch-norm\nresidual\nconv 16 kernel 1 bias "
    "no\nbatch-norm\nrelu6\nconv 8 kernel 1 bias no\nbatch-norm\nend\nconv 4 kernel 1 bias "
    "no\nbatch-norm\nrelu\nconv 3 kernel 1\n",
};

struct subject {
    struct dml_model *m;
    size_t d, o, n, batch; /* inputs, outputs, parameters, samples */
    double *vec, *x, *r;   /* [P] [B][D] [B][O] */
    const float *mask;
};

/* sum of r·y */
static double scalar(const struct subject *s)
{
    double *y = malloc(s->batch * s->o * sizeof(double)), sum = 0.0;
    ref_forward(s->m, s->vec, s->x, s->batch, s->mask, y);
    for (size_t i = 0; i < s->batch * s->o; i++)
        sum += s->r[i] * y[i];
    free(y);
    return sum;
}

static double slope(const struct subject *s, double *at)
{
    double here = *at;
    *at = here + STEP;
    double up = scalar(s);
    *at = here - STEP;
    double down = scalar(s);
    *at = here;
    return (up - down) / (2.0 * STEP);
}

static double *widen(const float *x, size_t n)
{
    double *y = malloc((n + 1) * sizeof(double));
    for (size_t i = 0; i < n; i++)
        y[i] = (double)x[i];
    return y;
}

/* Largest difference between got and want, as a share of the largest wanted. */
static double compare(const float *got, const double *want, size_t n)
{
    double off = 0.0, top = 1e-3;
    for (size_t i = 0; i < n; i++) {
        top = fmax(top, fabs(want[i]));
        off = fmax(off, fabs((double)got[i] - want[i]));
    }
    return off / top;
}

static void check(const char *lines)
{
    char text[1024];
    struct dml_err err = {0};
    struct subject s = {.batch = 3};
    snprintf(text, sizeof(text), "name t\n%s", lines);
    int e = dml_model_parse(text, strlen(text), "t", &s.m, &err);
    for (char *c = text; *c; c++)
        *c = *c == '\n' ? ';' : *c;
    if (!tap_ok(e == 0, "parse: %s", text + 7)) {
        tap_note("%s", err.text);
        return;
    }
    s.d = dml_model_n_inputs(s.m);
    s.o = dml_model_n_outputs(s.m);
    s.n = dml_model_n_params(s.m);
    const struct dml_layer *last = &s.m->layers[s.m->n_layers - 1];
    float *vec = dml_mem_floats(dml_model_n_vec(s.m)), *x = dml_mem_floats(s.batch * s.d);
    float *y = dml_mem_floats(s.batch * s.o), *r = dml_mem_floats(s.batch * s.o);
    float *grad = dml_mem_floats(s.n), *dx = dml_mem_floats(s.batch * s.d);
    float *space = dml_mem_floats(dml_model_workspace(s.m, s.batch, true));
    ref_fill(vec, s.n, 0.5, 1);
    ref_fill(x, s.batch * s.d, 1.0, 2);
    ref_fill(r, s.batch * s.o, 1.0, 3);
    float *state = vec + s.n, *r_planes = dml_mem_floats(s.batch * s.o);
    memcpy(r_planes, r, s.batch * s.o * sizeof(float));
    ref_to_planes(last, r_planes, s.batch);
    s.vec = widen(vec, s.n);
    s.x = widen(x, s.batch * s.d);
    s.r = widen(r_planes, s.batch * s.o);

    const struct dml_model_training training = {.seed = 1};
    dml_model_forward(s.m, vec, state, x, s.batch, &training, space, y);
    float *mask = NULL; /* what the layer drew: kept beside its activations */
    size_t at = 0;
    for (size_t i = 0; i < s.m->n_steps; i++) {
        const struct dml_layer *l = &s.m->steps[i];
        if (!l->in_place)
            at += (s.batch * dml_layer_size(l->out) + 15) / 16 * 16;
        if (!strcmp(l->type->name, "dropout"))
            mask = space + at;
        at += (s.batch * l->n_saved + 15) / 16 * 16 + (l->n_kept + 15) / 16 * 16;
    }
    s.mask = mask;
    double *want = malloc(s.batch * s.o * sizeof(double));
    ref_forward(s.m, s.vec, s.x, s.batch, mask, want);
    ref_to_planes(last, y, s.batch);
    double off = compare(y, want, s.batch * s.o);
    tap_ok(off < TOLERANCE, "forward, max difference %.1e", off);
    if (!mask && dml_model_n_state(s.m) == 0) { /* then both passes compute the same */
        dml_model_forward(s.m, vec, NULL, x, s.batch, NULL, space, y);
        ref_to_planes(last, y, s.batch);
        off = compare(y, want, s.batch * s.o);
        tap_ok(off < TOLERANCE, "inference, max difference %.1e", off);
        dml_model_forward(s.m, vec, state, x, s.batch, &training, space, y);
    }
    free(want);

    dml_model_backward(s.m, vec, x, r, s.batch, &training, space, grad, dx);
    double *dw = malloc((s.n + 1) * sizeof(double)), *dxw = malloc(s.batch * s.d * sizeof(double));
    for (size_t i = 0; i < s.n; i++)
        dw[i] = slope(&s, &s.vec[i]);
    for (size_t i = 0; i < s.batch * s.d; i++)
        dxw[i] = slope(&s, &s.x[i]);
    off = compare(grad, dw, s.n);
    tap_ok(off < TOLERANCE, "dparams (%zu), max difference %.1e", s.n, off);
    off = compare(dx, dxw, s.batch * s.d);
    tap_ok(off < TOLERANCE, "dx, max difference %.1e", off);

    /* Gradients are added to, and nobody must ask for dx. */
    float *twice = dml_mem_floats(s.n);
    memcpy(twice, grad, s.n * sizeof(float));
    ref_fill(r, s.batch * s.o, 1.0, 3);
    dml_model_forward(s.m, vec, state, x, s.batch, &training, space, y);
    dml_model_backward(s.m, vec, x, r, s.batch, &training, space, twice, NULL);
    for (size_t i = 0; i < s.n; i++)
        dw[i] *= 2.0;
    off = compare(twice, dw, s.n);
    tap_ok(off < TOLERANCE, "a second backward, without dx, adds the same, max difference %.1e",
           off);

    free(twice);
    free(r_planes);
    free(dw);
    free(dxw);
    free(vec);
    free(x);
    free(y);
    free(r);
    free(grad);
    free(dx);
    free(space);
    free(s.vec);
    free(s.x);
    free(s.r);
    dml_model_free(s.m);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check(cases[i]);
    return tap_done();
}
