/* Threads of a team meet at barriers, run again and again, and flush denormal numbers. */
#include "nn/team.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "tests/tap.h"

enum { THREADS = 4, ROUNDS = 2000 };

struct job {
    struct dml_team *team;
    unsigned n;
    unsigned slots[THREADS]; /* plain memory: the barrier must publish it */
    atomic_uint wrong;
    float denormal;
};

static void work(void *arg, unsigned i)
{
    struct job *j = arg;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        j->slots[i] = round;
        dml_team_barrier(j->team);
        for (unsigned k = 0; k < j->n; k++)
            if (j->slots[k] != round)
                atomic_fetch_add(&j->wrong, 1);
        dml_team_barrier(j->team);
    }
}

static void halve(void *arg, unsigned i)
{
    struct job *j = arg;
    volatile float f = 2e-38f; /* a hair above the smallest normal number, 1.18e-38 */
    if (i == 0) {
        f = f * 0.25f;
        j->denormal = f;
    }
}

/* How many run at a time. */
struct turns {
    struct dml_team *team;
    atomic_uint now, most, rounds;
};

static void take_turns(void *arg, unsigned i)
{
    struct turns *t = arg;
    for (unsigned round = 0; round < 200; round++) {
        unsigned now = atomic_fetch_add(&t->now, 1) + 1, most = atomic_load(&t->most);
        while (now > most && !atomic_compare_exchange_weak(&t->most, &most, now))
            ;
        sched_yield(); /* so that others would run now if they might */
        atomic_fetch_sub(&t->now, 1);
        if (round % 3 == 0 && i % 2) { /* a wait that is none of the barrier's */
            dml_team_rest(t->team);
            sched_yield();
            dml_team_resume(t->team);
        }
        dml_team_barrier(t->team);
        atomic_fetch_add(&t->rounds, 1);
    }
}

static void test_limit(void)
{
    for (unsigned cores = 1; cores <= THREADS + 1; cores++) {
        struct turns t = {0};
        if (!tap_int(dml_team_new(THREADS, NULL, &t.team), 0, "a team"))
            return;
        dml_team_limit(t.team, cores, NULL);
        for (unsigned i = 0; i < 5; i++)
            dml_team_run(t.team, THREADS, take_turns, &t);
        tap_ok(atomic_load(&t.most) >= 1 && atomic_load(&t.most) <= cores,
               "with %u cores for 4 threads at most %u ran at a time", cores,
               atomic_load(&t.most));
        tap_int(atomic_load(&t.rounds), 5 * THREADS * 200, "and all got through all barriers");
        struct job j = {.team = t.team, .n = THREADS};
        dml_team_run(t.team, THREADS, work, &j);
        tap_int(atomic_load(&j.wrong), 0, "everybody saw everybody's writes in every round");
        dml_team_free(t.team);
    }
}

static void count(void *arg, unsigned i)
{
    (void)i;
    atomic_fetch_add((atomic_uint *)arg, 1);
}

int main(void)
{
    struct dml_team *team = NULL;
    const int cpus[THREADS] = {0, 1, 0, 1023};
    tap_int(dml_team_new(THREADS, cpus, &team), 0, "a team, one CPU of which does not exist");
    struct job j = {.team = team};
    for (j.n = 1; j.n <= THREADS; j.n++) {
        dml_team_run(team, j.n, work, &j);
        tap_int(atomic_load(&j.wrong), 0, "everybody saw everybody's writes in every round");
    }
    atomic_uint n = 0;
    for (unsigned i = 0; i < 500; i++)
        dml_team_run(team, 1 + i % THREADS, count, &n);
    tap_int(atomic_load(&n), 1250, "jobs of changing size run on as many threads as asked");
    volatile float f = 2e-38f;
    float here = f * 0.25f;
#if defined(__SSE2__) || defined(__aarch64__)
    dml_team_run(team, 1, halve, &j);
    tap_ok(j.denormal == 0.0f, "a denormal number is zero in the team");
#endif
    tap_ok(here != 0.0f && f * 0.25f != 0.0f, "and still one outside");
    tap_ok(dml_team_free(team) == NULL, "free");
    tap_ok(dml_team_free(NULL) == NULL, "free of nothing");
    test_limit();
    return tap_done();
}
