#include "paradigm/layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "conf/parallel.h"
#include "nn/model.h"
#include "nn/model_cut.h"
#include "nn/stage.h"
#include "paradigm/legs.h"
#include "paradigm/plan.h"
#include "paradigm/schedule.h"

/* ---- the grid ----------------------------------------------------------------------------- */

/* How many replicas of how many stages so many members make. */
static void shape(const struct dml_testcase *tc, struct dml_layout *l)
{
    uint64_t replicas = dml_parallel_replicas(tc), stages = dml_parallel_stages(tc);
    bool is_ring = tc->parallel.paradigm == DML_PARADIGM_RING;
    if (replicas * stages > l->n_members) {
        replicas = l->n_members / stages;
        if (replicas == 0) {
            replicas = 1;
            stages = l->n_members;
        }
    }
    l->n_replicas = (unsigned)replicas;
    l->n_stages = (unsigned)stages;
    l->n_chunks = is_ring ? (unsigned)tc->parallel.chunks : 1;
    l->n_micro = (unsigned)tc->parallel.micro_batches;
    l->n_runs = (size_t)stages * l->n_chunks;
}

static int fill_run(const struct dml_model *model, size_t n_cuts, struct dml_layout_run *run)
{
    struct dml_model_part part;
    int r = dml_model_part(model, run->first, run->last, &part);
    if (r < 0)
        return r;
    run->params_at = part.params_at;
    run->n_params = dml_model_n_params(part.model);
    run->state_at = part.state_at;
    run->n_state = dml_model_n_state(part.model);
    run->n_in = dml_model_cut_floats(model, run->first);
    run->n_out = run->last < n_cuts ? dml_model_cut_floats(model, run->last)
                                    : dml_model_n_outputs(model);
    dml_model_free(part.model);
    return 0;
}

/* ---- cutting ------------------------------------------------------------------------------- */

/* What runs of any pieces need, for the search. */
struct needs {
    const struct dml_layout *l;
    const struct dml_testcase *tc;
    const struct dml_model *model;
    struct dml_trainer_cpu cpu;
    unsigned *n_slots;  /* [n_runs] */
    uint64_t *floats;   /* [n + 1] of parameters, moments and state before a cut */
    uint64_t *known;    /* [n_runs][n + 1][n + 1] answers, 0: none yet; NULL: too many */
    size_t n;
};

#define KNOWN_MAX (UINT64_C(1) << 20) /* answers that are kept: 8 MiB */
#define TOO_MUCH  (UINT64_C(1) << 50) /* of a run that cannot be made; sums of it are no overflow */

/*
 * Activations and gradients that are on their way: each in flight is held once by whoever made it
 * until it is sent and once by whoever waits for it, and one more of each is being computed.
 */
static uint64_t messages(const struct dml_layout_run *run, unsigned n_slots, size_t batch)
{
    return 2 * (uint64_t)(n_slots + 1) * (run->n_in + run->n_out) * batch * sizeof(float);
}

/* Parameters, state and moments of a run. */
static uint64_t part_floats(const struct dml_layout_run *run, size_t n_moments)
{
    return (1 + (uint64_t)n_moments) * run->n_params + run->n_state;
}

static int run_memory(const struct dml_layout *l, const struct dml_testcase *tc,
                      const struct dml_model *model, const struct dml_layout_run *run,
                      unsigned n_slots, const struct dml_trainer_cpu *cpu, uint64_t *ret)
{
    struct dml_model_part part;
    int r = dml_model_part(model, run->first, run->last, &part);
    if (r < 0)
        return r;
    struct dml_stage_options o = {
        .model = part.model,
        .train = &tc->train,
        .cpu = *cpu,
        .batch = dml_layout_micro_most(l, (size_t)tc->train.batch_size),
        .n_slots = n_slots,
    };
    /* The part as it comes from the master or is sent there: one of them at a time. */
    *ret = dml_stage_memory(&o) + messages(run, n_slots, o.batch) +
           part_floats(run, dml_legs_n_moments(&tc->train)) * sizeof(float);
    dml_model_free(part.model);
    return 0;
}

/* Micro-batches that each of a node's runs holds at a time. */
static int fill_slots(const struct dml_layout *l, bool hides, unsigned stage, unsigned *ret)
{
    _cleanup_(dml_schedule_freep) struct dml_schedule *schedule = NULL;
    int r = dml_schedule_make(l->n_stages, l->n_chunks, l->n_micro, stage, hides, &schedule);
    for (unsigned chunk = 0; r == 0 && chunk < l->n_chunks; chunk++)
        ret[stage + (size_t)chunk * l->n_stages] = schedule->n_slots[chunk];
    return r;
}

/* For dml_cut_make(). Memory that is out here is taken for a run that needs too much. */
static uint64_t needed(void *arg, size_t i, size_t first, size_t last, uint64_t most)
{
    const struct needs *n = arg;
    uint64_t least = (n->floats[last] - n->floats[first]) * sizeof(float), bytes = TOO_MUCH;
    if (least > most)
        return least;
    uint64_t *known = n->known ? &n->known[(i * (n->n + 1) + first) * (n->n + 1) + last] : NULL;
    if (known && *known)
        return *known;
    struct dml_layout_run run = {.first = first, .last = last};
    if (fill_run(n->model, n->n, &run) == 0)
        (void)run_memory(n->l, n->tc, n->model, &run, n->n_slots[i], &n->cpu, &bytes);
    if (known)
        *known = bytes;
    return bytes;
}

static int needs_init(struct needs *n)
{
    n->n = dml_model_n_cuts(n->model);
    uint64_t answers = (uint64_t)n->l->n_runs * (n->n + 1) * (n->n + 1);
    n->cpu = (struct dml_trainer_cpu){.n_threads = dml_plan_threads(n->tc), .duty = 1.0};
    n->n_slots = calloc(n->l->n_runs, sizeof(*n->n_slots));
    n->floats = calloc(n->n + 1, sizeof(*n->floats));
    n->known = answers <= KNOWN_MAX ? calloc(answers, sizeof(*n->known)) : NULL;
    if (!n->n_slots || !n->floats)
        return -ENOMEM;
    int r = 0;
    for (unsigned stage = 0; r == 0 && stage < n->l->n_stages; stage++)
        r = fill_slots(n->l, n->tc->parallel.overlap, stage, n->n_slots);
    for (size_t i = 0; r == 0 && i < n->n; i++) {
        struct dml_layout_run run = {.first = i, .last = i + 1};
        r = fill_run(n->model, n->n, &run);
        n->floats[i + 1] =
            n->floats[i] + part_floats(&run, dml_legs_n_moments(&n->tc->train));
    }
    return r;
}

static void needs_done(struct needs *n)
{
    free(n->n_slots);
    free(n->floats);
    free(n->known);
}

static int cut(const struct dml_layout *l, const struct dml_testcase *tc,
               const struct dml_model *model, const char *layers, const double *costs_us,
               struct dml_cut **ret, struct dml_err *err)
{
    struct needs needs = {.l = l, .tc = tc, .model = model};
    struct dml_cut_options o = {
        .model = model,
        .n_stages = l->n_stages,
        .n_chunks = l->n_chunks,
        .layers = layers,
        .costs_us = costs_us,
        .overlap = tc->parallel.overlap,
        .limit = tc->parallel.node_memory,
        .memory = needed,
        .arg = &needs,
    };
    int r = o.limit ? needs_init(&needs) : 0;
    if (r == 0)
        r = dml_cut_make(&o, ret, err);
    needs_done(&needs);
    return r;
}

/* costs_us: measured, or NULL. */
static int make(const struct dml_testcase *tc, const struct dml_model *model, unsigned n_members,
                const double *costs_us, struct dml_layout **ret, struct dml_err *err)
{
    assert(n_members > 0);
    _cleanup_(dml_layout_freep) struct dml_layout *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->n_members = n_members;
    l->n_params = dml_model_n_params(model);
    l->n_state = dml_model_n_state(model);
    shape(tc, l);
    l->runs = calloc(l->n_runs, sizeof(*l->runs));
    if (!l->runs)
        return -ENOMEM;
    bool as_told = l->n_stages == dml_parallel_stages(tc);
    int r = cut(l, tc, model, as_told ? dml_parallel_cut_layers(tc) : NULL, costs_us, &l->cut, err);
    for (size_t i = 0; r == 0 && i < l->n_runs; i++) {
        l->runs[i].first = l->cut->at[i];
        l->runs[i].last = l->cut->at[i + 1];
        r = fill_run(model, l->cut->at[l->n_runs], &l->runs[i]);
    }
    if (r < 0)
        return r;
    *ret = l;
    l = NULL;
    return 0;
}

int dml_layout_make(const struct dml_testcase *tc, const struct dml_model *model,
                    unsigned n_members, struct dml_layout **ret, struct dml_err *err)
{
    return make(tc, model, n_members, NULL, ret, err);
}

int dml_layout_make_measured(const struct dml_testcase *tc, const struct dml_model *model,
                             const double *costs_us, struct dml_layout **ret, struct dml_err *err)
{
    return make(tc, model, (unsigned)tc->testcase.nodes, costs_us, ret, err);
}

struct dml_layout *dml_layout_free(struct dml_layout *l)
{
    if (!l)
        return NULL;
    dml_cut_free(l->cut);
    free(l->runs);
    free(l);
    return NULL;
}

size_t dml_layout_micro_most(const struct dml_layout *l, size_t n)
{
    return (n + l->n_micro - 1) / l->n_micro;
}

size_t dml_layout_part(const struct dml_layout *l, unsigned stage, size_t n_moments)
{
    size_t floats = 0;
    for (size_t i = stage; i < l->n_runs; i += l->n_stages)
        floats += (1 + n_moments) * l->runs[i].n_params + l->runs[i].n_state;
    return floats;
}

static void copy(float *to, const float *from, size_t n)
{
    if (n > 0) /* NULL where there is nothing */
        memcpy(to, from, n * sizeof(float));
}

void dml_layout_take(const struct dml_layout *l, unsigned stage, size_t n_moments,
                     const float *vec, const float *moments, float *ret_part)
{
    for (size_t i = stage; i < l->n_runs; i += l->n_stages) {
        const struct dml_layout_run *run = &l->runs[i];
        copy(ret_part, vec + run->params_at, run->n_params);
        ret_part += run->n_params;
        copy(ret_part, vec + l->n_params + run->state_at, run->n_state);
        ret_part += run->n_state;
        for (size_t k = 0; k < n_moments; k++, ret_part += run->n_params)
            copy(ret_part, moments + k * l->n_params + run->params_at, run->n_params);
    }
}

void dml_layout_put(const struct dml_layout *l, unsigned stage, size_t n_moments,
                    const float *part, float *io_vec, float *io_moments)
{
    for (size_t i = stage; i < l->n_runs; i += l->n_stages) {
        const struct dml_layout_run *run = &l->runs[i];
        copy(io_vec + run->params_at, part, run->n_params);
        part += run->n_params;
        copy(io_vec + l->n_params + run->state_at, part, run->n_state);
        part += run->n_state;
        for (size_t k = 0; k < n_moments; k++, part += run->n_params)
            copy(io_moments + k * l->n_params + run->params_at, part, run->n_params);
    }
}

uint64_t dml_layout_ahead(const struct dml_layout *l, unsigned stage, size_t batch, size_t n_extra)
{
    uint64_t floats = 0;
    for (size_t i = stage; i < l->n_runs; i += l->n_stages)
        floats += l->runs[i].n_in + n_extra + l->runs[i].n_out;
    return 2 * floats * batch * sizeof(float);
}

int dml_layout_memory(const struct dml_layout *l, const struct dml_testcase *tc,
                      const struct dml_model *model, unsigned stage,
                      const struct dml_trainer_cpu *cpu, uint64_t *ret)
{
    _cleanup_(dml_mem_freep) unsigned *n_slots = calloc(l->n_runs, sizeof(*n_slots));
    if (!n_slots)
        return -ENOMEM;
    int r = fill_slots(l, tc->parallel.overlap, stage, n_slots);
    uint64_t sum = 0;
    for (size_t i = stage; r == 0 && i < l->n_runs; i += l->n_stages) {
        uint64_t bytes = 0;
        r = run_memory(l, tc, model, &l->runs[i], n_slots[i], cpu, &bytes);
        sum += bytes;
    }
    if (r == 0)
        *ret = sum;
    return r;
}
