/*
 * The threads of a step.
 *
 * A thread works on its slice of the minibatch in chunks whose activations stay in the cache. After
 * that each thread reduces and updates its own part of the flat block, adding up the threads'
 * gradients in order of thread number. So the result depends on seed, options and number of
 * threads, never on scheduling.
 *
 * Strict determinism: the threads are the blocks of a fixed grid, STRICT_BLOCKS of them however
 * many cores there are, and the team lets as many run at a time as there are. What one computes
 * does not depend on when it does; where blocks exchange sums (batch-norm) they meet as ever. So
 * the number of cores changes nothing but time. Four, since that is what a Pi has: more cores stay
 * idle, three take as long as two.
 */
#include "nn/crew.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "nn/kernel.h"

#define GRAIN         1000000 /* multiply-adds, forward and backward: fewer are not shared */
#define CHUNK_FLOATS  393216  /* activations of a chunk: 1.5 MiB */
#define CHUNK_MAX     256     /* samples */
#define UPDATE_FLOATS 1024    /* of all gradients at a time, so that they meet in the L1 cache */
#define STRICT_BLOCKS 4       /* of a minibatch */
#define STACK_BYTES   (512 << 10) /* what a thread touches of its stack and the BLAS's buffers */

/* How a minibatch is divided. */
struct division {
    unsigned n_threads;
    size_t slice, chunk;
};

static struct division divide(const struct dml_crew_options *o)
{
    const struct dml_model *m = o->model;
    uint64_t batch = o->batch;
    unsigned n_threads =
        o->train->deterministic == DML_DETERMINISTIC_STRICT ? STRICT_BLOCKS : o->cpu->n_threads;
    struct division d;
    /* Of the whole model: where it is cut must not decide how samples are divided, or another cut
     * would add the same numbers in another order. */
    double work = 3.0 * (double)dml_model_whole_macs(m) * (double)batch / GRAIN;
    uint64_t most = work < 1.0 ? 1 : work > 1e6 ? 1000000 : (uint64_t)work;
    most = most < batch ? most : batch;
    d.n_threads = n_threads < most ? n_threads : (unsigned)most;
    d.slice = (size_t)((batch + d.n_threads - 1) / d.n_threads);
    /* The same chunks with recompute: they decide the bits. */
    size_t most_samples = (size_t)(CHUNK_FLOATS / dml_model_per_sample(m));
    most_samples = most_samples < 4 ? 4 : most_samples > CHUNK_MAX ? CHUNK_MAX : most_samples;
    size_t n_chunks = (d.slice + most_samples - 1) / most_samples;
    d.chunk = (d.slice + n_chunks - 1) / n_chunks;
    if (dml_model_meeting_room(m)) /* its statistics are of all samples at once */
        d.chunk = d.slice;
    return d;
}

size_t dml_crew_kept(const struct dml_crew_options *o, size_t n)
{
    return dml_model_kept(o->model, n, o->train->recompute != DML_RECOMPUTE_OFF);
}

static size_t workspace(const struct dml_crew_options *o, size_t n)
{
    return o->train->recompute == DML_RECOMPUTE_OFF ? dml_model_workspace(o->model, n, true)
                                                    : dml_model_workspace_recompute(o->model, n);
}

static int make_member(struct dml_crew *c, unsigned i, const struct dml_crew_options *co)
{
    struct dml_crew_member *w = &c->members[i];
    size_t n = co->learns ? c->chunk : c->slice, o = dml_model_n_outputs(c->m), len;
    if (!dml_mem_mul(n, o, &len))
        return -ENOMEM;
    c->grads[i] = dml_mem_floats(dml_model_n_params(c->m));
    w->dy = dml_mem_floats(len);
    if (!c->grads[i] || !w->dy)
        return -ENOMEM;
    if (!co->learns) {
        w->turns = dml_mem_floats(dml_model_turns(c->m, n));
        return w->turns ? 0 : -ENOMEM;
    }
    w->workspace = dml_mem_floats(workspace(co, n));
    w->y = dml_mem_floats(len);
    return w->workspace && w->y ? 0 : -ENOMEM;
}

static void meet(void *team)
{
    dml_team_barrier(team);
}

static int make_board(struct dml_crew *c)
{
    size_t room = dml_model_meeting_room(c->m);
    if (room == 0 || c->n_threads == 1)
        return 0;
    c->board = dml_mem_array(2 * c->n_threads * room, sizeof(double));
    for (unsigned i = 0; i < c->n_threads; i++)
        c->members[i].meeting = (struct dml_model_meeting){.n = c->n_threads,
                                                           .i = i,
                                                           .room = room,
                                                           .board = c->board,
                                                           .wait = meet,
                                                           .arg = c->team};
    return c->board ? 0 : -ENOMEM;
}

int dml_crew_init(struct dml_crew *c, const struct dml_crew_options *o)
{
    const struct dml_model *m = o->model;
    struct division d = divide(o);
    *c = (struct dml_crew){.m = m,
                           .n_threads = d.n_threads,
                           .batch = o->batch,
                           .slice = d.slice,
                           .chunk = d.chunk,
                           .duty = {.share = o->cpu->duty},
                           .seed = o->train->seed,
                           .recomputes = o->train->recompute != DML_RECOMPUTE_OFF};
    c->vec = dml_mem_floats(dml_model_n_vec(m));
    c->optim = dml_optim_new(o->train, dml_model_n_params(m));
    c->members = calloc(c->n_threads, sizeof(*c->members));
    c->grads = calloc(c->n_threads, sizeof(*c->grads));
    if (!c->vec || !c->optim || !c->members || !c->grads)
        return -ENOMEM;
    for (unsigned i = 0; i < c->n_threads; i++)
        if (make_member(c, i, o) < 0)
            return -ENOMEM;
    bool is_strict = o->train->deterministic == DML_DETERMINISTIC_STRICT;
    unsigned n_cores = o->cpu->n_threads < c->n_threads ? o->cpu->n_threads : c->n_threads;
    int r = dml_team_new(c->n_threads, is_strict ? NULL : o->cpu->cpus, &c->team);
    if (r < 0)
        return r;
    if (is_strict) {
        dml_team_limit(c->team, n_cores, o->cpu->cpus);
        if (c->duty.share < 1.0) /* each block has its part of the cores' time */
            c->duty.share *= (double)n_cores / (double)c->n_threads;
    }
    return make_board(c);
}

void dml_crew_done(struct dml_crew *c)
{
    dml_team_free(c->team);
    for (unsigned i = 0; c->members && c->grads && i < c->n_threads; i++) {
        free(c->grads[i]);
        free(c->members[i].workspace);
        free(c->members[i].turns);
        free(c->members[i].y);
        free(c->members[i].dy);
    }
    free(c->members);
    free(c->grads);
    free(c->board);
    dml_optim_free(c->optim);
    free(c->vec);
}

uint64_t dml_crew_memory(const struct dml_crew_options *o, unsigned *ret_n_threads,
                         size_t *ret_slice, size_t *ret_chunk)
{
    const struct dml_model *m = o->model;
    struct division d = divide(o);
    uint64_t params = dml_model_n_params(m), out = dml_model_n_outputs(m);
    uint64_t thread = params + (o->learns ? workspace(o, d.chunk) + 2 * (uint64_t)d.chunk * out
                                          : dml_model_turns(m, d.slice) + (uint64_t)d.slice * out);
    uint64_t moments = dml_optim_n_moments_of(o->train);
    uint64_t floats = d.n_threads * thread + dml_model_n_vec(m) + moments * params;
    *ret_n_threads = d.n_threads;
    *ret_slice = d.slice;
    *ret_chunk = d.chunk;
    return floats * sizeof(float) + (uint64_t)d.n_threads * STACK_BYTES +
           2 * d.n_threads * dml_model_meeting_room(m) * sizeof(double);
}

void dml_crew_slice(const struct dml_crew *c, unsigned i, size_t n, size_t *ret_at, size_t *ret_end)
{
    size_t share = (n + c->n_threads - 1) / c->n_threads, at = i * share;
    *ret_at = at < n ? at : n;
    *ret_end = at + share < n ? at + share : n;
}

struct dml_model_training dml_crew_training(struct dml_crew *c, unsigned i, uint64_t rank,
                                            uint64_t step)
{
    return (struct dml_model_training){.seed = c->seed,
                                       .rank = rank,
                                       .step = step,
                                       .recompute = c->recomputes,
                                       .turns = c->members[i].turns,
                                       .meeting = c->board ? &c->members[i].meeting : NULL};
}

/* Who tells the sum what. */
struct teller {
    struct dml_reduce *reduce;
    unsigned i;
};

static void tell(void *arg, size_t at)
{
    const struct teller *t = arg;
    dml_reduce_pass(t->reduce, t->i, at);
}

static void take(void *arg, const float *grad, size_t at, size_t n)
{
    struct dml_crew *c = arg;
    dml_optim_apply(c->optim, c->vec, grad, at, n);
}

static bool take_product(void *arg, const struct dml_kernel_product *p, size_t at)
{
    struct dml_crew *c = arg;
    return dml_optim_apply_product(c->optim, c->vec, p, at);
}

void dml_crew_learn(struct dml_crew *c, const struct dml_crew_step *s, unsigned i)
{
    const struct dml_model *m = c->m;
    struct dml_crew_member *w = &c->members[i];
    struct dml_model_training training = dml_crew_training(c, i, s->rank, s->step);
    struct teller teller = {.reduce = s->reduce, .i = i};
    float *state = c->vec + dml_model_n_params(m);
    bool updates = s->updates && c->n_threads == 1;
    size_t at, end;
    dml_crew_slice(c, i, s->n, &at, &end);
    w->loss = 0.0;
    w->correct = 0;
    /* A thread without samples meets the others all the same. */
    while (at < end || training.meeting) {
        size_t b = end - at < c->chunk ? end - at : c->chunk, correct;
        const float *x, *targets = NULL;
        const int32_t *labels = NULL;
        double loss;
        s->give(s->arg, i, at, b, &x, &labels, &targets);
        training.first = s->first + at;
        if (s->reduce && at + b == end) {
            training.settled = tell;
            training.settled_arg = &teller;
        }
        if (updates && at + b == end) {
            training.take = take;
            training.take_product = take_product;
            training.take_arg = c;
            training.is_fresh = at == 0;
        }
        dml_model_forward(m, c->vec, state, x, b, &training, w->workspace, w->y);
        dml_model_loss_grad(m, x, w->y, labels, targets, b, s->divisor, &loss, &correct, w->dy);
        dml_model_backward(m, c->vec, x, w->dy, b, &training, w->workspace, c->grads[i], NULL);
        w->loss += loss;
        w->correct += correct;
        at += b;
        if (training.meeting) /* one slice, one chunk */
            break;
    }
    if (updates)
        c->is_updated = true;
}

void dml_crew_update(struct dml_crew *c, unsigned i, unsigned n)
{
    size_t n_params = dml_model_n_params(c->m);
    size_t share = dml_kernel_round((n_params + c->n_threads - 1) / c->n_threads);
    size_t at = i * share, end = at + share < n_params ? at + share : n_params;
    if (c->n_threads == 1 && c->is_updated) {
        c->is_updated = false;
        return;
    }
    while (at < end) {
        size_t len = end - at < UPDATE_FLOATS ? end - at : UPDATE_FLOATS;
        dml_reduce_range(c->grads, n, at, at + len);
        dml_optim_apply(c->optim, c->vec, c->grads[0] + at, at, len);
        memset(c->grads[0] + at, 0, len * sizeof(float));
        at += len;
    }
}
