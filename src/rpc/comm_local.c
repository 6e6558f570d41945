/*
 * A hub holds one inbox per rank that is there; sending puts a reference into the receiver's inbox.
 *
 * An endpoint takes the inbox over while its thread uses it: a killed rank's thread can so go on
 * asking its old endpoint, and hear -EPIPE, while a revived rank already has a new one. The hub's
 * lock guards who is there and is taken before an inbox's; receiving takes the inbox's only.
 */
#include "rpc/comm_local.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "rpc/inbox.h"

struct endpoint {
    struct dml_comm comm;
    struct dml_comm_hub *hub;
    struct dml_inbox *inbox;
    struct dml_comm_stats stats;
    atomic_int end; /* 0, -EPIPE once killed, -ECANCELED once cancelled */
};

struct slot {
    struct dml_inbox *inbox; /* NULL: the rank is gone */
    struct endpoint *endpoint;
};

struct dml_comm_hub {
    pthread_mutex_t lock;
    uint32_t n_ranks;
    unsigned n_endpoints;
    struct slot slots[];
};

static struct endpoint *endpoint_of(struct dml_comm *c)
{
    return (struct endpoint *)c;
}

static int local_send(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg)
{
    struct endpoint *ep = endpoint_of(c);
    struct dml_comm_msg copy = *msg;
    copy.from = c->rank;

    pthread_mutex_lock(&ep->hub->lock);
    struct dml_inbox *inbox = ep->hub->slots[to].inbox;
    int r = atomic_load(&ep->end);
    if (r == 0) {
        r = inbox ? dml_inbox_push(inbox, &copy) : -EPIPE;
        if (r == -ECANCELED) /* the receiver's own business: it is about to go */
            r = -EPIPE;
    }
    pthread_mutex_unlock(&ep->hub->lock);
    if (r == 0)
        ep->stats.sent_bytes += dml_inbox_cost(msg);
    return r;
}

static int local_recv(struct dml_comm *c, uint32_t from, uint64_t deadline_us,
                      struct dml_comm_msg *ret)
{
    struct endpoint *ep = endpoint_of(c);
    int r = dml_inbox_recv(ep->inbox, from, deadline_us, ret);
    if (r == 0 && ret->kind >= DML_COMM_USER)
        ep->stats.received_bytes += dml_inbox_cost(ret);
    return r;
}

static bool local_alive(struct dml_comm *c, uint32_t rank)
{
    struct endpoint *ep = endpoint_of(c);
    pthread_mutex_lock(&ep->hub->lock);
    bool alive = !atomic_load(&ep->end) && ep->hub->slots[rank].inbox;
    pthread_mutex_unlock(&ep->hub->lock);
    return alive;
}

static void local_stats(struct dml_comm *c, struct dml_comm_stats *ret)
{
    *ret = endpoint_of(c)->stats;
}

static void local_cancel(struct dml_comm *c)
{
    atomic_store(&endpoint_of(c)->end, -ECANCELED);
    atomic_store(&c->stopped, true);
    dml_inbox_end(endpoint_of(c)->inbox, -ECANCELED, true);
}

/* Called with the lock: everybody learns that `rank` is gone. */
static void leave(struct dml_comm_hub *hub, uint32_t rank, bool drop)
{
    struct slot *slot = &hub->slots[rank];
    if (slot->endpoint)
        slot->endpoint = NULL; /* it keeps the inbox */
    else
        (void)dml_inbox_free(slot->inbox);
    slot->inbox = NULL;
    for (uint32_t i = 0; i < hub->n_ranks; i++) {
        if (!hub->slots[i].inbox)
            continue;
        if (rank == 0 && hub->slots[i].endpoint) /* before a receiver wakes up and looks */
            atomic_store(&hub->slots[i].endpoint->comm.stopped, true);
        dml_inbox_leave(hub->slots[i].inbox, rank, drop);
    }
}

static void local_free(struct dml_comm *c)
{
    struct endpoint *ep = endpoint_of(c);
    struct dml_comm_hub *hub = ep->hub;
    pthread_mutex_lock(&hub->lock);
    if (hub->slots[c->rank].endpoint == ep)
        leave(hub, c->rank, false);
    hub->n_endpoints--;
    pthread_mutex_unlock(&hub->lock);
    (void)dml_inbox_free(ep->inbox);
    free(ep);
}

static const struct dml_comm_ops local_ops = {
    .send = local_send,
    .recv = local_recv,
    .alive = local_alive,
    .stats = local_stats,
    .cancel = local_cancel,
    .free = local_free,
};

/* A fresh inbox for `rank` in which everybody else who is there has joined. */
static int open_inbox(struct dml_comm_hub *hub, uint32_t rank)
{
    struct dml_inbox *inbox = dml_inbox_new(hub->n_ranks, rank);
    if (!inbox)
        return -ENOMEM;
    for (uint32_t i = 0; i < hub->n_ranks; i++) {
        if (i != rank && hub->slots[i].inbox && dml_inbox_join(inbox, i) < 0) {
            (void)dml_inbox_free(inbox);
            return -ENOMEM;
        }
    }
    hub->slots[rank].inbox = inbox;
    return 0;
}

/* Puts `rank` into the others' inboxes. */
static int announce(struct dml_comm_hub *hub, uint32_t rank)
{
    for (uint32_t i = 0; i < hub->n_ranks; i++)
        if (i != rank && hub->slots[i].inbox && dml_inbox_join(hub->slots[i].inbox, rank) < 0)
            return -ENOMEM;
    return 0;
}

struct dml_comm_hub *dml_comm_hub_new(uint32_t n_ranks)
{
    assert(n_ranks > 0 && n_ranks <= DML_COMM_RANKS_MAX);
    struct dml_comm_hub *hub = calloc(1, sizeof(*hub) + n_ranks * sizeof(hub->slots[0]));
    if (!hub)
        return NULL;
    hub->n_ranks = n_ranks;
    pthread_mutex_init(&hub->lock, NULL);
    for (uint32_t rank = 0; rank < n_ranks; rank++)
        if (open_inbox(hub, rank) < 0 || announce(hub, rank) < 0)
            return dml_comm_hub_free(hub);
    return hub;
}

struct dml_comm_hub *dml_comm_hub_free(struct dml_comm_hub *hub)
{
    if (!hub)
        return NULL;
    assert(hub->n_endpoints == 0);
    for (uint32_t i = 0; i < hub->n_ranks; i++)
        (void)dml_inbox_free(hub->slots[i].inbox);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
    return NULL;
}

struct dml_comm *dml_comm_hub_get(struct dml_comm_hub *hub, uint32_t rank)
{
    assert(rank < hub->n_ranks);
    struct endpoint *ep = calloc(1, sizeof(*ep));
    if (!ep)
        return NULL;
    ep->comm = (struct dml_comm){.ops = &local_ops, .rank = rank, .size = hub->n_ranks};
    ep->hub = hub;

    pthread_mutex_lock(&hub->lock);
    struct slot *slot = &hub->slots[rank];
    bool free_slot = slot->inbox && !slot->endpoint;
    if (free_slot) {
        ep->inbox = slot->inbox;
        slot->endpoint = ep;
        hub->n_endpoints++;
        atomic_store(&ep->comm.stopped, !hub->slots[0].inbox);
    }
    pthread_mutex_unlock(&hub->lock);
    if (free_slot)
        return &ep->comm;
    free(ep);
    return NULL;
}

void dml_comm_hub_kill(struct dml_comm_hub *hub, uint32_t rank)
{
    assert(rank < hub->n_ranks);
    pthread_mutex_lock(&hub->lock);
    struct slot *slot = &hub->slots[rank];
    if (slot->endpoint) {
        atomic_store(&slot->endpoint->end, -EPIPE);
        atomic_store(&slot->endpoint->comm.stopped, true);
        dml_inbox_end(slot->inbox, -EPIPE, true);
    }
    if (slot->inbox)
        leave(hub, rank, true);
    pthread_mutex_unlock(&hub->lock);
}

int dml_comm_hub_revive(struct dml_comm_hub *hub, uint32_t rank)
{
    assert(rank > 0 && rank < hub->n_ranks);
    pthread_mutex_lock(&hub->lock);
    int r = hub->slots[rank].inbox ? -EBUSY : open_inbox(hub, rank);
    if (r == 0) {
        r = announce(hub, rank);
        if (r < 0)
            leave(hub, rank, true);
    }
    pthread_mutex_unlock(&hub->lock);
    return r;
}
