/*
 * What a master answers to clients that are not dml's: calls it does not know, messages out of
 * turn, noise. The client's end here is a bare stream.
 */
#include "tests/unit/grpc_client.h"

static void join(struct client *c, const struct master *m, unsigned n)
{
    struct dml_wire_frame hello = {.kind = DML_WIRE_HELLO, .hello = hello_of(n)};
    client_call(c, dml_server_port(m->server), "/dml.Master/Join");
    say_frame(c, &hello);
    client_wait(c, &c->n_frames);
}

static void test_strangers(struct master *m)
{
    struct client c;
    client_call(&c, dml_server_port(m->server), "/dml.Master/Nonsense");
    client_wait(&c, &c.n_closed);
    tap_int(c.code, DML_STREAM_UNIMPLEMENTED, "an unknown method is answered at once");
    tap_str(c.why, "This master does not know such a call.", "with a sentence");
    client_hang_up(&c);

    client_call(&c, dml_server_port(m->server), "/dml.Master/Join");
    say(&c, "GET / HTTP/1.1", 14);
    client_wait(&c, &c.n_closed);
    tap_int(c.first.kind, DML_WIRE_REFUSED, "noise instead of a hello is refused");
    tap_has(c.first.ended.text, "hello cannot be understood", "with a sentence");
    client_hang_up(&c);

    client_call(&c, dml_server_port(m->server), "/dml.Master/Join");
    say_frame(&c, &(struct dml_wire_frame){.kind = DML_WIRE_STOP});
    client_wait(&c, &c.n_closed);
    tap_str(c.first.ended.text, "The first message was no hello.", "so is anything else");
    client_hang_up(&c);

    client_call(&c, dml_server_port(m->server), "/dml.Master/Beat");
    struct dml_wire_frame beat_frame = {.kind = DML_WIRE_BEAT};
    beat_frame.beat.session = 1;
    say_frame(&c, &beat_frame);
    client_wait(&c, &c.n_closed);
    tap_int(c.code, DML_STREAM_NOT_FOUND, "a beat of nobody ends its call");
    client_hang_up(&c);

    client_call(&c, dml_server_port(m->server), "/dml.Master/Control");
    say(&c, "\xff", 1);
    client_wait(&c, &c.n_closed);
    tap_int(c.code, DML_STREAM_OK, "a request that is none gets a reply");
    client_hang_up(&c);
    tap_int(count(m, &m->n_joined), 0, "nobody has joined");
}

/* Sends one frame after the welcome and says how the master ended the call. */
static void offend(struct master *m, const struct dml_wire_frame *f, const char *bytes, size_t len,
                   const char *what)
{
    struct client c;
    unsigned before = count(m, &m->n_left);
    join(&c, m, 1);
    tap_int(c.first.kind, DML_WIRE_WELCOME, what);
    if (f)
        say_frame(&c, f);
    else
        say(&c, bytes, len);
    client_wait(&c, &c.n_closed);
    tap_str(c.why, "The worker broke the protocol.", "is shown the door");
    tap_ok(wait_for(m, &m->n_left, before + 1), "and has left");
    client_hang_up(&c);
}

static void test_offenders(struct master *m)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_STOP, .run_id = 1};
    offend(m, &f, NULL, 0, "a worker that gives orders");
    f = (struct dml_wire_frame){.kind = DML_WIRE_HELLO, .hello = hello_of(1)};
    offend(m, &f, NULL, 0, "a worker that says hello twice");
    offend(m, NULL, "\x08\x01\x52\x02xy", 6, "a worker that sends a chunk of nothing");
    offend(m, NULL, "\xff\xff", 2, "a worker that sends noise");

    struct client c;
    unsigned before = count(m, &m->n_left);
    join(&c, m, 1);
    char *large = calloc(1, DML_WIRE_MESSAGE_MAX + 1);
    say(&c, large, DML_WIRE_MESSAGE_MAX + 1);
    free(large);
    client_wait(&c, &c.n_closed);
    tap_ok(c.code != DML_STREAM_OK, "a message over the limit ends the call");
    tap_ok(wait_for(m, &m->n_left, before + 1), "and the worker has left");
    client_hang_up(&c);
}

/* Bodies of a run that is not, and bodies that were given up, cost nothing and hurt nobody. */
static void test_bodies(struct master *m)
{
    struct client c;
    struct dml_comm *comm = NULL;
    join(&c, m, 1);
    (void)dml_server_comm_new(m->server, 8, 2, &comm);
    tap_int(attach(m, comm, 1, 1, 8), 0, "a bare worker takes part");
    tap_str(next(comm, 1), "joined 1 0", "in a run");

    struct dml_wire_frame f = {.kind = DML_WIRE_HEADER, .run_id = 7};
    f.header.msg.kind = PING;
    f.header.has_body = true;
    f.header.body_len = DML_COMM_BODY_MAX;
    say_frame(&c, &f);
    say(&c, "\x08\x07\x52\x02xy", 6);
    f.run_id = 8;
    f.header.body_len = 4;
    f.header.msg.seq = 1;
    say_frame(&c, &f);
    say(&c, "\x08\x08\x52\x02xy", 6);
    f.header.msg.seq = 2;
    say_frame(&c, &f);
    say(&c, "\x08\x08\x52\x01x", 5);
    say(&c, "\x08\x08\x52\x03yzw", 7);

    struct dml_comm_msg msg = {0};
    tap_int(dml_comm_recv(comm, 1, soon(), &msg), 0, "one message arrives");
    tap_int((long long)msg.seq, 2, "the one that was sent whole and in this run");
    tap_ok(msg.body && msg.body->len == 4 && !memcmp(msg.body->data, "xyzw", 4), "byte by byte");
    (void)dml_buf_unref(msg.body);

    f.header.msg.seq = 3;
    say_frame(&c, &f);
    say(&c, "\x08\x08\x52\x05vwxyz", 9);
    tap_str(next(comm, 1), "lost 1 0", "more bytes than announced end it, in band");
    client_hang_up(&c);
    (void)dml_comm_free(comm);
}

static void test_addresses(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "[::]:0", "", 60 * SECOND, &err) < 0) {
        tap_skip("no wildcard address: %s", err.text);
        return;
    }
    struct dml_join *j = worker(&m, 1, NULL);
    tap_ok(wait_for(&m, &m.n_joined, 1), "a master on [::] is reached by IPv4");
    pthread_mutex_lock(&m.lock);
    tap_has(dml_session_peer(m.sessions[1]), "127.0.0.1:", "and sees it as such");
    pthread_mutex_unlock(&m.lock);
    (void)dml_join_free(j);

    char v6[64];
    snprintf(v6, sizeof(v6), "[::1]:%u", dml_server_port(m.server));
    struct dml_join_options o = {.master = v6, .heartbeat_us = SECOND};
    struct dml_hello hello = hello_of(2);
    (void)dml_join_new(&o, &j, &err);
    if (dml_join_connect(j, &hello, soon(), &err) < 0) {
        tap_skip("no IPv6 on loopback: %s", err.text);
    } else {
        pthread_mutex_lock(&m.lock);
        tap_has(dml_session_peer(m.sessions[2]), "[::1]:", "an IPv6 peer is fit to read");
        pthread_mutex_unlock(&m.lock);
    }
    (void)dml_join_free(j);
    master_stop(&m);

    static const struct {
        const char *name, *target;
    } good[] = {{"pi", "pi:7077"},
                {"pi.local:1", "pi.local:1"},
                {"10.0.0.1", "10.0.0.1:7077"},
                {"::1", "[::1]:7077"},
                {"[::1]", "[::1]:7077"},
                {"[fe80::1%eth0]:9", "[fe80::1%eth0]:9"},
                {"unix:/run/dml/control.sock", "unix:/run/dml/control.sock"}};
    char target[DML_CHANNEL_TARGET_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        tap_int(dml_channel_target(good[i].name, target, &err), 0, good[i].name);
        tap_str(target, good[i].target, "is found");
    }
    static const char *const bad[] = {"",    ":1",   "pi:",  "pi:0",   "pi:65536",  "pi:1x",
                                      "a b", "[::1", "[]:1", "[::1]x", "dns:///pi", "unix:"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        tap_int(dml_channel_target(bad[i], target, &err), -EINVAL, bad[i]);
}

int main(void)
{
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    test_strangers(&m);
    test_offenders(&m);
    test_bodies(&m);
    master_stop(&m);
    test_addresses();
    return tap_done();
}
