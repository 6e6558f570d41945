/*
 * How every worker of a run comes to its shard, and comes back to it after a fall.
 *
 *     master                                worker
 *     OFFER(hash of the shard)        →
 *                                     ←     WANT        unless cached, or placement = local
 *     SHARD(bytes)                    →
 *                                     ←     READY
 *
 * The master's half is a table of ranks that any paradigm feeds with the messages it does not know
 * itself, so a worker may join at any moment of the run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "paradigm/message.h"
#include "paradigm/paradigm.h"

enum dml_provision_state {
    DML_PROVISION_GONE,     /* not there (yet, or any more) */
    DML_PROVISION_OFFERED,  /* may ask for its shard */
    DML_PROVISION_SENT,     /* got it, once: no worker fills the master's memory by asking again */
    DML_PROVISION_READY,
};

#define DML_PROVISION_NO_SHARD UINT32_MAX

struct dml_provision {
    struct dml_task *task;
    enum dml_provision_state *state; /* [size]; state[0] unused */
    uint32_t *shard;                 /* [size] number of each rank's, or DML_PROVISION_NO_SHARD */
    char (*hash)[65];                /* [n_shards] SHA-256 of each, packed */
    unsigned n_ready;
    unsigned n_lost;                 /* workers lost after they were ready, over the run */
    char last_failure[512];          /* the last sentence of a worker that left, or "" */
};

/* Master: packs and hashes the shards. Returns 0 or -ENOMEM. done() also after a failed init(). */
int dml_provision_init(struct dml_provision *p, struct dml_task *task);
void dml_provision_done(struct dml_provision *p);

/*
 * Master: takes a message of provisioning (JOINED, LOST, WANT, READY, FAILED), answers it, updates
 * the table. Other kinds are ignored. Returns 0, -ENOMEM, -EMSGSIZE (a shard of more than 2 GiB),
 * -ECANCELED.
 */
int dml_provision_handle(struct dml_provision *p, const struct dml_comm_msg *msg);

/* Master: samples of a rank's shard. */
size_t dml_provision_n_samples(const struct dml_provision *p, uint32_t rank);

/* Master: rank gets another shard, unless it has that one; it is then not ready until it says so.
 * Returns as dml_provision_handle(). */
int dml_provision_assign(struct dml_provision *p, uint32_t rank, uint32_t shard);

/*
 * Master: waits until n workers are ready. Returns 0, -ETIMEDOUT with a sentence, -ECANCELED.
 */
int dml_provision_wait(struct dml_provision *p, unsigned n, uint64_t deadline_us,
                       struct dml_err *err);

/* Worker: gets this rank's shard; one of no samples and no shape where the rank has no data. Owner:
 * caller. READY is sent by the caller, with dml_provision_ready(), when its trainer is there too. */
int dml_provision_fetch(struct dml_task *task, struct dml_dataset **ret, bool *ret_cached,
                        struct dml_err *err);

/* Worker: the same for an OFFER that came already. */
int dml_provision_take(struct dml_task *task, const struct dml_comm_msg *offer,
                       struct dml_dataset **ret, bool *ret_cached, struct dml_err *err);

int dml_provision_ready(struct dml_task *task, const struct dml_dataset *shard, bool cached);

/* What a worker does once it has its shard and a trainer on it. n_shard: samples in the shard. */
typedef int (*dml_provision_work_fn)(struct dml_task *task, struct dml_trainer *trainer,
                                     size_t n_shard);

/* Worker: fetches the shard, makes the trainer, says READY, works. Returns what failed first, or
 * what work returned. */
int dml_provision_serve(struct dml_task *task, dml_provision_work_fn work, struct dml_err *err);
