/*
 * Says hello to a master with the next protocol version. Exit status 0 when it is refused, with
 * the master's sentence on stdout.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "rpc/join.h"

static void health(void *arg, struct dml_health *ret)
{
    (void)arg;
    *ret = (struct dml_health){.temperature_c = -1.0, .throttled = -1, .mhz = -1.0};
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);

    struct dml_err err = {0};
    struct dml_join_options o = {.master = argv[1], .heartbeat_us = 1000000, .health = health};
    struct dml_hello hello = {.protocol = DML_WIRE_PROTOCOL + 1,
                              .worker_id = "from-the-future",
                              .host = "future",
                              .version = "99.0",
                              .cores = 1};
    _cleanup_(dml_join_freep) struct dml_join *join = NULL;
    int r = dml_join_new(&o, &join, &err);
    if (!r)
        r = dml_join_connect(join, &hello, dml_clock_now_us() + 60 * UINT64_C(1000000), &err);
    printf("%s: %s\n", strerror(-r), err.text);
    return r == -EPROTO ? 0 : 1;
}
