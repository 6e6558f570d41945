/*
 * A worker is lost in the middle of a collective, stands still, or cannot reach another: the run
 * goes on from the last agreed state, or ends with a sentence that says who. Nothing hangs: a test
 * that does is ended by its alarm.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "plain.h"
#include "tests/tap.h"

#define CASE                                                                                       \
    "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = 4\nbatch-size = 4\nlearning-rate = "      \
    "0.05\n"                                                                                       \
    "[parallel]\nparadigm = allreduce\n"

/* With 32 samples each and minibatches of 4 a round has 8 steps, of 4 messages in a ring of 3. */
#define ROUND 32

static void compare(struct lab *lab, const struct plain *plain, const char *what)
{
    size_t at;
    double d = plain_differs(plain, lab->trained->vec, &at);
    tap_note("largest difference %.3g, at %zu", d, at);
    tap_near(d, 0.0, 1e-5, what); /* rounding: see test_allreduce */
}

/* In a step's first message, in between, and in its last; in the first step, and between legs. */
static void test_death(void)
{
    static const unsigned at[] = {0, ROUND, ROUND + 1, ROUND + 2, ROUND + 3, 2 * ROUND - 1};
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        struct lab lab;
        unsigned lost_in = at[i] / ROUND; /* round, from 0 */
        struct fault fault = {.kind = FAULT_DIE, .rank = 2, .at = at[i]};
        struct plain plain = {.absent = 2, .absent_from = lost_in};
        lab_init(&lab, CASE);
        tap_note("killed with its message %u", at[i]);
        if (tap_int(fault_run(&lab, &fault), 0, "a run outlives the death of a worker")) {
            tap_int(lab.n_rounds, 4, "all rounds are there");
            tap_int(lab.rounds[lost_in].n_participants, 2, "two in the round in which it died");
            tap_int(lab.rounds[3].n_participants, 2, "two in the last");
            tap_int(lab.totals.n_lost, 1, "the totals count it");
            plain_train(&plain, &lab, 3, 1);
            compare(&lab, &plain, "from the last agreed state, without its samples");
            plain_done(&plain);
        } else {
            tap_note("%s", lab.err.text);
        }
        lab_done(&lab);
    }
}

/* With a checkpoint every 3 steps only the leg is done again. */
static void test_death_between_checkpoints(void)
{
    struct lab lab;
    struct fault fault = {.kind = FAULT_DIE, .rank = 3, .at = ROUND + 5 * 4 + 1};
    lab_init(&lab, CASE "checkpoint-steps = 3\n");
    tap_int(fault_run(&lab, &fault), 0, "a death between two checkpoints");
    tap_int(lab.rounds[1].n_participants, 3, "its work of the first leg of the round counts");
    tap_ok(lab.workers[1][2].n_samples == 12, "that of 3 steps: %llu samples",
           (unsigned long long)lab.workers[1][2].n_samples);
    tap_int(lab.rounds[2].n_participants, 2, "then there are two");
    lab_done(&lab);
}

/* Waiting for it costs time, and changes no bit. */
static void test_wait(void)
{
    struct lab calm, lab;
    struct fault none = {.kind = FAULT_NONE};
    struct fault fault = {.kind = FAULT_DIE, .rank = 2, .at = ROUND + 6, .comes_back = true};
    lab_init(&calm, CASE "[cluster]\non-loss = wait\n");
    tap_int(fault_run(&calm, &none), 0, "a run without losses");
    lab_init(&lab, CASE "[cluster]\non-loss = wait\n");
    if (tap_int(fault_run(&lab, &fault), 0, "a run that waits for a worker to come back")) {
        tap_int(lab.n_ready, 4, "it got ready a second time");
        tap_int(lab.rounds[1].n_participants, 3, "all take part in the round in which it died");
        tap_int((long long)lab_differs(lab.trained->vec, calm.trained->vec,
                                       dml_model_n_vec(calm.trained->model)),
                0, "the model is the same to the bit");
    } else {
        tap_note("%s", lab.err.text);
    }
    lab_done(&lab);
    lab_done(&calm);
}

/* A newcomer takes part from the next leg on. */
static void test_return(void)
{
    struct lab lab;
    struct fault fault = {.kind = FAULT_DIE, .rank = 2, .at = 6, .comes_back = true};
    lab_init(&lab, "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = 60\nbatch-size = 1\n"
                   "[parallel]\nparadigm = allreduce\n");
    lab.cases->cases[0].cluster.quorum = 0.5;
    tap_int(fault_run(&lab, &fault), 0, "a run outlives death and return");
    unsigned n = lab.n_rounds ? lab.rounds[lab.n_rounds - 1].n_participants : 0;
    tap_int(lab.rounds[0].n_participants, 2, "two in the first round");
    tap_int(n, 3, "three in the last");
    lab_done(&lab);
}

/* ------------------------------------------------------------------ deadlines */

/* After the first round: to get ready may take its time. */
static void wait_briefly(struct lab *lab, const struct dml_round *round)
{
    (void)round;
    lab->cases->cases[0].cluster.wait_us = 300000;
}

static void hurry(struct lab *lab, const struct dml_round *round)
{
    (void)round;
    lab->cases->cases[0].cluster.round_deadline_us = 2000000;
}

static void test_wait_in_vain(struct lab *lab, int r)
{
    tap_int(r, -ENOLINK, "waiting ends");
    tap_has(lab->err.text, "round 2 cannot go on: it needs 3 workers, 2 can train",
            "with a sentence");
}

static void test_quorum(struct lab *lab, int r)
{
    tap_int(r, -ENOLINK, "without a quorum the run ends");
    tap_has(lab->err.text, "it needs 3 workers, 2 can train", "and says who was missing");
}

static void test_stop(struct lab *lab, int r)
{
    struct plain plain = {.absent = 2, .absent_from = 1};
    if (tap_int(r, 0, "a run outlives a worker that stands still")) {
        tap_int(lab->rounds[1].n_participants, 2, "the others go on");
        tap_has(lab->lost, "worker 2 lost", "the record names it");
        tap_has(lab->lost, "longer than step-deadline (2 s) in round 2", "and says why");
        plain_train(&plain, lab, 3, 1);
        compare(lab, &plain, "from the last agreed state");
        plain_done(&plain);
    } else {
        tap_note("%s", lab->err.text);
    }
}

static void test_stop_of_two(struct lab *lab, int r)
{
    tap_int(r, 0, "the first of two stands still");
    tap_has(lab->lost, "worker 1 lost", "the record names it");
    tap_int(lab->rounds[0].n_participants, 1, "one is left");
}

static void test_stop_for_a_while(struct lab *lab, int r)
{
    tap_int(r, 0, "a worker that stood still and goes on");
    tap_int(lab->rounds[1].n_participants, 2, "is left out");
    tap_int(lab->n_rounds ? lab->rounds[lab->n_rounds - 1].n_participants : 0, 3, "and back later");
}

static void test_cut(struct lab *lab, int r)
{
    tap_int(r, -ENOLINK, "two that do not reach each other end the run");
    tap_has(lab->err.text, "worker 2 and worker 3 both reach the master, but not each other",
            "with a sentence that names both");
}

static void test_lose(struct lab *lab, int r)
{
    tap_int(r, -EDEADLK, "messages that are lost without a word, too");
    tap_has(lab->err.text, "worker 3 for worker 2", "with a sentence");
}

/* Both hear nothing. */
static void test_lose_of_two(struct lab *lab, int r)
{
    tap_int(r, -ENOLINK, "two of two");
    tap_has(lab->err.text, "worker 1 and worker 2 both reach the master, but not each other",
            "with a sentence that names both");
}

/* The deadlines are generous: who is merely starved of a processor must not be taken for one that
 * stands still. They are waited for side by side. */
static void test_deadlines(void)
{
    static const char of_two[] =
        "[testcase]\nnodes = 2\ncores = 2\n[train]\nrounds = 2\nbatch-size = 8\n"
        "[parallel]\nparadigm = allreduce\n[cluster]\nstep-deadline = 2 s\n";
    static const char of_three[] = CASE "[cluster]\nstep-deadline = 2 s\n";
    static const struct {
        struct fault fault;
        const char *text;
        uint64_t n_rounds; /* 0: as the text says */
        void (*test)(struct lab *lab, int r);
    } tests[] = {
        {{FAULT_DIE, .rank = 2, .at = ROUND + 6, .on_round = wait_briefly},
         CASE "[cluster]\non-loss = wait\n",
         .test = test_wait_in_vain},
        {{FAULT_DIE, .rank = 1, .at = ROUND + 8, .on_round = hurry},
         CASE "[cluster]\nquorum = 1\n",
         .test = test_quorum},
        {{FAULT_STOP, .rank = 2, .at = ROUND + 5}, of_three, .test = test_stop},
        {{FAULT_STOP, .rank = 1, .at = 3}, of_two, .test = test_stop_of_two},
        {{FAULT_STOP, .rank = 2, .at = ROUND + 5, .release_at = 2},
         of_three,
         .n_rounds = 60,
         .test = test_stop_for_a_while},
        {{FAULT_CUT, .rank = 2, .to = 3, .at = 9}, of_three, .test = test_cut},
        {{FAULT_LOSE, .rank = 2, .to = 3, .at = 9}, of_three, .test = test_lose},
        {{FAULT_LOSE, .rank = 2, .to = 1, .at = 3}, of_two, .test = test_lose_of_two},
    };
    static struct fault_scene scenes[ARRAY_SIZE(tests)];
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        lab_init(&scenes[i].lab, tests[i].text);
        scenes[i].fault = tests[i].fault;
        if (tests[i].n_rounds)
            scenes[i].lab.cases->cases[0].train.rounds = tests[i].n_rounds;
        fault_begin(&scenes[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        int r = fault_end(&scenes[i]);
        tests[i].test(&scenes[i].lab, r);
        lab_done(&scenes[i].lab);
    }
}

int main(void)
{
    (void)alarm(300);
    test_death();
    test_death_between_checkpoints();
    test_wait();
    test_return();
    test_deadlines();
    return tap_done();
}
