/*
 * sigwait() in a thread instead of a handler: asking the master to stop takes locks and memory,
 * which a handler may not touch. The thread itself is ended by one of its own signals.
 *
 * Blocking the signals is not enough: OpenBLAS starts threads when it is loaded, before main(),
 * and the kernel gives a signal to any thread that does not block it (signal(7)). So there is a
 * handler after all, which passes what such a thread gets on to the one that waits.
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

/* For the handler, which gets no argument. Valid while `waits`. */
static pthread_t waiter;
static atomic_bool waits;

static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

static sigset_t signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        (void)sigaddset(&set, numbers[i]);
    return set;
}

static void pass_on(int number)
{
    int saved = errno;
    if (atomic_load(&waits))
        (void)pthread_kill(waiter, number);
    errno = saved;
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

static void set_handlers(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        (void)sigaction(numbers[i], &action, NULL);
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
    waiter = i->thread;
    atomic_store(&waits, true);
    set_handlers(pass_on);
    return i;
}

struct dml_interrupt *dml_interrupt_free(struct dml_interrupt *i)
{
    if (!i)
        return NULL;
    atomic_store(&waits, false);
    atomic_store(&i->closing, true);
    (void)pthread_kill(i->thread, SIGTERM);
    (void)pthread_join(i->thread, NULL);
    set_handlers(SIG_DFL);
    free(i);
    return NULL;
}

void dml_interrupt_die(void)
{
    sigset_t set = signals();
    set_handlers(SIG_DFL);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    (void)raise(SIGTERM);
}
