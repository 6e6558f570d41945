/*
 * A run whose last step takes it beyond all numbers: the loss that training saw was of the
 * parameters before, and the parameters themselves are finite. Only the test set shows it, and no
 * paradigm may call that a success.
 */
#include <errno.h>

#include "lab.h"
#include "tests/tap.h"

/* Adam's first step moves every parameter by the learning rate, and each of 16 products then
 * multiplies by some thousands: beyond 1e38 after ten. */
#define DEEP "name deep\ninput 4\nrepeat 15\nlinear 16\nend\nlinear 3\n"
#define ONE_STEP                                                                                   \
    "[train]\nrounds = 1\nbatch-size = 1000\noptimizer = adam\nlearning-rate = 1000\n[parallel]\n"

static const struct {
    const char *name, *text;
} paradigms[] = {
    {"standalone", "[testcase]\nnodes = 1\ncores = 1\n" ONE_STEP "paradigm = standalone\n"},
    {"federated", "[testcase]\nnodes = 2\ncores = 2\n" ONE_STEP "paradigm = federated\n"},
    {"allreduce", "[testcase]\nnodes = 2\ncores = 2\n" ONE_STEP "paradigm = allreduce\n"},
    {"server", "[testcase]\nnodes = 2\ncores = 2\n" ONE_STEP "paradigm = server\n"},
    {"pipeline", "[testcase]\nnodes = 2\ncores = 2\n" ONE_STEP "paradigm = pipeline\n"},
    {"ring", "[testcase]\nnodes = 2\ncores = 2\n" ONE_STEP "paradigm = ring\n"},
    {"hybrid", "[testcase]\nnodes = 4\ncores = 4\n" ONE_STEP "paradigm = hybrid\nreplicas = 2\n"},
};

int main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(paradigms); i++) {
        struct lab lab;
        lab_init_model(&lab, DEEP, paradigms[i].text);
        int r = lab_run(&lab);
        tap_note("%s", paradigms[i].name);
        if (r == 0)
            tap_note("training saw a loss of %g, the test set shows %g", lab.rounds[0].loss,
                     lab.totals.loss);
        tap_int(r, -ERANGE, "a run that diverged in its last step failed");
        tap_has(lab.err.text, "training diverged in round 1", "it says when");
        tap_has(lab.err.text, "lower learning-rate (now 1000)", "and what to do");
        lab_done(&lab);
    }
    return tap_done();
}
