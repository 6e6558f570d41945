/*
 * Evaluation, and the speed a worker reports.
 *
 * The set is cut into blocks of fixed size; threads take the next one that is free and note its
 * loss beside its number. Adding the notes up in order makes the figure independent of who did
 * what, and of how many there were.
 */
#include "nn/trainer.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "data/batch.h"
#include "nn/gemm.h"
#include "nn/team.h"

#define BLOCK_FLOATS 131072 /* 512 KiB of a pass's buffers */
#define BLOCK_MAX    256
#define CALIBRATE_N  256
#define CALIBRATE_US 50000

struct note {
    double loss;
    size_t correct;
};

struct judge {
    float *workspace, *x, *y, *targets;
    int32_t *labels;
    uint32_t *index;
};

struct eval {
    const struct dml_model *m;
    const float *vec;
    const struct dml_dataset *ds;
    const atomic_bool *cancel;
    size_t block, n_blocks;
    struct note *notes; /* [n_blocks] */
    struct judge *judges;
    unsigned n_judges;
    atomic_size_t next;
};

static void judge_block(const struct eval *e, struct judge *j, size_t i_block)
{
    size_t first = i_block * e->block, left = e->ds->n_samples - first;
    size_t n = left < e->block ? left : e->block;
    for (size_t i = 0; i < n; i++)
        j->index[i] = (uint32_t)(first + i);
    dml_batch_fill(e->ds, j->index, n, 0, NULL, j->x, e->ds->labels ? j->labels : NULL,
                   e->ds->labels ? NULL : j->targets);
    dml_model_forward(e->m, e->vec, NULL, j->x, n, NULL, j->workspace, j->y);
    struct note *note = &e->notes[i_block];
    dml_model_loss_grad(e->m, j->x, j->y, j->labels, j->targets, n, 1.0, &note->loss, &note->correct,
                        NULL);
}

static void run(void *arg, unsigned i_thread)
{
    struct eval *e = arg;
    for (;;) {
        size_t i = atomic_fetch_add(&e->next, 1);
        if (i >= e->n_blocks || (e->cancel && atomic_load(e->cancel)))
            return;
        judge_block(e, &e->judges[i_thread], i);
    }
}

size_t dml_trainer_eval_block(const struct dml_model *m, uint64_t *ret_bytes)
{
    uint64_t floats = (uint64_t)dml_model_workspace(m, 1, false) + dml_model_n_inputs(m) +
                      dml_model_n_outputs(m);
    *ret_bytes = floats * sizeof(float);
    if (*ret_bytes > DML_TRAINER_EVAL_MAX)
        return 0;
    uint64_t per_sample = (uint64_t)dml_model_workspace(m, 32, false) / 32 + 1;
    uint64_t block = BLOCK_FLOATS / per_sample;
    return block < 1 ? 1 : block > BLOCK_MAX ? BLOCK_MAX : (size_t)block;
}

static int prepare(struct eval *e, unsigned n_threads)
{
    size_t d = dml_model_n_inputs(e->m), o = dml_model_n_outputs(e->m);
    uint64_t bytes;
    e->block = dml_trainer_eval_block(e->m, &bytes);
    if (e->block == 0)
        return -ENOMEM;
    e->n_blocks = (e->ds->n_samples + e->block - 1) / e->block;
    e->n_judges = n_threads < e->n_blocks ? n_threads : (unsigned)e->n_blocks;
    e->notes = calloc(e->n_blocks, sizeof(*e->notes));
    e->judges = calloc(e->n_judges, sizeof(*e->judges));
    if (!e->notes || !e->judges)
        return -ENOMEM;
    for (unsigned i = 0; i < e->n_judges; i++) {
        struct judge *j = &e->judges[i];
        j->workspace = dml_mem_floats(dml_model_workspace(e->m, e->block, false));
        j->x = dml_mem_floats(e->block * d);
        j->y = dml_mem_floats(e->block * o);
        j->targets = dml_mem_floats(e->block);
        j->labels = dml_mem_array(e->block, sizeof(int32_t));
        j->index = dml_mem_array(e->block, sizeof(uint32_t));
        if (!j->workspace || !j->x || !j->y || !j->targets || !j->labels || !j->index)
            return -ENOMEM;
    }
    return 0;
}

static void done(struct eval *e)
{
    for (unsigned i = 0; e->judges && i < e->n_judges; i++) {
        struct judge *j = &e->judges[i];
        free(j->workspace);
        free(j->x);
        free(j->y);
        free(j->targets);
        free(j->labels);
        free(j->index);
    }
    free(e->judges);
    free(e->notes);
}

static int evaluate(struct eval *e, unsigned n_threads, struct dml_eval_result *ret)
{
    int r = prepare(e, n_threads);
    if (r < 0)
        return r;
    _cleanup_(dml_team_freep) struct dml_team *team = NULL;
    r = dml_team_new(e->n_judges, NULL, &team);
    if (r < 0)
        return r;
    dml_team_run(team, e->n_judges, run, e);
    if (e->cancel && atomic_load(e->cancel))
        return -ECANCELED;
    double loss = 0.0;
    size_t correct = 0;
    for (size_t i = 0; i < e->n_blocks; i++) {
        loss += e->notes[i].loss;
        correct += e->notes[i].correct;
    }
    double n = (double)e->ds->n_samples;
    *ret = (struct dml_eval_result){
        .n_samples = e->ds->n_samples, .loss = loss / n, .accuracy = (double)correct / n};
    return 0;
}

int dml_trainer_evaluate(const struct dml_model *m, const float *vec, const struct dml_dataset *ds,
                         unsigned n_threads, const atomic_bool *cancel, struct dml_eval_result *ret)
{
    int r = dml_model_check_data(m, ds->channels, ds->height, ds->width, ds->n_classes, NULL);
    if (r < 0 || ds->n_samples == 0)
        return -EINVAL;
    struct eval e = {.m = m, .vec = vec, .ds = ds, .cancel = cancel};
    r = evaluate(&e, n_threads, ret);
    done(&e);
    return r;
}

double dml_trainer_calibrate_gflops(void)
{
    const size_t n = CALIBRATE_N;
    _cleanup_(dml_mem_freep) float *a = dml_mem_floats(n * n);
    _cleanup_(dml_mem_freep) float *b = dml_mem_floats(n * n);
    _cleanup_(dml_mem_freep) float *c = dml_mem_floats(n * n);
    if (!a || !b || !c)
        return 0.0;
    for (size_t i = 0; i < n * n; i++)
        a[i] = b[i] = (float)(i % 17) - 8.0f;
    dml_gemm(false, false, n, n, n, a, n, b, n, 0.0f, c, n); /* the first call is slower */
    uint64_t began = dml_clock_now_us(), now = began, n_rounds = 0;
    for (; now - began < CALIBRATE_US; now = dml_clock_now_us()) {
        dml_gemm(false, false, n, n, n, a, n, b, n, 0.0f, c, n);
        n_rounds++;
    }
    return 2.0 * (double)(n * n * n) * (double)n_rounds / (1e3 * (double)(now - began));
}
