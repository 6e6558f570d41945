/*
 * Who tells the workers of a run where the others are: the master, because it alone sees all of
 * them come and go.
 *
 * A worker's address is the one that its connection comes from, with the port that it listens on:
 * what routes here most likely routes there. A worker on the master's own machine may come from the
 * loopback, which is nobody else's; for it the host is left out, and every worker puts in the one
 * by which it has reached the master. What a worker says of itself (key peer-address) goes first.
 */
#include "rpc/session.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* "192.168.1.7:40312", "[fe80::1]:40312", "unix:": without the port; "" for this machine. */
static void host_of(const char *peer, char *ret, size_t ret_len)
{
    const char *colon = strrchr(peer, ':');
    size_t len = colon ? (size_t)(colon - peer) : strlen(peer);
    bool local = len == 0 || !strncmp(peer, "unix:", 5) || !strncmp(peer, "127.", 4) ||
                 !strncmp(peer, "[::1]", 5) || !strncmp(peer, "[::ffff:127.", 12);
    snprintf(ret, ret_len, "%.*s", local ? 0 : (int)len, peer);
}

/* Whether the text ends in ":port", outside of an IPv6 address. */
static bool has_port(const char *address)
{
    const char *end = strchr(address, ']');
    const char *colon = strchr(end ? end : address, ':');
    return colon && !strchr(colon + 1, ':');
}

static void address_of(const struct dml_session *s, char *ret, size_t ret_len)
{
    const struct dml_hello *h = &s->hello;
    char host[sizeof(h->peer_address)];
    if (h->peer_port == 0 || has_port(h->peer_address)) {
        snprintf(ret, ret_len, "%s", h->peer_port ? h->peer_address : "");
        return;
    }
    if (h->peer_address[0])
        snprintf(host, sizeof(host), "%s", h->peer_address);
    else
        host_of(s->peer, host, sizeof(host));
    bool bare = strchr(host, ':') && host[0] != '[';
    /* A name that leaves no room for the port is cut, and then is no address to anybody. */
    (void)!snprintf(ret, ret_len, bare ? "[%s]:%u" : "%s:%u", host, h->peer_port);
}

static void say(const struct dml_session *to, const struct dml_session *about, uint64_t run_id,
                enum dml_wire_peer_state state)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_PEER, .run_id = run_id};
    f.peer.rank = about->rank;
    f.peer.life = about->life;
    f.peer.state = state;
    if (state == DML_WIRE_PEER_THERE)
        address_of(about, f.peer.address, sizeof(f.peer.address));
    (void)dml_transfer_send_frame(to->stream, &f); /* fails when `to` is about to be lost itself */
}

void dml_server_peers_joined(struct dml_session *const *ranks, uint32_t size,
                             const struct dml_session *who, uint64_t run_id)
{
    for (uint32_t rank = 1; rank < size; rank++) {
        if (!ranks[rank] || ranks[rank] == who)
            continue;
        say(ranks[rank], who, run_id, DML_WIRE_PEER_THERE);
        say(who, ranks[rank], run_id, DML_WIRE_PEER_THERE);
    }
}

void dml_server_peers_went(struct dml_session *const *ranks, uint32_t size,
                           const struct dml_session *who, uint64_t run_id, bool lost)
{
    for (uint32_t rank = 1; rank < size; rank++)
        if (ranks[rank] && ranks[rank] != who)
            say(ranks[rank], who, run_id, lost ? DML_WIRE_PEER_LOST : DML_WIRE_PEER_LEFT);
}
