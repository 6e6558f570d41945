/*
 * A gRPC completion queue and the thread that polls it. Every callback of rpc/ runs on that thread.
 *
 * Objects with operations under way hold the loop (dml_loop_hold/release); ending the loop waits
 * for them, since gRPC aborts the process when an operation starts on a queue that was shut down.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_err;
struct dml_loop;
struct grpc_completion_queue;

/* What gRPC hands back when an operation is done; lies in the object that started it. */
struct dml_loop_tag {
    void (*fn)(void *obj, bool ok);
    void *obj;
};

/* Initialises gRPC and starts the thread. tick (may be NULL) is called on it every period_us. */
int dml_loop_new(void (*tick)(void *arg), void *arg, uint64_t period_us, struct dml_loop **ret,
                 struct dml_err *err);

/* Blocks until everybody has let go. Not from a callback. */
struct dml_loop *dml_loop_free(struct dml_loop *loop);
DML_MEM_CLEANUP(struct dml_loop, dml_loop_free);

/*
 * What one thread hands to gRPC, another gets back: from giving to getting nobody touches it. gRPC
 * synchronises the two; the marks tell ThreadSanitizer, which does not see into gRPC.
 */
#ifdef __SANITIZE_THREAD__
void __tsan_release(void *addr);
void __tsan_acquire(void *addr);
#define dml_loop_give(p) __tsan_release(p)
#define dml_loop_get(p)  __tsan_acquire(p)
#else
#define dml_loop_give(p) ((void)(p))
#define dml_loop_get(p)  ((void)(p))
#endif

struct grpc_completion_queue *dml_loop_queue(struct dml_loop *loop);
void dml_loop_hold(struct dml_loop *loop);
void dml_loop_release(struct dml_loop *loop);

/* Waits until nobody holds the loop, at most until deadline_us. Whether that came true. */
bool dml_loop_wait_idle(struct dml_loop *loop, uint64_t deadline_us);
