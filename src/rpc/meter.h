/*
 * For how long something waited to be sent: the time in which at least one message was queued or in
 * gRPC's hands, over all streams that share a meter.
 *
 * Every message that waits holds a reference, so a meter may be let go while streams still send.
 * Any thread.
 */
#pragma once

#include <stdint.h>

struct dml_meter;

/* NULL when out of memory. Owner: caller, dml_meter_unref(). */
struct dml_meter *dml_meter_new(void);

/* NULL is fine. Returns NULL. */
struct dml_meter *dml_meter_unref(struct dml_meter *m);

/* One message begins to wait, respectively does so no longer. NULL is fine: not measured. */
void dml_meter_begin(struct dml_meter *m);
void dml_meter_end(struct dml_meter *m);

/* Microseconds up to now. */
uint64_t dml_meter_us(struct dml_meter *m);
