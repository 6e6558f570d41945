#include "plain.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/batch.h"

/* What a step needs. */
struct work {
    struct lab *lab;
    const struct dml_dataset *train;
    struct dml_shards *shards;
    unsigned absent;       /* replica that has no part in this epoch, from 1 */
    uint32_t **order;      /* [R] of the current epoch */
    uint32_t *index;       /* samples of a batch */
    float *workspace, *x, *y, *dy, *grad, *targets;
    int32_t *labels;
};

static void *must(void *p)
{
    if (!p) {
        printf("Bail out! out of memory\n");
        exit(1);
    }
    return p;
}

/* The samples of minibatch b of every replica, one replica behind the other. Returns how many. */
static size_t gather(const struct work *w, uint64_t b)
{
    size_t batch = w->lab->cases->cases[0].train.batch_size, n = 0;
    for (size_t r = 0; r < w->shards->n_shards; r++) {
        if (r + 1 == w->absent)
            continue;
        for (size_t i = b * batch; i < (b + 1) * batch && i < w->shards->n[r]; i++)
            w->index[n++] = w->shards->index[r][w->order[r][i]];
    }
    return n;
}

/* Adds the gradient of n samples to w->grad. Returns the sum of their losses. */
static double learn(struct work *w, const struct dml_model *m, float *vec, size_t n, size_t divisor)
{
    bool classes = w->train->n_classes > 0;
    struct dml_model_training training = {.seed = w->lab->cases->cases[0].train.seed};
    double loss;
    size_t correct;
    dml_batch_fill(w->train, w->index, n, 0, NULL, w->x, classes ? w->labels : NULL,
                   classes ? NULL : w->targets);
    dml_model_forward(m, vec, vec + dml_model_n_params(m), w->x, n, &training, w->workspace, w->y);
    dml_model_loss_grad(m, w->x, w->y, classes ? w->labels : NULL, classes ? NULL : w->targets, n,
                        (double)divisor, &loss, &correct, w->dy);
    dml_model_backward(m, vec, w->x, w->dy, n, &training, w->workspace, w->grad, NULL);
    return loss;
}

static double epoch(struct plain *p, struct work *w, struct dml_optim *optim, uint64_t e,
                    unsigned accumulate)
{
    const struct dml_train_options *o = &w->lab->cases->cases[0].train;
    size_t most = 0, n_params = dml_model_n_params(p->model);
    double loss = 0.0;
    w->absent = e >= p->absent_from ? p->absent : 0;
    for (size_t r = 0; r < w->shards->n_shards; r++) {
        dml_batch_order(w->order[r], w->shards->n[r], o->seed, r + 1, e);
        most = w->shards->n[r] > most ? w->shards->n[r] : most;
    }
    uint64_t batches = (most + o->batch_size - 1) / o->batch_size;
    uint64_t steps = (batches + accumulate - 1) / accumulate;
    for (uint64_t s = 0; s < steps; s++) {
        size_t divisor = 0;
        for (uint64_t b = s * accumulate; b < (s + 1) * accumulate && b < batches; b++)
            divisor += gather(w, b);
        memset(w->grad, 0, n_params * sizeof(float));
        for (uint64_t b = s * accumulate; b < (s + 1) * accumulate && b < batches; b++)
            loss += learn(w, p->model, p->vec, gather(w, b), divisor);
        dml_optim_step(optim,
                       dml_optim_rate(o, (double)e + (double)s / (double)steps,
                                      (double)(o->rounds * o->local_epochs)),
                       p->vec, w->grad);
        p->n_steps++;
    }
    return loss;
}

void plain_train(struct plain *p, struct lab *lab, unsigned n_replicas, unsigned accumulate)
{
    const struct dml_testcase *tc = &lab->cases->cases[0];
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    *p = (struct plain){
        .absent = p->absent, .absent_from = p->absent_from, .model = lab_model(lab)};
    lab_data(lab, &train, &test);
    struct work w = {.lab = lab, .train = train};
    if (dml_shard_make(train, &tc->data, tc->data.split_seed, n_replicas, &w.shards, &lab->err) <
        0) {
        printf("Bail out! no shards\n");
        exit(1);
    }
    size_t batch = n_replicas * tc->train.batch_size, o = dml_model_n_outputs(p->model);
    w.order = must(calloc(n_replicas, sizeof(*w.order)));
    for (unsigned r = 0; r < n_replicas; r++)
        w.order[r] = must(dml_mem_array(w.shards->n[r], sizeof(uint32_t)));
    w.index = must(dml_mem_array(batch, sizeof(uint32_t)));
    w.workspace = must(dml_mem_floats(dml_model_workspace(p->model, batch, true)));
    w.x = must(dml_mem_floats(batch * dml_model_n_inputs(p->model)));
    w.y = must(dml_mem_floats(batch * o));
    w.dy = must(dml_mem_floats(batch * o));
    w.grad = must(dml_mem_floats(dml_model_n_params(p->model)));
    w.targets = must(dml_mem_floats(batch));
    w.labels = must(dml_mem_array(batch, sizeof(int32_t)));
    p->vec = must(dml_mem_floats(dml_model_n_vec(p->model)));
    struct dml_optim *optim = must(dml_optim_new(&tc->train, dml_model_n_params(p->model)));

    dml_model_init(p->model, p->vec, tc->train.seed);
    for (uint64_t e = 0; e < tc->train.rounds * tc->train.local_epochs; e++)
        p->loss[e / tc->train.local_epochs] +=
            epoch(p, &w, optim, e, accumulate) /
            (double)(train->n_samples * tc->train.local_epochs);

    dml_optim_free(optim);
    for (unsigned r = 0; r < n_replicas; r++)
        free(w.order[r]);
    free(w.order);
    free(w.index);
    free(w.workspace);
    free(w.x);
    free(w.y);
    free(w.dy);
    free(w.grad);
    free(w.targets);
    free(w.labels);
    dml_shards_free(w.shards);
}

void plain_done(struct plain *p)
{
    p->model = dml_model_free(p->model);
    free(p->vec);
    p->vec = NULL;
}

double plain_differs(const struct plain *p, const float *vec, size_t *ret_at)
{
    double most = 0.0;
    *ret_at = 0;
    for (size_t i = 0; i < dml_model_n_vec(p->model); i++) {
        double d = fabs((double)vec[i] - (double)p->vec[i]);
        if (!(d <= most)) {
            most = d;
            *ret_at = i;
        }
    }
    return most;
}
