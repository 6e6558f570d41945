/*
 * Rank 0's end of a run between machines. A rank is a session for as long as the session takes
 * part; what it sends goes from the poller thread into the inbox.
 *
 * Backpressure: while more than UNREAD_MAX bytes of one worker wait in the inbox, its stream is not
 * read. gRPC then stops taking bytes from the socket, and TCP tells the worker.
 */
#include "rpc/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define UNREAD_MAX   (UINT64_C(64) << 20) /* bytes: one update of a 16-million-parameter model */
#define SENTENCE_MAX 4096                 /* bytes: a worker can always say what is wrong */

struct server_comm {
    struct dml_comm comm;
    struct dml_server *server;
    uint64_t run_id;
    uint64_t body_max; /* bytes; fixed once somebody takes part */
    struct dml_inbox *inbox;
    struct dml_comm_stats stats;
    struct dml_meter *meter;
    unsigned char secret[DML_WIRE_SECRET_LEN]; /* by which its workers know each other */
    uint32_t n_lives;                          /* how often a rank was given to somebody */
    atomic_bool cancelled;
    bool over; /* guarded by the server's lock, as the ranks are */
    struct dml_session *ranks[];
};

static struct server_comm *server_comm_of(struct dml_comm *c)
{
    return (struct server_comm *)c;
}

static int comm_send(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg)
{
    struct server_comm *sc = server_comm_of(c);
    if (atomic_load(&c->stopped))
        return -ECANCELED;
    pthread_mutex_lock(&sc->server->lock);
    struct dml_session *s = sc->ranks[to];
    int r = s ? dml_transfer_send(s->stream, sc->run_id, msg, sc->meter) : -EPIPE;
    pthread_mutex_unlock(&sc->server->lock);
    if (r == 0)
        sc->stats.sent_bytes += dml_inbox_cost(msg);
    return r;
}

static void resume(struct server_comm *sc, uint32_t rank)
{
    pthread_mutex_lock(&sc->server->lock);
    struct dml_session *s = sc->ranks[rank];
    if (s && s->paused && dml_inbox_unread(sc->inbox, rank) <= UNREAD_MAX) {
        s->paused = false;
        dml_stream_resume(s->stream);
    }
    pthread_mutex_unlock(&sc->server->lock);
}

static int comm_recv(struct dml_comm *c, uint32_t from, uint64_t deadline_us,
                     struct dml_comm_msg *ret)
{
    struct server_comm *sc = server_comm_of(c);
    int r = dml_inbox_recv(sc->inbox, from, deadline_us, ret);
    if (r == 0 && ret->kind >= DML_COMM_USER) {
        sc->stats.received_bytes += dml_inbox_cost(ret);
        resume(sc, ret->from);
    }
    return r;
}

static bool comm_alive(struct dml_comm *c, uint32_t rank)
{
    struct server_comm *sc = server_comm_of(c);
    if (rank == 0)
        return !atomic_load(&c->stopped);
    pthread_mutex_lock(&sc->server->lock);
    bool alive = sc->ranks[rank] != NULL;
    pthread_mutex_unlock(&sc->server->lock);
    return alive;
}

static void comm_stats(struct dml_comm *c, struct dml_comm_stats *ret)
{
    *ret = server_comm_of(c)->stats;
    ret->sending_us = dml_meter_us(server_comm_of(c)->meter);
}

static void comm_cancel(struct dml_comm *c)
{
    struct server_comm *sc = server_comm_of(c);
    atomic_store(&sc->cancelled, true);
    atomic_store(&c->stopped, true);
    dml_inbox_end(sc->inbox, -ECANCELED, true);
}

static void comm_free(struct dml_comm *c)
{
    struct server_comm *sc = server_comm_of(c);
    dml_server_comm_stop(c);
    (void)dml_inbox_free(sc->inbox);
    (void)dml_meter_unref(sc->meter);
    free(sc);
}

static const struct dml_comm_ops server_comm_ops = {
    .send = comm_send,
    .recv = comm_recv,
    .alive = comm_alive,
    .stats = comm_stats,
    .cancel = comm_cancel,
    .free = comm_free,
};

int dml_server_comm_new(struct dml_server *srv, uint64_t run_id, uint32_t size,
                        struct dml_comm **ret)
{
    assert(run_id != 0 && size > 0 && size <= DML_COMM_RANKS_MAX);
    struct server_comm *sc = calloc(1, sizeof(*sc) + size * sizeof(sc->ranks[0]));
    if (!sc)
        return -ENOMEM;
    sc->comm.ops = &server_comm_ops;
    sc->comm.size = size;
    sc->server = srv;
    sc->run_id = run_id;
    sc->body_max = DML_COMM_BODY_MAX;
    sc->inbox = dml_inbox_new(size, 0);
    sc->meter = dml_meter_new();
    int r = sc->inbox && sc->meter ? 0 : -ENOMEM;
    if (r == 0 && getrandom(sc->secret, sizeof(sc->secret), 0) != (ssize_t)sizeof(sc->secret))
        r = -EIO; /* up to 256 bytes come whole once the kernel has any */
    if (r < 0) {
        (void)dml_inbox_free(sc->inbox);
        (void)dml_meter_unref(sc->meter);
        free(sc);
        return r;
    }
    *ret = &sc->comm;
    return 0;
}

void dml_server_comm_limit(struct dml_comm *comm, uint64_t body_max)
{
    struct server_comm *sc = server_comm_of(comm);
    sc->body_max = body_max < SENTENCE_MAX ? SENTENCE_MAX : body_max;
}

int dml_server_comm_attach(struct dml_comm *comm, struct dml_session *s,
                           const struct dml_run_order *order)
{
    struct server_comm *sc = server_comm_of(comm);
    assert(order->run_id == sc->run_id && order->size == comm->size);
    assert(order->rank > 0 && order->rank < comm->size);
    struct dml_wire_frame f = {.kind = DML_WIRE_ORDER, .run_id = sc->run_id, .order = *order};

    pthread_mutex_lock(&sc->server->lock);
    int r = s->gone || s->id == 0 || atomic_load(&s->hung_up_us) ? -EPIPE
            : sc->over                                           ? -ECANCELED
            : s->comm || sc->ranks[order->rank]                  ? -EBUSY
                                                                 : 0;
    if (r == 0)
        r = dml_inbox_join(sc->inbox, order->rank);
    if (r == 0) {
        f.order.life = ++sc->n_lives;
        memcpy(f.order.secret, sc->secret, sizeof(sc->secret));
        dml_session_welcome(s);
        r = dml_transfer_send_frame(s->stream, &f);
        if (r == 0) {
            s->comm = sc;
            s->rank = order->rank;
            s->life = f.order.life;
            sc->ranks[order->rank] = dml_session_ref(s);
            dml_server_peers_joined(sc->ranks, comm->size, s, sc->run_id);
        } else {
            dml_inbox_leave(sc->inbox, order->rank, true);
        }
    }
    pthread_mutex_unlock(&sc->server->lock);
    return r;
}

bool dml_server_comm_has(const struct dml_session *s, uint64_t run_id)
{
    return s->comm && s->comm->run_id == run_id;
}

uint64_t dml_server_comm_room(const struct dml_session *s, uint64_t run_id)
{
    return dml_server_comm_has(s, run_id) ? s->comm->body_max : 0;
}

int dml_server_comm_deliver(struct dml_session *s, struct dml_comm_msg *msg)
{
    struct server_comm *sc = s->comm;
    msg->from = s->rank;
    int r = dml_inbox_push(sc->inbox, msg);
    s->paused = dml_inbox_unread(sc->inbox, s->rank) > UNREAD_MAX;
    return r == -ENOMEM ? r : 0; /* a run that is being ended takes nothing more */
}

void dml_server_comm_detach(struct dml_session *s, bool drop)
{
    struct server_comm *sc = s->comm;
    if (!sc)
        return;
    dml_inbox_leave(sc->inbox, s->rank, drop);
    sc->ranks[s->rank] = NULL;
    if (!sc->over)
        dml_server_peers_went(sc->ranks, sc->comm.size, s, sc->run_id, drop);
    s->comm = NULL;
    s->paused = false;
    dml_stream_resume(s->stream);
    (void)dml_session_unref(s);
}

void dml_server_comm_stop(struct dml_comm *comm)
{
    struct server_comm *sc = server_comm_of(comm);
    struct dml_wire_frame f = {.kind = DML_WIRE_STOP, .run_id = sc->run_id};
    atomic_store(&comm->stopped, true);
    dml_inbox_end(sc->inbox, -ECANCELED, true);
    pthread_mutex_lock(&sc->server->lock);
    sc->over = true;
    for (uint32_t rank = 1; rank < comm->size; rank++) {
        struct dml_session *s = sc->ranks[rank];
        if (!s)
            continue;
        if (atomic_load(&sc->cancelled))
            dml_stream_purge(s->stream, sc->run_id);
        (void)dml_transfer_send_frame(s->stream, &f);
        dml_server_comm_detach(s, true);
    }
    pthread_mutex_unlock(&sc->server->lock);
}
