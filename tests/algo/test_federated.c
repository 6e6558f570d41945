/*
 * Federated learning and the standalone baseline against what they must be equal to, worked out
 * here with nothing but a trainer. "Equal" is to the last bit: every step is deterministic.
 */
#include <errno.h>
#include <string.h>

#include "lab.h"
#include "tests/tap.h"

/* The trainer that rank `rank` of the case would make on `ds`. */
static struct dml_trainer *make_trainer(struct lab *lab, const struct dml_model *m,
                                        const struct dml_dataset *ds, uint64_t rank)
{
    const struct dml_testcase *tc = &lab->cases->cases[0];
    struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 1.0};
    struct dml_trainer *t = NULL;
    if (dml_trainer_new(m, ds, &tc->train, &tc->data, rank, &cpu, &t, &lab->err) < 0) {
        printf("Bail out! no trainer: %s\n", lab->err.text);
        exit(1);
    }
    return t;
}

static void compare(struct lab *lab, const float *want, const char *what)
{
    size_t n = dml_model_n_vec(lab->trained->model);
    size_t differs = lab_differs(lab->trained->vec, want, n);
    tap_note("first values %.9g %.9g, wanted %.9g %.9g", lab->trained->vec[0], lab->trained->vec[1],
             want[0], want[1]);
    tap_int((long long)differs, 0, what);
}

/* One worker, one epoch a round: each round is an epoch of plain SGD. */
static void test_one_worker_is_sgd(void)
{
    struct lab lab;
    lab_init(&lab, "[testcase]\nnodes = 1\ncores = 1\n[train]\nrounds = 4\nlocal-epochs = 1\n"
                   "batch-size = 7\nmomentum = 0\nlearning-rate = 0.1\n");
    tap_int(lab_run(&lab), 0, "federated with one worker runs");

    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(&lab);
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    lab_data(&lab, &train, &test);
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = make_trainer(&lab, m, train, 1);
    dml_model_init(m, dml_trainer_vec(t), lab.cases->cases[0].train.seed);
    struct dml_trainer_result fit;
    for (uint64_t epoch = 0; epoch < 4; epoch++)
        (void)dml_trainer_fit(t, epoch, 1, 4, NULL, &fit);
    compare(&lab, dml_trainer_vec(t), "one worker, one epoch a round = SGD");
    tap_int(lab.n_rounds, 4, "a record for each round");
    tap_ok(lab.rounds[3].evaluated, "the last round is evaluated");
    tap_near(lab.rounds[3].accuracy, lab.totals.accuracy, 0, "totals carry its accuracy");
    lab_done(&lab);
}

/* Three workers with unequal shards against Algorithm 1, written out. */
static void test_three_workers_are_fedavg(void)
{
    struct lab lab;
    lab_init(&lab, "[testcase]\nnodes = 3\ncores = 3\n[data]\npartition = unequal\nalpha = 0.5\n"
                   "[train]\nrounds = 3\nlocal-epochs = 2\nbatch-size = 8\nmomentum = 0.9\n");
    tap_int(lab_run(&lab), 0, "federated with three workers runs");

    const struct dml_testcase *tc = &lab.cases->cases[0];
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(&lab);
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    lab_data(&lab, &train, &test);
    _cleanup_(dml_shards_freep) struct dml_shards *shards = NULL;
    tap_int(dml_shard_make(train, &tc->data, tc->data.split_seed, 3, &shards, &lab.err), 0,
            "the same shards");
    tap_note("shards of %zu, %zu and %zu samples", shards->n[0], shards->n[1], shards->n[2]);
    tap_ok(shards->n[0] != shards->n[2], "shards are unequal, so that weights matter");

    size_t n = dml_model_n_vec(m);
    _cleanup_(dml_mem_freep) float *global = dml_mem_floats(n);
    _cleanup_(dml_mem_freep) double *sum = dml_mem_array(n, sizeof(double));
    struct dml_dataset *own[3];
    struct dml_trainer *t[3];
    dml_model_init(m, global, tc->train.seed);
    for (size_t k = 0; k < 3; k++) {
        own[k] = dml_dataset_subset(train, shards->index[k], shards->n[k]);
        t[k] = make_trainer(&lab, m, own[k], k + 1);
    }
    for (uint64_t round = 0; round < 3; round++) {
        memset(sum, 0, n * sizeof(*sum));
        for (size_t k = 0; k < 3; k++) {
            struct dml_trainer_result fit;
            memcpy(dml_trainer_vec(t[k]), global, n * sizeof(float));
            dml_trainer_reset_optimizer(t[k]);
            (void)dml_trainer_fit(t[k], round * 2, 2, 6, NULL, &fit);
            for (size_t i = 0; i < n; i++)
                sum[i] += (double)shards->n[k] * (double)dml_trainer_vec(t[k])[i];
        }
        for (size_t i = 0; i < n; i++)
            global[i] = (float)(sum[i] / (double)train->n_samples);
    }
    compare(&lab, global, "three workers = Algorithm 1 of McMahan et al.");
    for (size_t k = 0; k < 3; k++) {
        dml_trainer_free(t[k]);
        dml_dataset_free(own[k]);
    }
    lab_done(&lab);
}

/* Standalone is one unbroken training: momentum lives across rounds. */
static void test_standalone_is_sgd(void)
{
    struct lab lab;
    lab_init(&lab, "[testcase]\nnodes = 1\ncores = 1\n[parallel]\nparadigm = standalone\n"
                   "[train]\nrounds = 3\nlocal-epochs = 2\nbatch-size = 8\nmomentum = 0.9\n");
    tap_int(lab_run(&lab), 0, "standalone runs");
    _cleanup_(dml_model_freep) struct dml_model *m = lab_model(&lab);
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    lab_data(&lab, &train, &test);
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = make_trainer(&lab, m, train, 1);
    dml_model_init(m, dml_trainer_vec(t), lab.cases->cases[0].train.seed);
    struct dml_trainer_result fit;
    (void)dml_trainer_fit(t, 0, 6, 6, NULL, &fit);
    compare(&lab, dml_trainer_vec(t), "standalone = six epochs in one go");
    tap_int(lab.n_rounds, 3, "a record for each round");
    tap_ok(!lab.rounds[0].evaluated && lab.rounds[2].evaluated,
           "only the end is evaluated: nothing moves before");
    lab_done(&lab);
}

static void test_same_seed_same_bits(void)
{
    static const char text[] = "[testcase]\nnodes = 3\ncores = 6\n[train]\nrounds = 3\n"
                               "batch-size = 16\noptimizer = adam\n";
    struct lab a, b, c;
    lab_init(&a, text);
    lab_init(&b, text);
    lab_init(&c, "[testcase]\nnodes = 3\ncores = 6\n[train]\nrounds = 3\nbatch-size = 16\n"
                 "optimizer = adam\nseed = 99\n");
    /* Two threads per worker; a machine with one core refuses, as it should. */
    int r = lab_run(&a);
    if (r == -EINVAL || (r < 0 && strstr(a.err.text, "cores"))) {
        tap_skip("two threads per worker need two cores: %s", a.err.text);
    } else {
        tap_int(r, 0, "three workers with two threads each run");
        tap_int(lab_run(&b), 0, "and again");
        tap_int(lab_run(&c), 0, "and with another seed");
        compare(&a, b.trained->vec, "same seed, same bits");
        size_t n = dml_model_n_vec(a.trained->model);
        tap_ok(lab_differs(a.trained->vec, c.trained->vec, n) > n / 2, "another seed, other bits");
    }
    lab_done(&a);
    lab_done(&b);
    lab_done(&c);
}

static void test_divergence_is_told(void)
{
    struct lab lab;
    lab_init(&lab,
             "[testcase]\nnodes = 2\ncores = 2\n[train]\nrounds = 30\n"
             "learning-rate = 1000\nmomentum = 0.99\nbatch-size = 4\n[data]\nsynth-noise = 9\n");
    int r = lab_run(&lab);
    if (r == 0)
        tap_note("loss %g", lab.totals.loss);
    tap_ok(r == -ERANGE, "a diverged run ends");
    tap_has(lab.err.text, "lower learning-rate", "and says what to do");
    lab_done(&lab);
}

/* placement = local: every worker reads the files itself, below its own data_dir. */
static void test_local_placement(void)
{
    struct lab lab;
    lab_init(&lab, "[testcase]\nnodes = 2\ncores = 2\n[data]\ndataset = csv\npath = table.csv\n"
                   "placement = local\n[train]\nrounds = 2\n");
    char path[128];
    snprintf(path, sizeof(path), "%s/table.csv", lab.dir);
    FILE *f = fopen(path, "w");
    if (!f) {
        tap_ok(false, "cannot write %s", path);
        lab_done(&lab);
        return;
    }
    fputs("a,b,c,d,class\n", f);
    for (int i = 0; i < 60; i++)
        fprintf(f, "%d,%d,%d,%d,%s\n", i, i * i % 7, i % 3, i % 5,
                (const char *[]){"x", "y", "z"}[i % 3]);
    fclose(f);
    lab.env.data_dir = lab.dir;
    tap_int(lab_run(&lab), 0, "both find the file below their data_dir");
    if (dml_err_is_set(&lab.err))
        tap_note("%s", lab.err.text);
    lab.env.data_dir = "/nonexistent";
    dml_run_env_done(&lab.env);
    tap_ok(lab_run(&lab) < 0, "and nowhere else");
    tap_has(lab.err.file, "/nonexistent/table.csv", "and it is named");
    (void)remove(path);
    lab_done(&lab);
}

int main(void)
{
    test_one_worker_is_sgd();
    test_three_workers_are_fedavg();
    test_standalone_is_sgd();
    test_same_seed_same_bits();
    test_divergence_is_told();
    test_local_placement();
    return tap_done();
}
