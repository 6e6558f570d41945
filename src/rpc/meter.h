/*
 * For how long something was being sent: the time in which at least one message was queued or in
 * gRPC's hands, over all streams that share a meter, or in which bytes of this process were in its
 * sockets and not yet acknowledged by the other side.
 *
 * The former is measured to the microsecond; the latter is looked at each 10 ms, but only as long as
 * there is something under way, by a thread of the meter's.
 *
 * Every message that waits holds a reference, so a meter may be let go while streams still send.
 * Any thread.
 */
#pragma once

#include <stdint.h>

struct dml_meter;

/* NULL when out of memory. Owner: caller, dml_meter_unref(). */
struct dml_meter *dml_meter_new(void);

/* By the owner; nothing that begins later is measured. NULL is fine. Returns NULL. */
struct dml_meter *dml_meter_unref(struct dml_meter *m);

/* One message begins to wait, respectively does so no longer. NULL is fine: not measured. */
void dml_meter_begin(struct dml_meter *m);
void dml_meter_end(struct dml_meter *m);

/* Microseconds up to now. */
uint64_t dml_meter_us(struct dml_meter *m);
