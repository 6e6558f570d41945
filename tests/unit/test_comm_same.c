/*
 * One script over both implementations of comm: what a paradigm sees of other workers has to be the
 * same between threads and between machines.
 */
#include "rpc/comm_local.h"
#include "tests/unit/grpc_team.h"

enum { R = 4 };

/* Ranks 0 … R-1 of either kind. */
struct world {
    const char *name;
    struct dml_comm *c[R];
    struct dml_comm_hub *hub; /* NULL: over gRPC */
    struct team t;
};

static void world_start(struct world *w, bool local)
{
    w->name = local ? "threads" : "gRPC";
    if (local) {
        w->hub = dml_comm_hub_new(R);
        for (uint32_t n = 0; n < R; n++)
            w->c[n] = dml_comm_hub_get(w->hub, n);
        for (uint32_t n = 1; n < R; n++)
            (void)next(w->c[0], n);
    } else {
        tap_ok(team_start(&w->t, R), "a team");
        memcpy(w->c, w->t.c, sizeof(w->c));
    }
}

static void world_end(struct world *w)
{
    for (uint32_t n = R; w->hub && n-- > 0;)
        w->c[n] = dml_comm_free(w->c[n]);
    w->hub = dml_comm_hub_free(w->hub);
    if (w->t.size)
        team_end(&w->t);
}

/* Rank n dies, respectively goes in order. */
static void lose(struct world *w, uint32_t n, bool in_order)
{
    if (w->hub) {
        if (!in_order)
            dml_comm_hub_kill(w->hub, n);
        w->c[n] = dml_comm_free(w->c[n]);
        return;
    }
    w->c[n] = NULL;
    if (!in_order)
        dml_join_cancel(w->t.joins[n]);
    w->t.c[n] = dml_comm_free(w->t.c[n]);
    if (in_order)
        (void)dml_join_ended(w->t.joins[n], w->t.run_id, 0, "");
    else
        w->t.joins[n] = dml_join_free(w->t.joins[n]);
}

static bool bring_back(struct world *w, uint32_t n)
{
    if (w->hub) {
        bool ok = dml_comm_hub_revive(w->hub, n) == 0 && !strncmp(next(w->c[0], n), "joined", 6);
        w->c[n] = ok ? dml_comm_hub_get(w->hub, n) : NULL;
        return w->c[n] != NULL;
    }
    /* The master has to have noticed that the former worker of that name went. */
    for (uint64_t until = soon(); !w->t.joins[n] && dml_clock_now_us() < until;) {
        pthread_mutex_lock(&w->t.m.lock);
        bool gone = !w->t.m.sessions[n];
        pthread_mutex_unlock(&w->t.m.lock);
        if (gone)
            break;
        dml_clock_sleep_us(1000);
    }
    bool ok = team_seat(&w->t, n);
    w->c[n] = w->t.c[n];
    for (uint32_t k = 1; ok && k < R; k++)
        ok = !w->c[k] || (team_sees(&w->t, k, n) && team_sees(&w->t, n, k));
    return ok;
}

static int send_to(struct world *w, uint32_t from, uint32_t to, uint64_t seq)
{
    return send_body(w->c[from], to, seq, NULL);
}

/* What a send says once the news has come round. */
static int send_at_last(struct world *w, uint32_t from, uint32_t to)
{
    for (uint64_t until = soon(); dml_comm_alive(w->c[from], to) && dml_clock_now_us() < until;)
        dml_clock_sleep_us(1000);
    return send_to(w, from, to, 99);
}

static void is(const struct world *w, const char *got, const char *want, const char *what)
{
    char text[128];
    snprintf(text, sizeof(text), "%s: %s", w->name, what);
    tap_str(got, want, text);
}

static void script(struct world *w)
{
    const char *epipe = strerror(EPIPE), *timeout = strerror(ETIMEDOUT);
    struct dml_comm_msg none;
    unsigned failed = 0;
    for (uint32_t from = 0; from < R; from++)
        for (uint32_t to = 0; to < R; to++)
            failed += from != to && send_to(w, from, to, 10 * from + to) != 0;
    tap_int(failed, 0, w->name);
    for (uint32_t to = 0; to < R; to++) {
        for (uint32_t from = 0; from < R; from++) {
            char want[32];
            snprintf(want, sizeof(want), "message %u %u", from, 10 * from + to);
            if (from != to)
                is(w, next(w->c[to], from), want, "everybody hears everybody");
        }
    }
    int r = dml_comm_recv(w->c[1], 2, dml_clock_now_us() + 1000, &none);
    is(w, strerror(-r), timeout, "nothing more comes by the deadline");

    for (uint64_t seq = 0; seq < 3; seq++)
        (void)send_to(w, 2, 1, seq);
    (void)send_to(w, 3, 1, 0);
    is(w, next(w->c[1], 3), "message 3 0", "one rank can be asked");
    for (unsigned seq = 0; seq < 3; seq++) {
        char want[32];
        snprintf(want, sizeof(want), "message 2 %u", seq);
        is(w, next(w->c[1], DML_COMM_ANY), want, "what another said waits, in order");
    }

    lose(w, 3, false);
    is(w, next(w->c[0], 3), "lost 3 0", "the master hears of a loss");
    is(w, next(w->c[1], 3), epipe, "a worker hears it when it asks");
    is(w, strerror(-send_at_last(w, 2, 3)), epipe, "or when it sends");
    tap_ok(!dml_comm_alive(w->c[2], 3), "%s", w->name);
    char why[256];
    tap_has(dml_comm_why(w->c[2], 3, why, sizeof(why)), "ank 3", why);
    r = dml_comm_recv(w->c[2], DML_COMM_ANY, dml_clock_now_us() + 1000, &none);
    is(w, strerror(-r), timeout, "and not when it asks for anybody");
    tap_ok(bring_back(w, 3), "%s", w->name);
    tap_int(send_to(w, 1, 3, 5) + send_to(w, 3, 1, 6), 0, w->name);
    is(w, next(w->c[3], 1), "message 1 5", "back again, it hears");
    is(w, next(w->c[1], 3), "message 3 6", "and is heard");

    (void)send_to(w, 3, 1, 7);
    lose(w, 3, true);
    is(w, next(w->c[1], 3), "message 3 7", "the last word of one that leaves is heard");
    is(w, next(w->c[1], 3), epipe, "then it is gone");
    is(w, strerror(-send_at_last(w, 1, 3)), epipe, "for sending, too");
    is(w, next(w->c[0], 3), "lost 3 0", "and the master knows");
    tap_ok(bring_back(w, 3), "%s", w->name);

    struct dml_comm_stats a, b, c;
    dml_comm_stats(w->c[2], &a);
    struct dml_buf *body = dml_buf_new(1000);
    memset(body->data, 0, body->len);
    struct dml_comm_msg msg = {.kind = PING, .n_meta = 3, .body = body};
    (void)dml_comm_send(w->c[2], 1, &msg);
    is(w, next(w->c[1], 2), "message 2 0", "a body");
    dml_comm_stats(w->c[2], &b);
    tap_int(b.sent_bytes - a.sent_bytes, 1000 + 3 * 8 + 24, "is counted with its head");
    dml_comm_stats(w->c[1], &c);
    tap_int(c.sending_us > 0, !w->hub, "waiting to send is a matter of networks");
    (void)dml_buf_unref(body);

    dml_comm_cancel(w->c[3]);
    is(w, strerror(-send_to(w, 3, 1, 0)), strerror(ECANCELED), "a cancelled comm sends nothing");
    is(w, next(w->c[3], 1), strerror(ECANCELED), "nor receives");
    tap_ok(!dml_comm_alive(w->c[3], 1) && atomic_load(&w->c[3]->stopped), "%s", w->name);
}

int main(void)
{
    static struct world local, grpc;
    world_start(&local, true);
    script(&local);
    world_end(&local);
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    world_start(&grpc, false);
    script(&grpc);
    world_end(&grpc);
    return tap_done();
}
