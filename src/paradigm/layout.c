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
#include "paradigm/cut.h"
#include "paradigm/legs.h"
#include "paradigm/schedule.h"

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

int dml_layout_make(const struct dml_testcase *tc, const struct dml_model *model,
                    unsigned n_members, struct dml_layout **ret, struct dml_err *err)
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

    bool as_told = tc->parallel.paradigm == DML_PARADIGM_PIPELINE &&
                   l->n_stages == dml_parallel_stages(tc);
    struct dml_cut_options o = {
        .model = model,
        .n_stages = l->n_stages,
        .n_chunks = l->n_chunks,
        .layers = as_told ? tc->parallel.cut : NULL,
        .overlap = tc->parallel.overlap,
    };
    _cleanup_(dml_cut_freep) struct dml_cut *cut = NULL;
    int r = dml_cut_make(&o, &cut, err);
    for (size_t i = 0; r == 0 && i < l->n_runs; i++) {
        l->runs[i].first = cut->at[i];
        l->runs[i].last = cut->at[i + 1];
        r = fill_run(model, cut->at[cut->n_runs], &l->runs[i]);
    }
    if (r < 0)
        return r;
    *ret = l;
    l = NULL;
    return 0;
}

struct dml_layout *dml_layout_free(struct dml_layout *l)
{
    if (!l)
        return NULL;
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

/*
 * Activations and gradients that are on their way: each in flight is held once by whoever made it
 * until it is sent and once by whoever waits for it, and one more of each is being computed.
 */
static uint64_t messages(const struct dml_layout_run *run, unsigned n_slots, size_t batch)
{
    return 2 * (uint64_t)(n_slots + 1) * (run->n_in + run->n_out) * batch * sizeof(float);
}

int dml_layout_memory(const struct dml_layout *l, const struct dml_testcase *tc,
                      const struct dml_model *model, unsigned stage,
                      const struct dml_trainer_cpu *cpu, uint64_t *ret)
{
    _cleanup_(dml_schedule_freep) struct dml_schedule *schedule = NULL;
    int r = dml_schedule_make(l->n_stages, l->n_chunks, l->n_micro, stage,
                              tc->parallel.overlap, &schedule);
    uint64_t sum = 0;
    for (unsigned chunk = 0; r == 0 && chunk < l->n_chunks; chunk++) {
        const struct dml_layout_run *run = &l->runs[stage + (size_t)chunk * l->n_stages];
        struct dml_model_part part;
        r = dml_model_part(model, run->first, run->last, &part);
        if (r < 0)
            break;
        struct dml_stage_options o = {
            .model = part.model,
            .train = &tc->train,
            .cpu = *cpu,
            .batch = dml_layout_micro_most(l, (size_t)tc->train.batch_size),
            .n_slots = schedule->n_slots[chunk],
        };
        sum += dml_stage_memory(&o) + messages(run, o.n_slots, o.batch);
        dml_model_free(part.model);
    }
    if (r < 0)
        return r;
    /* The part as it comes from the master or is sent there: one of them at a time. */
    size_t n_moments = dml_legs_n_moments(&tc->train);
    *ret = sum + (uint64_t)dml_layout_part(l, stage, n_moments) * sizeof(float);
    return 0;
}
