#include "sequential.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/batch.h"
#include "data/shard.h"
#include "nn/model.h"
#include "nn/optim.h"

struct plain {
    const struct dml_model *m;
    const struct dml_testcase *tc;
    const struct dml_dataset *train;
    const struct dml_shards *shards;
    unsigned replicas, n_micro;
    float *vec, *grad, *x, *y, *dy, *targets, *workspace;
    float *state; /* [replicas][Q] running statistics */
    int32_t *labels;
    uint32_t **order; /* [replicas][samples of the shard], numbers of samples in `train` */
    double loss;
    size_t n_samples;
};

static void *need(void *p)
{
    if (!p) {
        printf("Bail out! no memory\n");
        exit(1);
    }
    return p;
}

static size_t batch_of(const struct plain *p, unsigned replica, size_t i)
{
    size_t n = p->shards->n[replica], batch = p->tc->train.batch_size;
    return i * batch >= n ? 0 : n - i * batch < batch ? n - i * batch : batch;
}

static void set_order(struct plain *p, unsigned replica, uint64_t epoch)
{
    size_t n = p->shards->n[replica];
    dml_batch_order(p->order[replica], n, p->tc->train.seed, 1 + replica, epoch);
    for (size_t i = 0; i < n; i++)
        p->order[replica][i] = p->shards->index[replica][p->order[replica][i]];
}

/* Gradient of samples [at, at + b) of the replica's minibatch of this step. */
static void learn(struct plain *p, unsigned replica, size_t batch_at, size_t at, size_t b,
                  uint64_t step, double divisor)
{
    const struct dml_train_options *o = &p->tc->train;
    const struct dml_data_options *data = &p->tc->data;
    bool has_labels = p->train->labels != NULL;
    struct dml_batch_augment augment = {.kind = data->augment,
                                        .padding = (uint32_t)data->crop_padding,
                                        .seed = o->seed,
                                        .rank = 1 + replica,
                                        .step = step};
    struct dml_model_training training = {
        .seed = o->seed, .rank = 1 + replica, .step = step, .first = at};
    double loss;
    size_t correct;
    dml_batch_fill(p->train, p->order[replica] + batch_at + at, b, at,
                   data->augment == DML_AUGMENT_NONE ? NULL : &augment, p->x,
                   has_labels ? p->labels : NULL, has_labels ? NULL : p->targets);
    dml_model_forward(p->m, p->vec, p->state + replica * dml_model_n_state(p->m), p->x, b,
                      &training, p->workspace, p->y);
    dml_model_loss_grad(p->m, p->x, p->y, p->labels, p->targets, b, divisor, &loss, &correct,
                        p->dy);
    dml_model_backward(p->m, p->vec, p->x, p->dy, b, &training, p->workspace, p->grad, NULL);
    p->loss += loss;
    p->n_samples += b;
}

static void train_epoch(struct plain *p, struct dml_optim *optim, uint64_t epoch, size_t n_steps)
{
    const struct dml_train_options *o = &p->tc->train;
    for (unsigned r = 0; r < p->replicas; r++)
        set_order(p, r, epoch);
    for (size_t i = 0; i < n_steps; i++) {
        uint64_t step = epoch * n_steps + i;
        size_t divisor = 0;
        for (unsigned r = 0; r < p->replicas; r++)
            divisor += batch_of(p, r, i);
        for (unsigned r = 0; r < p->replicas; r++)
            for (unsigned m = 0; m < p->n_micro; m++) {
                size_t n = batch_of(p, r, i), at = n * m / p->n_micro;
                size_t end = n * (m + 1) / p->n_micro;
                if (end > at)
                    learn(p, r, i * o->batch_size, at, end - at, step, (double)divisor);
            }
        double rate = dml_optim_rate(o, (double)epoch + (double)i / (double)n_steps,
                                     (double)(o->rounds * o->local_epochs));
        dml_optim_step(optim, rate, p->vec, p->grad);
        memset(p->grad, 0, dml_model_n_params(p->m) * sizeof(float));
    }
}

/* The replicas' running statistics become their mean. */
static void average_state(struct plain *p)
{
    size_t q = dml_model_n_state(p->m);
    for (size_t i = 0; i < q; i++) {
        float sum = 0.0f;
        for (unsigned r = 0; r < p->replicas; r++)
            sum += p->state[r * q + i];
        for (unsigned r = 0; r < p->replicas; r++)
            p->state[r * q + i] = sum / (float)p->replicas;
        p->vec[dml_model_n_params(p->m) + i] = p->state[i];
    }
}

struct sequential sequential_train(struct lab *lab, unsigned replicas, unsigned n_micro)
{
    const struct dml_testcase *tc = &lab->cases->cases[0];
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(lab);
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    _cleanup_(dml_shards_freep) struct dml_shards *shards = NULL;
    lab_data(lab, &train, &test);
    if (dml_shard_make(train, &tc->data, tc->data.split_seed, replicas, &shards, &lab->err) < 0) {
        printf("Bail out! no shards: %s\n", lab->err.text);
        exit(1);
    }
    size_t batch = tc->train.batch_size, n_steps = 0;
    struct plain p = {
        .m = m,
        .tc = tc,
        .train = train,
        .shards = shards,
        .replicas = replicas,
        .n_micro = n_micro,
        .vec = need(dml_mem_floats(dml_model_n_vec(m))),
        .grad = need(dml_mem_floats(dml_model_n_params(m))),
        .x = need(dml_mem_floats(batch * dml_model_n_inputs(m))),
        .y = need(dml_mem_floats(batch * dml_model_n_outputs(m))),
        .dy = need(dml_mem_floats(batch * dml_model_n_outputs(m))),
        .targets = need(dml_mem_floats(batch)),
        .labels = need(dml_mem_array(batch, sizeof(int32_t))),
        .workspace = need(dml_mem_floats(dml_model_workspace(m, batch, true))),
        .state = need(dml_mem_floats(replicas * dml_model_n_state(m))),
        .order = need(calloc(replicas, sizeof(uint32_t *))),
    };
    for (unsigned r = 0; r < replicas; r++) {
        size_t steps = (shards->n[r] + batch - 1) / batch;
        n_steps = steps > n_steps ? steps : n_steps;
        p.order[r] = need(dml_mem_array(shards->n[r], sizeof(uint32_t)));
    }
    struct dml_optim *optim = need(dml_optim_new(&tc->train, dml_model_n_params(m)));
    dml_model_init(m, p.vec, tc->train.seed);
    for (unsigned r = 0; r < replicas; r++)
        for (size_t i = 0; i < dml_model_n_state(m); i++)
            p.state[r * dml_model_n_state(m) + i] = p.vec[dml_model_n_params(m) + i];
    for (uint64_t round = 0; round < tc->train.rounds; round++) {
        p.loss = 0.0;
        p.n_samples = 0;
        for (uint64_t e = 0; e < tc->train.local_epochs; e++)
            train_epoch(&p, optim, round * tc->train.local_epochs + e, n_steps);
        average_state(&p);
    }
    for (unsigned r = 0; r < replicas; r++)
        free(p.order[r]);
    free(p.order);
    free(p.grad);
    free(p.state);
    free(p.x);
    free(p.y);
    free(p.dy);
    free(p.targets);
    free(p.labels);
    free(p.workspace);
    dml_optim_free(optim);
    return (struct sequential){.vec = p.vec, .loss = p.loss / (double)p.n_samples};
}
