/*
 * A stage: orders, and the team that carries them out.
 *
 * An order is a job of the team; every thread does its slice of the micro-batch. Of the gradients,
 * each thread has one. A learn adds them up as it goes (reduce.c), since they are wanted at once;
 * after backward passes they stay apart until somebody asks or they are applied.
 *
 * Slots hold what backward needs: x, and for each thread what its pass forward keeps. Two passes
 * through the same slot use the same slices, so each thread meets its own samples again.
 *
 * The duty cycle is held at the end of a job, by thread 0: what learn has settled travels while the
 * node sleeps. Time between jobs is rest as well.
 */
#include "nn/stage.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "nn/crew.h"

struct slot {
    float *x;     /* [batch][D] */
    float **kept; /* [n_threads] */
    size_t b;     /* samples; 0: empty */
    struct dml_stage_at at;
};

/* What the threads are to do. */
struct order {
    size_t b;
    const float *x, *y, *targets;
    const int32_t *labels;
    float *ret_y, *dy, *dx;
    double divisor;
    struct slot *slot;
    struct dml_stage_at at;
};

struct dml_stage {
    const struct dml_model *m;
    struct dml_crew crew;
    struct dml_reduce reduce;
    struct slot *slots;
    unsigned n_slots;
    const atomic_bool *cancel;

    struct order order;
    void (*carry_out)(struct dml_stage *s, unsigned i);
    bool runs;             /* a job, whose end nobody has waited for */
    bool is_apart;         /* the gradients of the threads are not added up */
    struct dml_duty *duty; /* the crew's, or that of the stage it shares its cores with */
    uint64_t began_us;     /* the job */
    atomic_uint n_left;
    uint64_t ended_us; /* by the last thread */
    uint64_t work_us;
};

static int check(const struct dml_stage_options *o, struct dml_err *err)
{
    if (o->batch < 1 || o->batch > DML_MODEL_BATCH_MAX)
        return dml_err_set(err, -EINVAL, "a stage of %zu samples at once, 1 … %d are allowed",
                           o->batch, DML_MODEL_BATCH_MAX);
    return 0;
}

static int make_slot(const struct dml_stage *s, const struct dml_crew_options *co,
                     struct slot *slot)
{
    const struct dml_crew *c = &s->crew;
    size_t x_len;
    if (!dml_mem_mul(c->batch, dml_model_n_inputs(s->m), &x_len))
        return -ENOMEM;
    slot->x = dml_mem_floats(x_len);
    slot->kept = calloc(c->n_threads, sizeof(*slot->kept));
    if (!slot->x || !slot->kept)
        return -ENOMEM;
    for (unsigned i = 0; i < c->n_threads; i++) {
        slot->kept[i] = dml_mem_floats(dml_crew_kept(co, c->slice));
        if (!slot->kept[i])
            return -ENOMEM;
    }
    return 0;
}

static struct dml_crew_options crew_options(const struct dml_stage_options *o)
{
    return (struct dml_crew_options){.model = o->model,
                                     .train = o->train,
                                     .cpu = &o->cpu,
                                     .batch = o->batch,
                                     .learns = o->n_slots == 0};
}

int dml_stage_new(const struct dml_stage_options *o, struct dml_stage **ret, struct dml_err *err)
{
    int r = check(o, err);
    if (r < 0)
        return r;
    _cleanup_(dml_stage_freep) struct dml_stage *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    const struct dml_crew_options co = crew_options(o);
    s->m = o->model;
    s->cancel = o->cancel;
    s->duty = o->beside ? o->beside->duty : &s->crew.duty;
    r = dml_crew_init(&s->crew, &co);
    if (r >= 0)
        r = dml_reduce_init(&s->reduce, s->crew.n_threads, dml_model_n_params(s->m), s->crew.grads);
    if (r < 0)
        return r;
    s->reduce.team = s->crew.team;
    s->slots = calloc(o->n_slots + 1, sizeof(*s->slots));
    if (!s->slots)
        return -ENOMEM;
    s->n_slots = o->n_slots;
    for (unsigned i = 0; i < s->n_slots; i++)
        if (make_slot(s, &co, &s->slots[i]) < 0)
            return -ENOMEM;
    *ret = s;
    s = NULL;
    return 0;
}

struct dml_stage *dml_stage_free(struct dml_stage *s)
{
    if (!s)
        return NULL;
    if (s->runs)
        dml_team_wait(s->crew.team);
    for (unsigned i = 0; i < s->n_slots; i++) {
        for (unsigned k = 0; s->slots[i].kept && k < s->crew.n_threads; k++)
            free(s->slots[i].kept[k]);
        free(s->slots[i].kept);
        free(s->slots[i].x);
    }
    free(s->slots);
    dml_crew_done(&s->crew);
    dml_reduce_done(&s->reduce);
    free(s);
    return NULL;
}

uint64_t dml_stage_memory(const struct dml_stage_options *o)
{
    const struct dml_crew_options co = crew_options(o);
    unsigned n_threads;
    size_t slice, chunk;
    uint64_t crew = dml_crew_memory(&co, &n_threads, &slice, &chunk);
    uint64_t slot = (uint64_t)o->batch * dml_model_n_inputs(o->model) +
                    (uint64_t)n_threads * dml_crew_kept(&co, slice);
    return crew + o->n_slots * slot * sizeof(float);
}

/* ---- orders ------------------------------------------------------------------------------- */

static void run(void *arg, unsigned i)
{
    struct dml_stage *s = arg;
    if (i == 0)
        dml_duty_turn(s->duty);
    s->carry_out(s, i);
    if (i == 0)
        dml_duty_pay(s->duty, s->cancel);
    if (atomic_fetch_sub(&s->n_left, 1) == 1)
        s->ended_us = dml_clock_now_us();
}

static void start(struct dml_stage *s, void (*carry_out)(struct dml_stage *s, unsigned i))
{
    assert(!s->runs);
    s->runs = true;
    s->carry_out = carry_out;
    s->began_us = dml_clock_now_us();
    atomic_store(&s->n_left, s->crew.n_threads);
    dml_team_start(s->crew.team, s->crew.n_threads, run, s);
}

static void finish(struct dml_stage *s)
{
    dml_team_wait(s->crew.team);
    s->work_us += s->ended_us - s->began_us;
    s->runs = false;
}

static void order(struct dml_stage *s, void (*carry_out)(struct dml_stage *s, unsigned i))
{
    start(s, carry_out);
    finish(s);
}

/* ---- whole steps -------------------------------------------------------------------------- */

static void give(void *arg, unsigned i, size_t at, size_t b, const float **ret_x,
                 const int32_t **ret_labels, const float **ret_targets)
{
    const struct dml_stage *s = arg;
    (void)i;
    (void)b;
    *ret_x = s->order.x + at * dml_model_n_inputs(s->m);
    *ret_labels = s->order.labels ? s->order.labels + at : NULL;
    *ret_targets = s->order.targets ? s->order.targets + at : NULL;
}

static void learn(struct dml_stage *s, unsigned i)
{
    const struct dml_crew_step step = {.n = s->order.b,
                                       .rank = s->order.at.rank,
                                       .step = s->order.at.step,
                                       .first = s->order.at.first,
                                       .divisor = s->order.divisor,
                                       .give = give,
                                       .arg = s,
                                       .reduce = &s->reduce};
    dml_crew_learn(&s->crew, &step, i);
    dml_reduce_finish(&s->reduce, i);
}

void dml_stage_learn_begin(struct dml_stage *s, const float *x, const int32_t *labels,
                           const float *targets, size_t b, double divisor, struct dml_stage_at at)
{
    assert(s->n_slots == 0 && b <= s->crew.batch);
    s->order = (struct order){
        .b = b, .x = x, .labels = labels, .targets = targets, .divisor = divisor, .at = at};
    if (b == 0)
        return;
    dml_reduce_begin(&s->reduce);
    start(s, learn);
}

void dml_stage_wait(struct dml_stage *s, size_t at)
{
    dml_reduce_wait(&s->reduce, at);
}

bool dml_stage_is_busy(const struct dml_stage *s)
{
    return s->runs && atomic_load(&s->n_left) > 0;
}

/* What the threads have found, in order of their numbers. */
static void add_up(const struct dml_stage *s, double *ret_loss, size_t *ret_correct)
{
    double loss = 0.0;
    size_t correct = 0;
    for (unsigned i = 0; i < s->crew.n_threads; i++) {
        loss += s->crew.members[i].loss;
        correct += s->crew.members[i].correct;
    }
    *ret_loss = loss;
    *ret_correct = correct;
}

void dml_stage_learn_end(struct dml_stage *s, double *ret_loss, size_t *ret_correct)
{
    *ret_loss = 0.0;
    *ret_correct = 0;
    if (!s->runs)
        return;
    finish(s);
    add_up(s, ret_loss, ret_correct);
}

/* ---- stages ------------------------------------------------------------------------------- */

static void forward(struct dml_stage *s, unsigned i)
{
    struct dml_crew *c = &s->crew;
    struct slot *slot = s->order.slot;
    struct dml_model_training training = dml_crew_training(c, i, slot->at.rank, slot->at.step);
    size_t at, end, d = dml_model_n_inputs(s->m);
    dml_crew_slice(c, i, slot->b, &at, &end);
    training.first = slot->at.first + at;
    float *x = slot->x + at * d;
    memcpy(x, s->order.x + at * d, (end - at) * d * sizeof(float));
    if (at < end || training.meeting)
        dml_model_forward(s->m, c->vec, c->vec + dml_model_n_params(s->m), x, end - at, &training,
                          slot->kept[i], s->order.ret_y + at * dml_model_n_outputs(s->m));
}

void dml_stage_forward(struct dml_stage *s, unsigned slot, const float *x, size_t b,
                       struct dml_stage_at at, float *y)
{
    assert(slot < s->n_slots && s->slots[slot].b == 0 && b >= 1 && b <= s->crew.batch);
    s->slots[slot].b = b;
    s->slots[slot].at = at;
    s->order = (struct order){.slot = &s->slots[slot], .x = x, .ret_y = y};
    order(s, forward);
}

static void loss(struct dml_stage *s, unsigned i)
{
    const struct order *o = &s->order;
    struct dml_crew_member *w = &s->crew.members[i];
    size_t at, end, n = dml_model_n_outputs(s->m);
    dml_crew_slice(&s->crew, i, o->b, &at, &end);
    w->loss = 0.0;
    w->correct = 0;
    if (at < end)
        dml_model_loss_grad(s->m, o->x ? o->x + at * dml_model_n_codes(s->m) : NULL, o->y + at * n,
                            o->labels ? o->labels + at : NULL, o->targets ? o->targets + at : NULL,
                            end - at, o->divisor, &w->loss, &w->correct, o->dy + at * n);
}

void dml_stage_loss(struct dml_stage *s, const float *codes, const float *y, const int32_t *labels,
                    const float *targets, size_t b, double divisor, float *dy, double *ret_loss,
                    size_t *ret_correct)
{
    assert(dml_model_loss(s->m) != DML_LOSS_NONE && b <= s->crew.batch);
    s->order = (struct order){.b = b,
                              .x = codes,
                              .y = y,
                              .labels = labels,
                              .targets = targets,
                              .divisor = divisor,
                              .dy = dy};
    order(s, loss);
    add_up(s, ret_loss, ret_correct);
}

/* Who has settled. */
struct settler {
    struct dml_reduce *reduce;
    unsigned i;
};

static void settled(void *arg, size_t at)
{
    const struct settler *settler = arg;
    dml_reduce_pass(settler->reduce, settler->i, at);
}

/* reduce: sums up what is settled; NULL: that is left for later. */
static void back(struct dml_stage *s, unsigned i, struct dml_reduce *reduce)
{
    struct dml_crew *c = &s->crew;
    struct slot *slot = s->order.slot;
    struct dml_model_training training = dml_crew_training(c, i, slot->at.rank, slot->at.step);
    struct settler settler = {.reduce = reduce, .i = i};
    training.settled = reduce ? settled : NULL;
    training.settled_arg = &settler;
    size_t at, end, d = dml_model_n_inputs(s->m), n = dml_model_n_outputs(s->m);
    float *dy = c->members[i].dy; /* backward writes over it */
    dml_crew_slice(c, i, slot->b, &at, &end);
    training.first = slot->at.first + at;
    memcpy(dy, s->order.y + at * n, (end - at) * n * sizeof(float));
    if (at < end || training.meeting)
        dml_model_backward(s->m, c->vec, slot->x + at * d, dy, end - at, &training, slot->kept[i],
                           c->grads[i], s->order.dx ? s->order.dx + at * d : NULL);
}

static void backward(struct dml_stage *s, unsigned i)
{
    back(s, i, NULL);
}

static void backward_and_reduce(struct dml_stage *s, unsigned i)
{
    back(s, i, &s->reduce);
    dml_reduce_finish(&s->reduce, i);
}

void dml_stage_backward(struct dml_stage *s, unsigned slot, const float *dy, float *dx)
{
    assert(slot < s->n_slots && s->slots[slot].b > 0);
    s->order = (struct order){.slot = &s->slots[slot], .y = dy, .dx = dx};
    order(s, backward);
    s->slots[slot].b = 0;
    s->is_apart = s->crew.n_threads > 1;
}

void dml_stage_backward_begin(struct dml_stage *s, unsigned slot, const float *dy, float *dx)
{
    assert(slot < s->n_slots && s->slots[slot].b > 0);
    s->order = (struct order){.slot = &s->slots[slot], .y = dy, .dx = dx};
    dml_reduce_begin(&s->reduce);
    s->is_apart = false; /* for whoever asks for the gradient meanwhile */
    start(s, backward_and_reduce);
}

void dml_stage_backward_end(struct dml_stage *s)
{
    finish(s);
    s->order.slot->b = 0;
}

/* ---- parameters --------------------------------------------------------------------------- */

float *dml_stage_vec(struct dml_stage *s)
{
    return s->crew.vec;
}

static void bring_together(struct dml_stage *s, unsigned i)
{
    dml_reduce_finish(&s->reduce, i);
}

float *dml_stage_grad(struct dml_stage *s)
{
    if (s->is_apart) {
        dml_reduce_begin(&s->reduce);
        order(s, bring_together);
        s->is_apart = false;
    }
    return s->crew.grads[0];
}

size_t dml_stage_n_moments(const struct dml_stage *s)
{
    return dml_optim_n_moments(s->crew.optim);
}

void dml_stage_get_moments(const struct dml_stage *s, float *ret, uint64_t *ret_step)
{
    dml_optim_get(s->crew.optim, ret, ret_step);
}

void dml_stage_set_moments(struct dml_stage *s, const float *moments, uint64_t step)
{
    dml_optim_set(s->crew.optim, moments, step);
}

static void update(struct dml_stage *s, unsigned i)
{
    dml_crew_update(&s->crew, i, s->is_apart ? s->crew.n_threads : 1);
}

void dml_stage_apply(struct dml_stage *s, double rate)
{
    dml_optim_begin(s->crew.optim, rate);
    order(s, update);
    s->is_apart = false;
}

void dml_stage_clear(struct dml_stage *s)
{
    if (s->runs)
        finish(s);
    for (unsigned i = 0; i < s->crew.n_threads; i++)
        memset(s->crew.grads[i], 0, dml_model_n_params(s->m) * sizeof(float));
    for (unsigned i = 0; i < s->n_slots; i++)
        s->slots[i].b = 0;
    s->is_apart = false;
}

uint64_t dml_stage_work_us(const struct dml_stage *s)
{
    return s->work_us;
}
