/*
 * All-reduce on R workers with minibatches of B against one process with minibatches of R·B, and
 * against itself: the same bits in each repeat, whatever the size of the buckets, with and without
 * overlap.
 */
#include <string.h>

#include "lab.h"
#include "paradigm/collective.h"
#include "paradigm/legs.h"
#include "plain.h"
#include "rpc/inbox.h"
#include "tests/tap.h"

#define MLP "name lab\ninput 4\nlinear 8\nrelu\nlinear 3\nloss cross-entropy\n"
/* The CNN of the source paper, smaller. */
#define CNN                                                                                        \
    "name lab\ninput 3 12 12\nconv 4 kernel 3\nrelu\nmax-pool 2\nconv 6 kernel 3\nrelu\n"          \
    "linear 40\nrelu\nlinear 3\nloss cross-entropy\n"
#define RESIDUAL                                                                                   \
    "name lab\ninput 3 12 12\nconv 4 kernel 3 padding 1\nrelu\nresidual\nconv 4 kernel 3 padding " \
    "1\nrelu\nconv 4 kernel 3 padding 1\nend\nrelu\nresidual\nconv 6 kernel 3 stride 2 padding "   \
    "1\nshortcut\nconv 6 kernel 1 stride 2\nend\nrelu\nlinear 3\nloss cross-entropy\n"
#define NORMED                                                                                     \
    "name lab\ninput 3 12 12\nconv 4 kernel 3\nbatch-norm\nrelu\nlinear 3\nloss cross-entropy\n"

/* 97 of 121 samples for training: shards differ by one sample wherever they can. */
#define TABLE  "[data]\ndataset = synth\nsynth-samples = 121\nsynth-features = 4\nsynth-classes = 3\n"
#define IMAGES "[data]\ndataset = synth-images\nsynth-samples = 121\nsynth-features = 432\nsynth-classes = 3\n"

#define SGD  "optimizer = sgd\nmomentum = 0.9\nlearning-rate = 0.05\n"
#define ADAM "optimizer = adam\nlearning-rate = 0.01\n"

static void set_up(struct lab *lab, const char *model, const char *data, unsigned nodes,
                   const char *train, const char *parallel)
{
    _cleanup_(dml_mem_freep) char *text = dml_mem_printf(
        "%s[testcase]\nnodes = %u\ncores = %u\n[train]\nrounds = 2\nbatch-size = 7\n"
        "schedule = step\nstep-epochs = 1\nstep-factor = 0.5\n%s"
        "[parallel]\nparadigm = allreduce\n%s",
        data, nodes, nodes, train, parallel);
    lab_init_model(lab, model, text);
}

/*
 * Sums are made in another order here and there: each gradient is off by some 2^-24 of its terms,
 * and later steps start from there. Adam divides by the root of what may itself be rounding, so a
 * parameter whose gradient all but vanishes may go its whole step of learning-rate another way.
 */
static void compare(const char *name, const char *model, const char *data, unsigned nodes,
                    const char *train, unsigned accumulate, double tolerance)
{
    struct lab lab;
    struct plain plain = {0};
    size_t at;
    char what[120], parallel[80];
    snprintf(parallel, sizeof(parallel), "accumulate = %u\nbucket = 4 KiB\n", accumulate);
    snprintf(what, sizeof(what), "%s on %u, %.14s, accumulate %u", name, nodes, train, accumulate);
    for (char *p = what; *p; p++)
        *p = *p == '\n' ? ' ' : *p;
    set_up(&lab, model, data, nodes, train, parallel);
    int r = lab_run(&lab);
    if (!tap_int(r, 0, what)) {
        tap_note("%s", lab.err.text);
        lab_done(&lab);
        return;
    }
    plain_train(&plain, &lab, nodes, accumulate);
    double d = plain_differs(&plain, lab.trained->vec, &at);
    tap_note("largest difference %.3g, at %zu: %.9g, wanted %.9g", d, at,
             (double)lab.trained->vec[at], (double)plain.vec[at]);
    tap_near(d, 0.0, tolerance, "the parameters of one process");
    tap_near(lab.rounds[1].loss, plain.loss[1], 1e-4, "its training loss in round 2");
    tap_int(lab.rounds[1].n_participants, nodes, "all took part");
    uint64_t n = 0;
    for (unsigned i = 0; i < nodes; i++)
        n += lab.workers[1][i].n_samples;
    tap_int((long long)n, 97, "each sample came once in the epoch");
    plain_done(&plain);
    lab_done(&lab);
}

static void test_equal(void)
{
    for (unsigned R = 1; R <= 4; R++) {
        for (unsigned accumulate = 1; accumulate <= 3; accumulate += 2) {
            compare("MLP", MLP, TABLE, R, SGD, accumulate, 1e-5);
            compare("MLP", MLP, TABLE, R, ADAM, accumulate, 1e-4);
            compare("CNN", CNN, IMAGES, R, SGD, accumulate, 1e-5);
            compare("CNN", CNN, IMAGES, R, ADAM, accumulate, 1e-4);
            compare("residual", RESIDUAL, IMAGES, R, SGD, accumulate, 1e-5);
            compare("residual", RESIDUAL, IMAGES, R, ADAM, accumulate, 1e-4);
        }
    }
}

/* The bits of a run, for others to be compared with. Returns false when it failed. */
static bool bits_of(const char *model, unsigned nodes, const char *train, const char *parallel,
                    float **ret, size_t *ret_n)
{
    struct lab lab;
    set_up(&lab, model, IMAGES, nodes, train, parallel);
    bool ok = tap_int(lab_run(&lab), 0, parallel);
    if (!ok)
        tap_note("%s", lab.err.text);
    *ret_n = ok ? dml_model_n_vec(lab.trained->model) : 0;
    *ret = dml_mem_floats(*ret_n);
    if (ok)
        memcpy(*ret, lab.trained->vec, *ret_n * sizeof(float));
    lab_done(&lab);
    return ok;
}

/* Batch-norm and dropout included. */
static void test_same_bits(void)
{
    static const char *const same[] = {
        "bucket = 4 KiB\n", "bucket = 4 KiB\noverlap = no\n", "bucket = 4 KiB\n",
        "bucket = 4 KiB\ncheckpoint-steps = 1000\n"};
    static const char model[] =
        "name lab\ninput 3 12 12\nconv 8 kernel 3\nbatch-norm\nrelu\ndropout 0.3\nlinear 20\n"
        "relu\nlinear 3\nloss cross-entropy\n";
    float *want, *got;
    size_t n, n_got;
    if (!bits_of(model, 3, ADAM, same[0], &want, &n))
        return;
    for (size_t i = 1; i < ARRAY_SIZE(same); i++) {
        if (bits_of(model, 3, ADAM, same[i], &got, &n_got))
            tap_int((long long)lab_differs(got, want, n), 0, "gives the same bits");
        free(got);
    }
    if (bits_of(model, 3, ADAM "seed = 2\n", same[0], &got, &n_got))
        tap_ok(lab_differs(got, want, n) > 0, "another seed gives others");
    free(got);
    free(want);
}

/*
 * Running statistics: those of one minibatch of each worker, averaged. With one step in the run
 * they can be worked out: three workers' minibatches, each on its own.
 */
static void test_batch_norm(void)
{
    struct lab lab;
    double mean[3] = {0.0}; /* of channel 0, worker by worker */
    static const char one[] = "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = 1\n"
                              "batch-size = 64\nlearning-rate = 1e-12\n"
                              "[parallel]\nparadigm = allreduce\n";
    _cleanup_(dml_mem_freep) char *text = dml_mem_printf("%s%s", IMAGES, one);
    lab_init_model(&lab, NORMED, text);
    tap_int(lab_run(&lab), 0, "a step of three workers with batch-norm");
    size_t P = dml_model_n_params(lab.trained->model);
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    lab_data(&lab, &train, &test);
    _cleanup_(dml_shards_freep) struct dml_shards *shards = NULL;
    const struct dml_testcase *tc = &lab.cases->cases[0];
    tap_int(dml_shard_make(train, &tc->data, tc->data.split_seed, 3, &shards, &lab.err), 0,
            "its shards");
    for (unsigned r = 0; shards && r < 3; r++) {
        _cleanup_(dml_dataset_freep) struct dml_dataset *shard =
            dml_dataset_subset(train, shards->index[r], shards->n[r]);
        struct dml_trainer_cpu cpu = {.n_threads = 1, .duty = 1.0};
        _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
        struct dml_trainer_result fit;
        if (dml_trainer_new(lab.trained->model, shard, &tc->train, &tc->data, r + 1, &cpu, &t,
                            &lab.err) < 0)
            continue;
        dml_model_init(lab.trained->model, dml_trainer_vec(t), tc->train.seed);
        (void)dml_trainer_fit(t, 0, 1, 1, NULL, &fit);
        mean[r] = (double)dml_trainer_vec(t)[P];
    }
    tap_note("means %.6g %.6g %.6g", mean[0], mean[1], mean[2]);
    tap_ok(mean[0] != mean[1] && mean[1] != mean[2], "each worker sees other statistics");
    tap_near((double)lab.trained->vec[P], (mean[0] + mean[1] + mean[2]) / 3.0, 1e-6,
             "the model has their mean");
    lab_done(&lab);
}

/* Bytes of a worker in a round, as the paper has it. */
static void test_bytes(void)
{
    for (unsigned R = 1; R <= 4; R++) {
        struct lab lab;
        set_up(&lab, CNN, IMAGES, R, SGD, "bucket = 4 KiB\n");
        tap_int(lab_run(&lab), 0, "a run to be counted");
        uint64_t P = dml_model_n_params(lab.trained->model), steps = (97 + 7 * R - 1) / (7 * R);
        if ((97 + R - 1) / R > steps * 7)
            steps++;
        uint64_t buckets = (P * sizeof(float) + 4095) / 4096, all = 0;
        struct dml_comm_msg peer = {.n_meta = DML_PEER_N_};
        uint64_t messages = 2 * (uint64_t)(R - 1) * R * buckets * steps;
        for (unsigned i = 0; i < R; i++)
            all += lab.workers[1][i].sent_bytes;
        /* An answer, with the state, goes to the master after its own numbers were taken. */
        tap_note("P = %llu, %llu steps, %llu buckets", (unsigned long long)P,
                 (unsigned long long)steps, (unsigned long long)buckets);
        tap_int((long long)all,
                (long long)(steps * 2 * (R - 1) * P * sizeof(float) +
                            messages * dml_inbox_cost(&peer)),
                "gradients of all workers: 2 (R-1) P floats a step, and headers");
        lab_done(&lab);
    }
}

/* Short legs, local epochs, few samples: what is odd about numbers. */
static void test_odd(void)
{
    static const struct {
        const char *what, *text;
    } rows[] = {
        {"legs of three steps", "[testcase]\nnodes = 2\ncores = 2\n[train]\nrounds = 2\nbatch-size = "
                                "8\n[parallel]\nparadigm = allreduce\ncheckpoint-steps = 3\n"},
        {"two epochs a round", "[testcase]\nnodes = 2\ncores = 2\n[train]\nrounds = 2\nlocal-epochs "
                               "= 2\nbatch-size = 8\n[parallel]\nparadigm = allreduce\n"},
        {"a batch of everything", "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = 2\nbatch-size "
                                  "= 1000\n[parallel]\nparadigm = allreduce\n"},
        {"shards of other sizes", "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = 2\nbatch-size "
                                  "= 8\n[data]\npartition = unequal\nalpha = "
                                  "0.3\n[parallel]\nparadigm = allreduce\n"},
        {"accumulate more than there is",
         "[testcase]\nnodes = 2\ncores = 2\n[train]\nrounds = 2\nbatch-size = 8\n"
         "[parallel]\nparadigm = allreduce\naccumulate = 1000\n"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct lab lab;
        struct plain plain = {0};
        size_t at;
        lab_init(&lab, rows[i].text);
        const struct dml_testcase *tc = &lab.cases->cases[0];
        if (tap_int(lab_run(&lab), 0, rows[i].what)) {
            plain_train(&plain, &lab, (unsigned)tc->testcase.nodes,
                        (unsigned)tc->parallel.accumulate);
            double d = plain_differs(&plain, lab.trained->vec, &at);
            tap_note("largest difference %.3g", d);
            tap_near(d, 0.0, 1e-5, "the parameters of one process");
            tap_int(lab.n_rounds, 2, "two rounds");
            plain_done(&plain);
        } else {
            tap_note("%s", lab.err.text);
        }
        lab_done(&lab);
    }
}

int main(void)
{
    test_equal();
    test_same_bits();
    test_batch_norm();
    test_bytes();
    test_odd();
    return tap_done();
}
