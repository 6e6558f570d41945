/*
 * A node is lost in the middle of a pipeline, stands still, or comes back. Its layers go to the
 * others, its data too, and since a leg is done again from the agreed state nothing of it shows in
 * the model: it is what sequential training comes to. A test that hangs is ended by its alarm.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "sequential.h"
#include "tests/tap.h"

#define MODEL                                                                                      \
    "name deep\ninput 4\nlinear 12\ntanh\nlinear 12\ntanh\nlinear 8\ntanh\nlinear 8\ntanh\n"       \
    "linear 3\n"
#define CASE                                                                                       \
    "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = 3\nbatch-size = 8\nmomentum = 0.9\n"      \
    "learning-rate = 0.05\n[parallel]\nmicro-batches = 4\n"

/* With 96 samples and minibatches of 8 a round has 12 steps, of 4 messages by the first and the
 * last stage, of 8 by the one between. */
#define ROUND 48

static void compare(struct lab *lab, const char *what)
{
    struct sequential want = sequential_train(lab, 1, 4);
    double most = 0.0;
    for (size_t i = 0; i < dml_model_n_vec(lab->trained->model); i++)
        most = fmax(most, fabs((double)lab->trained->vec[i] - (double)want.vec[i]));
    tap_near(most, 0.0, 1e-6, what); /* a rounding of values about 1, some times over */
    free(want.vec);
}

static void test_death(const char *paradigm, uint32_t rank, unsigned at)
{
    struct lab lab;
    struct fault fault = {.kind = FAULT_DIE, .rank = rank, .at = at};
    _cleanup_(dml_mem_freep) char *text = dml_mem_printf(CASE "%s", paradigm);
    lab_init_model(&lab, MODEL, text);
    tap_note("node %u dies with its message %u", rank, at);
    if (tap_int(fault_run(&lab, &fault), 0, "the others go on")) {
        tap_int(lab.totals.n_lost, 1, "the totals count it");
        tap_int(lab.rounds[lab.n_rounds - 1].n_participants, 2, "two share its layers");
        compare(&lab, "no sample and no step is lost");
    } else {
        tap_note("%s", lab.err.text);
    }
    lab_done(&lab);
}

static void test_wait(void)
{
    struct lab lab;
    struct fault fault = {.kind = FAULT_DIE, .rank = 1, .at = ROUND + 5, .comes_back = true};
    lab_init_model(&lab, MODEL,
                   CASE "paradigm = pipeline\ncheckpoint-steps = 5\n[cluster]\non-loss = wait\n");
    if (tap_int(fault_run(&lab, &fault), 0, "a run waits for its first stage to come back")) {
        tap_int(lab.rounds[1].n_participants, 3, "three in the round in which it died");
        compare(&lab, "and goes on from the last checkpoint");
    } else {
        tap_note("%s", lab.err.text);
    }
    lab_done(&lab);
}

/* While the other tests run it waits for its deadline, which is generous: who is merely starved of
 * a processor must not be taken for one that stands still. */
static void begin_stop(struct fault_scene *s)
{
    s->fault = (struct fault){.kind = FAULT_STOP, .rank = 2, .at = ROUND};
    lab_init_model(&s->lab, MODEL, CASE "paradigm = pipeline\n[cluster]\nstep-deadline = 2 s\n");
    fault_begin(s);
}

static void test_stop(struct fault_scene *s)
{
    if (tap_int(fault_end(s), 0, "a stage that stands still is left out")) {
        tap_has(s->lab.lost, "worker 2 lost", "the record names it");
        compare(&s->lab, "and nothing is lost by it");
    } else {
        tap_note("%s", s->lab.err.text);
    }
    lab_done(&s->lab);
}

/* Of 2 × 2 nodes three are left: one whole replica goes on with its own data. */
static void test_hybrid(void)
{
    static const uint32_t ranks[] = {1, 2, 4};
    for (size_t i = 0; i < ARRAY_SIZE(ranks); i++) {
        struct lab lab;
        struct fault fault = {.kind = FAULT_DIE, .rank = ranks[i], .at = ROUND};
        lab_init_model(&lab, MODEL,
                       "[testcase]\nnodes = 4\ncores = 4\n[train]\nrounds = 3\nbatch-size = 4\n"
                       "[parallel]\nparadigm = hybrid\nreplicas = 2\nmicro-batches = 2\n");
        if (tap_int(fault_run(&lab, &fault), 0, "a hybrid outlives a node")) {
            tap_int(lab.rounds[lab.n_rounds - 1].n_participants, 2, "as one pipeline of two");
            tap_ok(isfinite(lab.totals.loss) && lab.totals.loss < lab.rounds[0].loss,
                   "which goes on learning: loss %g, then %g", lab.rounds[0].loss,
                   lab.totals.loss);
        } else {
            tap_note("%s", lab.err.text);
        }
        lab_done(&lab);
    }
}

int main(void)
{
    static struct fault_scene stop;
    (void)alarm(120);
    begin_stop(&stop);
    for (uint32_t rank = 1; rank <= 3; rank++) {
        test_death("paradigm = pipeline\n", rank, 0);
        test_death("paradigm = pipeline\n", rank, ROUND + 6);
    }
    test_death("paradigm = ring\nchunks = 2\n", 1, 2 * ROUND + 3);
    test_death("paradigm = ring\nchunks = 2\n", 3, ROUND + 1);
    test_wait();
    test_hybrid();
    test_stop(&stop);
    return tap_done();
}
