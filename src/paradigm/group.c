/*
 * A member reads whatever comes, from whomever, and puts aside what it does not want yet: the
 * fastest member may be a whole collective ahead of the slowest, and an order of the master must be
 * seen while something else is waited for. What is put aside is bounded, since it comes from
 * outside: members that run ahead by more than the protocol lets them are not members of ours.
 */
#include "paradigm/group.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "nn/model.h"
#include "paradigm/provision.h"

/* A look at whether somebody has gone, or the run was stopped: as long as a person waits for a
 * prompt after Ctrl-C. */
#define SLICE_US 200000

/* Messages and bytes put aside. A collective has some hundred messages on the way to a member,
 * and all of them together are no more than a few vectors. */
#define EARLY_MAX       8192
#define EARLY_ROOM_MIN  64
#define EARLY_BYTES_MIN (UINT64_C(64) << 20)

/* In a tag: what was sent under the rest of it has been taken in. */
#define RECEIPT_BIT (UINT64_C(1) << 63)

int dml_group_init(struct dml_group *g, struct dml_task *task, struct dml_err *err)
{
    *g = (struct dml_group){.task = task};
    return dml_provision_fetch(task, &g->shard, &g->cached, err);
}

static void drop_order(struct dml_group *g)
{
    dml_message_done(&g->order);
    g->order.kind = 0;
}

void dml_group_done(struct dml_group *g)
{
    drop_order(g);
    for (size_t i = 0; i < g->n_early; i++)
        (void)dml_buf_unref(g->early[i].body);
    free(g->early);
    for (size_t i = 0; i < g->n_pool; i++)
        (void)dml_buf_unref(g->pool[i]);
    free(g->pool);
    g->shard = dml_dataset_free(g->shard);
    *g = (struct dml_group){0};
}

int dml_group_ready(struct dml_group *g)
{
    return dml_provision_ready(g->task, g->shard, g->cached);
}

bool dml_group_cancelled(const struct dml_group *g)
{
    return (g->task->cancel && atomic_load(g->task->cancel)) || atomic_load(&g->task->comm->stopped);
}

/* Takes entry k out; its body is the caller's. */
static struct dml_buf *take_early(struct dml_group *g, size_t k)
{
    struct dml_buf *body = g->early[k].body;
    g->early_bytes -= body ? body->len : 0;
    g->n_early--;
    memmove(&g->early[k], &g->early[k + 1], (g->n_early - k) * sizeof(*g->early));
    return body;
}

/* Forgets what belongs to generations that are over. */
static void forget(struct dml_group *g)
{
    for (size_t k = g->n_early; k-- > 0;)
        if (g->early[k].generation < g->generation)
            (void)dml_buf_unref(take_early(g, k));
}

static int put_aside(struct dml_group *g, struct dml_comm_msg *io_msg)
{
    uint64_t generation = (uint64_t)io_msg->meta[DML_PEER_GENERATION];
    uint64_t vec_bytes = dml_model_n_vec(g->task->model) * sizeof(float);
    uint64_t most = 4 * vec_bytes > EARLY_BYTES_MIN ? 4 * vec_bytes : EARLY_BYTES_MIN;
    most += g->ahead_bytes;
    size_t len = io_msg->body ? io_msg->body->len : 0;
    if (generation < g->generation)
        return 0;
    if (g->n_early == EARLY_MAX || g->early_bytes + len > most)
        return -EPROTO;
    if (g->n_early == g->early_room) {
        size_t room = g->early_room ? 2 * g->early_room : EARLY_ROOM_MIN;
        struct dml_group_early *grown = realloc(g->early, room * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        g->early = grown;
        g->early_room = room;
    }
    g->early[g->n_early++] = (struct dml_group_early){
        .from = io_msg->from,
        .generation = generation,
        .tag = io_msg->seq,
        .body = io_msg->body,
    };
    g->early_bytes += len;
    io_msg->body = NULL;
    return 0;
}

/* To a rank, of the generation told. */
static int post(struct dml_group *g, uint32_t rank, double generation, uint64_t tag, bool receipt,
                struct dml_buf *body)
{
    struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_PEER,
        .seq = tag,
        .n_meta = DML_PEER_N_,
        .meta = {[DML_PEER_GENERATION] = generation, [DML_PEER_RECEIPT] = receipt},
        .body = body,
    };
    return dml_comm_send(g->task->comm, rank, &msg);
}

/* Whatever came. -ERESTART: the master wants something else than this leg. */
static int handle(struct dml_group *g, struct dml_comm_msg *io_msg)
{
    switch (io_msg->kind) {
    case DML_MESSAGE_PEER:
        if (io_msg->n_meta < DML_PEER_N_ ||
            !dml_message_is_count(io_msg->meta[DML_PEER_GENERATION], 0))
            return -EPROTO;
        if (io_msg->meta[DML_PEER_RECEIPT] > 0.0) /* should the sender be gone, the master knows */
            (void)post(g, io_msg->from, io_msg->meta[DML_PEER_GENERATION],
                       io_msg->seq | RECEIPT_BIT, false, NULL);
        return put_aside(g, io_msg);
    case DML_MESSAGE_LEG:
    case DML_MESSAGE_OFFER:
    case DML_MESSAGE_FINISH:
        if (io_msg->from != 0)
            return -EPROTO;
        drop_order(g); /* the newest counts */
        g->order = *io_msg;
        io_msg->body = NULL;
        return -ERESTART;
    case DML_COMM_LOST:
        return io_msg->from == 0 ? -EPIPE : 0;
    default:
        return 0;
    }
}

/* The next message of anybody, dealt with. 0, -ETIMEDOUT: nothing came. */
static int receive(struct dml_group *g, uint64_t deadline_us)
{
    if (dml_group_cancelled(g))
        return -ECANCELED;
    uint64_t now = dml_clock_now_us();
    uint64_t slice = deadline_us - now < SLICE_US || deadline_us < now ? deadline_us
                                                                       : now + SLICE_US;
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
    int r = dml_comm_recv(g->task->comm, DML_COMM_ANY, slice, &msg);
    return r < 0 ? r : handle(g, &msg);
}

/* Waits until the master wants something. */
static int await_order(struct dml_group *g)
{
    int r = 0;
    while (r == 0 || r == -ETIMEDOUT)
        r = receive(g, DML_CLOCK_NEVER);
    return r;
}

/* A leg cannot go on without `rank`: the master is told, and decides. */
static int stuck(struct dml_group *g, uint32_t rank, bool unreachable)
{
    char why[300] = "";
    if (unreachable)
        (void)dml_comm_why(g->task->comm, rank, why, sizeof(why));
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .body = why[0] ? dml_buf_new_copy(why, strlen(why)) : NULL, /* good to know, no more */
        .kind = DML_MESSAGE_STUCK,
        .seq = g->generation,
        .n_meta = DML_STUCK_N_,
        .meta = {[DML_STUCK_RANK] = rank, [DML_STUCK_UNREACHABLE] = unreachable},
    };
    int r = dml_comm_send(g->task->comm, 0, &msg);
    return r < 0 ? r : await_order(g);
}

static int send(struct dml_group *g, unsigned to, uint64_t tag, bool receipt, struct dml_buf *body)
{
    if (g->order.kind)
        return -ERESTART;
    if (dml_group_cancelled(g))
        return -ECANCELED;
    int r = post(g, g->ranks[to], (double)g->generation, tag, receipt, body);
    if (r != -EPIPE)
        return r;
    return dml_group_cancelled(g) ? -EPIPE : stuck(g, g->ranks[to], true);
}

int dml_group_send(struct dml_group *g, unsigned to, uint64_t tag, struct dml_buf *body)
{
    return send(g, to, tag, false, body);
}

int dml_group_deliver(struct dml_group *g, unsigned to, uint64_t tag, struct dml_buf *body)
{
    struct dml_buf *nothing = NULL;
    int r = send(g, to, tag, true, body);
    if (r == 0)
        r = dml_group_recv(g, to, tag | RECEIPT_BIT, &nothing);
    (void)dml_buf_unref(nothing);
    return r;
}

static bool find_early(struct dml_group *g, uint32_t rank, uint64_t tag, struct dml_buf **ret)
{
    for (size_t k = 0; k < g->n_early; k++) {
        const struct dml_group_early *e = &g->early[k];
        if (e->from == rank && e->tag == tag && e->generation == g->generation) {
            *ret = take_early(g, k);
            return true;
        }
    }
    return false;
}

static uint64_t sending_us(const struct dml_group *g)
{
    struct dml_comm_stats stats;
    dml_comm_stats(g->task->comm, &stats);
    return stats.sending_us;
}

int dml_group_recv(struct dml_group *g, unsigned from, uint64_t tag, struct dml_buf **ret)
{
    uint32_t rank = g->ranks[from];
    if (!g->order.kind && find_early(g, rank, tag, ret))
        return 0;
    bool idle = !g->stage || !dml_stage_is_busy(g->stage);
    uint64_t sending = sending_us(g);
    uint64_t began = dml_clock_now_us(), deadline = began + g->task->tc->cluster.step_deadline_us;
    int r = g->order.kind ? -ERESTART : 0;
    while (r == 0) {
        if (find_early(g, rank, tag, ret))
            break;
        r = receive(g, deadline);
        if (r != -ETIMEDOUT)
            continue;
        r = 0;
        if (!dml_comm_alive(g->task->comm, rank))
            r = stuck(g, rank, true);
        else if (dml_clock_now_us() >= deadline)
            r = stuck(g, rank, false);
    }
    if (idle) {
        g->idle_us += dml_clock_now_us() - began;
        g->exposed_us += sending_us(g) - sending;
    }
    return r;
}

int dml_group_recv_floats(struct dml_group *g, unsigned from, uint64_t tag, size_t n,
                          struct dml_buf **ret)
{
    struct dml_buf *body = NULL;
    int r = dml_group_recv(g, from, tag, &body);
    if (r == 0 && (body ? body->len : 0) != n * sizeof(float))
        r = -EPROTO;
    if (r < 0) {
        (void)dml_buf_unref(body);
        return r;
    }
    *ret = body;
    return 0;
}

struct dml_buf *dml_group_buf(struct dml_group *g, size_t n)
{
    for (size_t i = 0; i < g->n_pool; i++)
        if (g->pool[i]->len == n * sizeof(float) && dml_buf_is_sole(g->pool[i]))
            return g->pool[i];
    struct dml_buf **grown = realloc(g->pool, (g->n_pool + 1) * sizeof(*grown));
    if (!grown)
        return NULL;
    g->pool = grown;
    struct dml_buf *buf = dml_buf_new_floats(n);
    if (buf)
        g->pool[g->n_pool++] = buf;
    return buf;
}

/* Members and their samples, from a LEG. Returns false when it makes no sense. */
static bool take_members(struct dml_group *g, const struct dml_comm_msg *msg)
{
    uint32_t size = g->task->comm->size, own = g->task->comm->rank;
    unsigned n = 0, i = UINT32_MAX;
    for (uint32_t rank = 1; rank < size; rank++) {
        uint64_t bits = (uint64_t)msg->meta[DML_LEG_MEMBERS + rank / DML_LEG_BITS];
        if (!(bits >> rank % DML_LEG_BITS & 1u))
            continue;
        if (rank == own)
            i = n;
        g->ranks[n++] = rank;
    }
    if (i >= n || !msg->body || msg->body->len < n * sizeof(uint32_t))
        return false;
    memcpy(g->n_samples, msg->body->data, n * sizeof(uint32_t));
    for (unsigned m = 0; m < n; m++)
        g->n_samples[m] = le32toh(g->n_samples[m]);
    g->n = n;
    g->i = i;
    return g->n_samples[i] == g->shard->n_samples;
}

/* What broke with members before the new generation is no news in it. */
static void forgive(struct dml_group *g)
{
    for (unsigned m = 0; m < g->n; m++) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        if (m != g->i && dml_comm_recv(g->task->comm, g->ranks[m], 0, &msg) == 0)
            (void)handle(g, &msg);
    }
}

static int take_leg(struct dml_group *g, struct dml_group_leg *leg)
{
    const struct dml_comm_msg *msg = &leg->msg;
    const double *meta = msg->meta;
    if (msg->n_meta < DML_LEG_N_)
        return -EPROTO;
    for (int k = 0; k < DML_LEG_N_; k++)
        if (!dml_message_is_count(meta[k], k == DML_LEG_STEPS || k == DML_LEG_EPOCH_BATCHES ||
                                              k == DML_LEG_ROUND))
            return -EPROTO;
    leg->number = msg->seq;
    leg->fresh = (uint64_t)meta[DML_LEG_GENERATION] != g->generation;
    leg->round = (uint64_t)meta[DML_LEG_ROUND];
    leg->first = (uint64_t)meta[DML_LEG_FIRST];
    leg->n_steps = (uint64_t)meta[DML_LEG_STEPS];
    leg->epoch_batches = (uint64_t)meta[DML_LEG_EPOCH_BATCHES];
    leg->optim_step = (uint64_t)meta[DML_LEG_OPTIM_STEP];
    if ((uint64_t)meta[DML_LEG_GENERATION] < g->generation || !take_members(g, msg))
        return -EPROTO;
    g->generation = (uint64_t)meta[DML_LEG_GENERATION];
    if (leg->fresh) {
        forget(g);
        forgive(g);
    }
    size_t head = g->n * sizeof(uint32_t);
    leg->part_len = (msg->body->len - head) / sizeof(float);
    leg->part = meta[DML_LEG_HAS_PART] > 0.0 ? dml_buf_floats(msg->body) + g->n : NULL;
    if (leg->part ? (msg->body->len - head) % sizeof(float) : msg->body->len != head)
        return -EPROTO;
    g->idle_us = g->exposed_us = 0;
    dml_comm_stats(g->task->comm, &g->before);
    return 0;
}

/* Another shard, after members were lost or have come. */
static int take_offer(struct dml_group *g, const struct dml_comm_msg *msg, struct dml_err *err)
{
    g->shard = dml_dataset_free(g->shard);
    int r = dml_provision_take(g->task, msg, &g->shard, &g->cached, err);
    return r < 0 ? r : dml_group_ready(g);
}

void dml_group_leg_taken(struct dml_group_leg *leg)
{
    dml_message_done(&leg->msg);
    leg->part = NULL;
}

void dml_group_leg_done(struct dml_group_leg *leg)
{
    dml_message_done(&leg->msg);
    *leg = (struct dml_group_leg){0};
}

int dml_group_next(struct dml_group *g, struct dml_group_leg *io_leg, struct dml_err *err)
{
    for (;;) {
        int r = g->order.kind ? 0 : await_order(g);
        if (r < 0 && r != -ERESTART)
            return r;
        dml_group_leg_done(io_leg);
        io_leg->msg = g->order;
        g->order = (struct dml_comm_msg){0};
        switch (io_leg->msg.kind) {
        case DML_MESSAGE_FINISH:
            return 1;
        case DML_MESSAGE_LEG:
            r = take_leg(g, io_leg);
            if (r != 0 || !g->order.kind) /* forgiving may have brought another */
                return r;
            break;
        default:
            r = take_offer(g, &io_leg->msg, err);
            if (r < 0)
                return r;
        }
    }
}

int dml_group_answer(struct dml_group *g, const struct dml_group_leg *leg,
                     const struct dml_group_result *result, struct dml_buf *body)
{
    struct dml_comm_stats now;
    dml_comm_stats(g->task->comm, &now);
    double n = result->n_samples ? (double)result->n_samples : 1.0;
    struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_UPDATE,
        .seq = leg->number,
        .n_meta = DML_UPDATE_N_,
        .meta = {[DML_UPDATE_SAMPLES] = (double)result->n_samples,
                 [DML_UPDATE_SHARD] = (double)g->shard->n_samples,
                 [DML_UPDATE_STEPS] = (double)leg->n_steps,
                 [DML_UPDATE_LOSS] = result->loss / n,
                 [DML_UPDATE_ACCURACY] = (double)result->n_correct / n,
                 [DML_UPDATE_WORK_US] = (double)result->compute_us,
                 [DML_UPDATE_IDLE_US] = (double)g->idle_us,
                 [DML_UPDATE_SENDING_US] = (double)(now.sending_us - g->before.sending_us),
                 [DML_UPDATE_EXPOSED_US] = (double)g->exposed_us,
                 [DML_UPDATE_SENT_BYTES] = (double)(now.sent_bytes - g->before.sent_bytes),
                 [DML_UPDATE_RECEIVED_BYTES] =
                     (double)(now.received_bytes - g->before.received_bytes),
                 [DML_UPDATE_OPTIM_STEP] = (double)result->optim_step,
                 [DML_UPDATE_CHECK] = (double)result->check},
        .body = body,
    };
    return dml_comm_send(g->task->comm, 0, &msg);
}

uint64_t dml_group_batch(const struct dml_group *g, unsigned m, uint64_t i)
{
    uint64_t batch = g->task->tc->train.batch_size, n = g->n_samples[m];
    if (i >= (n + batch - 1) / batch)
        return 0;
    return n - i * batch < batch ? n - i * batch : batch;
}

uint64_t dml_group_epoch_steps(const struct dml_testcase *tc, uint64_t epoch_batches)
{
    uint64_t n = tc->parallel.paradigm == DML_PARADIGM_ALLREDUCE ? tc->parallel.accumulate : 1;
    return (epoch_batches + n - 1) / n;
}
