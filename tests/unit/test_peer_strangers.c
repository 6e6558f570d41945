/*
 * What a worker answers to calls that are not another worker's of the same run, and to workers that
 * do not keep to the protocol. The caller's end is a bare stream that poses as rank 2.
 */
#include "tests/unit/grpc_client.h"
#include "tests/unit/grpc_team.h"

struct stage {
    struct team t;
    unsigned port;               /* of rank 1, which everybody calls */
    uint32_t life_1, life_2;     /* as the master drew them: 1 and 2 */
    struct dml_wire_frame hello; /* a good one from rank 2 */
};

/* Rank 2 sits there too, and says nothing itself; from its order the test knows the secret. */
static bool set_up(struct stage *s)
{
    struct team *t = &s->t;
    if (!team_start(t, 3))
        return false;
    /* Once more, to see an order: rank 2 leaves and gets another life. */
    t->c[2] = dml_comm_free(t->c[2]);
    (void)dml_join_ended(t->joins[2], t->run_id, 0, "");
    if (strcmp(next(t->c[0], 2), "lost 2 0") != 0 || attach(&t->m, t->c[0], 2, 2, t->run_id) != 0 ||
        strcmp(next(t->c[0], 2), "joined 2 0") != 0)
        return false;
    struct dml_run_order order;
    if (dml_join_wait(t->joins[2], soon(), &order) < 0)
        return false;
    s->port = dml_join_peer_port(t->joins[1]);
    s->life_1 = 1;
    s->life_2 = order.life;
    s->hello = (struct dml_wire_frame){.kind = DML_WIRE_PEER_HELLO, .run_id = t->run_id};
    s->hello.peer_hello = (struct dml_wire_peer_hello){.protocol = DML_WIRE_PROTOCOL,
                                                       .from = 2,
                                                       .from_life = s->life_2,
                                                       .to = 1,
                                                       .to_life = s->life_1,
                                                       .attempt = 1};
    memcpy(s->hello.peer_hello.secret, order.secret, DML_WIRE_SECRET_LEN);
    dml_run_order_done(&order);
    return true;
}

/* Says hello, perhaps one thing more, and returns how it was ended. */
static const char *answer(struct stage *s, const struct dml_wire_frame *hello, const void *more,
                          size_t more_len)
{
    static char text[300];
    struct client c;
    client_call(&c, s->port, "/dml.Peer/Stream");
    say_frame(&c, hello);
    if (more)
        say(&c, more, more_len);
    client_wait(&c, &c.n_closed);
    snprintf(text, sizeof(text), "%d %s", c.code, c.why);
    client_hang_up(&c);
    return text;
}

static void test_hellos(struct stage *s)
{
    struct client c;
    client_call(&c, s->port, "/dml.Master/Join");
    client_wait(&c, &c.n_closed);
    tap_int(c.code, DML_STREAM_UNIMPLEMENTED, "a worker is no master");
    tap_str(c.why, "This worker does not know such a call.", "and says so");
    client_hang_up(&c);

    client_call(&c, s->port, "/dml.Peer/Stream");
    say(&c, "GET / HTTP/1.1", 14);
    client_wait(&c, &c.n_closed);
    tap_str(c.why, "It does not speak the protocol.", "noise is refused");
    client_hang_up(&c);

    struct dml_wire_frame f = {.kind = DML_WIRE_STOP, .run_id = s->t.run_id};
    tap_str(answer(s, &f, NULL, 0), "10 The first message was no hello.", "a stop as first word");
    f = (struct dml_wire_frame){.kind = DML_WIRE_HELLO, .hello = hello_of(2)};
    tap_str(answer(s, &f, NULL, 0), "10 The first message was no hello.", "a hello to a master");

    char want[128];
    f = s->hello;
    f.peer_hello.protocol++;
    snprintf(want, sizeof(want), "The caller speaks protocol %d, this worker %d",
             DML_WIRE_PROTOCOL + 1, DML_WIRE_PROTOCOL);
    tap_has(answer(s, &f, NULL, 0), want, "another protocol");
    for (unsigned i = 0; i < DML_WIRE_SECRET_LEN; i += DML_WIRE_SECRET_LEN - 1) {
        f = s->hello;
        f.peer_hello.secret[i] ^= 1;
        tap_str(answer(s, &f, NULL, 0), "10 The secret is not this run's.", "one bit is wrong");
    }
    f = s->hello;
    f.peer_hello.to = 3;
    tap_has(answer(s, &f, NULL, 0), "another worker than the call is meant for", "another rank");
    f = s->hello;
    f.peer_hello.to_life++;
    tap_has(answer(s, &f, NULL, 0), "another worker than the call is meant for", "another life");
    f = s->hello;
    f.peer_hello.from = 3;
    tap_has(answer(s, &f, NULL, 0), "no such rank", "a rank beyond the run");
    f = s->hello;
    f.peer_hello.from_life--;
    tap_has(answer(s, &f, NULL, 0), "The master counts the caller out", "a life that is over");
}

/* A frame as bytes. */
static size_t bytes_of(const struct dml_wire_frame *f, unsigned char *buf, size_t max)
{
    unsigned char *data = NULL;
    size_t len = 0;
    if (dml_wire_pack(f, &data, &len) < 0 || len > max)
        len = 0;
    memcpy(buf, data, len);
    free(data);
    return len;
}

static struct dml_wire_frame message(uint64_t run_id, uint64_t seq, bool has_body, uint64_t len)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_HEADER, .run_id = run_id};
    f.header.msg = (struct dml_comm_msg){.kind = PING, .seq = seq};
    f.header.has_body = has_body;
    f.header.body_len = len;
    return f;
}

/* A caller whose life the master has not told of yet. */
static void test_waiting(struct stage *s)
{
    struct team *t = &s->t;
    struct client c;
    s->hello.peer_hello.from_life = s->life_2 + 1;
    client_call(&c, s->port, "/dml.Peer/Stream");
    say_frame(&c, &s->hello);
    struct dml_wire_frame f = message(t->run_id, 5, false, 0);
    say_frame(&c, &f);
    struct dml_comm_msg none;
    tap_int(dml_comm_recv(t->c[1], DML_COMM_ANY, dml_clock_now_us() + SECOND / 10, &none),
            -ETIMEDOUT, "who calls before the master's word has to wait");
    tap_int(c.n_closed, 0, "and is not sent away");
    (void)dml_join_ended(t->joins[2], t->run_id, 0, "");
    tap_str(next(t->c[0], 2), "lost 2 0", "the former life leaves");
    tap_int(attach(&t->m, t->c[0], 2, 2, t->run_id), 0, "the next one is told of");
    tap_str(next(t->c[0], 2), "joined 2 0", "to the master");
    s->life_2++;
    tap_ok(team_sees(t, 1, 2), "and to the worker,");
    /* Until the worker is told of the next life it hears that the former one has left. */
    const char *heard = next(t->c[1], 2);
    for (uint64_t until = soon(); !strcmp(heard, strerror(EPIPE)) && dml_clock_now_us() < until;) {
        dml_clock_sleep_us(1000);
        heard = next(t->c[1], 2);
    }
    tap_str(heard, "message 2 5", "which listens to it now");
    tap_has(answer(s, &s->hello, NULL, 0), "A later call", "the same call again is refused");

    struct client again;
    s->hello.peer_hello.attempt++;
    client_call(&again, s->port, "/dml.Peer/Stream");
    say_frame(&again, &s->hello);
    client_wait(&c, &c.n_closed);
    tap_int(c.code, DML_STREAM_CANCELLED, "a new call ends the one before");
    f = message(t->run_id, 6, false, 0);
    say_frame(&again, &f);
    tap_str(next(t->c[1], DML_COMM_ANY), "message 2 6", "and is heard");
    client_hang_up(&c);
    client_hang_up(&again);
    tap_str(next(t->c[1], 2), strerror(EPIPE), "its end is noticed");
}

static void test_offenders(struct stage *s)
{
    enum { N = 8, LEN = 4096 };
    struct team *t = &s->t;
    unsigned char bad[N][LEN];
    size_t len[N] = {0};
    struct dml_wire_frame f = message(t->run_id + 1, 1, false, 0);
    static const char *const what[N] = {"a message of another run",
                                        "a chunk of nothing",
                                        "an order",
                                        "a second hello",
                                        "news of a loss",
                                        "noise",
                                        "a message that would announce a worker",
                                        "a body beyond the limit"};
    len[0] = bytes_of(&f, bad[0], LEN);
    len[1] = dml_wire_pack_chunk(t->run_id, 100, bad[1]);
    memset(bad[1] + len[1], 0, 100);
    len[1] += 100;
    char text[] = "x";
    f = (struct dml_wire_frame){.kind = DML_WIRE_ORDER, .run_id = t->run_id};
    f.order = (struct dml_run_order){.rank = 1, .size = 3, .testcase = text, .model = text};
    len[2] = bytes_of(&f, bad[2], LEN);
    len[3] = bytes_of(&s->hello, bad[3], LEN);
    f = (struct dml_wire_frame){.kind = DML_WIRE_PEER, .run_id = t->run_id};
    f.peer = (struct dml_wire_peer){.rank = 2, .life = 100, .state = DML_WIRE_PEER_LOST};
    len[4] = bytes_of(&f, bad[4], LEN);
    memset(bad[5], 0xff, len[5] = 50);
    f = message(t->run_id, 1, false, 0);
    f.header.msg.kind = DML_COMM_JOINED;
    len[6] = bytes_of(&f, bad[6], LEN);
    f = message(t->run_id, 1, true, DML_COMM_BODY_MAX + 1);
    len[7] = bytes_of(&f, bad[7], LEN);
    for (unsigned i = 0; i < N; i++) {
        s->hello.peer_hello.attempt++;
        tap_str(answer(s, &s->hello, bad[i], len[i]), "10 It does not speak the protocol.",
                what[i]);
        char why[256];
        tap_str(next(t->c[1], 2), strerror(EPIPE), "and the receiver learns of it");
        tap_has(dml_comm_why(t->c[1], 2, why, sizeof(why)), "Nothing is known to be wrong",
                "once, then it is as if it had not called");
    }

    struct client c;
    s->hello.peer_hello.attempt++;
    client_call(&c, s->port, "/dml.Peer/Stream");
    say_frame(&c, &s->hello);
    f = message(t->run_id, 7, false, 0);
    say_frame(&c, &f);
    f = message(t->run_id, 8, true, UINT64_C(1) << 30);
    say_frame(&c, &f);
    say(&c, bad[1], len[1]);
    tap_str(next(t->c[1], 2), "message 2 7", "a good message, then half of one");
    client_hang_up(&c);
    tap_str(next(t->c[1], 2), strerror(EPIPE), "much announced, little sent: nothing arrives");
}

static atomic_uint n_gone;

static bool on_message_ignored(void *arg, struct grpc_byte_buffer *message)
{
    (void)arg;
    return message != NULL;
}

static void on_gone(void *arg, int code, const char *why)
{
    (void)arg;
    (void)code;
    (void)why;
    atomic_fetch_add(&n_gone, 1);
}

/* Strangers who say nothing: only so many are kept, and who belongs here gets in. */
static void test_crowd(struct stage *s)
{
    enum { CROWD = DML_COMM_RANKS_MAX + 10 };
    static const struct dml_stream_ops ops = {.message = on_message_ignored, .closed = on_gone};
    static struct dml_stream *crowd[CROWD];
    struct client c;
    client_call(&c, s->port, "/dml.Peer/Stream");
    for (unsigned i = 0; i < CROWD; i++)
        crowd[i] = dml_stream_open(c.loop, c.channel, "/dml.Peer/Stream", &ops, NULL);
    for (uint64_t until = soon(); atomic_load(&n_gone) < 9 && dml_clock_now_us() < until;)
        dml_clock_sleep_us(1000);
    tap_ok(atomic_load(&n_gone) >= 9, "of a crowd that says nothing the first are sent away");
    struct dml_wire_frame f = message(s->t.run_id, 9, false, 0);
    struct client friend;
    s->hello.peer_hello.attempt++;
    client_call(&friend, s->port, "/dml.Peer/Stream");
    say_frame(&friend, &s->hello);
    say_frame(&friend, &f);
    tap_str(next(s->t.c[1], 2), "message 2 9", "a worker of the run gets through");
    for (unsigned i = 0; i < CROWD; i++)
        dml_stream_cancel(crowd[i], "");
    for (uint64_t until = soon(); atomic_load(&n_gone) < CROWD && dml_clock_now_us() < until;)
        dml_clock_sleep_us(1000);
    tap_int(atomic_load(&n_gone), CROWD, "all of them are gone in the end");
    for (unsigned i = 0; i < CROWD; i++)
        crowd[i] = dml_stream_unref(crowd[i]);
    client_hang_up(&friend);
    client_hang_up(&c);
}

int main(void)
{
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    static struct stage s;
    tap_ok(set_up(&s), "a run of two workers");
    test_hellos(&s);
    test_waiting(&s);
    test_offenders(&s);
    test_crowd(&s);
    team_end(&s.t);
    return tap_done();
}
