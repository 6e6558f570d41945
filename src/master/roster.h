/*
 * Who is there: every joined worker, what it said of itself, how it feels, whether it is in a run.
 * Any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "report/status.h"
#include "rpc/server.h"

struct dml_roster;

/* A worker given out for a run. Owner: caller, dml_session_unref(session). */
struct dml_roster_pick {
    struct dml_session *session;
    char id[64], machine[64];
};

/* beat_timeout_us: silence after which the server gives a worker up. */
struct dml_roster *dml_roster_new(uint64_t beat_timeout_us);
struct dml_roster *dml_roster_free(struct dml_roster *r);
DML_MEM_CLEANUP(struct dml_roster, dml_roster_free);

/*
 * The silence after which a worker counts as silent, when it is given up after timeout_us and beats
 * every pause_us: half the timeout, but never less than two of its beats (one that is due any
 * moment says nothing), nor more than the timeout.
 */
uint64_t dml_roster_silence_us(uint64_t timeout_us, uint64_t pause_us);

/*
 * Takes a worker in. A second worker with the id of one that is alive is refused with -EEXIST and a
 * sentence; one that is silent gives its place up, and its session is returned in *ret_replaced
 * (else NULL; owner: caller) to be closed.
 */
int dml_roster_add(struct dml_roster *r, struct dml_session *s, struct dml_session **ret_replaced,
                   char *refusal, size_t refusal_len);

/* Returns false when s is not there (refused, or replaced). */
bool dml_roster_remove(struct dml_roster *r, const struct dml_session *s);

/* A heartbeat. Returns true, with a sentence, when the board began to be in trouble: hot,
 * throttled, too little voltage; once, until it was well again. */
bool dml_roster_beat(struct dml_roster *r, const struct dml_session *s,
                     const struct dml_health *health, char *ret_warning, size_t warning_len);

unsigned dml_roster_count(struct dml_roster *r);

/* Last health of a worker. Returns false when it is not there. */
bool dml_roster_health(struct dml_roster *r, const char *id, struct dml_health *ret);

/*
 * Waits until n workers are idle, for `slice_us` at most: callers look at more than this.
 * Returns the number of idle workers.
 */
unsigned dml_roster_wait(struct dml_roster *r, unsigned n, uint64_t slice_us);

/*
 * Gives out the best idle worker and marks it busy: `wanted_id` when it is there (NULL: nobody in
 * particular), else one that has not failed before and whose board is well, else by order of id.
 * Workers for which skip(arg, s) holds are left alone. Returns false when there is none.
 */
bool dml_roster_pick(struct dml_roster *r, const char *wanted_id,
                     bool (*skip)(void *arg, const struct dml_session *s), void *arg,
                     struct dml_roster_pick *ret);

/* Its part in the run has ended; it is idle again. failed: it will be picked later than others. */
void dml_roster_release(struct dml_roster *r, const struct dml_session *s, bool failed);

bool dml_roster_has(struct dml_roster *r, const struct dml_session *s);

/* In order of id. Owner: caller, free(*ret). Returns 0 or -ENOMEM. */
int dml_roster_status(struct dml_roster *r, struct dml_status_worker **ret, size_t *ret_n);
