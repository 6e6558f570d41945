/*
 * What passes between two runs is a body of [b][floats] and, forward, behind it what the loss will
 * need: labels or targets [b], then the codes of sequences [b][T]. All members know how many
 * samples a micro-batch has, so nothing else need be said; of one without samples (the end of an
 * epoch) nothing is sent.
 *
 * Micro-batches go forward and back in ascending order in every run, so gradients are added up in
 * the same order each time, and the same run gives the same bits.
 */
#include "paradigm/node.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "nn/model.h"
#include "nn/model_cut.h"
#include "nn/stage.h"
#include "paradigm/collective.h"
#include "paradigm/feed.h"
#include "paradigm/schedule.h"

#define BUCKETS_MAX 100000 /* of a model: what the tags have room for, and to spare */

/* Names what is sent: by step, what it is, and for which run and micro-batch (or chunk). */
enum tag { TAG_FORWARD, TAG_BACKWARD, TAG_GRADIENT, TAG_STATE };

struct chunk {
    struct dml_model_part part;
    struct dml_stage *stage;
    const struct dml_layout_run *run;
    size_t i_run;
    unsigned n_slots;
    bool is_first, is_last;
    float *dy;              /* last run: [n_slots][micro-batch][O] gradient of the loss */
    struct dml_buf **in[2]; /* S = 1: [M] what the run before and the run behind, both here, have
                             * left for it */
};

struct dml_node {
    const struct dml_layout *layout;
    unsigned stage, replica;
    bool has_labels, overlap;
    size_t n_codes; /* numbers of a sample that the loss reads */
    size_t most;    /* samples of a micro-batch */
    size_t bucket;  /* floats of the gradient that travel together */
    struct dml_schedule *schedule;
    struct chunk *chunks; /* [V] */
    float *y;             /* last run: [micro-batch][O] */
};

/* An operation at work. */
struct op {
    struct dml_node *n;
    struct dml_group *group;
    const struct dml_node_step *step;
    struct chunk *c;
    unsigned micro, slot;
    size_t first, b; /* the micro-batch's samples in the replica's minibatch */
    bool sums;       /* meanwhile gradients are summed over the replicas */
};

/* ---- making and unmaking ------------------------------------------------------------------ */

static void drop_left(struct dml_node *n, struct chunk *c)
{
    for (int dir = 0; dir < 2; dir++)
        for (unsigned m = 0; c->in[dir] && m < n->layout->n_micro; m++)
            c->in[dir][m] = dml_buf_unref(c->in[dir][m]);
}

static void chunk_done(struct dml_node *n, struct chunk *c)
{
    drop_left(n, c);
    free(c->in[TAG_FORWARD]);
    free(c->in[TAG_BACKWARD]);
    dml_stage_free(c->stage);
    dml_model_free(c->part.model);
    free(c->dy);
}

static int chunk_init(struct dml_node *n, struct chunk *c, const struct dml_node_options *o,
                      struct dml_err *err)
{
    const struct dml_layout *l = o->layout;
    c->is_first = c->i_run == 0;
    c->is_last = c->i_run + 1 == l->n_runs;
    c->run = &l->runs[c->i_run];
    int r = dml_model_part(o->model, c->run->first, c->run->last, &c->part);
    if (r < 0)
        return r;
    struct dml_stage_options stage = {
        .model = c->part.model,
        .train = &o->tc->train,
        .cpu = o->cpu,
        .batch = n->most,
        .n_slots = c->n_slots,
        .cancel = o->cancel,
        .beside = c > n->chunks ? n->chunks[0].stage : NULL,
    };
    r = dml_stage_new(&stage, &c->stage, err);
    if (r < 0)
        return r;
    c->in[TAG_FORWARD] = calloc(l->n_micro, sizeof(struct dml_buf *));
    c->in[TAG_BACKWARD] = calloc(l->n_micro, sizeof(struct dml_buf *));
    if (c->is_last)
        c->dy = dml_mem_floats(c->n_slots * n->most * c->run->n_out);
    return c->in[TAG_FORWARD] && c->in[TAG_BACKWARD] && (c->dy || !c->is_last) ? 0 : -ENOMEM;
}

int dml_node_new(const struct dml_node_options *o, struct dml_node **ret, struct dml_err *err)
{
    const struct dml_layout *l = o->layout;
    assert(o->member < l->n_replicas * l->n_stages);
    _cleanup_(dml_node_freep) struct dml_node *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    n->layout = l;
    n->stage = o->member % l->n_stages;
    n->replica = o->member / l->n_stages;
    n->overlap = o->tc->parallel.overlap;
    n->has_labels = dml_model_loss(o->model) != DML_LOSS_MSE;
    n->n_codes = dml_model_n_codes(o->model);
    n->bucket = o->tc->parallel.bucket / sizeof(float);
    if (n->bucket < l->n_params / BUCKETS_MAX + 1)
        n->bucket = l->n_params / BUCKETS_MAX + 1;
    n->most = dml_layout_micro_most(l, (size_t)o->tc->train.batch_size);
    n->chunks = calloc(l->n_chunks, sizeof(*n->chunks));
    n->y = dml_mem_floats(n->most * dml_model_n_outputs(o->model));
    if (!n->chunks || !n->y)
        return -ENOMEM;
    int r = dml_schedule_make(l->n_stages, l->n_chunks, l->n_micro, n->stage,
                              n->overlap, &n->schedule);
    for (unsigned i = 0; r == 0 && i < l->n_chunks; i++) {
        n->chunks[i].i_run = n->stage + (size_t)i * l->n_stages;
        n->chunks[i].n_slots = n->schedule->n_slots[i];
        r = chunk_init(n, &n->chunks[i], o, err);
    }
    if (r < 0)
        return r;
    *ret = n;
    n = NULL;
    return 0;
}

struct dml_node *dml_node_free(struct dml_node *n)
{
    if (!n)
        return NULL;
    for (unsigned i = n->chunks ? n->layout->n_chunks : 0; i-- > 0;)
        chunk_done(n, &n->chunks[i]);
    free(n->chunks);
    free(n->y);
    dml_schedule_free(n->schedule);
    free(n);
    return NULL;
}

void dml_node_load(struct dml_node *n, const float *part, uint64_t step)
{
    for (unsigned i = 0; i < n->layout->n_chunks; i++) {
        const struct dml_layout_run *run = n->chunks[i].run;
        struct dml_stage *stage = n->chunks[i].stage;
        size_t n_vec = run->n_params + run->n_state;
        if (n_vec > 0)
            memcpy(dml_stage_vec(stage), part, n_vec * sizeof(float));
        dml_stage_set_moments(stage, part + n_vec, step);
        part += n_vec + dml_stage_n_moments(stage) * run->n_params;
    }
}

void dml_node_store(const struct dml_node *n, float *ret_part)
{
    for (unsigned i = 0; i < n->layout->n_chunks; i++) {
        const struct dml_layout_run *run = n->chunks[i].run;
        struct dml_stage *stage = n->chunks[i].stage;
        size_t n_vec = run->n_params + run->n_state;
        uint64_t step;
        if (n_vec > 0)
            memcpy(ret_part, dml_stage_vec(stage), n_vec * sizeof(float));
        dml_stage_get_moments(stage, ret_part + n_vec, &step);
        ret_part += n_vec + dml_stage_n_moments(stage) * run->n_params;
    }
}

/* ---- from run to run ---------------------------------------------------------------------- */

static uint64_t tag_of(uint64_t step, enum tag what, size_t i, unsigned micro)
{
    return step << 28 | (uint64_t)what << 26 | (uint64_t)i << 12 | micro;
}

/* Floats of a body. */
static size_t n_forward(const struct dml_node *n, size_t b, size_t floats)
{
    return b * (floats + 1 + n->n_codes);
}

/* The run at the other end, and who has it. */
static size_t other_end(const struct op *op, enum tag what, bool sending, unsigned *ret_member)
{
    const struct dml_layout *l = op->n->layout;
    bool behind = (what == TAG_FORWARD) == sending;
    size_t i_run = behind ? op->c->i_run + 1 : op->c->i_run - 1;
    *ret_member = op->n->replica * l->n_stages + (unsigned)(i_run % l->n_stages);
    return i_run;
}

static int send(const struct op *op, enum tag what, struct dml_buf *body)
{
    unsigned member;
    size_t to = other_end(op, what, true, &member);
    if (op->n->layout->n_stages == 1) {
        op->n->chunks[to].in[what][op->micro] = dml_buf_ref(body);
        return 0;
    }
    uint64_t tag = tag_of(op->step->step, what, to, op->micro);
    return op->n->overlap ? dml_group_send(op->group, member, tag, body)
                          : dml_group_deliver(op->group, member, tag, body);
}

/* Owner: caller. */
static int receive(const struct op *op, enum tag what, size_t floats, struct dml_buf **ret)
{
    unsigned member;
    (void)other_end(op, what, false, &member);
    if (op->n->layout->n_stages == 1) {
        *ret = op->c->in[what][op->micro];
        op->c->in[what][op->micro] = NULL;
        return 0;
    }
    return dml_group_recv_floats(op->group, member,
                                 tag_of(op->step->step, what, op->c->i_run, op->micro), floats,
                                 ret);
}

/* ---- operations --------------------------------------------------------------------------- */

/* What comes with the activations x of a micro-batch. */
struct tail {
    const void *answers; /* labels or targets [b] */
    const float *codes;  /* [b][T], or NULL */
};

static void take_loss(const struct op *op, const struct tail *tail, struct dml_node_sums *io_sums)
{
    struct dml_node *n = op->n;
    double loss;
    size_t correct;
    dml_stage_loss(op->c->stage, tail->codes, n->y, n->has_labels ? tail->answers : NULL,
                   n->has_labels ? NULL : tail->answers, op->b, op->step->divisor,
                   op->c->dy + op->slot * n->most * op->c->run->n_out, &loss, &correct);
    io_sums->loss += loss;
    io_sums->n_correct += correct;
    io_sums->n_samples += op->b;
}

/* x through the run, and what comes of it to the next. */
static int pass_on(const struct op *op, const float *x, const struct tail *tail,
                   struct dml_node_sums *io_sums)
{
    struct dml_node *n = op->n;
    size_t n_out = op->c->run->n_out;
    struct dml_stage_at at = {
        .rank = 1 + n->replica, .step = op->step->step, .first = op->first};
    if (op->c->is_last) {
        dml_stage_forward(op->c->stage, op->slot, x, op->b, at, n->y);
        take_loss(op, tail, io_sums);
        return 0;
    }
    struct dml_buf *out = dml_group_buf(op->group, n_forward(n, op->b, n_out));
    if (!out)
        return -ENOMEM;
    float *y = dml_buf_floats(out), *behind = y + op->b * n_out;
    dml_stage_forward(op->c->stage, op->slot, x, op->b, at, y);
    memcpy(behind, tail->answers, op->b * sizeof(float));
    if (tail->codes)
        memcpy(behind + op->b, tail->codes, op->b * n->n_codes * sizeof(float));
    return send(op, TAG_FORWARD, out);
}

static int forward(const struct op *op, struct dml_node_sums *io_sums)
{
    struct dml_node *n = op->n;
    size_t n_in = op->c->run->n_in;
    if (op->c->is_first) {
        const struct dml_feed_batch *batch = op->step->batch;
        const float *x = batch->x + op->first * n_in;
        struct tail tail = {
            .answers = n->has_labels ? (const void *)(batch->labels + op->first)
                                     : batch->targets + op->first,
            .codes = n->n_codes ? x : NULL,
        };
        return pass_on(op, x, &tail, io_sums);
    }
    _cleanup_(dml_buf_unrefp) struct dml_buf *in = NULL;
    int r = receive(op, TAG_FORWARD, n_forward(n, op->b, n_in), &in);
    if (r < 0)
        return r;
    const float *x = dml_buf_floats(in), *behind = x + op->b * n_in;
    struct tail tail = {.answers = behind, .codes = n->n_codes ? behind + op->b : NULL};
    return pass_on(op, x, &tail, io_sums);
}

/*
 * Over the replicas, bucket by bucket from the last layers on, as they become final. In the same
 * buckets whether a backward still runs or not: with three and more replicas they decide the order
 * in which numbers are added.
 */
static int sum_gradients(struct dml_node *n, struct dml_group *group, uint64_t step)
{
    struct dml_collective peers;
    uint64_t tag = tag_of(step, TAG_GRADIENT, 0, 0);
    int r = 0;
    dml_collective_some(&peers, group, n->stage, n->layout->n_stages, n->layout->n_replicas);
    for (unsigned i = n->layout->n_chunks; i-- > 0;) {
        struct dml_stage *stage = n->chunks[i].stage;
        float *grad = dml_stage_grad(stage);
        size_t end = n->chunks[i].run->n_params;
        while (r == 0 && end > 0) {
            size_t at = end > n->bucket ? end - n->bucket : 0;
            dml_stage_wait(stage, at);
            r = dml_collective_sum(&peers, tag, grad + at, end - at);
            tag += DML_COLLECTIVE_TAGS;
            end = at;
        }
    }
    return r;
}

/* The last backward of a step where nobody waits for what comes of it. */
static int backward_and_sum(const struct op *op, const float *dy)
{
    dml_stage_backward_begin(op->c->stage, op->slot, dy, NULL);
    op->group->stage = op->c->stage;
    int r = sum_gradients(op->n, op->group, op->step->step);
    op->group->stage = NULL;
    dml_stage_backward_end(op->c->stage);
    return r;
}

static int backward(const struct op *op)
{
    const struct dml_layout_run *run = op->c->run;
    _cleanup_(dml_buf_unrefp) struct dml_buf *in = NULL;
    const float *dy;
    if (op->c->is_last) {
        dy = op->c->dy + op->slot * op->n->most * run->n_out;
    } else {
        int r = receive(op, TAG_BACKWARD, op->b * run->n_out, &in);
        if (r < 0)
            return r;
        dy = dml_buf_floats(in);
    }
    if (op->sums)
        return backward_and_sum(op, dy);
    if (op->c->is_first) {
        dml_stage_backward(op->c->stage, op->slot, dy, NULL);
        return 0;
    }
    struct dml_buf *out = dml_group_buf(op->group, op->b * run->n_in);
    if (!out)
        return -ENOMEM;
    dml_stage_backward(op->c->stage, op->slot, dy, dml_buf_floats(out));
    return send(op, TAG_BACKWARD, out);
}

int dml_node_step(struct dml_node *n, struct dml_group *group, const struct dml_node_step *step,
                  struct dml_node_sums *io_sums)
{
    const struct dml_layout *l = n->layout;
    bool summed = l->n_replicas == 1;
    int r = 0;
    for (size_t i = 0; r == 0 && i < n->schedule->n_ops; i++) {
        const struct dml_schedule_op *what = &n->schedule->ops[i];
        struct op op = {
            .n = n,
            .group = group,
            .step = step,
            .c = &n->chunks[what->chunk],
            .micro = what->micro,
            .slot = what->micro % n->chunks[what->chunk].n_slots,
            .first = dml_layout_micro_at(l, step->n_samples, what->micro),
        };
        op.b = dml_layout_micro_at(l, step->n_samples, what->micro + 1) - op.first;
        /* Behind its last backward a first stage would be the only one to be busy: the others sum
         * while it computes. */
        op.sums = !summed && n->overlap && op.c->is_first && op.b > 0 && what->backward &&
                  i + 1 == n->schedule->n_ops;
        summed = summed || op.sums;
        if (op.b > 0)
            r = what->backward ? backward(&op) : forward(&op, io_sums);
    }
    if (r == 0 && !summed)
        r = sum_gradients(n, group, step->step);
    for (unsigned i = 0; r == 0 && i < l->n_chunks; i++)
        dml_stage_apply(n->chunks[i].stage, step->rate);
    io_sums->n_steps += r == 0;
    return r;
}

void dml_node_clear(struct dml_node *n)
{
    for (unsigned i = 0; i < n->layout->n_chunks; i++) {
        dml_stage_clear(n->chunks[i].stage);
        drop_left(n, &n->chunks[i]);
    }
}

int dml_node_average_state(struct dml_node *n, struct dml_group *group, uint64_t step)
{
    const struct dml_layout *l = n->layout;
    if (l->n_replicas == 1)
        return 0;
    struct dml_collective peers;
    dml_collective_some(&peers, group, n->stage, l->n_stages, l->n_replicas);
    int r = 0;
    for (unsigned i = 0; r == 0 && i < l->n_chunks; i++) {
        const struct dml_layout_run *run = n->chunks[i].run;
        if (run->n_state > 0)
            r = dml_collective_mean(&peers, tag_of(step, TAG_STATE, i, 0),
                                    dml_stage_vec(n->chunks[i].stage) + run->n_params,
                                    run->n_state);
    }
    return r;
}

uint64_t dml_node_work_us(const struct dml_node *n)
{
    uint64_t us = 0;
    for (unsigned i = 0; i < n->layout->n_chunks; i++)
        us += dml_stage_work_us(n->chunks[i].stage);
    return us;
}
