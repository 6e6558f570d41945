/*
 * Time. Durations come from CLOCK_MONOTONIC in microseconds; a Pi has no clock at boot, so wall
 * time is only ever printed, never subtracted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Microseconds since an arbitrary point, monotonic. */
uint64_t dml_clock_now_us(void);

/* CPU time of the calling thread, microseconds. */
uint64_t dml_clock_thread_us(void);

/* Sleeps for `us` microseconds, resuming after signals. */
void dml_clock_sleep_us(uint64_t us);

/* "2026-11-21T09:42:56Z" into buf (at least 21 bytes). Returns buf. */
const char *dml_clock_wall_text(char *buf, size_t buf_len);

/* No deadline, for every function that takes `deadline_us`. */
#define DML_CLOCK_NEVER UINT64_MAX
