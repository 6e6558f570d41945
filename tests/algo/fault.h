/*
 * A run over comm_local in which one worker has a comm that fails when told to: in the middle of a
 * collective, at the same message each time.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lab.h"
#include "rpc/comm_local.h"

#define FAULT_NODES_MAX 8

enum fault_kind {
    FAULT_NONE,
    FAULT_DIE,      /* the worker is killed with this message */
    FAULT_STOP,     /* it stands still with this message until released */
    FAULT_CUT,      /* it cannot reach `to`, from this message on */
    FAULT_LOSE,     /* what it sends to `to` is lost, from this message on */
};

struct fault {
    enum fault_kind kind;
    uint32_t rank;       /* whose comm it is */
    uint32_t to;
    unsigned at;         /* number of the message to another worker, from 0 */
    bool comes_back;     /* DIE: another worker takes its place, a moment later */
    unsigned release_at; /* STOP: goes on after so many rounds; 0: when the run is over */
    /* After every round, by the master half; NULL: nothing. */
    void (*on_round)(struct lab *lab, const struct dml_round *round);
};

/* Runs the lab's case with a fault. Returns what the master half did. Who comes back or goes on is
 * waited for a little after each round. */
int fault_run(struct lab *lab, const struct fault *fault);

/* The same beside others, for runs that mostly wait for a deadline: fill in lab and fault, begin,
 * and look at lab no more before the end, which returns what fault_run() did. */
struct fault_scene {
    struct lab lab;
    struct fault fault;
    pthread_t thread;
    int r;
};
void fault_begin(struct fault_scene *s);
int fault_end(struct fault_scene *s);
