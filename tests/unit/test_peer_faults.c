/*
 * Faults between workers: one is killed, cannot be reached, is cut off for a moment, is told to
 * stop. Workers that are killed are processes of their own: this program, started again.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "tests/unit/grpc_team.h"

extern char **environ;

enum { LEN = 40 << 20 };

/* ------------------------------------------------------------------ a worker as a process */

/* Joins, says its life to rank 1, then sends it bodies of 40 MiB until it dies. */
static int child(const char *port, const char *n)
{
    struct master m = {0};
    char name[64];
    snprintf(name, sizeof(name), "127.0.0.1:%s", port);
    struct dml_join_options o = {
        .master = name, .heartbeat_us = SECOND, .health = health, .peer_listen = "127.0.0.1:0"};
    struct dml_hello hello = hello_of((unsigned)atoi(n));
    struct dml_run_order order;
    struct dml_join *join;
    struct dml_comm *c;
    (void)m;
    if (dml_join_new(&o, &join, NULL) < 0 || dml_join_connect(join, &hello, soon(), NULL) < 0 ||
        dml_join_wait(join, soon(), &order) < 0 || dml_join_comm(join, &order, &c) < 0)
        return 1;
    while (!dml_comm_alive(c, 1)) /* the master tells of it in a moment */
        dml_clock_sleep_us(1000);
    if (dml_comm_send(c, 1, &(struct dml_comm_msg){.kind = PING, .seq = order.life}) < 0)
        return 1;
    struct dml_buf *body = pattern(LEN, 1);
    for (uint64_t seq = 1000;; seq++) {
        if (send_body(c, 1, seq, body) < 0)
            return 1;
        while (!dml_buf_is_sole(body))
            dml_clock_sleep_us(1000);
    }
}

static pid_t start_child(const struct team *t, const char *n)
{
    char port[16], self[4096];
    snprintf(port, sizeof(port), "%u", dml_server_port(t->m.server));
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[len > 0 ? len : 0] = '\0';
    char *argv[] = {self, port, (char *)(uintptr_t)n, NULL};
    pid_t pid = -1;
    int r = posix_spawn(&pid, self, NULL, NULL, argv, environ);
    if (r)
        tap_note("%s: %s", self, strerror(r));
    return pid;
}

/* Waits until the child has the rank 2 and its first word came. Returns its life, 0: none. */
static uint64_t hear_child(struct team *t)
{
    unsigned before = 0;
    pthread_mutex_lock(&t->m.lock);
    while (!t->m.sessions[2] && before++ < 60000) {
        pthread_mutex_unlock(&t->m.lock);
        dml_clock_sleep_us(1000);
        pthread_mutex_lock(&t->m.lock);
    }
    pthread_mutex_unlock(&t->m.lock);
    if (attach(&t->m, t->c[0], 2, 2, t->run_id) < 0 || strcmp(next(t->c[0], 2), "joined 2 0") != 0)
        return 0;
    struct dml_comm_msg msg;
    if (!team_sees(t, 1, 2) || dml_comm_recv(t->c[1], 2, soon(), &msg) < 0)
        return 0;
    (void)dml_buf_unref(msg.body);
    return msg.seq;
}

/* Until nothing is heard of rank k any more; returns whether something not whole was heard. */
static bool hear_out(struct dml_comm *c, uint32_t k)
{
    bool bad = false;
    struct dml_comm_msg msg;
    while (dml_comm_recv(c, k, soon(), &msg) == 0) {
        bad |= !msg.body || msg.body->len != LEN;
        (void)dml_buf_unref(msg.body);
    }
    return bad;
}

static int send_until_epipe(struct dml_comm *c, uint32_t to)
{
    int r = 0;
    for (uint64_t until = soon(); r == 0 && dml_clock_now_us() < until; dml_clock_sleep_us(1000))
        r = send_body(c, to, 1, NULL);
    return r;
}

static void test_kill(void)
{
    struct team t;
    tap_ok(team_start(&t, 2), "a master and a worker");
    t.c[0] = dml_comm_free(t.c[0]); /* for a run of three */
    t.c[1] = dml_comm_free(t.c[1]);
    t.size = 3;
    t.run_id++;
    (void)dml_server_comm_new(t.m.server, t.run_id, t.size, &t.c[0]);
    tap_ok(team_seat(&t, 1), "which begin a run of three");
    uint64_t former = 0;
    for (unsigned i = 0; i < 3; i++) {
        pid_t pid = start_child(&t, "2");
        uint64_t life = hear_child(&t);
        tap_ok(life > former, "a process with the rank 2 is heard, in a life of its own");
        former = life;
        if (i == 1) /* not in the first body */
            for (struct dml_comm_msg msg; dml_comm_recv(t.c[1], 2, soon(), &msg) == 0;) {
                (void)dml_buf_unref(msg.body);
                break;
            }
        (void)kill(pid, SIGKILL);
        tap_ok(!hear_out(t.c[1], 2), "killed in the middle of a body, it is gone, the body too");
        tap_str(next(t.c[0], 2), "lost 2 0", "the master tells of it");
        tap_int(send_until_epipe(t.c[1], 2), -EPIPE, "nothing can be sent there");
        char why[256]; /* a broken connection at first, until the master's word arrives */
        for (uint64_t until = soon(); dml_clock_now_us() < until; dml_clock_sleep_us(1000))
            if (strstr(dml_comm_why(t.c[1], 2, why, sizeof(why)), "The master has lost rank 2"))
                break;
        tap_has(why, "The master has lost rank 2 (127.0.0.1:", why);
        tap_ok(!dml_comm_alive(t.c[1], 2), "it is not alive");
        struct dml_comm_msg none;
        tap_int(dml_comm_recv(t.c[1], DML_COMM_ANY, dml_clock_now_us() + 1000, &none), -ETIMEDOUT,
                "anybody else may still come");
        (void)waitpid(pid, NULL, 0);
        for (uint64_t until = soon(); dml_clock_now_us() < until; dml_clock_sleep_us(1000)) {
            pthread_mutex_lock(&t.m.lock);
            bool gone = !t.m.sessions[2];
            pthread_mutex_unlock(&t.m.lock);
            if (gone)
                break;
        }
    }
    team_end(&t);
}

/* A process that was stopped takes no more bytes: who has much to send to it can end all the same.
 */
static void test_stopped(void)
{
    struct team t = {.size = 3, .run_id = 1};
    struct dml_err err = {0};
    (void)master_start(&t.m, "127.0.0.1:0", "", 60 * SECOND, &err);
    (void)dml_server_comm_new(t.m.server, t.run_id, t.size, &t.c[0]);
    tap_ok(team_seat(&t, 1), "a worker");
    pid_t pid = start_child(&t, "2");
    tap_ok(hear_child(&t) > 0, "and a process");
    (void)kill(pid, SIGSTOP);
    struct dml_buf *body = pattern(LEN, 1);
    for (uint64_t i = 0; i < 3; i++)
        (void)send_body(t.c[1], 2, i, body);
    dml_clock_sleep_us(100000); /* the socket is full by then, most likely */
    struct dml_comm_stats stats;
    dml_comm_stats(t.c[1], &stats);
    tap_ok(stats.sending_us > 0, "has been sending for %.3f s", (double)stats.sending_us / 1e6);
    uint64_t start_us = dml_clock_now_us();
    team_dismiss(&t, 1);
    tap_note("freed in %.3f s", (double)(dml_clock_now_us() - start_us) / 1e6);
    tap_ok(becomes_sole(body), "it ends, and what it could not send is let go");
    (void)dml_buf_unref(body);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    team_end(&t);
}

/* ------------------------------------------------------------------ bad addresses */

#define RETRY_US (SECOND / 4) /* a worker that was called in vain is not called again so soon */

/* A worker for the rank n that says it can be reached at that address. */
static bool seat_at(struct team *t, uint32_t n, const char *listen, const char *address)
{
    char name[64];
    snprintf(name, sizeof(name), "127.0.0.1:%u", dml_server_port(t->m.server));
    struct dml_join_options o = {.master = name,
                                 .heartbeat_us = SECOND,
                                 .health = health,
                                 .peer_listen = listen,
                                 .peer_address = address,
                                 .peer_connect_us = SECOND / 2};
    struct dml_hello hello = hello_of(n);
    struct dml_err err = {0};
    if (dml_join_new(&o, &t->joins[n], &err) < 0 ||
        dml_join_connect(t->joins[n], &hello, soon(), &err) < 0) {
        tap_note("%s", err.text);
        return false;
    }
    return team_seat(t, n);
}

/* A socket on a port of 127.0.0.1 that nobody else can take. */
static int silent_port(bool listens, char *ret_name, size_t len)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t addr_len = sizeof(addr);
    if (bind(fd, (struct sockaddr *)&addr, addr_len) < 0 || (listens && listen(fd, 8) < 0) ||
        getsockname(fd, (struct sockaddr *)&addr, &addr_len) < 0)
        tap_note("no port: %s", strerror(errno));
    snprintf(ret_name, len, "127.0.0.1:%u", ntohs(addr.sin_port));
    return fd;
}

static void unreachable(struct team *t, uint32_t k, const char *address, const char *reason)
{
    char why[256], want[128];
    struct dml_buf *body = pattern(1 << 20, 1);
    snprintf(want, sizeof(want), "Rank %u at %s cannot be reached", k, address);
    uint64_t until = soon(), now = dml_clock_now_us(), well_us = now; /* before it failed */
    (void)send_body(t->c[1], k, 1, body);
    while (!strstr(dml_comm_why(t->c[1], k, why, sizeof(why)), want) && now < until) {
        well_us = now;
        dml_clock_sleep_us(1000);
        now = dml_clock_now_us();
    }
    tap_str(next(t->c[1], k), strerror(EPIPE), "nothing comes from where nothing can be sent");
    tap_ok(!dml_comm_alive(t->c[1], k), "it does not count as alive");
    tap_has(why, want, want);
    tap_has(why, reason, reason);
    int r = send_body(t->c[1], k, 2, body);
    bool late = dml_clock_now_us() >= well_us + RETRY_US;
    tap_ok(r == -EPIPE || (r == 0 && late), "nor is it called again at once (%d%s)", r,
           late ? ", late" : "");
    tap_ok(becomes_sole(body), "what was to be sent is let go");
    (void)dml_buf_unref(body);
}

static void test_unreachable(void)
{
    struct team t = {.size = 5, .run_id = 1};
    struct dml_err err = {0};
    char refused_at[64], silent_at[64];
    int refusing = silent_port(false, refused_at, sizeof(refused_at)),
        silent = silent_port(true, silent_at, sizeof(silent_at));
    (void)master_start(&t.m, "127.0.0.1:0", "", 60 * SECOND, &err);
    (void)dml_server_comm_new(t.m.server, t.run_id, t.size, &t.c[0]);
    tap_ok(seat_at(&t, 1, "127.0.0.1:0", ""), "a worker");
    char why[256];
    tap_int(send_body(t.c[1], 2, 1, NULL), -EPIPE, "who was never there cannot be sent to");
    tap_str(dml_comm_why(t.c[1], 2, why, sizeof(why)), "Rank 2 has not taken part in the run yet.",
            "and why");
    tap_ok(seat_at(&t, 2, "127.0.0.1:0", refused_at), "one at an address where nobody listens");
    tap_ok(seat_at(&t, 3, "127.0.0.1:0", silent_at), "one where nobody answers");
    tap_ok(seat_at(&t, 4, "", ""), "one that does not listen");
    tap_ok(team_sees(&t, 1, 2) && team_sees(&t, 1, 3) && team_sees(&t, 1, 4), "all are told of");
    unreachable(&t, 2, refused_at, "Connection refused");
    unreachable(&t, 3, silent_at, "");
    tap_int(send_body(t.c[1], 4, 1, NULL), -EPIPE, "who does not listen cannot be sent to");
    tap_str(dml_comm_why(t.c[1], 4, why, sizeof(why)),
            "Rank 4 does not listen for other workers: its key peer-listen is empty.", "and why");
    tap_int(send_body(t.c[4], 1, 9, NULL), 0, "but can send");
    tap_str(next(t.c[1], 4), "message 4 9", "and is heard");
    team_end(&t);
    (void)close(refusing);
    (void)close(silent);

    struct dml_join *join = NULL;
    struct dml_join_options o = {.master = "127.0.0.1", .peer_listen = "127.0.0.1:0"};
    static const char *const bad[] = {"a b", "unix:/run/x", "pi:99999"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        o.peer_address = bad[i];
        tap_int(dml_join_new(&o, &join, &err), -EINVAL, bad[i]);
        tap_has(err.text, bad[i], "is no address for others");
    }
    o.peer_address = NULL;
    tap_int(dml_join_new(&o, &join, &err), 0, "a worker listens");
    char taken[64];
    snprintf(taken, sizeof(taken), "127.0.0.1:%u", dml_join_peer_port(join));
    o.peer_listen = taken;
    struct dml_join *other = NULL;
    tap_int(dml_join_new(&o, &other, &err), -EADDRINUSE, "another on the same port does not");
    tap_has(err.text, taken, "and says which");
    (void)dml_join_free(join);
}

/* ------------------------------------------------------------------ a cut cable, and its end */

/* Passes one port's connections on to another, until cut(). */
struct relay {
    int fd;
    uint16_t to;
    pthread_t thread;
    atomic_bool quit, cut;
    char name[64];
};

static void pass(struct pollfd *a, int to, bool *io_open)
{
    static _Thread_local char buf[1 << 16];
    if (!(a->revents & (POLLIN | POLLHUP)))
        return;
    ssize_t n = read(a->fd, buf, sizeof(buf)), done = 0, w = 1;
    while (done < n && (w = write(to, buf + done, (size_t)(n - done))) > 0)
        done += w;
    if (n <= 0 || w <= 0)
        *io_open = false;
}

static void *relay_run(void *arg)
{
    enum { N = 8 };
    struct relay *r = arg;
    int in[N], out[N];
    unsigned n = 0;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(r->to)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (!atomic_load(&r->quit)) {
        struct pollfd fds[1 + 2 * N] = {{.fd = r->fd, .events = POLLIN}};
        for (unsigned i = 0; i < n; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = in[i], .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = out[i], .events = POLLIN};
        }
        (void)poll(fds, 1 + 2 * n, 10);
        bool cut = atomic_exchange(&r->cut, false);
        for (unsigned i = 0; i < n;) {
            bool open = !cut;
            if (open)
                pass(&fds[1 + 2 * i], out[i], &open);
            if (open)
                pass(&fds[2 + 2 * i], in[i], &open);
            if (open) {
                i++;
                continue;
            }
            (void)close(in[i]);
            (void)close(out[i]);
            n--;
            in[i] = in[n], out[i] = out[n];
            fds[1 + 2 * i] = fds[1 + 2 * n], fds[2 + 2 * i] = fds[2 + 2 * n];
        }
        if ((fds[0].revents & POLLIN) && n < N) {
            in[n] = accept(r->fd, NULL, NULL);
            out[n] = socket(AF_INET, SOCK_STREAM, 0);
            (void)connect(out[n], (struct sockaddr *)&addr, sizeof(addr));
            n++;
        }
    }
    while (n) {
        n--;
        (void)close(in[n]);
        (void)close(out[n]);
    }
    return NULL;
}

/* Two workers that live, and a connection between them that breaks. */
static void test_cut(void)
{
    struct team t = {.size = 3, .run_id = 1};
    struct relay relay = {0};
    struct dml_err err = {0};
    relay.fd = silent_port(true, relay.name, sizeof(relay.name));
    (void)master_start(&t.m, "127.0.0.1:0", "", 60 * SECOND, &err);
    (void)dml_server_comm_new(t.m.server, t.run_id, t.size, &t.c[0]);
    tap_ok(seat_at(&t, 1, "127.0.0.1:0", "") && seat_at(&t, 2, "127.0.0.1:0", relay.name),
           "two workers, one behind a relay");
    relay.to = dml_join_peer_port(t.joins[2]);
    pthread_create(&relay.thread, NULL, relay_run, &relay);
    tap_ok(team_sees(&t, 1, 2) && team_sees(&t, 2, 1), "see each other");
    for (uint64_t i = 0; i < 3; i++) {
        char want[32];
        tap_int(send_body(t.c[1], 2, i, NULL) + send_body(t.c[2], 1, i, NULL), 0, "they send");
        snprintf(want, sizeof(want), "message 1 %u", (unsigned)i);
        tap_str(next(t.c[2], 1), want, "and are heard,");
        snprintf(want, sizeof(want), "message 2 %u", (unsigned)i);
        tap_str(next(t.c[1], 2), want, "both ways");
        atomic_store(&relay.cut, true);
        tap_str(next(t.c[1], 2), strerror(EPIPE), "a cut is told to the one");
        tap_str(next(t.c[2], 1), strerror(EPIPE), "and to the other");
        tap_ok(dml_comm_alive(t.c[1], 2) && dml_comm_alive(t.c[2], 1), "once");
    }
    /* Who does not ask to receive hears of it when it sends. */
    tap_int(send_body(t.c[1], 2, 7, NULL), 0, "one of them sends");
    tap_str(next(t.c[2], DML_COMM_ANY), "message 1 7", "the other hears");
    atomic_store(&relay.cut, true);
    for (uint64_t until = soon(); dml_comm_alive(t.c[1], 2) && dml_clock_now_us() < until;)
        dml_clock_sleep_us(1000);
    char why[256];
    tap_has(dml_comm_why(t.c[1], 2, why, sizeof(why)), "broke", why);
    tap_int(send_body(t.c[1], 2, 8, NULL), -EPIPE, "a cut is told to the next send");
    tap_int(send_body(t.c[1], 2, 9, NULL), 0, "once");
    tap_str(next(t.c[2], DML_COMM_ANY), "message 1 9", "then all is well");
    team_end(&t);
    atomic_store(&relay.quit, true);
    pthread_join(relay.thread, NULL);
    (void)close(relay.fd);
}

/* ------------------------------------------------------------------ ends */

static void *cancel(void *arg)
{
    dml_clock_sleep_us(20000);
    dml_comm_cancel(arg);
    return NULL;
}

static void test_ends(void)
{
    struct team t;
    tap_ok(team_start(&t, 4), "three workers");
    struct dml_buf *body = pattern(LEN, 1);
    for (uint64_t i = 0; i < 4; i++)
        (void)send_body(t.c[1], 2, i, body);
    pthread_t thread;
    pthread_create(&thread, NULL, cancel, t.c[1]);
    tap_str(next(t.c[1], 2), strerror(ECANCELED), "a cancelled comm receives nothing more");
    pthread_join(thread, NULL);
    tap_int(send_body(t.c[1], 2, 9, NULL), -ECANCELED, "nor sends");
    tap_ok(!hear_out(t.c[2], 1), "the others hear nothing that is not whole");
    tap_ok(becomes_sole(body), "what was queued is let go");

    /* In order: what was said is heard, then it is gone. */
    (void)send_body(t.c[3], 2, 5, body);
    t.c[3] = dml_comm_free(t.c[3]);
    (void)dml_join_ended(t.joins[3], t.run_id, 0, "");
    tap_str(next(t.c[2], 3), "message 3 5", "the last word of one that leaves is heard");
    tap_str(next(t.c[2], 3), strerror(EPIPE), "then it is gone");
    tap_int(send_until_epipe(t.c[2], 3), -EPIPE, "and not sent to any more");
    tap_ok(becomes_sole(body), "nothing holds the body");

    /* The master stops the run in the middle of everything; the next begins. */
    for (uint64_t i = 0; i < 4; i++)
        (void)send_body(t.c[2], 1, i, body);
    dml_server_comm_stop(t.c[0]);
    /* Rank 1 was cancelled: that its end of the stream is gone may be heard before. */
    const char *heard = next(t.c[2], 1);
    for (int i = 0; i < 10000 && !strcmp(heard, strerror(EPIPE)); i++) {
        dml_clock_sleep_us(1000);
        heard = next(t.c[2], 1);
    }
    tap_str(heard, strerror(ECANCELED), "a stop ends everything");
    t.c[0] = dml_comm_free(t.c[0]);
    t.c[1] = dml_comm_free(t.c[1]);
    t.c[2] = dml_comm_free(t.c[2]);
    tap_ok(becomes_sole(body), "and what was queued");
    t.run_id++;
    (void)dml_server_comm_new(t.m.server, t.run_id, t.size, &t.c[0]);
    tap_ok(team_seat(&t, 1) && team_seat(&t, 2) && team_seat(&t, 3), "the next run");
    tap_ok(team_sees(&t, 1, 2) && team_sees(&t, 2, 1), "of the same workers");
    struct dml_comm_msg none;
    tap_int(dml_comm_recv(t.c[1], DML_COMM_ANY, dml_clock_now_us() + SECOND / 20, &none),
            -ETIMEDOUT, "has nothing of the one before");
    tap_int(send_body(t.c[2], 1, 77, NULL), 0, "and messages of its own");
    tap_str(next(t.c[1], 2), "message 2 77", "which are heard");

    /* Freed with much that nobody reads. */
    for (uint64_t i = 0; i < 4; i++)
        (void)send_body(t.c[2], 1, i, body);
    team_end(&t);
    tap_ok(becomes_sole(body), "an end in the middle of much to send leaves nothing behind");
    (void)dml_buf_unref(body);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return child(argv[1], argv[2]);
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    (void)signal(SIGPIPE, SIG_IGN); /* the relay's */
    test_kill();
    test_stopped();
    test_unreachable();
    test_cut();
    test_ends();
    return tap_done();
}
