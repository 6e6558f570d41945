/* What gRPC is told about connections; the part that holds for both ends is in here. */
#pragma once

#include <stddef.h>

#include <grpc/grpc.h>

/* GRPC_ARG_… and its value. */
struct dml_setting {
    const char *key;
    int value;
};

#define DML_SETTINGS_COMMON 5

/* Those of both ends and then one end's own, written to list [n_own + DML_SETTINGS_COMMON]. What is
 * returned points there. */
grpc_channel_args dml_settings(const struct dml_setting *own, size_t n_own, grpc_arg *list);
