/*
 * The parameter server against what it must be equal to, and what must hold where nothing can be
 * equal: bounded delay stays within its bound, and training comes to something.
 */
#include <errno.h>
#include <string.h>

#include "lab.h"
#include "plain.h"
#include "rpc/comm_local.h"
#include "tests/tap.h"

/* Rounding: gradients are added in another order. Measured: below 1e-6. */
#define ROUNDING 1e-5

#define SERVER "[parallel]\nparadigm = server\n"

/* Staleness 0 is one process with the minibatches of all. */
static void check_synchronous(const char *text, const char *what)
{
    struct lab lab;
    lab_init(&lab, text);
    if (tap_int(lab_run(&lab), 0, what)) {
        struct plain plain = {0};
        plain_train(&plain, &lab, (unsigned)lab.cases->cases[0].testcase.nodes, 1);
        double distance = plain_differs(&plain, lab.trained->vec, &(size_t){0});
        plain_done(&plain);
        tap_ok(distance < ROUNDING, "is one process with all minibatches: %.2g apart", distance);
    } else {
        tap_note("%s", lab.err.text);
    }
    lab_done(&lab);
}

static void test_synchronous(void)
{
    check_synchronous("[testcase]\nnodes = 1\ncores = 1\n" SERVER
                      "[train]\nrounds = 2\nbatch-size = 7\nmomentum = 0.9\n",
                      "one worker, SGD with momentum");
    check_synchronous("[testcase]\nnodes = 3\ncores = 3\n" SERVER
                      "[train]\nrounds = 3\nlocal-epochs = 2\nbatch-size = 7\nmomentum = 0.9\n"
                      "schedule = cosine\n",
                      "three workers, SGD with momentum, cosine schedule");
    check_synchronous("[testcase]\nnodes = 4\ncores = 4\n" SERVER
                      "[train]\nrounds = 3\nbatch-size = 5\noptimizer = adam\n"
                      "learning-rate = 0.01\n",
                      "four workers, Adam");
    check_synchronous("[testcase]\nnodes = 3\ncores = 3\n" SERVER
                      "[data]\npartition = unequal\nalpha = 0.5\n[train]\nrounds = 3\n"
                      "batch-size = 4\nmomentum = 0\n",
                      "three workers with unequal shards");
}

static void test_same_bits(void)
{
    static const char text[] = "[testcase]\nnodes = 3\ncores = 3\n" SERVER
                               "significance = 0.02\n[train]\nrounds = 3\nbatch-size = 4\n";
    struct lab a, b;
    lab_init(&a, text);
    lab_init(&b, text);
    tap_int(lab_run(&a), 0, "synchronous with a filter runs");
    tap_int(lab_run(&b), 0, "and again");
    tap_int((long long)lab_differs(a.trained->vec, b.trained->vec,
                                   dml_model_n_vec(a.trained->model)),
            0, "same seed, same bits");
    lab_done(&a);
    lab_done(&b);
}

/* Loss on the test set of a run, and how much went over the network. */
static double run_loss(const char *what, const char *text, uint64_t *ret_bytes)
{
    struct lab lab;
    lab_init(&lab, text);
    int r = lab_run(&lab);
    if (!tap_int(r, 0, what))
        tap_note("%s", lab.err.text);
    double loss = r == 0 ? lab.totals.loss : 1e9;
    *ret_bytes = lab.totals.sent_bytes + lab.totals.received_bytes;
    lab_done(&lab);
    return loss;
}

#define TRAINING "[train]\nrounds = 20\nbatch-size = 4\nlearning-rate = 0.1\nmomentum = 0\n"
#define THREE    "[testcase]\nnodes = 3\ncores = 3\n" SERVER

static void test_staleness_trains(void)
{
    uint64_t bytes, filtered;
    /* log 3 = 1.1 is the loss of knowing nothing. */
    double sync = run_loss("synchronous", THREE "staleness = 0\n" TRAINING, &bytes);
    double bounded = run_loss("bounded delay", THREE "staleness = 3\n" TRAINING, &bytes);
    double unbounded = run_loss("no bound", THREE "staleness = unbounded\n" TRAINING, &bytes);
    double some = run_loss("filter", THREE "staleness = 0\nsignificance = 0.01\n" TRAINING, &filtered);
    tap_note("loss: synchronous %.4f, bounded %.4f, unbounded %.4f, filtered %.4f", sync, bounded,
             unbounded, some);
    tap_ok(sync < 0.9, "synchronous training learns");
    tap_ok(bounded < 0.9, "so does bounded delay");
    tap_ok(unbounded < 0.9, "and no bound at all");
    tap_ok(some < 0.9, "and a filter");
    tap_ok(filtered < bytes, "which saves bytes: %llu instead of %llu",
           (unsigned long long)filtered, (unsigned long long)bytes);
}

int main(void)
{
    test_synchronous();
    test_same_bits();
    test_staleness_trains();
    return tap_done();
}
