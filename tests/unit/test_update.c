/*
 * Parameters that are updated within backward get the same bits as those that are updated after it:
 * steps of a crew of one thread, in both ways.
 */
#include "nn/crew.h"
#include "nn/kernel.h"
#include "tests/unit/part_models.h"

#define STEPS 3

/* Besides those of part_models.h. */
static const char *const models[] = {
    "cifar-cnn",
    "sdss-mlp",
    "resnet-8",
    "name sequences\ninput 16\ninit normal\nembedding 5 size 24\nposition\nresidual\nlayer-norm\n"
    "attention 3\nend\nresidual\nlayer-norm\nconv 96 kernel 1\ngelu\nconv 24 kernel 1\nend\n"
    "layer-norm\nconv 5 kernel 1\nloss next-token\n",
    "name wide\ninput 300\nlinear 400\nrelu\ndropout 0.3\nlinear 300\nrelu\nlinear 5\n",
    /* products for the BLAS; rows longer than a strip; one output */
    "name large\ninput 900\nlinear 600\nrelu\nlinear 4\n",
    "name long\ninput 5000\nlinear 13\nrelu\nlinear 1\nloss mse\n",
    "name drops\ninput 3 8 8\ndropout 0.2\nrelu\nconv 6 kernel 3\nrelu\nmax-pool 2\n"
    "dropout 0.3\nlinear 20\ntanh\ndropout 0.5\nlinear 4\n",
    NULL,
};

static const struct {
    const char *name;
    int optimizer;
    double momentum, decay;
} optimizers[] = {
    {"sgd", DML_OPTIM_SGD, 0.9, 0.0},
    {"sgd without momentum", DML_OPTIM_SGD, 0.0, 1e-2},
    {"adam", DML_OPTIM_ADAM, 0.0, 1e-2},
    {"adamw", DML_OPTIM_ADAMW, 0.0, 1e-2},
    {"sgd with decay", DML_OPTIM_SGD, 0.9, 1e-2},
};

/* Rows that are no whole vectors, an odd number of them. */
static const char odd[] = "name odd\ninput 37\nlinear 35\nrelu\nlinear 33\nrelu\nlinear 3\n";

struct samples {
    size_t d;
    float *x, *targets;
    int32_t *labels;
};

static void give(void *arg, unsigned i, size_t at, size_t b, const float **ret_x,
                 const int32_t **ret_labels, const float **ret_targets)
{
    const struct samples *s = arg;
    (void)i;
    (void)b;
    *ret_x = s->x + at * s->d;
    *ret_labels = s->labels + at;
    *ret_targets = s->targets + at;
}

/* What is left after some steps: [P+Q] the block, [2P] moments, [P] the gradient. */
struct left {
    size_t n, n_chunks;
    float *all;
    unsigned n_within; /* steps that were updated within backward */
};

static struct left steps(const struct dml_model *m, const struct samples *samples,
                         const struct dml_train_options *train, bool updates)
{
    const struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 1.0};
    const struct dml_crew_options o = {.model = m,
                                       .train = train,
                                       .cpu = &cpu,
                                       .batch = (size_t)train->batch_size,
                                       .learns = true};
    size_t n_vec = dml_model_n_vec(m), p = dml_model_n_params(m);
    struct left left = {.n = n_vec + 3 * p, .all = dml_mem_floats(n_vec + 3 * p)};
    struct dml_crew c = {0};
    uint64_t n_steps;
    if (!tap_ok(left.all && dml_crew_init(&c, &o) == 0, "a crew"))
        return left;
    dml_model_init(m, c.vec, 1);
    for (size_t i = 0; i < STEPS; i++) {
        size_t n = i + 1 < STEPS ? o.batch : (o.batch + 1) / 2; /* the last one is short */
        const struct dml_crew_step s = {.n = n,
                                        .step = i,
                                        .divisor = (double)n,
                                        .give = give,
                                        .arg = (void *)(uintptr_t)samples,
                                        .updates = updates};
        dml_optim_begin(c.optim, 0.01);
        dml_crew_learn(&c, &s, 0);
        left.n_within += c.is_updated;
        dml_crew_update(&c, 0, 1);
    }
    left.n_chunks = (o.batch + c.chunk - 1) / c.chunk;
    memcpy(left.all, c.vec, n_vec * sizeof(float));
    dml_optim_get(c.optim, left.all + n_vec, &n_steps);
    memcpy(left.all + n_vec + 2 * p, c.grads[0], p * sizeof(float));
    dml_crew_done(&c);
    return left;
}

static void compare(const struct dml_model *m, const struct samples *samples,
                    const struct dml_train_options *train, const char *optimizer)
{
    struct left after = steps(m, samples, train, false), within = steps(m, samples, train, true);
    size_t off = 0, n_grad = dml_model_n_params(m), n_left = 0;
    for (size_t i = 0; i < after.n; i++) {
        off += memcmp(&after.all[i], &within.all[i], sizeof(float)) != 0;
        n_left += i >= after.n - n_grad && within.all[i] != 0.0f;
    }
    tap_ok(off == 0 && n_left == 0,
           "%s, batch %llu in %zu chunks, %s%s: %zu of %zu numbers differ, %zu gradients are left",
           dml_model_name(m), (unsigned long long)train->batch_size, after.n_chunks, optimizer,
           train->recompute == DML_RECOMPUTE_OFF ? "" : ", recompute", off, after.n, n_left);
    if (after.n_within != 0 || within.n_within != STEPS)
        tap_ok(false, "updated within backward: got %u and %u steps, wanted 0 and %u",
               after.n_within, within.n_within, STEPS);
    free(after.all);
    free(within.all);
}

static void test_model(const char *name, size_t batch, size_t i_optimizer, int recompute)
{
    struct dml_train_options train = {0};
    struct dml_model *m = part_model(name);
    if (!m || dml_opt_defaults(dml_train_opts, &train) < 0)
        return;
    size_t d = dml_model_n_inputs(m);
    struct samples s = {.d = d,
                        .x = dml_mem_floats(batch * d),
                        .targets = dml_mem_floats(batch),
                        .labels = dml_mem_array(batch, sizeof(int32_t))};
    part_data(m, batch, 1, s.x, s.labels, s.targets);
    train.batch_size = batch;
    train.optimizer = optimizers[i_optimizer].optimizer;
    train.momentum = optimizers[i_optimizer].momentum;
    train.weight_decay = optimizers[i_optimizer].decay;
    train.recompute = recompute;
    compare(m, &s, &train, optimizers[i_optimizer].name);
    free(s.x);
    free(s.targets);
    free(s.labels);
    dml_opt_done(dml_train_opts, &train);
    dml_model_free(m);
}

int main(void)
{
    for (size_t i = 0; models[i]; i++) {
        for (size_t k = 0; k < 4; k++)
            test_model(models[i], k % 2 ? 4 : 11, k, DML_RECOMPUTE_OFF);
        test_model(models[i], 70, i % 4, DML_RECOMPUTE_OFF);
        test_model(models[i], 5, i % 4, DML_RECOMPUTE_BLOCKS);
    }
    test_model("sdss-mlp", 600, 2, DML_RECOMPUTE_OFF);
    for (size_t i = 0; dml_kernel_nth(i); i++) { /* what SGD and a product do at once */
        (void)setenv("DML_KERNEL", dml_kernel_nth(i)->name, 1);
        tap_note("%s", dml_kernel_get()->name);
        for (size_t batch = 1; batch <= 5; batch++)
            test_model(models[batch % 2 ? 0 : 4], batch, 0, DML_RECOMPUTE_OFF);
        test_model(odd, 4, 4, DML_RECOMPUTE_OFF);
    }
    return tap_done();
}
