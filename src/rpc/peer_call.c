/*
 * A call to another worker: a channel of its own, so a connection of its own; the first frame says
 * who calls whom, and what was queued follows at once, without waiting for an answer: a peer that
 * refuses reads none of it.
 */
#include "rpc/peer_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void on_opened(void *arg)
{
    struct peer_call *call = arg;
    pthread_mutex_lock(&call->hub->lock);
    call->opened = true;
    pthread_mutex_unlock(&call->hub->lock);
}

/* A peer says nothing. What it says all the same is not listened to. */
static bool on_message(void *arg, struct grpc_byte_buffer *message)
{
    (void)arg;
    return message != NULL;
}

static void on_closed(void *arg, int code, const char *why)
{
    struct peer_call *call = arg;
    struct dml_peer_hub *hub = call->hub;
    pthread_mutex_lock(&hub->lock);
    for (struct peer_call **at = &hub->calls; *at; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            break;
        }
    }
    if (call->peers)
        dml_peer_call_ended(call->peers, call->rank, call->opened, call->used, code, why);
    pthread_cond_broadcast(&hub->changed);
    pthread_mutex_unlock(&hub->lock);
    (void)dml_stream_unref(call->stream);
    (void)dml_channel_free(call->channel);
    free(call);
}

int dml_peer_call_new(struct dml_peers *p, uint32_t rank, struct peer_call **ret)
{
    static const struct dml_stream_ops ops = {
        .opened = on_opened, .message = on_message, .closed = on_closed};
    struct peer *peer = &p->peers[rank];
    struct peer_call *call = calloc(1, sizeof(*call));
    if (!call)
        return -ENOMEM;
    call->hub = p->hub;
    call->rank = rank;
    call->channel = dml_channel_new_within(peer->target, p->hub->connect_us);
    call->stream = dml_stream_open(p->hub->loop, call->channel, "/dml.Peer/Stream", &ops, call);
    if (!call->stream) {
        (void)dml_channel_free(call->channel);
        free(call);
        return -ENOMEM;
    }
    call->peers = p;
    call->next = p->hub->calls;
    p->hub->calls = call;

    struct dml_wire_frame f = {.kind = DML_WIRE_PEER_HELLO, .run_id = p->self.run_id};
    f.peer_hello = (struct dml_wire_peer_hello){.protocol = DML_WIRE_PROTOCOL,
                                                .from = p->self.rank,
                                                .from_life = p->self.life,
                                                .to = rank,
                                                .to_life = peer->life,
                                                .attempt = ++peer->n_calls};
    memcpy(f.peer_hello.secret, p->self.secret, sizeof(f.peer_hello.secret));
    int r = dml_transfer_send_frame(call->stream, &f);
    if (r < 0 && r != -EPIPE) { /* -EPIPE: over already, on_closed() knows why */
        dml_peer_call_end(call, false);
        return r;
    }
    *ret = call;
    return 0;
}

void dml_peer_call_end(struct peer_call *call, bool finish)
{
    call->peers = NULL;
    if (finish)
        dml_stream_finish(call->stream, DML_STREAM_OK, "");
    else
        dml_stream_cancel(call->stream, "");
}
