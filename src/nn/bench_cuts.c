/*
 * The pieces are models of their own that pass noise to each other, forward in order and back in
 * reverse, so that a piece finds in the caches what it would find in a stage: little of itself,
 * when the model is large. A thread of a team computes, with its floating point mode.
 */
#include "nn/bench_cuts.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "nn/model.h"
#include "nn/model_cut.h"
#include "nn/team.h"

#define PASSES_MAX 200 /* more tell nothing new */
#define LEAST_US   1e-3 /* what clocks may take for nothing */

struct piece {
    struct dml_model_part part;
    float *vec, *grad, *workspace;
    float *x, *dx; /* [b][D]; dx: NULL for the first */
    double us, least_us;
};

struct bench {
    struct piece *pieces; /* [n] */
    size_t n, batch;
    bool recompute;
    float *y, *dy; /* [b][O] of the last */
    struct dml_rng rng;
    uint64_t until_us;
    const atomic_bool *cancel;
};

static double thread_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static float *room(size_t batch, size_t floats)
{
    size_t n;
    return dml_mem_mul(batch, floats, &n) ? dml_mem_floats(n) : NULL;
}

static int piece_init(struct bench *b, const struct dml_model *m, size_t i)
{
    struct piece *p = &b->pieces[i];
    int r = dml_model_part(m, i, i + 1, &p->part);
    if (r < 0)
        return r;
    const struct dml_model *part = p->part.model;
    p->vec = dml_mem_floats(dml_model_n_vec(part));
    p->grad = dml_mem_floats(dml_model_n_params(part));
    p->workspace = dml_mem_floats(dml_model_workspace(part, b->batch, true));
    p->x = room(b->batch, dml_model_n_inputs(part));
    p->dx = i > 0 ? room(b->batch, dml_model_n_inputs(part)) : NULL;
    p->least_us = INFINITY;
    if (!p->vec || !p->grad || !p->workspace || !p->x || (i > 0 && !p->dx))
        return -ENOMEM;
    dml_model_init(part, p->vec, 1);
    return 0;
}

static int bench_init(struct bench *b, const struct dml_model *m)
{
    size_t n_x = b->batch * dml_model_n_inputs(m);
    bool codes = dml_model_loss(m) == DML_LOSS_NEXT_TOKEN;
    b->pieces = calloc(b->n, sizeof(*b->pieces));
    b->y = room(b->batch, dml_model_n_outputs(m));
    b->dy = room(b->batch, dml_model_n_outputs(m));
    if (!b->pieces || !b->y || !b->dy)
        return -ENOMEM;
    for (size_t i = 0; i < b->n; i++) {
        int r = piece_init(b, m, i);
        if (r < 0)
            return r;
    }
    dml_rng_init(&b->rng, 1, 0, DML_RNG_TEST, 0);
    for (size_t i = 0; i < n_x; i++)
        b->pieces[0].x[i] = codes ? (float)dml_rng_below(&b->rng, dml_model_n_classes(m))
                                  : (float)dml_rng_normal(&b->rng);
    return 0;
}

static void bench_done(struct bench *b)
{
    for (size_t i = 0; b->pieces && i < b->n; i++) {
        struct piece *p = &b->pieces[i];
        dml_model_free(p->part.model);
        free(p->vec);
        free(p->grad);
        free(p->workspace);
        free(p->x);
        free(p->dx);
    }
    free(b->pieces);
    free(b->y);
    free(b->dy);
}

static void pass(struct bench *b)
{
    const struct dml_model_training training = {.seed = 1};
    struct piece *last = &b->pieces[b->n - 1];
    size_t n_out = b->batch * dml_model_n_outputs(last->part.model);
    for (size_t i = 0; i < b->n; i++) {
        struct piece *p = &b->pieces[i];
        double began = thread_us();
        dml_model_forward(p->part.model, p->vec, p->vec + dml_model_n_params(p->part.model), p->x,
                          b->batch, &training, p->workspace, p == last ? b->y : p[1].x);
        p->us = (b->recompute ? 2.0 : 1.0) * (thread_us() - began);
    }
    for (size_t i = 0; i < n_out; i++)
        b->dy[i] = 1e-3f * (float)dml_rng_normal(&b->rng);
    for (size_t i = b->n; i-- > 0;) {
        struct piece *p = &b->pieces[i];
        double began = thread_us();
        dml_model_backward(p->part.model, p->vec, p->x, p == last ? b->dy : p[1].dx, b->batch,
                           &training, p->workspace, p->grad, p->dx);
        p->us += thread_us() - began;
        p->least_us = fmin(p->least_us, p->us);
    }
}

static void measure(void *arg, unsigned i_thread)
{
    struct bench *b = arg;
    (void)i_thread;
    for (unsigned i = 0; i < PASSES_MAX && !(b->cancel && atomic_load(b->cancel)); i++) {
        pass(b);
        if (dml_clock_now_us() >= b->until_us)
            break;
    }
}

int dml_bench_cuts(const struct dml_model *m, size_t batch, bool recompute, double seconds,
                   const atomic_bool *cancel, double *ret_us, struct dml_err *err)
{
    if (batch < 1 || batch > DML_MODEL_BATCH_MAX || !(seconds > 0.0))
        return dml_err_set(err, -EINVAL, "a micro-batch of %zu samples cannot be measured", batch);
    struct bench b = {
        .n = dml_model_n_cuts(m), .batch = batch, .recompute = recompute, .cancel = cancel};
    struct dml_team *team = NULL;
    b.until_us = dml_clock_now_us() + (uint64_t)(1e6 * seconds);
    int r = bench_init(&b, m);
    if (r == 0)
        r = dml_team_new(1, NULL, &team);
    if (r == 0) {
        dml_team_run(team, 1, measure, &b);
        if (cancel && atomic_load(cancel))
            r = -ECANCELED;
    }
    for (size_t i = 0; r == 0 && i < b.n; i++)
        ret_us[i] = fmax(b.pieces[i].least_us / (double)batch, LEAST_US);
    dml_team_free(team);
    bench_done(&b);
    return r;
}
