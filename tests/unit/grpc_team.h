/* A master and workers that take part in one run, all of them in this thread's hands. */
#pragma once

#include "tests/unit/grpc_cluster.h"

enum { TEAM_MAX = 5 };

struct team {
    struct master m;
    uint32_t size; /* the master included */
    uint64_t run_id;
    struct dml_join *joins[TEAM_MAX]; /* by rank; worker n has the rank n */
    struct dml_comm *c[TEAM_MAX];
};

/* The order that waits for rank n becomes its comm. */
UNUSED static bool team_enter(struct team *t, uint32_t n)
{
    struct dml_run_order order;
    if (dml_join_wait(t->joins[n], soon(), &order) < 0)
        return false;
    int r = dml_join_comm(t->joins[n], &order, &t->c[n]);
    dml_run_order_done(&order);
    return r == 0;
}

/* What the master says to one worker is known to another a moment later. */
UNUSED static bool team_sees(struct team *t, uint32_t n, uint32_t k)
{
    for (uint64_t until = soon(); !dml_comm_alive(t->c[n], k); dml_clock_sleep_us(100))
        if (dml_clock_now_us() > until)
            return false;
    return true;
}

/* A worker for the rank n, from its hello to its comm. */
UNUSED static bool team_seat(struct team *t, uint32_t n)
{
    if (!t->joins[n])
        t->joins[n] = worker(&t->m, n, NULL);
    return attach(&t->m, t->c[0], n, n, t->run_id) == 0 &&
           !strncmp(next(t->c[0], n), "joined", 6) && team_enter(t, n);
}

UNUSED static bool team_start(struct team *t, uint32_t size)
{
    struct dml_err err = {0};
    *t = (struct team){.size = size, .run_id = 1000};
    if (master_start(&t->m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    if (dml_server_comm_new(t->m.server, t->run_id, size, &t->c[0]) < 0)
        return false;
    for (uint32_t n = 1; n < size; n++)
        if (!team_seat(t, n))
            return false;
    for (uint32_t n = 1; n < size; n++)
        for (uint32_t k = 1; k < size; k++)
            if (!team_sees(t, n, k))
                return false;
    return true;
}

UNUSED static void team_dismiss(struct team *t, uint32_t n)
{
    t->c[n] = dml_comm_free(t->c[n]);
    t->joins[n] = dml_join_free(t->joins[n]);
}

UNUSED static void team_end(struct team *t)
{
    for (uint32_t n = 1; n < t->size; n++)
        t->c[n] = dml_comm_free(t->c[n]);
    t->c[0] = dml_comm_free(t->c[0]);
    for (uint32_t n = 1; n < t->size; n++)
        t->joins[n] = dml_join_free(t->joins[n]);
    master_stop(&t->m);
}

UNUSED static int send_body(struct dml_comm *c, uint32_t to, uint64_t seq, struct dml_buf *body)
{
    return dml_comm_send(c, to, &(struct dml_comm_msg){.kind = PING, .seq = seq, .body = body});
}
