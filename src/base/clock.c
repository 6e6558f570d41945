/*
 * clock_gettime() cannot fail for the three clocks used here: they exist on every Linux this builds
 * on, and the pointer is ours.
 */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec ts = {0};
    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t dml_clock_now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

uint64_t dml_clock_thread_us(void)
{
    return read_us(CLOCK_THREAD_CPUTIME_ID);
}

void dml_clock_sleep_us(uint64_t us)
{
    struct timespec left = {.tv_sec = (time_t)(us / 1000000u),
                            .tv_nsec = (long)(us % 1000000u) * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        ;
}

const char *dml_clock_wall_text(char *buf, size_t buf_len)
{
    time_t now = time(NULL);
    struct tm tm;
    if (!gmtime_r(&now, &tm) || !strftime(buf, buf_len, "%Y-%m-%dT%H:%M:%SZ", &tm))
        buf[0] = '\0';
    return buf;
}
