/*
 * Layers on several nodes: pipeline, ring and hybrid are one engine of replicas × stages × chunks.
 *
 *     pipeline  one replica, its layers cut into as many stages as there are nodes
 *     ring      the same, but each node has several runs of layers, so that a micro-batch goes
 *               round: the nodes stand still less, for more transfers
 *     hybrid    several pipelines, whose equal stages sum their gradients
 *
 * Sources: Huang et al. 2019 (GPipe: micro-batches), Narayanan et al. 2019 and 2021 (PipeDream and
 * its synchronous, interleaved form: the order of things).
 *
 * Only stage 0 of a replica has data; labels travel with the activations to where the loss is
 * computed. At the end of a leg each stage of replica 0 sends its part of the model to the master,
 * which alone holds all of it: the model may be larger than any worker.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "nn/model.h"
#include "nn/model_cut.h"
#include "nn/optim.h"
#include "paradigm/feed.h"
#include "paradigm/group.h"
#include "paradigm/layout.h"
#include "paradigm/legs.h"
#include "paradigm/node.h"
#include "paradigm/provision.h"

/* ---- before the run ----------------------------------------------------------------------- */

/* The largest stage's memory. */
static int pipeline_plan(const struct dml_testcase *tc, const struct dml_model *model,
                         const struct dml_trainer_cpu *cpu, uint64_t *ret_bytes,
                         struct dml_err *err)
{
    _cleanup_(dml_layout_freep) struct dml_layout *l = NULL;
    uint64_t most = 0;
    unsigned which = 0;
    int r = dml_layout_make(tc, model, (unsigned)tc->testcase.nodes, &l, err);
    for (unsigned stage = 0; r == 0 && stage < l->n_stages; stage++) {
        uint64_t bytes = 0;
        r = dml_layout_memory(l, tc, model, stage, cpu, &bytes);
        which = bytes > most ? stage : which;
        most = bytes > most ? bytes : most;
    }
    /* The cut was made for the threads that the test case gives a node; here may be more. */
    uint64_t allowed = tc->parallel.node_memory;
    if (r == 0 && allowed > 0 && most > allowed)
        return dml_err_set(err, -ENOMEM,
                           "stage %u of model %s needs %.1f MiB with %u threads, and "
                           "parallel.node-memory allows %.1f MiB: say in testcase.cores what a "
                           "node may use, so that the model is cut for it",
                           which + 1, dml_model_name(model), (double)most / 1048576.0,
                           cpu->n_threads, (double)allowed / 1048576.0);
    if (r == 0)
        *ret_bytes = most;
    return r;
}

/* ---- master ------------------------------------------------------------------------------- */

/* Layouts by number of members, made when they are first asked for. */
struct lead {
    const struct dml_task *task;
    struct dml_layout *of[DML_COMM_RANKS_MAX];
};

/* NULL when out of memory, or when n nodes cannot share the model. */
static const struct dml_layout *layout_of(struct lead *lead, unsigned n)
{
    if (!lead->of[n])
        (void)dml_layout_make(lead->task->tc, lead->task->model, n, &lead->of[n], NULL);
    return lead->of[n];
}

static unsigned fit(void *arg, unsigned n)
{
    const struct dml_layout *l = n ? layout_of(arg, n) : NULL;
    unsigned n_busy = l ? l->n_replicas * l->n_stages : 0;
    return n_busy && layout_of(arg, n_busy) ? n_busy : 0; /* which the others below will ask for */
}

static size_t part(void *arg, unsigned n, unsigned i)
{
    struct lead *lead = arg;
    const struct dml_layout *l = lead->of[n];
    return dml_layout_part(l, i % l->n_stages, dml_legs_n_moments(&lead->task->tc->train));
}

static void take(void *arg, unsigned n, unsigned i, const struct dml_legs_state *s, float *ret_part)
{
    const struct dml_layout *l = ((struct lead *)arg)->of[n];
    dml_layout_take(l, i % l->n_stages, s->n_moments, s->vec, s->moments, ret_part);
}

static void put(void *arg, unsigned n, unsigned i, const float *part, struct dml_legs_state *io_s)
{
    const struct dml_layout *l = ((struct lead *)arg)->of[n];
    dml_layout_put(l, i % l->n_stages, io_s->n_moments, part, io_s->vec, io_s->moments);
}

/* The replicas agree: one of them speaks for all. */
static bool sends(void *arg, unsigned n, unsigned i)
{
    return i < ((struct lead *)arg)->of[n]->n_stages;
}

static uint32_t shard(void *arg, unsigned n, unsigned i)
{
    const struct dml_layout *l = ((struct lead *)arg)->of[n];
    return i % l->n_stages == 0 ? i / l->n_stages : DML_PROVISION_NO_SHARD;
}

/* By the numbers of dmlctl models; where there is no room for all, the first ones. */
static void layers(void *arg, unsigned n, unsigned i, char *ret, size_t ret_len)
{
    const struct lead *lead = arg;
    const struct dml_layout *l = lead->of[n];
    size_t used = 0;
    ret[0] = '\0';
    for (size_t run = i % l->n_stages; run < l->n_runs; run += l->n_stages) {
        unsigned first = dml_model_cut_layer(lead->task->model, l->runs[run].first);
        unsigned last = dml_model_cut_layer(lead->task->model, l->runs[run].last) - 1;
        int len = snprintf(ret + used, ret_len - used, last > first ? "%s%u-%u" : "%s%u",
                           used ? " " : "", first, last);
        if (len < 0 || (size_t)len >= ret_len - used) {
            ret[used] = '\0';
            return;
        }
        used += (size_t)len;
    }
}

static const struct dml_legs_ops ops = {
    .fit = fit,
    .part = part,
    .take = take,
    .put = put,
    .sends = sends,
    .shard = shard,
    .layers = layers,
};

static int pipeline_master(struct dml_task *task, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) struct lead *lead = calloc(1, sizeof(*lead));
    if (!lead)
        return -ENOMEM;
    lead->task = task;
    unsigned nodes = (unsigned)task->tc->testcase.nodes;
    int r = dml_layout_make(task->tc, task->model, nodes, &lead->of[nodes], err);
    if (r == 0)
        r = dml_legs_lead(task, &ops, lead, err);
    for (size_t n = 0; n < ARRAY_SIZE(lead->of); n++)
        dml_layout_free(lead->of[n]);
    return r;
}

/* ---- worker ------------------------------------------------------------------------------- */

struct work {
    struct dml_task *task;
    struct dml_group group;
    struct dml_layout *layout;
    struct dml_node *node;
    struct dml_feed *feed; /* NULL: this member has no data */
    unsigned n, i;         /* members, and the own number, that layout and node are made for */
};

static void put_down(struct work *w)
{
    w->feed = dml_feed_free(w->feed);
    w->node = dml_node_free(w->node);
    w->layout = dml_layout_free(w->layout);
}

/* Becomes member i of n. */
static int take_up(struct work *w, unsigned n, unsigned i, struct dml_err *err)
{
    if (w->node && w->n == n && w->i == i)
        return 0;
    put_down(w);
    int r = dml_layout_make(w->task->tc, w->task->model, n, &w->layout, err);
    if (r < 0)
        return r;
    if (i >= w->layout->n_replicas * w->layout->n_stages)
        return -EPROTO;
    struct dml_node_options o = {
        .layout = w->layout,
        .model = w->task->model,
        .tc = w->task->tc,
        .cpu = w->task->cpu,
        .member = i,
        .cancel = w->task->cancel,
    };
    w->n = n;
    w->i = i;
    w->group.ahead_bytes =
        dml_layout_ahead(w->layout, i % w->layout->n_stages, (size_t)w->task->tc->train.batch_size,
                         1 + dml_model_n_codes(w->task->model));
    return dml_node_new(&o, &w->node, err);
}

/* What a new leg changes: the place in the pipeline, the data, the state to start from. */
static int begin_leg(struct work *w, struct dml_group_leg *leg, struct dml_err *err)
{
    const struct dml_task *task = w->task;
    int r = take_up(w, w->group.n, w->group.i, err);
    if (r < 0)
        return r;
    unsigned replica = w->i / w->layout->n_stages;
    bool has_data = w->i % w->layout->n_stages == 0;
    if (leg->fresh || !has_data)
        w->feed = dml_feed_free(w->feed);
    if (has_data && !w->feed)
        r = dml_feed_new(w->group.shard, &task->tc->train, task->data, 1 + replica,
                         leg->epoch_batches, &w->feed);
    if (r < 0 || !leg->part)
        return r;
    size_t n_moments = dml_legs_n_moments(&task->tc->train);
    if (leg->part_len != dml_layout_part(w->layout, w->i % w->layout->n_stages, n_moments))
        return -EPROTO;
    dml_node_load(w->node, leg->part, leg->optim_step);
    dml_group_leg_taken(leg);
    return 0;
}

static int train_step(struct work *w, const struct dml_group_leg *leg, uint64_t i,
                      struct dml_node_sums *io_sums, uint64_t *ret_step)
{
    const struct dml_train_options *train = &w->task->tc->train;
    const struct dml_layout *l = w->layout;
    uint64_t epochs_before = (leg->round - 1) * train->local_epochs;
    uint64_t step = epochs_before * leg->epoch_batches + i, batch = i % leg->epoch_batches;
    double divisor = 0.0;
    for (unsigned replica = 0; replica < l->n_replicas; replica++)
        divisor += (double)dml_group_batch(&w->group, replica * l->n_stages, batch);
    struct dml_node_step todo = {
        .step = step,
        .rate = dml_optim_rate(train, (double)step / (double)leg->epoch_batches,
                               (double)(train->rounds * train->local_epochs)),
        .n_samples = (size_t)dml_group_batch(&w->group, w->i - w->i % l->n_stages, batch),
        .divisor = divisor,
        .batch = w->feed ? dml_feed_get(w->feed, step) : NULL,
    };
    if (todo.batch && todo.batch->n != todo.n_samples)
        return -EPROTO;
    *ret_step = step;
    if (divisor == 0.0) /* only shards of lost nodes are so large */
        return 0;
    return dml_node_step(w->node, &w->group, &todo, io_sums);
}

static int train_leg(struct work *w, struct dml_group_leg *leg, struct dml_err *err)
{
    struct dml_node_sums sums = {0};
    uint64_t step = 0;
    int r = begin_leg(w, leg, err);
    if (r < 0)
        return r;
    uint64_t before_us = dml_node_work_us(w->node);
    for (uint64_t i = leg->first; r == 0 && i < leg->first + leg->n_steps; i++)
        r = dml_group_cancelled(&w->group) ? -ECANCELED : train_step(w, leg, i, &sums, &step);
    if (r == 0)
        r = dml_node_average_state(w->node, &w->group, step);
    if (r < 0) {
        dml_node_clear(w->node);
        return r;
    }
    struct dml_group_result result = {
        .n_samples = sums.n_samples,
        .loss = sums.loss,
        .n_correct = sums.n_correct,
        .compute_us = dml_node_work_us(w->node) - before_us,
        .optim_step = leg->optim_step + sums.n_steps,
    };
    if (w->i >= w->layout->n_stages)
        return dml_group_answer(&w->group, leg, &result, NULL);
    size_t n_moments = dml_legs_n_moments(&w->task->tc->train);
    _cleanup_(dml_buf_unrefp) struct dml_buf *body =
        dml_buf_new_floats(dml_layout_part(w->layout, w->i, n_moments));
    if (!body)
        return -ENOMEM;
    dml_node_store(w->node, dml_buf_floats(body));
    return dml_group_answer(&w->group, leg, &result, body);
}

static int pipeline_worker(struct dml_task *task, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) struct work *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    struct dml_group_leg leg = {0};
    w->task = task;
    int r = dml_group_init(&w->group, task, err);
    /* Made now, with the members as the test case has them, so that the first leg need not. */
    if (r == 0)
        r = take_up(w, (unsigned)task->tc->testcase.nodes, task->comm->rank - 1, err);
    if (r == 0)
        r = dml_group_ready(&w->group);
    while (r == 0) {
        r = dml_group_next(&w->group, &leg, err);
        if (r == 0)
            r = train_leg(w, &leg, err);
        if (r == -ERESTART)
            r = 0;
    }
    dml_group_leg_done(&leg);
    put_down(w);
    dml_group_done(&w->group);
    return r == 1 ? 0 : r;
}

const struct dml_paradigm dml_paradigm_pipeline = {
    .name = "pipeline",
    .summary = "layers cut into stages, one per node; micro-batches pass through them",
    .plan = pipeline_plan,
    .master = pipeline_master,
    .worker = pipeline_worker,
};

const struct dml_paradigm dml_paradigm_ring = {
    .name = "ring",
    .summary = "several runs of layers per node: micro-batches circle the nodes",
    .plan = pipeline_plan,
    .master = pipeline_master,
    .worker = pipeline_worker,
};

const struct dml_paradigm dml_paradigm_hybrid = {
    .name = "hybrid",
    .summary = "several pipelines whose equal stages sum their gradients",
    .plan = pipeline_plan,
    .master = pipeline_master,
    .worker = pipeline_worker,
};
