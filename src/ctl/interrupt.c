/*
 * sigwait() in a thread instead of a handler: asking the master to stop takes locks and memory,
 * which a handler may not touch. The thread itself is ended by one of its own signals.
 */
#include "ctl/interrupt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct dml_interrupt {
    pthread_t thread;
    void (*fn)(void *arg, unsigned n);
    void *arg;
    atomic_bool closing;
};

static sigset_t signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    return set;
}

int dml_interrupt_block(void)
{
    sigset_t set = signals();
    return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *wait_for_signals(void *arg)
{
    struct dml_interrupt *i = arg;
    sigset_t set = signals();
    for (unsigned n = 1;; n++) {
        int number;
        if (sigwait(&set, &number) != 0 || atomic_load(&i->closing))
            return NULL;
        i->fn(i->arg, n);
    }
}

struct dml_interrupt *dml_interrupt_new(void (*fn)(void *arg, unsigned n), void *arg)
{
    struct dml_interrupt *i = calloc(1, sizeof(*i));
    if (!i)
        return NULL;
    i->fn = fn;
    i->arg = arg;
    if (pthread_create(&i->thread, NULL, wait_for_signals, i) != 0) {
        free(i);
        return NULL;
    }
    return i;
}

struct dml_interrupt *dml_interrupt_free(struct dml_interrupt *i)
{
    if (!i)
        return NULL;
    atomic_store(&i->closing, true);
    (void)pthread_kill(i->thread, SIGTERM);
    (void)pthread_join(i->thread, NULL);
    free(i);
    return NULL;
}

void dml_interrupt_die(void)
{
    sigset_t set = signals();
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    (void)raise(SIGTERM);
}
