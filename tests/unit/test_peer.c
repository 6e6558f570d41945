/*
 * Workers that send to each other over gRPC: what arrives, in which order, and who is refused.
 */
#include "tests/unit/grpc_team.h"

static void test_bodies(void)
{
    static const size_t sizes[] = {0, 1, (1u << 20) - 1, 1u << 20, (1u << 20) + 1, 40u << 20};
    struct team t;
    tap_ok(team_start(&t, 3), "a master and two workers");
    unsigned good = 0, sole = 0;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct dml_buf *body = pattern(sizes[i], (unsigned)i);
        struct dml_comm_msg got,
            msg = {.kind = PING, .seq = i, .n_meta = 2, .meta = {0.1, -1e300}, .body = body};
        if (dml_comm_send(t.c[1], 2, &msg) == 0 && dml_comm_recv(t.c[2], 1, soon(), &got) == 0) {
            good += got.from == 1 && got.kind == PING && got.seq == i && got.n_meta == 2 &&
                    got.meta[0] == 0.1 && got.meta[1] == -1e300 && got.body &&
                    got.body->len == sizes[i] &&
                    (sizes[i] == 0 || !memcmp(got.body->data, body->data, sizes[i]));
            (void)dml_buf_unref(got.body);
        }
        sole += becomes_sole(body);
        (void)dml_buf_unref(body);
    }
    tap_int(good, ARRAY_SIZE(sizes), "bodies of 0 bytes to 40 MiB arrive as they were");
    tap_int(sole, ARRAY_SIZE(sizes), "and are the sender's own again");
    struct dml_comm_msg got = {0};
    tap_int(send_body(t.c[2], 1, 7, NULL), 0, "a message without a body, the other way");
    tap_int(dml_comm_recv(t.c[1], DML_COMM_ANY, soon(), &got), 0, "arrives");
    tap_ok(got.from == 2 && got.seq == 7 && !got.body && got.n_meta == 0, "without one");

    struct dml_comm_stats a, b;
    dml_comm_stats(t.c[1], &a);
    dml_comm_stats(t.c[2], &b);
    tap_ok(a.sent_bytes > (43u << 20) && a.sent_bytes == b.received_bytes &&
               b.sent_bytes == a.received_bytes && b.sent_bytes > 0,
           "the statistics count what went between them");
    tap_ok(a.sending_us > 0 && a.sending_us < 600 * SECOND, "and how long it waited to go");
    uint64_t before, until = soon();
    do { /* the last acknowledgement may take a while */
        before = a.sending_us;
        dml_clock_sleep_us(100000);
        dml_comm_stats(t.c[1], &a);
    } while (a.sending_us != before && dml_clock_now_us() < until);
    tap_int(a.sending_us - before, 0, "which does not grow while nothing waits");
    dml_comm_stats(t.c[0], &a);
    tap_int(a.sent_bytes + a.received_bytes, 0, "nothing of it went by the master");
    team_end(&t);
}

/* Everybody sends to everybody at once; the bodies are larger than what any queue holds. */
struct member {
    struct team *t;
    uint32_t rank;
    unsigned good, bad;
};

enum { ROUNDS = 12 };

static void *all_to_all(void *arg)
{
    struct member *me = arg;
    struct dml_comm *c = me->t->c[me->rank];
    uint64_t expected[TEAM_MAX] = {0};
    for (uint64_t seq = 0; seq < ROUNDS; seq++) {
        for (uint32_t to = 1; to < c->size; to++) {
            if (to == me->rank)
                continue;
            struct dml_buf *body = pattern((size_t)1 << (2 * seq), me->rank);
            me->bad += send_body(c, to, seq, body) != 0;
            (void)dml_buf_unref(body);
        }
    }
    for (unsigned n = ROUNDS * (c->size - 2); n; n--) {
        struct dml_comm_msg got;
        if (dml_comm_recv(c, DML_COMM_ANY, soon(), &got) < 0) {
            me->bad++;
            break;
        }
        struct dml_buf *want = pattern((size_t)1 << (2 * got.seq), got.from);
        bool ok = got.seq == expected[got.from]++ && got.body && got.body->len == want->len &&
                  !memcmp(got.body->data, want->data, want->len);
        me->good += ok;
        (void)dml_buf_unref(want);
        (void)dml_buf_unref(got.body);
    }
    return NULL;
}

static void test_all_to_all(void)
{
    struct team t;
    pthread_t threads[TEAM_MAX];
    struct member members[TEAM_MAX];
    tap_ok(team_start(&t, 4), "three workers");
    for (uint32_t n = 1; n < t.size; n++) {
        members[n] = (struct member){.t = &t, .rank = n};
        pthread_create(&threads[n], NULL, all_to_all, &members[n]);
    }
    for (uint32_t n = 1; n < t.size; n++) {
        pthread_join(threads[n], NULL);
        tap_int(members[n].good, 2 * ROUNDS, "one has heard the others, each in order");
        tap_int(members[n].bad, 0, "and nothing failed");
    }
    team_end(&t);
}

/* Nothing is lost by backpressure, and who is not read holds up nobody else. */
static void test_backpressure(void)
{
    enum { N = 12, LEN = 16 << 20 };
    struct team t;
    tap_ok(team_start(&t, 4), "three workers");
    struct dml_buf *body = pattern(LEN, 5);
    for (uint64_t i = 0; i < N; i++)
        (void)send_body(t.c[1], 3, i, body);
    for (uint64_t i = 0; i < 3; i++)
        (void)send_body(t.c[2], 3, i, body);
    unsigned good = 0;
    for (uint64_t i = 0; i < 3; i++) {
        struct dml_comm_msg got;
        if (dml_comm_recv(t.c[3], 2, soon(), &got) < 0)
            break;
        good += got.seq == i && got.body->len == LEN;
        (void)dml_buf_unref(got.body);
    }
    tap_int(good, 3, "one sender is heard while much of another waits");
    tap_ok(!dml_buf_is_sole(body), "which is not all read from the network");
    for (uint64_t i = 0; i < N; i++) {
        struct dml_comm_msg got;
        if (dml_comm_recv(t.c[3], 1, soon(), &got) < 0)
            break;
        good += got.seq == i && got.body->len == LEN;
        (void)dml_buf_unref(got.body);
    }
    tap_int(good, N + 3, "then all of the other, in order");
    tap_ok(becomes_sole(body), "and nothing is held on to");
    (void)dml_buf_unref(body);
    team_end(&t);
}

int main(void)
{
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    test_bodies();
    test_all_to_all();
    test_backpressure();
    return tap_done();
}
