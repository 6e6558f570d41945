/*
 * What a rank knows of the other workers of its run, and what follows from news.
 *
 *   the master: there    first word, or a new life: whatever was is over, calls may be made
 *   the master: lost     both streams end, unread messages go; -EPIPE until the next life
 *   the master: left     the same, but what it said before is still read
 *   a stream broke       both streams end. -EPIPE is said once, to whoever sends or receives next;
 *                        after that a send calls again. Two processes that are well come together
 *                        again so, while the paradigm knows that messages may be missing.
 *   a call failed        nobody answers, or the other refuses: -EPIPE; the next attempt comes with
 *                        a send after a pause, RETRY_MIN_US doubling to RETRY_MAX_US
 *
 * Lives are numbers that the master draws: a process that went and came back is another life of the
 * same rank. Calls of a former life, or meant for one, are refused, so no message of theirs is ever
 * taken for one of now. Within a life calls are numbered: one that was overtaken is refused too.
 */
#include "rpc/peer_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Bytes of one peer that may wait unread before its stream is not read any more. Fewer than the
 * master's (server_comm.c), since a node of a pipeline or of a ring has 1 GB in all. */
#define UNREAD_MAX (UINT64_C(32) << 20)

#define RETRY_MIN_US (UINT64_C(250) * 1000)
#define RETRY_MAX_US (UINT64_C(4) * 1000 * 1000)

__attribute__((format(printf, 2, 3))) static void explain(struct peer *peer, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    free(peer->why);
    peer->why = strdup(text); /* without memory there is no sentence */
}

static const char *name(const struct peer *peer)
{
    return peer->address ? peer->address : "unknown address";
}

static void enter(struct dml_peers *p, uint32_t rank)
{
    struct peer *peer = &p->peers[rank];
    if (peer->present)
        return;
    peer->present = true;
    free(peer->why);
    peer->why = NULL;
    (void)dml_inbox_join(p->inbox, rank); /* cannot fail for workers */
}

static void depart(struct dml_peers *p, uint32_t rank, bool drop)
{
    if (p->peers[rank].present)
        dml_inbox_leave(p->inbox, rank, drop);
    p->peers[rank].present = false;
}

static void end_call(struct peer *peer, bool finish)
{
    if (peer->call) {
        peer->owes |= peer->call->used;
        dml_peer_call_end(peer->call, finish);
    }
    peer->call = NULL;
}

static void end_guest(struct peer *peer, bool finish)
{
    if (peer->guest)
        dml_peer_guest_end(peer->guest, finish);
    peer->guest = NULL;
}

/* Nothing is left of the connection, in either direction. */
static void part(struct dml_peers *p, uint32_t rank)
{
    end_call(&p->peers[rank], false);
    end_guest(&p->peers[rank], false);
    depart(p, rank, true);
}

/* host:port as gRPC wants it. ":port" is on the master's machine, which is where we reach the
 * master. */
static char *target_of(const struct dml_peers *p, const char *address)
{
    char full[DML_CHANNEL_TARGET_MAX + DML_WIRE_ADDRESS_MAX], target[DML_CHANNEL_TARGET_MAX];
    snprintf(full, sizeof(full), "%s%s", address[0] == ':' ? p->host : "", address);
    return address[0] && dml_channel_target(full, target, NULL) == 0 ? strdup(target) : NULL;
}

static void set_address(struct dml_peers *p, uint32_t rank, const char *address)
{
    struct peer *peer = &p->peers[rank];
    free(peer->address);
    free(peer->target);
    peer->target = target_of(p, address);
    peer->address = strdup(peer->target ? peer->target : address);
}

void dml_peers_tell(struct dml_peers *p, const struct dml_wire_peer *news)
{
    uint32_t rank = news->rank;
    pthread_mutex_lock(&p->hub->lock);
    struct peer *peer = &p->peers[rank < p->self.size ? rank : 0];
    if (p->over || rank >= p->self.size || rank == p->self.rank || news->life < peer->life) {
        /* not for us, or overtaken */
    } else if (news->state == DML_WIRE_PEER_THERE) {
        if (news->life > peer->life) {
            part(p, rank);
            peer->life = news->life;
            peer->last_attempt = 0;
            peer->gone = peer->left = peer->owes = false;
            peer->n_failed = 0;
            set_address(p, rank, news->address);
            enter(p, rank);
        }
    } else if (news->life == peer->life && !peer->gone) {
        peer->gone = true;
        if (news->state == DML_WIRE_PEER_LOST) {
            part(p, rank);
            explain(peer, "The master has lost rank %u (%s).", rank, name(peer));
        } else {
            peer->left = true;
            end_call(peer, false);
            if (!peer->guest) /* else when it has been read to its end */
                depart(p, rank, false);
            explain(peer, "Rank %u (%s) has left the run.", rank, name(peer));
        }
    }
    dml_peer_guests_examine(p->hub);
    pthread_mutex_unlock(&p->hub->lock);
}

/* A call that never came about, or was refused. */
static void failed(struct dml_peers *p, uint32_t rank, const char *what, const char *why)
{
    struct peer *peer = &p->peers[rank];
    uint64_t pause = RETRY_MIN_US << (peer->n_failed < 8 ? peer->n_failed : 8);
    peer->n_failed++;
    peer->retry_us = dml_clock_now_us() + (pause < RETRY_MAX_US ? pause : RETRY_MAX_US);
    if (!peer->guest)
        depart(p, rank, false);
    bool whole = why[0] && why[strlen(why) - 1] == '.';
    explain(peer, "Rank %u at %s %s: %s%s", rank, name(peer), what, why, whole ? "" : ".");
}

void dml_peer_call_ended(struct dml_peers *p, uint32_t rank, bool opened, bool used, int code,
                         const char *why)
{
    struct peer *peer = &p->peers[rank];
    char reason[256];
    peer->call = NULL;
    peer->owes |= used;
    if (code ==
        DML_STREAM_OK) { /* what it still says is read; its own call or the master ends it */
        peer->n_failed = 0;
        if (!peer->guest)
            depart(p, rank, false);
        explain(peer, "Rank %u (%s) has left the run.", rank, name(peer));
    } else if (code == DML_STREAM_ABORTED) {
        failed(p, rank, "refuses", why);
    } else if (code == DML_STREAM_UNIMPLEMENTED) {
        failed(p, rank, "is no worker of dml", why);
    } else if (!opened) {
        failed(p, rank, "cannot be reached", dml_channel_reason(why, reason, sizeof(reason)));
    } else {
        peer->n_failed = 0;
        part(p, rank);
        explain(peer, "The connection to rank %u (%s) broke: %s.", rank, name(peer),
                dml_channel_reason(why, reason, sizeof(reason)));
    }
}

void dml_peer_guest_ended(struct dml_peers *p, uint32_t rank, bool in_order, const char *why)
{
    struct peer *peer = &p->peers[rank];
    peer->guest = NULL;
    if (in_order) {
        peer->gone = true;
        end_call(peer, false);
        depart(p, rank, false);
        explain(peer, "Rank %u (%s) has left the run.", rank, name(peer));
    } else {
        part(p, rank);
        explain(peer, "The connection from rank %u (%s) broke%s%s", rank, name(peer),
                why[0] ? ": " : ".", why);
    }
}

/* Says everything but whether somebody else knows it in the same time. */
static bool same_secret(const unsigned char *a, const unsigned char *b)
{
    unsigned char differs = 0;
    for (size_t i = 0; i < DML_WIRE_SECRET_LEN; i++)
        differs |= a[i] ^ b[i];
    return differs == 0;
}

enum peer_verdict dml_peer_judge(struct dml_peer_hub *hub, uint64_t run_id,
                                 const struct dml_wire_peer_hello *hello, struct peer_guest *guest,
                                 struct dml_peers **ret, char *refusal, size_t refusal_len)
{
    struct dml_peers *p = hub->runs;
    while (p && p->self.run_id != run_id)
        p = p->next;
    if (!p)
        return PEER_WAIT;
    struct peer *peer = &p->peers[hello->from < p->self.size ? hello->from : 0];
    const char *why = NULL;
    if (!same_secret(hello->secret, p->self.secret))
        why = "The secret is not this run's.";
    else if (p->over)
        why = "The run is over here.";
    else if (hello->to != p->self.rank || hello->to_life != p->self.life)
        why = "This is another worker than the call is meant for, or one that came back since.";
    else if (hello->from >= p->self.size)
        why = "The run has no such rank.";
    else if (hello->from_life < peer->life ||
             (hello->from_life == peer->life && peer->gone && !peer->left))
        why = "The master counts the caller out.";
    else if (hello->from_life > peer->life)
        return PEER_WAIT;
    else if (hello->attempt <= peer->last_attempt)
        why = "A later call of the same worker came before.";
    if (why) {
        snprintf(refusal, refusal_len, "%s", why);
        return PEER_REFUSED;
    }
    if (peer->guest) /* the caller knows of a break that we have not seen yet */
        part(p, hello->from);
    peer->last_attempt = hello->attempt;
    peer->guest = guest;
    enter(p, hello->from);
    *ret = p;
    return PEER_WELCOME;
}

int dml_peer_deliver(struct dml_peers *p, uint32_t from, struct dml_comm_msg *msg, bool *ret_full)
{
    msg->from = from;
    int r = dml_inbox_push(p->inbox, msg);
    *ret_full = dml_inbox_unread(p->inbox, from) > UNREAD_MAX;
    return r == -ENOMEM ? r : 0; /* a run that is being ended takes nothing more */
}

void dml_peers_resume(struct dml_peers *p, uint32_t from)
{
    pthread_mutex_lock(&p->hub->lock);
    struct peer *peer = &p->peers[from];
    if (peer->guest && dml_inbox_unread(p->inbox, from) <= UNREAD_MAX)
        dml_peer_guest_resume(peer->guest);
    pthread_mutex_unlock(&p->hub->lock);
}

void dml_peers_noticed(struct dml_peers *p, uint32_t from)
{
    pthread_mutex_lock(&p->hub->lock);
    struct peer *peer = &p->peers[from];
    peer->owes = false;
    if (!p->over && peer->life && !peer->gone && !peer->n_failed)
        enter(p, from);
    pthread_mutex_unlock(&p->hub->lock);
}

/* A stream to the peer, if it may be had. */
static int call(struct dml_peers *p, uint32_t rank)
{
    struct peer *peer = &p->peers[rank];
    if (peer->life && !peer->gone && !peer->target && !peer->why)
        explain(peer,
                name(peer)[0]
                    ? "Rank %u says that it can be reached at \"%s\", which is no address."
                    : "Rank %u does not listen for other workers: its key peer-listen is "
                      "empty.%s",
                rank, name(peer));
    if (!peer->life || peer->gone || !peer->target ||
        (peer->n_failed && dml_clock_now_us() < peer->retry_us))
        return -EPIPE;
    int r = dml_peer_call_new(p, rank, &peer->call);
    if (r == 0)
        enter(p, rank);
    return r;
}

int dml_peers_send(struct dml_peers *p, uint32_t to, const struct dml_comm_msg *msg)
{
    pthread_mutex_lock(&p->hub->lock);
    struct peer *peer = &p->peers[to];
    int r = p->over || peer->owes ? -EPIPE : 0;
    peer->owes = false;
    if (r == 0 && !peer->call)
        r = call(p, to);
    if (r == 0) {
        r = dml_transfer_send(peer->call->stream, p->self.run_id, msg, p->meter);
        if (r != -ENOMEM) /* -EPIPE: it has ended and why comes in a moment; this is telling it */
            peer->call->used = r == 0;
    }
    pthread_mutex_unlock(&p->hub->lock);
    return r;
}

void dml_peers_why(struct dml_peers *p, uint32_t rank, char *buf, size_t buf_len)
{
    pthread_mutex_lock(&p->hub->lock);
    const struct peer *peer = &p->peers[rank];
    if (peer->why)
        snprintf(buf, buf_len, "%s", peer->why);
    else if (!peer->life)
        snprintf(buf, buf_len, "Rank %u has not taken part in the run yet.", rank);
    else
        snprintf(buf, buf_len, "Nothing is known to be wrong with rank %u (%s).", rank, name(peer));
    pthread_mutex_unlock(&p->hub->lock);
}

/* With the lock. */
static void leave(struct dml_peers *p, bool in_order)
{
    if (p->over)
        return;
    p->over = true;
    for (uint32_t rank = 1; rank < p->self.size; rank++) {
        end_call(&p->peers[rank], in_order);
        end_guest(&p->peers[rank], in_order);
        depart(p, rank, false);
    }
    dml_peer_guests_examine(p->hub); /* those that waited hear that it is over */
}

void dml_peers_leave(struct dml_peers *p, bool in_order)
{
    pthread_mutex_lock(&p->hub->lock);
    leave(p, in_order);
    pthread_mutex_unlock(&p->hub->lock);
}

/* The host's part of a target; a Unix socket's is this machine. */
static void host_of(const char *target, char *ret, size_t ret_len)
{
    bool is_unix = !strncmp(target, "unix:", 5);
    const char *colon = strrchr(target, ':');
    size_t len = colon ? (size_t)(colon - target) : strlen(target);
    snprintf(ret, ret_len, "%.*s", is_unix ? 9 : (int)len, is_unix ? "localhost" : target);
}

int dml_peers_new(struct dml_peer_hub *hub, const struct dml_peers_self *self,
                  struct dml_inbox *inbox, struct dml_meter *meter, struct dml_peers **ret)
{
    assert(self->size <= DML_COMM_RANKS_MAX && self->rank > 0 && self->rank < self->size);
    struct dml_peers *p = calloc(1, sizeof(*p) + self->size * sizeof(p->peers[0]));
    if (!p)
        return -ENOMEM;
    p->hub = hub;
    p->self = *self;
    host_of(self->master, p->host, sizeof(p->host));
    p->self.master = p->host;
    p->inbox = inbox;
    p->meter = meter;
    pthread_mutex_lock(&hub->lock);
    p->next = hub->runs;
    hub->runs = p;
    dml_peer_guests_examine(hub);
    pthread_mutex_unlock(&hub->lock);
    *ret = p;
    return 0;
}

struct dml_peers *dml_peers_free(struct dml_peers *p)
{
    if (!p)
        return NULL;
    pthread_mutex_lock(&p->hub->lock);
    leave(p, false);
    for (struct dml_peers **at = &p->hub->runs; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    pthread_mutex_unlock(&p->hub->lock);
    for (uint32_t rank = 0; rank < p->self.size; rank++) {
        free(p->peers[rank].address);
        free(p->peers[rank].target);
        free(p->peers[rank].why);
    }
    free(p);
    return NULL;
}
