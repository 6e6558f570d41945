/*
 * A worker's end of a run: rank order->rank, with rank 0 at the other end of the Join stream and
 * the other ranks at those of Peer streams. All of them fill one inbox.
 */
#include "rpc/join_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct join_comm {
    struct dml_comm comm;
    struct dml_join *join;
    struct dml_join_run *run;
    struct dml_comm_stats stats;
    bool cancelled; /* guarded by the join's lock */
};

static struct join_comm *join_comm_of(struct dml_comm *c)
{
    return (struct join_comm *)c;
}

static int comm_send(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg)
{
    struct join_comm *jc = join_comm_of(c);
    struct dml_join_run *run = jc->run;
    pthread_mutex_lock(&jc->join->lock);
    int r = jc->cancelled ? -ECANCELED : run->end;
    if (r == 0 && to == 0)
        r = dml_transfer_send(jc->join->stream, run->order.run_id, msg, run->meter);
    else if (r == 0)
        r = dml_peers_send(run->peers, to, msg);
    pthread_mutex_unlock(&jc->join->lock);
    if (r == 0)
        jc->stats.sent_bytes += dml_inbox_cost(msg);
    return r;
}

static int comm_recv(struct dml_comm *c, uint32_t from, uint64_t deadline_us,
                     struct dml_comm_msg *ret)
{
    struct join_comm *jc = join_comm_of(c);
    int r = dml_inbox_recv(jc->run->inbox, from, deadline_us, ret);
    if (r == -EPIPE && from != 0 && from != DML_COMM_ANY)
        dml_peers_noticed(jc->run->peers, from);
    if (r < 0)
        return r;
    jc->stats.received_bytes += dml_inbox_cost(ret);
    if (ret->from) {
        dml_peers_resume(jc->run->peers, ret->from);
        return 0;
    }
    pthread_mutex_lock(&jc->join->lock);
    dml_join_resume(jc->join);
    pthread_mutex_unlock(&jc->join->lock);
    return 0;
}

static bool comm_alive(struct dml_comm *c, uint32_t rank)
{
    if (atomic_load(&c->stopped))
        return false;
    return rank == 0 || rank == c->rank || dml_inbox_present(join_comm_of(c)->run->inbox, rank);
}

static void comm_stats(struct dml_comm *c, struct dml_comm_stats *ret)
{
    struct join_comm *jc = join_comm_of(c);
    *ret = jc->stats;
    ret->sending_us = dml_meter_us(jc->run->meter);
}

static void comm_why(struct dml_comm *c, uint32_t rank, char *buf, size_t buf_len)
{
    struct join_comm *jc = join_comm_of(c);
    if (rank != 0 && rank != c->rank)
        dml_peers_why(jc->run->peers, rank, buf, buf_len);
    else
        snprintf(buf, buf_len, "The connection to the master at %s is gone.", jc->join->name);
}

static void comm_cancel(struct dml_comm *c)
{
    struct join_comm *jc = join_comm_of(c);
    pthread_mutex_lock(&jc->join->lock);
    jc->cancelled = true;
    atomic_store(&c->stopped, true);
    dml_inbox_end(jc->run->inbox, -ECANCELED, true);
    if (jc->join->stream)
        dml_stream_purge(jc->join->stream, jc->run->order.run_id);
    dml_peers_leave(jc->run->peers, false);
    pthread_mutex_unlock(&jc->join->lock);
}

static void comm_free(struct dml_comm *c)
{
    struct join_comm *jc = join_comm_of(c);
    pthread_mutex_lock(&jc->join->lock);
    jc->run->comm = NULL;
    dml_peers_leave(jc->run->peers, true); /* in order, unless that was settled before */
    pthread_mutex_unlock(&jc->join->lock);
    free(jc);
}

static const struct dml_comm_ops join_comm_ops = {
    .send = comm_send,
    .recv = comm_recv,
    .alive = comm_alive,
    .stats = comm_stats,
    .why = comm_why,
    .cancel = comm_cancel,
    .free = comm_free,
};

int dml_join_comm(struct dml_join *j, const struct dml_run_order *order, struct dml_comm **ret)
{
    struct join_comm *jc = calloc(1, sizeof(*jc));
    if (!jc)
        return -ENOMEM;
    pthread_mutex_lock(&j->lock);
    assert(j->run && j->run->order.run_id == order->run_id && !j->run->comm);
    jc->comm.ops = &join_comm_ops;
    jc->comm.rank = order->rank;
    jc->comm.size = order->size;
    jc->join = j;
    jc->run = j->run;
    atomic_store(&jc->comm.stopped, j->run->end != 0);
    j->run->comm = jc;
    pthread_mutex_unlock(&j->lock);
    *ret = &jc->comm;
    return 0;
}
