/*
 * Whether this process has data under way: bytes in the queues of its TCP sockets that the other
 * side has not acknowledged, but for the last two segments. What a transport has accepted may wait
 * there for as long as a slow link takes, and gRPC does not say so.
 *
 * For one thread. Cost: a system call per socket; a look at the list of open files each 250 ms.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DML_OUTQ_SOCKETS_MAX 1024 /* a master's, of 255 workers; more are not looked at */

struct dml_outq {
    struct {
        int fd, allowance; /* bytes that may be unacknowledged though they have arrived */
    } sockets[DML_OUTQ_SOCKETS_MAX];
    unsigned n;
    uint64_t looked_us; /* when they were found; 0: never */
};

/* now_us: dml_clock_now_us(). False where the system does not tell. */
bool dml_outq_is_busy(struct dml_outq *q, uint64_t now_us);
