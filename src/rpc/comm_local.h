/*
 * A cluster inside one process: every rank a thread, messages passed by reference.
 * Used by the tests and by `dmlctl run --local N`.
 */
#pragma once

#include <stdint.h>

#include "rpc/comm.h"

struct dml_comm_hub;

/* R ranks; every rank is there from the start (rank 0 receives JOINED from each worker, in order). */
struct dml_comm_hub *dml_comm_hub_new(uint32_t n_ranks);

/* All endpoints must have been freed. */
struct dml_comm_hub *dml_comm_hub_free(struct dml_comm_hub *hub);

/* The endpoint of `rank`, for that rank's thread. Owner: caller, dml_comm_free(): to the others it
 * looks as if the rank had been lost. NULL when out of memory or when the rank is in use. */
struct dml_comm *dml_comm_hub_get(struct dml_comm_hub *hub, uint32_t rank);

/* Faults, for tests: kill makes rank's endpoint fail with -EPIPE and sends LOST to rank 0; revive
 * lets dml_comm_hub_get() give a new endpoint and sends JOINED. */
void dml_comm_hub_kill(struct dml_comm_hub *hub, uint32_t rank);
int dml_comm_hub_revive(struct dml_comm_hub *hub, uint32_t rank);
