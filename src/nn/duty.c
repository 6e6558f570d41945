#include "nn/duty.h"

#include <math.h>

#include "base/clock.h"

#define SLEEP_MIN_US  5000   /* shortest sleep */
#define SLEEP_MAX_US  100000 /* longest without a look at cancel */
#define CREDIT_MAX_US 100000 /* waiting that is remembered: one period of the kernel's quota */

void dml_duty_begin(struct dml_duty *d)
{
    if (d->share >= 1.0)
        return;
    d->began_us = dml_clock_now_us();
    d->began_cpu_us = dml_clock_thread_us();
}

void dml_duty_turn(struct dml_duty *d)
{
    if (d->share >= 1.0)
        return;
    if (!d->began_us)
        d->began_us = dml_clock_now_us();
    d->began_cpu_us = dml_clock_thread_us();
}

void dml_duty_pay(struct dml_duty *d, const atomic_bool *cancel)
{
    if (d->share >= 1.0)
        return;
    uint64_t now = dml_clock_now_us(), cpu = dml_clock_thread_us();
    double owed = (double)(cpu - d->began_cpu_us) / d->share - (double)(now - d->began_us);
    d->debt_us = fmax(d->debt_us + owed, -CREDIT_MAX_US);
    d->began_cpu_us = cpu;
    while (d->debt_us >= SLEEP_MIN_US && !(cancel && atomic_load(cancel))) {
        double piece = fmin(d->debt_us, SLEEP_MAX_US);
        dml_clock_sleep_us((uint64_t)piece);
        uint64_t slept = dml_clock_now_us() - now;
        now += slept;
        d->slept_us += slept;
        d->debt_us -= (double)slept; /* below zero after a long sleep: credit */
    }
    d->began_us = now;
}
