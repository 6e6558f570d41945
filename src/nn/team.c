/*
 * A team of threads.
 *
 * One mutex and one condition variable stand behind everything. The generation of the barrier is
 * also an atomic, which waiters watch for some microseconds before they go to sleep. Whether
 * spinning pays depends on whether the others run at the same time, so a team larger than the
 * number of usable CPUs does not spin at all.
 *
 * A team larger than its limit takes turns: a thread that waits hands on its right to run.
 */
#include "config.h" /* GNU extensions: affinity */

#include "nn/team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define SPINS 2000 /* some ten microseconds */

struct member {
    struct dml_team *team;
    unsigned i;
    pthread_t thread;
};

struct dml_team {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned n_started;
    unsigned n_spins;

    /* The job; under the mutex. */
    unsigned job, n_running, n_in_job;
    dml_team_fn fn;
    void *arg;
    bool quit;

    unsigned limit, n_active; /* threads that may run, and do; limit 0: all. Under the mutex */
    unsigned n_arrived;       /* under the mutex */
    atomic_uint generation;

    unsigned n_members;
    struct member members[];
};

void dml_team_flush_denormals(void)
{
#if defined(__SSE2__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040u); /* FTZ, DAZ */
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | UINT64_C(1) << 24)); /* FZ */
#endif
}

static void pause_briefly(void)
{
#if defined(__SSE2__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Both with the mutex. */
static void leave(struct dml_team *team)
{
    if (team->limit) {
        team->n_active--;
        pthread_cond_broadcast(&team->changed);
    }
}

static void enter(struct dml_team *team)
{
    if (!team->limit)
        return;
    while (team->n_active >= team->limit)
        pthread_cond_wait(&team->changed, &team->mutex);
    team->n_active++;
}

void dml_team_rest(struct dml_team *team)
{
    if (!team->limit)
        return;
    pthread_mutex_lock(&team->mutex);
    leave(team);
    pthread_mutex_unlock(&team->mutex);
}

void dml_team_resume(struct dml_team *team)
{
    if (!team->limit)
        return;
    pthread_mutex_lock(&team->mutex);
    enter(team);
    pthread_mutex_unlock(&team->mutex);
}

void dml_team_barrier(struct dml_team *team)
{
    if (team->n_in_job == 1)
        return;
    pthread_mutex_lock(&team->mutex);
    unsigned mine = atomic_load_explicit(&team->generation, memory_order_relaxed);
    if (++team->n_arrived == team->n_in_job) {
        team->n_arrived = 0;
        atomic_store_explicit(&team->generation, mine + 1, memory_order_release);
        pthread_cond_broadcast(&team->changed);
        pthread_mutex_unlock(&team->mutex);
        return;
    }
    if (team->limit) {
        leave(team);
        while (atomic_load_explicit(&team->generation, memory_order_relaxed) == mine)
            pthread_cond_wait(&team->changed, &team->mutex);
        enter(team);
        pthread_mutex_unlock(&team->mutex);
        return;
    }
    pthread_mutex_unlock(&team->mutex);
    for (unsigned i = 0; i < team->n_spins; i++) {
        if (atomic_load_explicit(&team->generation, memory_order_acquire) != mine)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&team->mutex);
    while (atomic_load_explicit(&team->generation, memory_order_relaxed) == mine)
        pthread_cond_wait(&team->changed, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
}

static void *live(void *p)
{
    struct member *me = p;
    struct dml_team *team = me->team;
    unsigned done = 0;
    dml_team_flush_denormals();
    pthread_mutex_lock(&team->mutex);
    for (;;) {
        while (!team->quit && (team->job == done || me->i >= team->n_in_job)) {
            done = team->job;
            pthread_cond_wait(&team->changed, &team->mutex);
        }
        if (team->quit)
            break;
        done = team->job;
        enter(team);
        pthread_mutex_unlock(&team->mutex);
        team->fn(team->arg, me->i);
        pthread_mutex_lock(&team->mutex);
        leave(team);
        if (--team->n_running == 0)
            pthread_cond_broadcast(&team->changed);
    }
    pthread_mutex_unlock(&team->mutex);
    return NULL;
}

static void pin(pthread_t thread, int cpu)
{
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    (void)pthread_setaffinity_np(thread, sizeof(set), &set);
}

void dml_team_limit(struct dml_team *team, unsigned n_cores, const int *cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; cpus && i < n_cores; i++)
        if (cpus[i] >= 0 && cpus[i] < CPU_SETSIZE)
            CPU_SET((unsigned)cpus[i], &set);
    for (unsigned i = 0; CPU_COUNT(&set) && i < team->n_members; i++)
        (void)pthread_setaffinity_np(team->members[i].thread, sizeof(set), &set);
    pthread_mutex_lock(&team->mutex);
    team->limit = n_cores < team->n_members ? n_cores : 0;
    pthread_mutex_unlock(&team->mutex);
}

static unsigned usable_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return (unsigned)CPU_COUNT(&set);
}

int dml_team_new(unsigned n, const int *cpus, struct dml_team **ret)
{
    struct dml_team *team = calloc(1, sizeof(*team) + n * sizeof(team->members[0]));
    if (!team)
        return -ENOMEM;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->changed, NULL);
    team->n_members = n;
    team->n_spins = n <= usable_cpus() ? SPINS : 0;
    for (unsigned i = 0; i < n; i++) {
        struct member *m = &team->members[i];
        *m = (struct member){.team = team, .i = i};
        int r = pthread_create(&m->thread, NULL, live, m);
        if (r != 0) {
            dml_team_free(team);
            return -r;
        }
        team->n_started++;
        if (cpus)
            pin(m->thread, cpus[i]);
    }
    *ret = team;
    return 0;
}

struct dml_team *dml_team_free(struct dml_team *team)
{
    if (!team)
        return NULL;
    pthread_mutex_lock(&team->mutex);
    team->quit = true;
    pthread_cond_broadcast(&team->changed);
    pthread_mutex_unlock(&team->mutex);
    for (unsigned i = 0; i < team->n_started; i++)
        pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->changed);
    pthread_mutex_destroy(&team->mutex);
    free(team);
    return NULL;
}

void dml_team_start(struct dml_team *team, unsigned n, dml_team_fn fn, void *arg)
{
    pthread_mutex_lock(&team->mutex);
    team->fn = fn;
    team->arg = arg;
    team->n_in_job = team->n_running = n;
    team->job++;
    pthread_cond_broadcast(&team->changed);
    pthread_mutex_unlock(&team->mutex);
}

void dml_team_wait(struct dml_team *team)
{
    pthread_mutex_lock(&team->mutex);
    while (team->n_running)
        pthread_cond_wait(&team->changed, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
}

void dml_team_run(struct dml_team *team, unsigned n, dml_team_fn fn, void *arg)
{
    dml_team_start(team, n, fn, arg);
    dml_team_wait(team);
}
