/* Waiting for a condition until a time on dml_clock_now_us()'s scale. */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "base/clock.h"

static inline void dml_wait_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* Returns false once the deadline has passed; may return true for no reason. */
static inline bool dml_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_us)
{
    if (deadline_us == DML_CLOCK_NEVER)
        return pthread_cond_wait(cond, lock) == 0;
    struct timespec until = {.tv_sec = (time_t)(deadline_us / 1000000),
                             .tv_nsec = (long)(deadline_us % 1000000) * 1000};
    return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
}
