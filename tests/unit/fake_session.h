/*
 * Sessions for tests of what stands behind the server: these four functions take the place of the
 * server's own, whose sessions need a network.
 */
#pragma once

#include <stdatomic.h>
#include <stdio.h>

#include "rpc/server.h"

struct dml_session {
    struct dml_hello hello;
    atomic_int refs;
};

struct dml_session *dml_session_ref(struct dml_session *s)
{
    s->refs++; /* as the server's: nobody is no session */
    return s;
}

struct dml_session *dml_session_unref(struct dml_session *s)
{
    if (s)
        s->refs--;
    return NULL;
}

const struct dml_hello *dml_session_hello(const struct dml_session *s)
{
    return &s->hello;
}

const char *dml_session_peer(const struct dml_session *s)
{
    (void)s;
    return "192.0.2.1:4711";
}

__attribute__((unused)) static struct dml_session fake_session(const char *id, const char *machine)
{
    struct dml_session s = {.hello = {.cores = 4, .memory_bytes = 1u << 30}};
    snprintf(s.hello.worker_id, sizeof(s.hello.worker_id), "%s", id);
    snprintf(s.hello.machine, sizeof(s.hello.machine), "%s", machine);
    return s;
}
