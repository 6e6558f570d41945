/* Ctrl-C as a function call on a thread of its own, where anything may be done. */
#pragma once

#include "base/mem.h"

struct dml_interrupt;

/* Blocks SIGINT, SIGTERM and SIGHUP in the calling thread and all it starts later: call it before
 * other threads begin. Returns 0 or a negative errno. */
int dml_interrupt_block(void);

/* Ends the process as SIGTERM does when nobody handles it. For fn. */
void dml_interrupt_die(void);

/* fn(arg, n) for the n-th such signal, from 1. NULL when there is no memory or no thread. */
struct dml_interrupt *dml_interrupt_new(void (*fn)(void *arg, unsigned n), void *arg);

/* Waits for a call that is under way. NULL is fine. */
struct dml_interrupt *dml_interrupt_free(struct dml_interrupt *i);
DML_MEM_CLEANUP(struct dml_interrupt, dml_interrupt_free);
