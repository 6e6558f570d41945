/*
 * The dispatch. What every implementation would have to check is checked here, once.
 */
#include "rpc/comm.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

static_assert(DML_COMM_USER > DML_COMM_LOST, "pseudo-messages come first");

int dml_comm_send(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg)
{
    assert(to < c->size && to != c->rank);
    assert(msg->kind >= DML_COMM_USER && msg->n_meta <= DML_COMM_META_MAX);
    if (msg->body && msg->body->len > DML_COMM_BODY_MAX)
        return -EMSGSIZE;
    return c->ops->send(c, to, msg);
}

int dml_comm_recv(struct dml_comm *c, uint32_t from, uint64_t deadline_us, struct dml_comm_msg *ret)
{
    assert(from == DML_COMM_ANY || (from < c->size && from != c->rank));
    return c->ops->recv(c, from, deadline_us, ret);
}

unsigned dml_comm_bcast(struct dml_comm *c, const struct dml_comm_msg *msg)
{
    unsigned n = 0;
    for (uint32_t to = 0; to < c->size; to++)
        if (to != c->rank && dml_comm_alive(c, to) && dml_comm_send(c, to, msg) == 0)
            n++;
    return n;
}

bool dml_comm_alive(struct dml_comm *c, uint32_t rank)
{
    assert(rank < c->size);
    return c->ops->alive(c, rank);
}

void dml_comm_stats(struct dml_comm *c, struct dml_comm_stats *ret)
{
    c->ops->stats(c, ret);
}

const char *dml_comm_why(struct dml_comm *c, uint32_t rank, char *buf, size_t buf_len)
{
    assert(rank < c->size && buf_len > 0);
    if (c->ops->why)
        c->ops->why(c, rank, buf, buf_len);
    else
        snprintf(buf, buf_len, "Rank %u is %s.", rank, dml_comm_alive(c, rank) ? "there" : "gone");
    return buf;
}

void dml_comm_cancel(struct dml_comm *c)
{
    c->ops->cancel(c);
}

struct dml_comm *dml_comm_free(struct dml_comm *c)
{
    if (c)
        c->ops->free(c);
    return NULL;
}
