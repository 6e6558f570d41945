/*
 * The state of the connection is changed by the poller thread and waited for by the worker's
 * thread.
 *
 * An order makes the run's inbox at once, before anybody waits for the order: the master's first
 * messages follow it without waiting for the worker. What belongs to neither the run that was
 * handed out nor the next one is dropped.
 *
 * Every connect makes new channels, so no back-off of a former attempt delays it; retrying is up to
 * the worker, which knows how patient it is.
 */
#include "rpc/join_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "rpc/wait.h"

#define UNREAD_MAX (UINT64_C(64) << 20) /* bytes */
#define GOODBYE_US (1000 * 1000)

static struct dml_join_run *run_free(struct dml_join_run *run)
{
    if (!run)
        return NULL;
    assert(!run->comm);
    dml_run_order_done(&run->order);
    (void)dml_peers_free(run->peers);
    (void)dml_inbox_free(run->inbox);
    (void)dml_meter_unref(run->meter);
    free(run);
    return NULL;
}

/* Takes over the order's texts. */
static int run_new(struct dml_join *j, struct dml_run_order *io_order, struct dml_join_run **ret)
{
    struct dml_join_run *run = calloc(1, sizeof(*run));
    if (!run)
        return -ENOMEM;
    struct dml_peers_self self = {.run_id = io_order->run_id,
                                  .rank = io_order->rank,
                                  .size = io_order->size,
                                  .life = io_order->life,
                                  .master = j->target};
    memcpy(self.secret, io_order->secret, sizeof(self.secret));
    run->inbox = dml_inbox_new(io_order->size, io_order->rank);
    run->meter = dml_meter_new();
    if (!run->inbox || !run->meter || dml_inbox_join(run->inbox, 0) < 0 ||
        dml_peers_new(j->hub, &self, run->inbox, run->meter, &run->peers) < 0) {
        (void)run_free(run);
        return -ENOMEM;
    }
    run->order = *io_order;
    io_order->testcase = io_order->model = NULL;
    *ret = run;
    return 0;
}

struct dml_join_run *dml_join_find_run(struct dml_join *j, uint64_t run_id)
{
    if (j->next && j->next->order.run_id == run_id)
        return j->next;
    if (j->run && j->run->order.run_id == run_id && !j->run->over && !j->run->end)
        return j->run;
    return NULL;
}

bool dml_join_is_full(const struct dml_join_run *run)
{
    return dml_inbox_unread(run->inbox, 0) > UNREAD_MAX;
}

void dml_join_resume(struct dml_join *j)
{
    bool full = (j->next && dml_join_is_full(j->next)) ||
                (j->run && !j->run->over && !j->run->end && dml_join_is_full(j->run));
    if (!j->paused || full)
        return;
    j->paused = false;
    if (j->stream)
        dml_stream_resume(j->stream);
}

/* The comm's own flag lies in join_comm.c's struct, which begins with it. */
static void flag_comm(struct dml_join_run *run)
{
    if (run->comm)
        atomic_store(&((struct dml_comm *)run->comm)->stopped, true);
}

void dml_join_end_run(struct dml_join *j, struct dml_join_run *run, int r, bool drop)
{
    if (!run || run->end)
        return;
    run->end = r;
    flag_comm(run); /* before a receiver wakes up and looks */
    if (run == j->run && !run->over && j->options.interrupt)
        atomic_store(j->options.interrupt, true);
    dml_inbox_end(run->inbox, r, drop);
    dml_peers_leave(run->peers, false);
}

static int take_first(struct dml_join *j, const struct dml_wire_frame *f)
{
    if (f->kind == DML_WIRE_REFUSED) {
        memcpy(j->refusal, f->ended.text, sizeof(j->refusal));
        j->state = DML_JOIN_REFUSED;
    } else if (f->kind == DML_WIRE_WELCOME && f->welcome.protocol == DML_WIRE_PROTOCOL) {
        j->session = f->welcome.session;
        j->state = DML_JOIN_WELCOME;
    } else if (f->kind == DML_WIRE_WELCOME) {
        snprintf(j->refusal, sizeof(j->refusal),
                 "The master speaks protocol %u, this worker %u: install the same version of dml "
                 "on both.",
                 f->welcome.protocol, DML_WIRE_PROTOCOL);
        j->state = DML_JOIN_REFUSED;
    } else {
        return -EPROTO;
    }
    return 0;
}

/* Nobody has seen the order, so nobody else tells the master that this worker is free. */
static void take_back(struct dml_join *j)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_ENDED, .run_id = j->next->order.run_id};
    f.ended.r = -ECANCELED;
    j->next = run_free(j->next);
    (void)dml_transfer_send_frame(j->stream, &f); /* fails when the connection is about to break */
}

static int take(struct dml_join *j, struct dml_wire_frame *f)
{
    if (j->state == DML_JOIN_CONNECTING)
        return take_first(j, f);
    struct dml_join_run *run = dml_join_find_run(j, f->run_id);
    switch (f->kind) {
    case DML_WIRE_ORDER:
        j->next = run_free(j->next);
        return run_new(j, &f->order, &j->next);
    case DML_WIRE_STOP:
        if (run && run == j->next)
            take_back(j);
        else
            dml_join_end_run(j, run, -ECANCELED, false);
        dml_stream_purge(j->stream, f->run_id);
        return 0;
    case DML_WIRE_PEER:
        if (run)
            dml_peers_tell(run->peers, &f->peer);
        return 0;
    case DML_WIRE_HEADER:
        if (!run)
            return 0;
        f->header.msg.from = 0;
        j->paused = dml_inbox_push(run->inbox, &f->header.msg) == 0 && dml_join_is_full(run);
        return 0;
    default:
        return -EPROTO;
    }
}

static uint64_t room(void *arg, uint64_t run_id)
{
    struct dml_join *j = arg;
    pthread_mutex_lock(&j->lock);
    bool found = dml_join_find_run(j, run_id) != NULL;
    pthread_mutex_unlock(&j->lock);
    return found ? DML_COMM_BODY_MAX : 0;
}

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    struct dml_join *j = arg;
    if (!message)
        return false;
    struct dml_wire_frame f;
    int r = dml_transfer_receive(&j->in, message, room, j, &f);
    pthread_mutex_lock(&j->lock);
    if (r == 1) {
        bool header = f.kind == DML_WIRE_HEADER;
        r = take(j, &f);
        if (header)
            (void)dml_buf_unref(f.header.msg.body);
        dml_wire_frame_done(&f);
        pthread_cond_broadcast(&j->changed);
    }
    if (r < 0)
        dml_stream_cancel(j->stream, r == -ENOMEM ? "No memory is left for what the master sends."
                                                  : "The master broke the protocol.");
    bool more = !j->paused;
    pthread_mutex_unlock(&j->lock);
    return more;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct dml_join *j = arg;
    pthread_mutex_lock(&j->lock);
    dml_transfer_done(&j->in);
    j->next = run_free(j->next);
    dml_join_end_run(j, j->run, -EPIPE, true);
    if (j->state != DML_JOIN_REFUSED)
        j->state = DML_JOIN_BROKEN;
    j->code = code;
    snprintf(j->why, sizeof(j->why), "%s", why);
    j->closed = true;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

/* With the lock: waits for the end of the stream, at most until deadline_us. */
static bool wait_closed(struct dml_join *j, uint64_t deadline_us)
{
    while (!j->closed && dml_wait_until(&j->changed, &j->lock, deadline_us))
        ;
    return j->closed;
}

/* With the lock. */
static void hang_up(struct dml_join *j)
{
    dml_join_beat_stop(j);
    if (j->stream) {
        dml_stream_cancel(j->stream, "");
        (void)wait_closed(j, DML_CLOCK_NEVER);
        j->stream = dml_stream_unref(j->stream);
    }
    j->channel = dml_channel_free(j->channel);
    j->beat_channel = dml_channel_free(j->beat_channel);
    j->state = DML_JOIN_IDLE;
}

static const struct dml_stream_ops join_ops = {.message = on_message, .closed = on_closed};

/* With the lock. */
static int dial(struct dml_join *j, const struct dml_hello *hello)
{
    j->channel = dml_channel_new(j->target);
    j->beat_channel = dml_channel_new(j->target);
    j->state = DML_JOIN_CONNECTING;
    j->closed = j->paused = false;
    j->refusal[0] = j->why[0] = '\0';
    j->stream = dml_stream_open(j->loop, j->channel, "/dml.Master/Join", &join_ops, j);
    if (!j->stream)
        return -ENOMEM;
    struct dml_wire_frame f = {.kind = DML_WIRE_HELLO, .hello = *hello};
    f.hello.peer_port = dml_peer_hub_port(j->hub);
    snprintf(f.hello.peer_address, sizeof(f.hello.peer_address), "%s", j->peer_address);
    int r = dml_transfer_send_frame(j->stream, &f);
    return r == -EPIPE ? 0 : r; /* refused already: on_closed() knows why */
}

int dml_join_connect(struct dml_join *j, const struct dml_hello *hello, uint64_t deadline_us,
                     struct dml_err *err)
{
    char reason[256];
    pthread_mutex_lock(&j->lock);
    hang_up(j);
    int r = j->cancelled ? -ECANCELED : dial(j, hello);
    while (r == 0 && j->state == DML_JOIN_CONNECTING) {
        if (j->cancelled)
            r = -ECANCELED;
        else if (!dml_wait_until(&j->changed, &j->lock, deadline_us) &&
                 j->state == DML_JOIN_CONNECTING)
            r = dml_err_set(err, -EHOSTDOWN, "No master answers at %s: the time is up.", j->name);
    }
    if (r == -ECANCELED)
        (void)dml_err_set(err, r, "Interrupted.");
    else if (r == 0 && j->state == DML_JOIN_REFUSED)
        r = dml_err_set(err, -EPROTO, "%s", j->refusal);
    else if (r == 0 && j->state == DML_JOIN_BROKEN && j->code == DML_STREAM_UNIMPLEMENTED)
        r = dml_err_set(err, -EPROTO, "What answers at %s is no dml master: %s", j->name, j->why);
    else if (r == 0 && j->state == DML_JOIN_BROKEN)
        r = dml_err_set(err, -EHOSTDOWN, "No master answers at %s: %s.", j->name,
                        dml_channel_reason(j->why, reason, sizeof(reason)));
    if (r < 0)
        hang_up(j);
    pthread_cond_broadcast(&j->changed); /* the first heartbeat */
    pthread_mutex_unlock(&j->lock);
    return r;
}

int dml_join_wait(struct dml_join *j, uint64_t deadline_us, struct dml_run_order *ret)
{
    int r = 0;
    pthread_mutex_lock(&j->lock);
    if (j->cancelled) /* even when an order has come: nobody would end its run */
        r = -ECANCELED;
    for (bool late = false; r == 0 && !j->next;) {
        if (j->cancelled)
            r = -ECANCELED;
        else if (j->state != DML_JOIN_WELCOME)
            r = -EPIPE;
        else if (late)
            r = -ETIMEDOUT;
        else
            late = !dml_wait_until(&j->changed, &j->lock, deadline_us);
    }
    if (r == 0) {
        (void)run_free(j->run);
        j->run = j->next;
        j->next = NULL;
        *ret = j->run->order;
        j->run->order.testcase = j->run->order.model = NULL;
        dml_join_resume(j);
    }
    pthread_mutex_unlock(&j->lock);
    return r;
}

int dml_join_ended(struct dml_join *j, uint64_t run_id, int r, const char *text)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_ENDED, .run_id = run_id};
    f.ended.r = r;
    snprintf(f.ended.text, sizeof(f.ended.text), "%s", text ? text : "");
    pthread_mutex_lock(&j->lock);
    if (j->run && j->run->order.run_id == run_id)
        j->run->over = true;
    if (j->run && j->run->over)
        dml_peers_leave(j->run->peers, r == 0);
    pthread_mutex_unlock(&j->lock);
    /* Or the others would hear from the master that this rank left before they hear its last. */
    dml_peer_hub_drain(j->hub, dml_clock_now_us() + GOODBYE_US);
    pthread_mutex_lock(&j->lock);
    dml_join_resume(j);
    int sent = j->state == DML_JOIN_WELCOME ? dml_transfer_send_frame(j->stream, &f) : -EPIPE;
    pthread_mutex_unlock(&j->lock);
    return sent;
}

void dml_join_cancel(struct dml_join *j)
{
    pthread_mutex_lock(&j->lock);
    j->cancelled = true;
    dml_join_end_run(j, j->run, -ECANCELED, true);
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

uint16_t dml_join_peer_port(const struct dml_join *j)
{
    return dml_peer_hub_port(j->hub);
}

static int set_peer_address(struct dml_join *j, const char *address, struct dml_err *err)
{
    char target[DML_CHANNEL_TARGET_MAX];
    if (!address || !address[0])
        return 0;
    int r = dml_channel_target(address, target, err);
    if (r < 0)
        return r;
    if (!strncmp(address, "unix:", 5) || strlen(address) >= sizeof(j->peer_address))
        return dml_err_set(err, -EINVAL,
                           "\"%s\" is no address for other workers: wanted host, host:port or "
                           "[address]:port.",
                           address);
    snprintf(j->peer_address, sizeof(j->peer_address), "%s", address);
    return 0;
}

int dml_join_new(const struct dml_join_options *o, struct dml_join **ret, struct dml_err *err)
{
    struct dml_join *j = calloc(1, sizeof(*j));
    if (!j)
        return -ENOMEM;
    pthread_mutex_init(&j->lock, NULL);
    dml_wait_init(&j->changed);
    j->options = *o;
    j->options.master = j->options.peer_listen = j->options.peer_address = NULL;
    struct dml_peer_hub_options ho = {.listen = o->peer_listen, .connect_us = o->peer_connect_us};
    int r = dml_channel_target(o->master, j->target, err);
    if (r == 0)
        r = set_peer_address(j, o->peer_address, err);
    if (r == 0) {
        snprintf(j->name, sizeof(j->name), "%s", o->master);
        r = dml_loop_new(NULL, NULL, 0, &j->loop, err);
    }
    if (r == 0)
        r = dml_peer_hub_new(j->loop, &ho, &j->hub, err);
    if (r == 0) {
        r = -pthread_create(&j->beat_thread, NULL, dml_join_beat, j);
        j->has_thread = r == 0;
    }
    if (r < 0) {
        (void)dml_join_free(j);
        return r;
    }
    *ret = j;
    return 0;
}

struct dml_join *dml_join_free(struct dml_join *j)
{
    if (!j)
        return NULL;
    pthread_mutex_lock(&j->lock);
    j->quit = true;
    bool cancelled = j->cancelled;
    uint64_t goodbye_us = dml_clock_now_us() + GOODBYE_US;
    pthread_cond_broadcast(&j->changed);
    if (j->stream && j->state == DML_JOIN_WELCOME) { /* what was queued may still go out */
        dml_stream_finish(j->stream, DML_STREAM_OK, "");
        (void)wait_closed(j, goodbye_us);
    }
    hang_up(j);
    pthread_mutex_unlock(&j->lock);
    if (j->has_thread)
        pthread_join(j->beat_thread, NULL);
    (void)run_free(j->next);
    (void)run_free(j->run);
    if (j->hub && !cancelled)
        dml_peer_hub_drain(j->hub, goodbye_us);
    (void)dml_peer_hub_free(j->hub);
    (void)dml_loop_free(j->loop);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    free(j);
    return NULL;
}
