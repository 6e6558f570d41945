/*
 * One poller is enough: with two, a single stream is no faster and costs more, and with one the
 * callbacks need no order among themselves. Callbacks copy bytes and wake threads, nothing longer.
 *
 * A completion queue has no file descriptor and its callback flavour has nobody who polls in a C
 * program, so a thread in cq_next it is. Periodic work (heartbeats that did not come) uses
 * cq_next's deadline; no alarms to cancel at the end.
 *
 * Two things about gRPC are set once for the process. Its own resolver waits 3 s for a DNS answer
 * even for names in /etc/hosts; the C library's does not. And it writes what it thinks to stderr;
 * a library does not, unless somebody asks for it with GRPC_VERBOSITY.
 */
#include "rpc/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "base/err.h"
#include "rpc/wait.h"

struct dml_loop {
    grpc_completion_queue *cq;
    pthread_t thread;
    void (*tick)(void *arg);
    void *arg;
    uint64_t period_us;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned holders;
};

static void silent(gpr_log_func_args *args)
{
    (void)args;
}

static void set_up(void)
{
    (void)setenv("GRPC_DNS_RESOLVER", "native", 0);
    if (!getenv("GRPC_VERBOSITY"))
        gpr_set_log_function(silent);
}

static gpr_timespec when(const struct dml_loop *loop, uint64_t next_us)
{
    if (!loop->tick)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    uint64_t now = dml_clock_now_us();
    return gpr_time_add(
        gpr_now(GPR_CLOCK_MONOTONIC),
        gpr_time_from_micros(next_us > now ? (int64_t)(next_us - now) : 0, GPR_TIMESPAN));
}

static void *poll_queue(void *arg)
{
    struct dml_loop *loop = arg;
    uint64_t next_us = dml_clock_now_us() + loop->period_us;
    for (;;) {
        grpc_event ev = grpc_completion_queue_next(loop->cq, when(loop, next_us), NULL);
        if (ev.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (ev.type == GRPC_OP_COMPLETE) {
            struct dml_loop_tag *tag = ev.tag;
            dml_loop_get(tag);
            tag->fn(tag->obj, ev.success != 0);
        }
        if (loop->tick && dml_clock_now_us() >= next_us) {
            loop->tick(loop->arg);
            next_us = dml_clock_now_us() + loop->period_us;
        }
    }
}

int dml_loop_new(void (*tick)(void *arg), void *arg, uint64_t period_us, struct dml_loop **ret,
                 struct dml_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct dml_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    (void)pthread_once(&once, set_up);
    loop->tick = tick;
    loop->arg = arg;
    loop->period_us = period_us;
    pthread_mutex_init(&loop->lock, NULL);
    dml_wait_init(&loop->idle);

    grpc_init();
    loop->cq = grpc_completion_queue_create_for_next(NULL);
    int r = -pthread_create(&loop->thread, NULL, poll_queue, loop);
    if (r == 0) {
        *ret = loop;
        return 0;
    }
    grpc_completion_queue_shutdown(loop->cq);
    (void)poll_queue(loop);
    grpc_completion_queue_destroy(loop->cq);
    grpc_shutdown_blocking();
    pthread_cond_destroy(&loop->idle);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
    return dml_err_set(err, r, "Cannot start the network thread.");
}

struct dml_loop *dml_loop_free(struct dml_loop *loop)
{
    if (!loop)
        return NULL;
    (void)dml_loop_wait_idle(loop, DML_CLOCK_NEVER);
    grpc_completion_queue_shutdown(loop->cq);
    pthread_join(loop->thread, NULL);
    grpc_completion_queue_destroy(loop->cq);
    grpc_shutdown_blocking();
    pthread_cond_destroy(&loop->idle);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
    return NULL;
}

struct grpc_completion_queue *dml_loop_queue(struct dml_loop *loop)
{
    return loop->cq;
}

void dml_loop_hold(struct dml_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->holders++;
    pthread_mutex_unlock(&loop->lock);
}

void dml_loop_release(struct dml_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    assert(loop->holders > 0);
    if (--loop->holders == 0)
        pthread_cond_broadcast(&loop->idle);
    pthread_mutex_unlock(&loop->lock);
}

bool dml_loop_wait_idle(struct dml_loop *loop, uint64_t deadline_us)
{
    pthread_mutex_lock(&loop->lock);
    while (loop->holders && dml_wait_until(&loop->idle, &loop->lock, deadline_us))
        ;
    bool idle = loop->holders == 0;
    pthread_mutex_unlock(&loop->lock);
    return idle;
}
