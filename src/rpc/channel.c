/*
 * Channel arguments, and where their numbers come from (those of both ends: settings.c):
 *
 * - 20 s for a connection to come about, which is what MIN_RECONNECT_BACKOFF means besides its
 * name: with 200 ms a busy machine never gets through;
 * - no proxy: http_proxy in the environment would be used even for 127.0.0.1;
 * - a subchannel pool of its own: channels with equal arguments share a connection, and heartbeats
 *   behind a 9 MB transfer on a 20 Mbit/s link arrive 3.8 s late.
 *
 * gRPC's own retries are off: they would keep what was sent, for calls that are never retried.
 */
#include "rpc/channel.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "base/err.h"
#include "base/mem.h"
#include "rpc/settings.h"
#include "rpc/wire.h"

static int refuse(const char *name, struct dml_err *err)
{
    return dml_err_set(
        err, -EINVAL,
        "\"%.200s\" is no address: wanted host, host:port, [address]:port or unix:/path, with a port "
        "from 1 to 65535.",
        name);
}

static bool is_port(const char *s)
{
    char *end;
    unsigned long port = strtoul(s, &end, 10);
    return *s >= '0' && *s <= '9' && *end == '\0' && port > 0 && port <= 65535;
}

int dml_channel_target(const char *name, char ret[DML_CHANNEL_TARGET_MAX], struct dml_err *err)
{
    size_t len = strlen(name);
    if (!strncmp(name, "unix:", 5)) {
        if (len == 5 || len >= DML_CHANNEL_TARGET_MAX)
            return refuse(name, err);
        memcpy(ret, name, len + 1);
        return 0;
    }
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:%";
    const char *host = name, *end;
    bool v6 = name[0] == '[';
    if (v6) {
        host = name + 1;
        end = strchr(host, ']');
    } else {
        end = strchr(host, ':');
        if (end && strchr(end + 1, ':')) /* a bare IPv6 address */
            v6 = true, end = NULL;
    }
    size_t host_len = end ? (size_t)(end - host) : strlen(host);
    if ((name[0] == '[' && !end) || host_len == 0 || host_len > 255 ||
        strspn(host, allowed) < host_len)
        return refuse(name, err);

    const char *rest = end ? end + (*end == ']') : "";
    if (*rest && (*rest != ':' || !is_port(rest + 1)))
        return refuse(name, err);
    int n;
    if (*rest)
        n = snprintf(ret, DML_CHANNEL_TARGET_MAX, v6 ? "[%.*s]%s" : "%.*s%s", (int)host_len, host,
                     rest);
    else
        n = snprintf(ret, DML_CHANNEL_TARGET_MAX, v6 ? "[%.*s]:%u" : "%.*s:%u", (int)host_len, host,
                     DML_WIRE_PORT);
    return n > 0 && n < DML_CHANNEL_TARGET_MAX ? 0 : refuse(name, err);
}

struct grpc_channel *dml_channel_new_within(const char *target, uint64_t connect_us)
{
    uint64_t ms = connect_us / 1000;
    const struct dml_setting own[] = {
        {GRPC_ARG_ENABLE_HTTP_PROXY, 0},
        {GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, ms < INT_MAX ? (int)ms : INT_MAX},
        {GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 30 * 1000},
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_ARG_ENABLE_RETRIES, 0},
    };
    grpc_arg list[ARRAY_SIZE(own) + DML_SETTINGS_COMMON];
    grpc_channel_args args = dml_settings(own, ARRAY_SIZE(own), list);
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, credentials, &args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

struct grpc_channel *dml_channel_new(const char *target)
{
    return dml_channel_new_within(target, UINT64_C(20) * 1000 * 1000);
}

struct grpc_channel *dml_channel_free(struct grpc_channel *channel)
{
    if (channel)
        grpc_channel_destroy(channel);
    return NULL;
}

const char *dml_channel_reason(const char *why, char *buf, size_t buf_len)
{
    static const char *const known[] = {
        "Connection refused",
        "No route to host",
        "Network is unreachable",
        "Connection timed out",
        "Name or service not known",
        "Temporary failure in name resolution",
        "Permission denied",
        "No such file or directory",
        "Connection reset by peer",
        "Socket closed",
        "No address associated with hostname",
    };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strstr(why, known[i])) {
            snprintf(buf, buf_len, "%s", known[i]);
            return buf;
        }
    }
    snprintf(buf, buf_len, "%s", why[0] ? why : "the connection broke");
    return buf;
}
