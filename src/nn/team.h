/*
 * A small team of threads, private to nn/: all run one function and meet at barriers.
 *
 * The members are threads of their own, so that neither the caller's affinity nor its floating
 * point mode is touched. They spin briefly at a barrier, then sleep: a step takes microseconds, but
 * on a shared core a spinning waiter keeps the one it waits for from running.
 */
#pragma once

#include "base/mem.h"

struct dml_team;

typedef void (*dml_team_fn)(void *arg, unsigned i_thread);

/*
 * Starts n threads; thread i is pinned to cpus[i] when cpus is not NULL (a CPU that does not exist
 * is ignored: the thread runs anywhere). Returns 0, -ENOMEM or -EAGAIN.
 */
int dml_team_new(unsigned n, const int *cpus, struct dml_team **ret);

/* Ends the threads. Returns NULL. NULL is fine. */
struct dml_team *dml_team_free(struct dml_team *team);
DML_MEM_CLEANUP(struct dml_team, dml_team_free);

/*
 * Before the first run: at most n_cores of the threads run at a time, on any of cpus[0 … n_cores)
 * (NULL: anywhere). Whoever waits at a barrier makes room for another. A thread that waits for
 * others of its team in any other way must say so by dml_team_rest() and dml_team_resume().
 */
void dml_team_limit(struct dml_team *team, unsigned n_cores, const int *cpus);

/* Inside fn: around a wait. rest() never blocks; resume() does until there is room: hold no lock
 * that another thread of the team may want. Both do nothing without a limit. */
void dml_team_rest(struct dml_team *team);
void dml_team_resume(struct dml_team *team);

/* Runs fn(arg, i) on the first n threads and returns when all have returned. One caller at a
 * time. */
void dml_team_run(struct dml_team *team, unsigned n, dml_team_fn fn, void *arg);

/* The same in two halves: the caller has its thread between them. */
void dml_team_start(struct dml_team *team, unsigned n, dml_team_fn fn, void *arg);
void dml_team_wait(struct dml_team *team);

/* Inside fn: waits until all n of the run have arrived. What was written before is visible after.
 */
void dml_team_barrier(struct dml_team *team);

/* Denormal numbers become zero on the calling thread: decaying momentum is full of them, and one
 * costs an x86 processor a hundred cycles. */
void dml_team_flush_denormals(void);
