/*
 * One lock and one condition for all queues: a comm has a single reader, messages are large and
 * few, so contention is no concern and `anybody` costs a scan over at most 256 heads.
 *
 * LOST must reach the reader even when memory has run out, since a run that never hears of a lost
 * worker waits for ever. The entries of both pseudo-messages are therefore set aside when a rank
 * joins, and joining is the call that may fail.
 */
#include "rpc/inbox.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "rpc/wait.h"

struct entry {
    struct entry *next;
    struct dml_comm_msg msg;
};

struct queue {
    struct entry *head, **tail;
    struct entry *lost; /* set aside while the rank is there */
    uint64_t bytes;
    bool present;
    bool was_present;
};

struct dml_inbox {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    bool tells; /* JOINED and LOST go in band */
    uint32_t rank, n_ranks;
    uint32_t next; /* whose turn it is with DML_COMM_ANY */
    int end;
    bool end_drop;
    struct queue queues[];
};

struct dml_inbox *dml_inbox_new(uint32_t n_ranks, uint32_t rank)
{
    assert(n_ranks > 0 && n_ranks <= DML_COMM_RANKS_MAX && rank < n_ranks);
    struct dml_inbox *in = calloc(1, sizeof(*in) + n_ranks * sizeof(in->queues[0]));
    if (!in)
        return NULL;
    dml_wait_init(&in->arrived);
    pthread_mutex_init(&in->lock, NULL);
    in->tells = rank == 0;
    in->rank = rank;
    in->n_ranks = n_ranks;
    for (uint32_t i = 0; i < n_ranks; i++)
        in->queues[i].tail = &in->queues[i].head;
    return in;
}

/* What it takes up while it waits: a message without a body is not for nothing. */
static uint64_t bytes_of(const struct entry *e)
{
    return sizeof(*e) + (e->msg.body ? e->msg.body->len : 0);
}

static void append(struct queue *q, struct entry *e)
{
    e->next = NULL;
    *q->tail = e;
    q->tail = &e->next;
    q->bytes += bytes_of(e);
}

static struct entry *take(struct queue *q)
{
    struct entry *e = q->head;
    q->head = e->next;
    if (!q->head)
        q->tail = &q->head;
    q->bytes -= bytes_of(e);
    return e;
}

/* Throws away what was sent; what happened (JOINED, LOST) stays, in order. */
static void drop_sent(struct queue *q)
{
    struct entry *e = q->head;
    q->head = NULL;
    q->tail = &q->head;
    q->bytes = 0;
    while (e) {
        struct entry *next = e->next;
        if (e->msg.kind < DML_COMM_USER) {
            append(q, e);
        } else {
            (void)dml_buf_unref(e->msg.body);
            free(e);
        }
        e = next;
    }
}

struct dml_inbox *dml_inbox_free(struct dml_inbox *in)
{
    if (!in)
        return NULL;
    for (uint32_t i = 0; i < in->n_ranks; i++) {
        struct queue *q = &in->queues[i];
        while (q->head) {
            struct entry *e = take(q);
            (void)dml_buf_unref(e->msg.body);
            free(e);
        }
        free(q->lost);
    }
    pthread_cond_destroy(&in->arrived);
    pthread_mutex_destroy(&in->lock);
    free(in);
    return NULL;
}

int dml_inbox_push(struct dml_inbox *in, const struct dml_comm_msg *msg)
{
    assert(msg->from < in->n_ranks);
    struct entry *e = malloc(sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->msg = *msg;

    pthread_mutex_lock(&in->lock);
    struct queue *q = &in->queues[msg->from];
    int r = in->end ? in->end : q->present ? 0 : -EPIPE;
    if (r == 0) {
        (void)dml_buf_ref(msg->body);
        append(q, e);
        pthread_cond_signal(&in->arrived);
    } else {
        free(e);
    }
    pthread_mutex_unlock(&in->lock);
    return r;
}

int dml_inbox_join(struct dml_inbox *in, uint32_t from)
{
    assert(from < in->n_ranks);
    struct entry *joined = NULL, *lost = NULL;
    if (in->tells) {
        joined = calloc(1, sizeof(*joined));
        lost = calloc(1, sizeof(*lost));
        if (!joined || !lost) {
            free(joined);
            free(lost);
            return -ENOMEM;
        }
        joined->msg = (struct dml_comm_msg){.from = from, .kind = DML_COMM_JOINED};
        lost->msg = (struct dml_comm_msg){.from = from, .kind = DML_COMM_LOST};
    }
    pthread_mutex_lock(&in->lock);
    struct queue *q = &in->queues[from];
    assert(!q->present);
    q->present = q->was_present = true;
    if (joined)
        append(q, joined);
    q->lost = lost;
    pthread_cond_signal(&in->arrived);
    pthread_mutex_unlock(&in->lock);
    return 0;
}

void dml_inbox_leave(struct dml_inbox *in, uint32_t from, bool drop)
{
    assert(from < in->n_ranks);
    pthread_mutex_lock(&in->lock);
    struct queue *q = &in->queues[from];
    if (q->present) {
        q->present = false;
        if (drop)
            drop_sent(q);
        if (q->lost)
            append(q, q->lost);
        q->lost = NULL;
        pthread_cond_signal(&in->arrived);
    }
    pthread_mutex_unlock(&in->lock);
}

void dml_inbox_end(struct dml_inbox *in, int r, bool drop)
{
    assert(r < 0);
    pthread_mutex_lock(&in->lock);
    if (!in->end || (drop && !in->end_drop)) {
        in->end = r;
        in->end_drop = drop;
    }
    pthread_cond_broadcast(&in->arrived);
    pthread_mutex_unlock(&in->lock);
}

/* The queue to read from now, or NULL. */
static struct queue *ready(struct dml_inbox *in, uint32_t from)
{
    if (from != DML_COMM_ANY)
        return in->queues[from].head ? &in->queues[from] : NULL;
    for (uint32_t i = 0; i < in->n_ranks; i++) {
        uint32_t rank = (in->next + i) % in->n_ranks;
        if (in->queues[rank].head) {
            in->next = rank + 1;
            return &in->queues[rank];
        }
    }
    return NULL;
}

/* Whether nothing can come any more although nobody ended the comm. */
static bool hopeless(const struct dml_inbox *in, uint32_t from)
{
    if (in->rank != 0 && in->queues[0].was_present && !in->queues[0].present)
        return true;
    return from != DML_COMM_ANY && in->queues[from].was_present && !in->queues[from].present;
}

int dml_inbox_recv(struct dml_inbox *in, uint32_t from, uint64_t deadline_us,
                   struct dml_comm_msg *ret)
{
    assert(from == DML_COMM_ANY || from < in->n_ranks);
    struct entry *e = NULL;
    int r = 0;

    pthread_mutex_lock(&in->lock);
    for (bool late = false; r == 0 && !e;) {
        struct queue *q = in->end_drop ? NULL : ready(in, from);
        if (q)
            e = take(q);
        else if (in->end)
            r = in->end;
        else if (hopeless(in, from))
            r = -EPIPE;
        else if (late)
            r = -ETIMEDOUT;
        else
            late = !dml_wait_until(&in->arrived, &in->lock, deadline_us);
    }
    pthread_mutex_unlock(&in->lock);
    if (r < 0)
        return r;
    *ret = e->msg;
    free(e);
    return 0;
}

bool dml_inbox_present(struct dml_inbox *in, uint32_t from)
{
    pthread_mutex_lock(&in->lock);
    bool present = in->queues[from].present;
    pthread_mutex_unlock(&in->lock);
    return present;
}

uint64_t dml_inbox_unread(struct dml_inbox *in, uint32_t from)
{
    pthread_mutex_lock(&in->lock);
    uint64_t bytes = in->queues[from].bytes;
    pthread_mutex_unlock(&in->lock);
    return bytes;
}

uint64_t dml_inbox_cost(const struct dml_comm_msg *msg)
{
    enum { HEADER_BYTES = 24 }; /* kind, sequence number, counts */
    return HEADER_BYTES + msg->n_meta * sizeof(double) + (msg->body ? msg->body->len : 0);
}
