/*
 * Which worker sits at which rank of one run. Seats are taken at the start; a thread fills those
 * that fall vacant with whoever is idle, first of all with the worker that sat there before.
 */
#pragma once

#include <stdint.h>

#include "base/mem.h"
#include "report/event.h"
#include "rpc/server.h"

struct dml_roster;
struct dml_seats;

/* All borrowed while the seats live. */
struct dml_seats_options {
    struct dml_roster *roster;
    struct dml_comm *comm; /* rank 0's, of n_seats + 1 ranks */
    struct dml_events *events;
    uint64_t run_id;
    uint32_t n_seats;
    const char *testcase, *model; /* texts of the order */
};

/* Seats the idle workers that are there, in order of id, and starts the thread. */
int dml_seats_new(const struct dml_seats_options *o, struct dml_seats **ret);

/* Stops seating. Who sits stays busy until the server reports the end of its part. */
struct dml_seats *dml_seats_free(struct dml_seats *s);
DML_MEM_CLEANUP(struct dml_seats, dml_seats_free);

/* A worker's part ended before the run did: it gets no other seat in this run unless it joins
 * anew. Its own is vacant, unless it ended well (r 0): then nothing is left to do there, the master
 * is still saving the model. Poller thread. */
void dml_seats_ended(struct dml_seats *s, const struct dml_session *session, int r,
                     const char *text);

/* The `describe` of struct dml_run_env; arg: the seats. */
void dml_seats_describe(void *arg, uint32_t rank, struct dml_round_worker *io_worker);
