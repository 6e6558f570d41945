/* comm over threads: order, fairness, faults in band, cancel from another thread. */
#include "rpc/comm_local.h"

#include <errno.h>
#include <pthread.h>

#include "tests/tap.h"

enum { PING = DML_COMM_USER, PONG, END };

static uint64_t soon(void)
{
    return dml_clock_now_us() + 20 * 1000;
}

static int send_kind(struct dml_comm *c, uint32_t to, uint32_t kind, uint64_t seq)
{
    return dml_comm_send(c, to, &(struct dml_comm_msg){.kind = kind, .seq = seq});
}

/* Receives one message and says "kind from seq" or the error. */
static const char *next(struct dml_comm *c, uint32_t from, uint64_t deadline)
{
    static char text[64];
    struct dml_comm_msg m;
    int r = dml_comm_recv(c, from, deadline, &m);
    if (r < 0) {
        return r == -EPIPE       ? "EPIPE"
               : r == -ETIMEDOUT ? "ETIMEDOUT"
               : r == -ECANCELED ? "ECANCELED"
                                 : strerror(-r);
    }
    snprintf(text, sizeof(text), "%s %u %u",
             m.kind == DML_COMM_JOINED ? "joined"
             : m.kind == DML_COMM_LOST ? "lost"
                                       : "message",
             m.from, (unsigned)m.seq);
    (void)dml_buf_unref(m.body);
    return text;
}

/* Answers every PING with a PONG that carries the same body, until END or an error. */
static void *echo(void *arg)
{
    struct dml_comm *c = arg;
    struct dml_comm_msg m;
    while (dml_comm_recv(c, 0, DML_CLOCK_NEVER, &m) == 0 && m.kind == PING) {
        m.kind = PONG;
        m.meta[m.n_meta++] = c->rank;
        (void)dml_comm_send(c, 0, &m);
        (void)dml_buf_unref(m.body);
    }
    (void)dml_comm_free(c);
    return NULL;
}

static void test_echo(void)
{
    enum { R = 4, ROUNDS = 200 };
    struct dml_comm_hub *hub = dml_comm_hub_new(R);
    _cleanup_(dml_comm_freep) struct dml_comm *master = dml_comm_hub_get(hub, 0);
    pthread_t threads[R];
    for (uint32_t r = 1; r < R; r++) {
        char want[16];
        snprintf(want, sizeof(want), "joined %u 0", r);
        tap_str(next(master, r, soon()), want, "every worker is announced");
        pthread_create(&threads[r], NULL, echo, dml_comm_hub_get(hub, r));
    }
    struct dml_buf *body = dml_buf_new(1000);
    unsigned answers = 0, wrong = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned n = dml_comm_bcast(
            master, &(struct dml_comm_msg){
                        .kind = PING, .seq = i, .n_meta = 1, .meta = {0.5}, .body = body});
        for (; n; n--) {
            struct dml_comm_msg m;
            if (dml_comm_recv(master, DML_COMM_ANY, DML_CLOCK_NEVER, &m) < 0)
                break;
            answers++;
            if (m.kind != PONG || m.seq != i || m.body != body || m.n_meta != 2 ||
                m.meta[0] != 0.5 || m.meta[1] != m.from)
                wrong++;
            (void)dml_buf_unref(m.body);
        }
    }
    tap_int(answers, ROUNDS * (R - 1), "every worker answered every round");
    tap_int(wrong, 0, "with the same buffer, sequence number and numbers");
    struct dml_comm_stats stats;
    dml_comm_stats(master, &stats);
    tap_ok(stats.sent_bytes >= (uint64_t)ROUNDS * (R - 1) * 1000 &&
               stats.received_bytes >= stats.sent_bytes,
           "the statistics count both directions");
    tap_int(dml_comm_bcast(master, &(struct dml_comm_msg){.kind = END}), R - 1,
            "the end is sent to all");
    for (uint32_t r = 1; r < R; r++)
        pthread_join(threads[r], NULL);
    tap_ok(dml_buf_is_sole(body), "no reference is left over");
    (void)dml_buf_unref(body);
    for (uint32_t r = 1; r < R; r++)
        tap_ok(!strncmp(next(master, DML_COMM_ANY, soon()), "lost", 4), "a freed endpoint is lost");
    tap_str(next(master, 2, soon()), "EPIPE", "after LOST was read, asking that rank is an error");
    tap_int(send_kind(master, 2, PING, 0), -EPIPE, "and so is sending to it");
    tap_int(dml_comm_bcast(master, &(struct dml_comm_msg){.kind = PING}), 0, "nobody is left");
    master = dml_comm_free(master);
    (void)dml_comm_hub_free(hub);
}

static void test_order(void)
{
    struct dml_comm_hub *hub = dml_comm_hub_new(3);
    struct dml_comm *m = dml_comm_hub_get(hub, 0), *a = dml_comm_hub_get(hub, 1),
                    *b = dml_comm_hub_get(hub, 2);
    tap_ok(!dml_comm_hub_get(hub, 1), "a rank in use is not given twice");
    (void)next(m, 1, soon());
    (void)next(m, 2, soon());
    tap_str(next(m, DML_COMM_ANY, soon()), "ETIMEDOUT", "nothing comes by the deadline");
    tap_str(next(m, DML_COMM_ANY, 0), "ETIMEDOUT", "a deadline in the past is allowed");
    for (uint64_t i = 0; i < 3; i++)
        (void)send_kind(a, 0, PING, i);
    (void)send_kind(b, 0, PING, 9);
    tap_str(next(m, DML_COMM_ANY, 0), "message 1 0", "messages wait, deadline or not");
    tap_str(next(m, DML_COMM_ANY, 0), "message 2 9", "anybody is fair over ranks");
    tap_str(next(m, DML_COMM_ANY, 0), "message 1 1", "and keeps the order of each");
    tap_int(send_kind(a, 2, PING, 5), 0, "workers reach each other");
    tap_str(next(b, 1, 0), "message 1 5", "by rank");
    tap_str(next(b, DML_COMM_ANY, 0), "ETIMEDOUT", "a worker gets no pseudo-messages");

    (void)send_kind(b, 0, END, 7);
    b = dml_comm_free(b);
    tap_str(next(m, 2, 0), "message 2 7", "what a rank sent before it went is still read");
    tap_str(next(m, 2, 0), "lost 2 0", "then it is lost");
    tap_str(next(a, 2, 0), "EPIPE", "another worker is told by an error");

    (void)send_kind(m, 1, END, 1);
    m = dml_comm_free(m);
    tap_ok(atomic_load(&a->stopped), "the master's going shows at once");
    tap_str(next(a, 0, DML_CLOCK_NEVER), "message 0 1", "its last words are read");
    tap_str(next(a, 0, DML_CLOCK_NEVER), "EPIPE", "then there is no master");
    tap_str(next(a, DML_COMM_ANY, DML_CLOCK_NEVER), "EPIPE", "and nobody else matters");
    tap_int(send_kind(a, 0, PING, 0), -EPIPE, "nothing can be sent to it");
    tap_ok(!dml_comm_alive(a, 0), "it is not alive");
    a = dml_comm_free(a);
    (void)dml_comm_hub_free(hub);
}

static void test_faults(void)
{
    struct dml_comm_hub *hub = dml_comm_hub_new(3);
    struct dml_comm *m = dml_comm_hub_get(hub, 0), *a = dml_comm_hub_get(hub, 1);
    (void)send_kind(a, 0, PING, 1);
    struct dml_buf *body = dml_buf_new(8);
    (void)dml_comm_send(m, 1, &(struct dml_comm_msg){.kind = PING, .body = body});
    dml_comm_hub_kill(hub, 1);
    tap_str(next(a, 0, DML_CLOCK_NEVER), "EPIPE", "a killed rank receives nothing more");
    tap_int(send_kind(a, 0, PING, 2), -EPIPE, "and sends nothing more");
    tap_ok(atomic_load(&a->stopped), "its trainer is told");
    tap_str(next(m, 1, 0), "joined 1 0", "rank 0 reads in order: it was there");
    tap_str(next(m, 1, 0), "lost 1 0", "and is lost; its unread message was dropped");
    tap_ok(!dml_comm_alive(m, 1), "it is not alive");
    tap_ok(!dml_comm_hub_get(hub, 1), "a dead rank gives no endpoint");
    tap_int(dml_comm_hub_revive(hub, 1), 0, "it is revived");
    tap_int(dml_comm_hub_revive(hub, 1), -EBUSY, "once");
    struct dml_comm *again = dml_comm_hub_get(hub, 1);
    tap_ok(again != NULL, "a new endpoint beside the old one");
    tap_str(next(a, 0, 0), "EPIPE", "the old one stays dead");
    tap_str(next(m, 1, 0), "joined 1 0", "rank 0 hears of it");
    tap_str(next(again, 0, 0), "ETIMEDOUT", "nothing of its former life waits");
    tap_int(send_kind(m, 1, PING, 3), 0, "it can be sent to");
    tap_str(next(again, 0, 0), "message 0 3", "and receives");
    a = dml_comm_free(a);
    tap_ok(dml_comm_alive(m, 1), "freeing the old endpoint does not hurt the new one");
    tap_ok(dml_buf_is_sole(body), "the dropped body went with the old endpoint");
    (void)dml_buf_unref(body);

    dml_comm_hub_kill(hub, 2);
    tap_str(next(m, 2, 0), "joined 2 0", "a rank that nobody uses can be killed");
    tap_str(next(m, 2, 0), "lost 2 0", "too");
    tap_int(dml_comm_hub_revive(hub, 2), 0, "and revived");
    dml_comm_hub_kill(hub, 0);
    tap_str(next(m, 1, DML_CLOCK_NEVER), "EPIPE", "the master can be killed");
    tap_str(next(again, 0, DML_CLOCK_NEVER), "EPIPE", "and its workers notice");
    (void)dml_comm_free(m);
    (void)dml_comm_free(again);
    (void)dml_comm_hub_free(hub);
}

static void *cancel(void *arg)
{
    dml_comm_cancel(arg);
    return NULL;
}

static void test_cancel(void)
{
    struct dml_comm_hub *hub = dml_comm_hub_new(2);
    struct dml_comm *m = dml_comm_hub_get(hub, 0), *a = dml_comm_hub_get(hub, 1);
    (void)send_kind(m, 1, PING, 0);
    (void)next(a, 0, 0);
    pthread_t t;
    pthread_create(&t, NULL, cancel, a);
    tap_str(next(a, 0, DML_CLOCK_NEVER), "ECANCELED", "a waiting receiver is woken");
    pthread_join(t, NULL);
    tap_int(send_kind(a, 0, PING, 0), -ECANCELED, "sending says the same");
    tap_ok(atomic_load(&a->stopped), "and so does the flag");
    tap_int(send_kind(m, 1, PING, 0), -EPIPE, "the other side cannot reach it");
    struct dml_buf huge = {.len = (size_t)DML_COMM_BODY_MAX + 1, .refs = 1};
    tap_int(dml_comm_send(m, 1, &(struct dml_comm_msg){.kind = PING, .body = &huge}), -EMSGSIZE,
            "a body over the limit is refused");
    (void)dml_comm_free(m);
    (void)dml_comm_free(a);
    tap_ok(!dml_comm_free(NULL) && !dml_comm_hub_free(NULL), "nothing can be freed");
    (void)dml_comm_hub_free(hub);
}

int main(void)
{
    test_echo();
    test_order();
    test_faults();
    test_cancel();
    return tap_done();
}
