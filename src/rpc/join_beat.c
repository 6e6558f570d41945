/*
 * Heartbeats have their own thread, stream and connection: neither a trainer that uses every core
 * nor a large transfer delays them by more than the system does. A stream that broke is opened
 * again with the next beat; that the worker is still wanted is for the Join stream to say.
 */
#include "rpc/join_inner.h"

#include "base/clock.h"
#include "rpc/wait.h"

enum { QUEUED_MAX = 2 }; /* beats; older ones say nothing that the next would not */

static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    (void)arg;
    return message != NULL;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct dml_join *j = arg;
    (void)code;
    (void)why;
    pthread_mutex_lock(&j->lock);
    j->beat = dml_stream_unref(j->beat);
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

static const struct dml_stream_ops beat_ops = {.message = on_message, .closed = on_closed};

/* With the lock. */
static void send_beat(struct dml_join *j, const struct dml_health *health)
{
    if (!j->beat)
        j->beat = dml_stream_open(j->loop, j->beat_channel, "/dml.Master/Beat", &beat_ops, j);
    if (!j->beat || dml_stream_queued(j->beat) > QUEUED_MAX)
        return;
    struct dml_wire_frame f = {.kind = DML_WIRE_BEAT};
    f.beat.session = j->session;
    f.beat.health = *health;
    (void)dml_transfer_send_frame(j->beat, &f);
}

void *dml_join_beat(void *join)
{
    struct dml_join *j = join;
    uint64_t session = 0, next_us = 0;
    pthread_mutex_lock(&j->lock);
    while (!j->quit) {
        if (j->state != DML_JOIN_WELCOME) {
            (void)dml_wait_until(&j->changed, &j->lock, DML_CLOCK_NEVER);
            continue;
        }
        uint64_t now = dml_clock_now_us();
        if (j->session == session && now < next_us) {
            (void)dml_wait_until(&j->changed, &j->lock, next_us);
            continue;
        }
        session = j->session;
        next_us = now + j->options.heartbeat_us;
        struct dml_health health = {
            .temperature_c = -1, .throttled = -1, .mhz = -1, .rss_bytes = -1};
        if (j->options.health) {
            pthread_mutex_unlock(&j->lock);
            j->options.health(j->options.arg, &health);
            pthread_mutex_lock(&j->lock);
        }
        if (j->state == DML_JOIN_WELCOME && j->session == session && !j->quit)
            send_beat(j, &health);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

void dml_join_beat_stop(struct dml_join *j)
{
    if (j->beat)
        dml_stream_cancel(j->beat, "");
    while (j->beat)
        (void)dml_wait_until(&j->changed, &j->lock, DML_CLOCK_NEVER);
}
