/*
 * gRPC answers "port 0" when it cannot listen, and removes whatever socket file lies where it wants
 * to: a second master would silently take the first one's control socket. So the file is tried
 * before, and the address after, with plain system calls.
 */
#include "rpc/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/mem.h"

#define HOST_MAX 256
#define PORT_MAX 65535

/* 0 when one could listen there. */
static int try_listen(const struct addrinfo *ai)
{
    _cleanup_(dml_mem_closep) int fd =
        socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);
    if (fd < 0)
        return -errno;
    int one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1) < 0)
        return -errno;
    return 0;
}

/* gRPC takes a port modulo 65536. */
int dml_listen_check(const char *address, struct dml_err *err)
{
    static const char letters[] =
        ":ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_%";
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    bool ok = len > 0 && len < HOST_MAX;
    if (ok && address[0] == '[') /* the colons of IPv6 are within */
        ok = len > 2 && address[len - 1] == ']' && strspn(address + 1, letters) == len - 2;
    else if (ok)
        ok = strspn(address, letters + 1) == len;
    size_t digits = ok ? strspn(colon + 1, "0123456789") : 0;
    ok = digits > 0 && digits <= 5 && !colon[1 + digits] && atoi(colon + 1) <= PORT_MAX;
    if (!ok)
        return dml_err_set(err, -EINVAL,
                           "Cannot listen on \"%.200s\": wanted address:port, such as [::]:7077 or "
                           "192.168.1.2:7077, with a port from 0 (any that is free) to %d.",
                           address, PORT_MAX);
    return 0;
}

int dml_listen_explain(const char *address, struct dml_err *err)
{
    char host[HOST_MAX];
    int r = dml_listen_check(address, err);
    if (r < 0)
        return r;
    const char *colon = strrchr(address, ':');
    size_t len = (size_t)(colon - address);
    memcpy(host, address, len);
    host[len] = '\0';
    const char *name = host;
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        name = host + 1;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int e = getaddrinfo(name, colon + 1, &hints, &list);
    if (e)
        return dml_err_set(err, -EINVAL, "Cannot listen on \"%s\": %s.", address, gai_strerror(e));
    for (struct addrinfo *ai = list; ai && r == 0; ai = ai->ai_next)
        r = try_listen(ai);
    freeaddrinfo(list);
    if (r == -EADDRINUSE)
        return dml_err_set(
            err, r, "Cannot listen on %s: another program does, perhaps another master.", address);
    if (r == 0)
        r = -EINVAL;
    return dml_err_set(err, r, "Cannot listen on %s: %s.", address, strerror(-r));
}

static int socket_address(const char *path, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(ret->sun_path))
        return -ENAMETOOLONG;
    memcpy(ret->sun_path, path, len + 1);
    return 0;
}

int dml_listen_probe(const char *path)
{
    struct sockaddr_un addr;
    int r = socket_address(path, &addr);
    if (r < 0)
        return r;
    _cleanup_(dml_mem_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

int dml_listen_check_socket(const char *path, struct dml_err *err)
{
    struct stat st;
    struct sockaddr_un addr;
    int r = socket_address(path, &addr);
    if (r < 0)
        return dml_err_set(err, r, "The path of the control socket has to have 1 to %zu bytes: %s",
                           sizeof(addr.sun_path) - 1, path);
    if (lstat(path, &st) < 0) {
        if (errno == ENOENT)
            return 0;
        r = -errno;
        return dml_err_set(err, r, "Cannot look at the control socket %s: %s.", path, strerror(-r));
    }
    if (!S_ISSOCK(st.st_mode))
        return dml_err_set(err, -EEXIST, "%s is there and is no socket: remove it.", path);
    r = dml_listen_probe(path);
    if (r == 0)
        return dml_err_set(err, -EADDRINUSE, "Another master listens on the control socket %s.",
                           path);
    return 0; /* left behind by a master that is no more; gRPC removes it */
}
