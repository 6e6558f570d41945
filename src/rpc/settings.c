/*
 * Where the numbers come from:
 *
 * - keepalive 20 s + 20 s: without it a cut cable is never noticed; with 2 s + 2 s a healthy slow
 *   transfer (36 MB over 20 Mbit/s) was killed, since pings queue behind data;
 * - receive limit DML_WIRE_MESSAGE_MAX: bodies come in chunks, so nothing larger is ever right.
 */
#include "rpc/settings.h"

#include <stdint.h>

#include "rpc/wire.h"

static const struct dml_setting common[DML_SETTINGS_COMMON] = {
    {GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, DML_WIRE_MESSAGE_MAX},
    {GRPC_ARG_KEEPALIVE_TIME_MS, 20 * 1000},
    {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20 * 1000},
    {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
    {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
};

grpc_channel_args dml_settings(const struct dml_setting *own, size_t n_own, grpc_arg *list)
{
    for (size_t i = 0; i < DML_SETTINGS_COMMON + n_own; i++) {
        const struct dml_setting *s =
            i < DML_SETTINGS_COMMON ? &common[i] : &own[i - DML_SETTINGS_COMMON];
        list[i] = (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)s->key};
        list[i].value.integer = s->value;
    }
    return (grpc_channel_args){.num_args = DML_SETTINGS_COMMON + n_own, .args = list};
}
