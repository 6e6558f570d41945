#include "together.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/shard.h"
#include "nn/vec.h"
#include "paradigm/feed.h"

struct rank {
    struct dml_dataset *shard;
    struct dml_feed *feed;
    float *state; /* [Q] */
};

struct scene {
    const struct dml_testcase *tc;
    struct dml_model *m;
    uint32_t n;
    struct rank *ranks;
    float *vec, *grad, *workspace, *y, *dy;
};

static void *want(void *p)
{
    if (!p) {
        printf("Bail out! out of memory\n");
        exit(1);
    }
    return p;
}

static struct scene set_scene(struct lab *lab, uint64_t *ret_steps)
{
    const struct dml_testcase *tc = &lab->cases->cases[0];
    struct scene s = {.tc = tc, .m = lab_model(lab), .n = (uint32_t)tc->testcase.nodes};
    struct dml_dataset *train, *test;
    lab_data(lab, &train, &test);
    struct dml_shards *shards = NULL;
    if (dml_shard_make(train, &tc->data, tc->data.split_seed, s.n, &shards, &lab->err) < 0)
        want(NULL);
    size_t largest = 0, batch = (size_t)tc->train.batch_size, n_out = dml_model_n_outputs(s.m);
    for (uint32_t k = 0; k < s.n; k++)
        largest = shards->n[k] > largest ? shards->n[k] : largest;
    *ret_steps = dml_feed_steps(largest, batch);
    s.ranks = want(calloc(s.n, sizeof(*s.ranks)));
    for (uint32_t k = 0; k < s.n; k++) {
        struct rank *rank = &s.ranks[k];
        rank->shard = want(dml_dataset_subset(train, shards->index[k], shards->n[k]));
        rank->state = want(dml_mem_floats(dml_model_n_state(s.m) + 1));
        if (dml_feed_new(rank->shard, &tc->train, &tc->data, k + 1, *ret_steps, &rank->feed) < 0)
            want(NULL);
    }
    s.vec = want(dml_mem_floats(dml_model_n_vec(s.m)));
    s.grad = want(dml_mem_floats(dml_model_n_params(s.m)));
    s.workspace = want(dml_mem_floats(dml_model_workspace(s.m, batch, true)));
    s.y = want(dml_mem_floats(batch * n_out));
    s.dy = want(dml_mem_floats(batch * n_out));
    dml_shards_free(shards);
    dml_dataset_free(train);
    dml_dataset_free(test);
    return s;
}

static void leave_scene(struct scene *s)
{
    for (uint32_t k = 0; k < s->n; k++) {
        dml_dataset_free(s->ranks[k].shard);
        dml_feed_free(s->ranks[k].feed);
        free(s->ranks[k].state);
    }
    free(s->ranks);
    free(s->grad);
    free(s->workspace);
    free(s->y);
    free(s->dy);
    dml_model_free(s->m);
}

/* Adds rank k's part of the gradient of one step. */
static void learn(struct scene *s, uint32_t k, uint64_t step, double divisor)
{
    const struct dml_feed_batch *b = dml_feed_get(s->ranks[k].feed, step);
    struct dml_model_training training = {
        .seed = s->tc->train.seed, .rank = k + 1, .step = step};
    size_t n_params = dml_model_n_params(s->m), n_state = dml_model_n_state(s->m), correct;
    double loss;
    if (b->n == 0)
        return;
    memcpy(s->vec + n_params, s->ranks[k].state, n_state * sizeof(float));
    dml_model_forward(s->m, s->vec, s->ranks[k].state, b->x, b->n, &training, s->workspace, s->y);
    dml_model_loss_grad(s->m, b->x, s->y, b->labels, b->targets, b->n, divisor, &loss, &correct,
                        s->dy);
    dml_model_backward(s->m, s->vec, b->x, s->dy, b->n, &training, s->workspace, s->grad, NULL);
}

float *together_train(struct lab *lab, uint64_t accumulate)
{
    uint64_t per_epoch;
    struct scene s = set_scene(lab, &per_epoch);
    const struct dml_train_options *train = &s.tc->train;
    size_t n_params = dml_model_n_params(s.m), n_state = dml_model_n_state(s.m);
    struct dml_optim *optim = want(dml_optim_new(train, n_params));
    uint64_t epochs = train->rounds * train->local_epochs;
    dml_model_init(s.m, s.vec, train->seed);
    for (uint32_t k = 0; k < s.n; k++)
        memcpy(s.ranks[k].state, s.vec + n_params, n_state * sizeof(float));
    for (uint64_t epoch = 0; epoch < epochs; epoch++)
        for (uint64_t i = 0; i < per_epoch; i += accumulate) {
            uint64_t end = i + accumulate < per_epoch ? i + accumulate : per_epoch;
            double n = 0.0;
            for (uint64_t j = i; j < end; j++)
                for (uint32_t k = 0; k < s.n; k++)
                    n += (double)dml_feed_get(s.ranks[k].feed, epoch * per_epoch + j)->n;
            memset(s.grad, 0, n_params * sizeof(float));
            for (uint64_t j = i; j < end; j++)
                for (uint32_t k = 0; k < s.n; k++)
                    learn(&s, k, epoch * per_epoch + j, n);
            double at = (double)epoch + (double)i / (double)per_epoch;
            dml_optim_step(optim, dml_optim_rate(train, at, (double)epochs), s.vec, s.grad);
        }
    memset(s.vec + n_params, 0, n_state * sizeof(float));
    for (uint32_t k = 0; k < s.n; k++)
        dml_vec_axpy(s.vec + n_params, 1.0f / (float)s.n, s.ranks[k].state, n_state);
    dml_optim_free(optim);
    leave_scene(&s);
    return s.vec;
}

double together_distance(const float *a, const float *b, size_t n)
{
    double most = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return size > 0.0 ? most / size : most;
}
