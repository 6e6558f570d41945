/*
 * A message begins and ends once for each chunk of a megabyte, so a lock and a look at the clock
 * are nothing beside it.
 */
#include "rpc/meter.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"

struct dml_meter {
    pthread_mutex_t lock;
    unsigned refs;    /* the owner's and one per message that waits */
    unsigned waiting; /* messages */
    uint64_t since_us, total_us;
};

struct dml_meter *dml_meter_new(void)
{
    struct dml_meter *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    pthread_mutex_init(&m->lock, NULL);
    m->refs = 1;
    return m;
}

static void unlock_and_unref(struct dml_meter *m)
{
    unsigned refs = --m->refs;
    pthread_mutex_unlock(&m->lock);
    if (refs)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

struct dml_meter *dml_meter_unref(struct dml_meter *m)
{
    if (m) {
        pthread_mutex_lock(&m->lock);
        unlock_and_unref(m);
    }
    return NULL;
}

void dml_meter_begin(struct dml_meter *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->refs++;
    if (m->waiting++ == 0)
        m->since_us = dml_clock_now_us();
    pthread_mutex_unlock(&m->lock);
}

void dml_meter_end(struct dml_meter *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    if (--m->waiting == 0)
        m->total_us += dml_clock_now_us() - m->since_us;
    unlock_and_unref(m);
}

uint64_t dml_meter_us(struct dml_meter *m)
{
    pthread_mutex_lock(&m->lock);
    uint64_t us = m->total_us + (m->waiting ? dml_clock_now_us() - m->since_us : 0);
    pthread_mutex_unlock(&m->lock);
    return us;
}
