/*
 * Duty cycle, private to nn/: what the kernel's CPU quota would do, by sleeping.
 *
 * Work that took cpu of the thread that counts may not be over before cpu / share of wall time has
 * passed. The difference is owed as sleep and paid when it has grown to something the kernel's
 * timer can serve. CPU time and not wall time counts, so a worker that had to wait for the
 * processor, because the machine is shared, or for the network, is not made to wait a second time.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct dml_duty {
    double share;   /* (0, 1]; 1 = no limit, and none of the rest is used */
    double debt_us; /* below zero: credit */
    uint64_t slept_us;
    uint64_t began_us, began_cpu_us;
};

/* On the thread that counts, before its first work. */
void dml_duty_begin(struct dml_duty *d);

/* Instead, where several threads take turns: on each, before its turn. What all of them waited
 * since the last is credit. */
void dml_duty_turn(struct dml_duty *d);

/* On that thread, after each piece of work: sleeps what is owed, if that is enough for a sleep.
 * *cancel ends it early; may be NULL. */
void dml_duty_pay(struct dml_duty *d, const atomic_bool *cancel);
