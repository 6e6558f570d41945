/* How far a run is, told from the records of its events: pure functions, so that tests see all. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "report/event.h"
#include "report/status.h"

struct dml_live {
    struct dml_status status;
    uint64_t start_us; /* of the whole test case; 0: not yet known */
    uint64_t seen_us;  /* when the last record that counts for the time left came */
    bool run_ended;    /* the current run; its next record belongs to another */
};

void dml_live_init(struct dml_live *live);

/* A status from the master: from here on the records continue it. */
void dml_live_begin(struct dml_live *live, const struct dml_status *status, uint64_t now_us);

/*
 * Takes one record, any bytes. message: what the record says in words, cut to its size.
 * Returns the event's kind, DML_EVENT_MAX_ for what is no record.
 */
enum dml_event_kind dml_live_feed(struct dml_live *live, const char *json, uint64_t now_us,
                                  char *message, size_t message_len);

/* Brings elapsed_s and remaining_s of the status up to now. */
void dml_live_tick(struct dml_live *live, uint64_t now_us);

/* "cifar10-nodes 3:6  run 2/5  round 3/10  3/3 workers  loss 0.412  accuracy 86.3 %  0:42  2:10
 * left" in at most `columns` characters. Returns buf. */
const char *dml_live_line(const struct dml_live *live, size_t columns, char *buf, size_t buf_len);
