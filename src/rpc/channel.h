/* The client's end of a connection, and what both ends agree on about connections. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dml_err;
struct grpc_channel;

/* Room for a target that dml_channel_target() wrote. */
#define DML_CHANNEL_TARGET_MAX 300

/*
 * What gRPC calls `name`: "unix:/path" stays, "host", "host:port", "[::1]:port" get the port of
 * DML_WIRE_PORT when they name none. Returns 0 or -EINVAL.
 */
int dml_channel_target(const char *name, char ret[DML_CHANNEL_TARGET_MAX], struct dml_err *err);

/* Connects when first used, on a connection of its own. Owner: caller. */
struct grpc_channel *dml_channel_new(const char *target);

/* The same; calls fail when no connection has come about by connect_us. */
struct grpc_channel *dml_channel_new_within(const char *target, uint64_t connect_us);
struct grpc_channel *dml_channel_free(struct grpc_channel *channel);

/*
 * A sentence without full stop from what gRPC says about a connection that failed: the system's
 * reason when it can be found in there.
 */
const char *dml_channel_reason(const char *why, char *buf, size_t buf_len);
