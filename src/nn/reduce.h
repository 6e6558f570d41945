/*
 * Private to nn/: the sum of the threads' gradients, formed while they still compute.
 *
 * Backward settles the last layers first. What all threads have settled is added up at once, a
 * share of it by each thread when it comes by, so that it can travel to other nodes meanwhile. The
 * order of the summands is that of the threads' numbers, whoever adds: the same bits every time.
 *
 * The sum lies in the gradient of thread 0, the others' are 0 afterwards.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct dml_team;

struct dml_reduce {
    unsigned n;      /* threads */
    size_t n_floats; /* P */
    float **grads;   /* [n], each [P]; the caller's */
    size_t *passed;  /* [n]: the thread has settled [passed, P) */
    size_t *done;    /* [n]: the thread has added up its share of [done, P) */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t low;   /* all have settled [low, P) */
    size_t final; /* [final, P) is added up; falls from P to 0 */
    bool is_made;
    struct dml_team *team; /* whose threads these are, when it has a limit they must keep; or NULL */
};

/* Returns 0 or -ENOMEM. Half-made ones can be undone. */
int dml_reduce_init(struct dml_reduce *r, unsigned n, size_t n_floats, float **grads);
void dml_reduce_done(struct dml_reduce *r);

/* Adds up [at, end) at once; the caller sees to it that nobody else is at it. */
void dml_reduce_range(float *const *grads, unsigned n, size_t at, size_t end);

/* Before the threads start. */
void dml_reduce_begin(struct dml_reduce *r);

/* Thread i has settled [at, P). */
void dml_reduce_pass(struct dml_reduce *r, unsigned i, size_t at);

/* Thread i has settled everything, and helps until nothing is left for it to add. Blocks until the
 * slowest thread has settled everything. */
void dml_reduce_finish(struct dml_reduce *r, unsigned i);

/* Blocks until the sum of [at, P) is there: at once when none is being formed. */
void dml_reduce_wait(struct dml_reduce *r, size_t at);
