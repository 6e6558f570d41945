/*
 * Sums while backward runs.
 *
 * The flat block is dealt to the threads in blocks that fit the L1 cache, whatever the ranges are
 * in which it gets settled. A thread looks for work when it settles something itself, which is
 * when it holds no part of a layer in its registers; when it has settled all, it waits for the
 * others and works off its share as they proceed.
 */
#include "nn/reduce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nn/team.h"
#include "nn/vec.h"

#define BLOCK_FLOATS 1024 /* of all gradients at a time */

int dml_reduce_init(struct dml_reduce *r, unsigned n, size_t n_floats, float **grads)
{
    *r = (struct dml_reduce){.n = n, .n_floats = n_floats, .grads = grads};
    r->passed = calloc(n, sizeof(*r->passed));
    r->done = calloc(n, sizeof(*r->done));
    if (!r->passed || !r->done)
        return -ENOMEM;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->is_made = true;
    return 0;
}

void dml_reduce_done(struct dml_reduce *r)
{
    free(r->passed);
    free(r->done);
    if (!r->is_made)
        return;
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->mutex);
}

void dml_reduce_range(float *const *grads, unsigned n, size_t at, size_t end)
{
    for (; at < end && n > 1; at += BLOCK_FLOATS) {
        size_t len = end - at < BLOCK_FLOATS ? end - at : BLOCK_FLOATS;
        for (unsigned i = 1; i < n; i++) {
            dml_vec_axpy(grads[0] + at, 1.0f, grads[i] + at, len);
            memset(grads[i] + at, 0, len * sizeof(float));
        }
    }
}

/* Thread i's blocks of [at, end). */
static void add_share(const struct dml_reduce *r, unsigned i, size_t at, size_t end)
{
    for (size_t k = at / BLOCK_FLOATS; k * BLOCK_FLOATS < end; k++) {
        size_t first = k * BLOCK_FLOATS, next = first + BLOCK_FLOATS;
        if (k % r->n == i)
            dml_reduce_range(r->grads, r->n, first > at ? first : at, next < end ? next : end);
    }
}

static size_t highest(const size_t *x, unsigned n)
{
    size_t most = 0;
    for (unsigned i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

void dml_reduce_begin(struct dml_reduce *r)
{
    pthread_mutex_lock(&r->mutex);
    for (unsigned i = 0; i < r->n; i++)
        r->passed[i] = r->done[i] = r->n_floats;
    r->low = r->final = r->n_floats;
    pthread_mutex_unlock(&r->mutex);
}

/* Adds thread i's share of what all have settled since it last came by. Called and left with the
 * mutex. */
static void catch_up(struct dml_reduce *r, unsigned i)
{
    size_t low = r->low, end = r->done[i];
    if (low >= end)
        return;
    if (r->n > 1) {
        pthread_mutex_unlock(&r->mutex);
        add_share(r, i, low, end);
        pthread_mutex_lock(&r->mutex);
    }
    r->done[i] = low;
    size_t final = highest(r->done, r->n);
    if (final < r->final) {
        r->final = final;
        pthread_cond_broadcast(&r->changed);
    }
}

/* With the mutex. */
static void settle(struct dml_reduce *r, unsigned i, size_t at)
{
    r->passed[i] = at;
    size_t low = highest(r->passed, r->n);
    if (low < r->low) {
        r->low = low;
        if (r->n > 1)
            pthread_cond_broadcast(&r->changed);
    }
}

void dml_reduce_pass(struct dml_reduce *r, unsigned i, size_t at)
{
    pthread_mutex_lock(&r->mutex);
    settle(r, i, at);
    catch_up(r, i);
    pthread_mutex_unlock(&r->mutex);
}

/* With the mutex, which is let go meanwhile. */
static void wait_for_others(struct dml_reduce *r)
{
    if (r->team)
        dml_team_rest(r->team);
    pthread_cond_wait(&r->changed, &r->mutex);
    if (r->team) {
        pthread_mutex_unlock(&r->mutex);
        dml_team_resume(r->team);
        pthread_mutex_lock(&r->mutex);
    }
}

void dml_reduce_finish(struct dml_reduce *r, unsigned i)
{
    pthread_mutex_lock(&r->mutex);
    settle(r, i, 0);
    for (;;) {
        catch_up(r, i);
        if (r->done[i] == 0)
            break;
        if (r->low == r->done[i])
            wait_for_others(r);
    }
    pthread_mutex_unlock(&r->mutex);
}

void dml_reduce_wait(struct dml_reduce *r, size_t at)
{
    pthread_mutex_lock(&r->mutex);
    while (r->final > at)
        pthread_cond_wait(&r->changed, &r->mutex);
    pthread_mutex_unlock(&r->mutex);
}
