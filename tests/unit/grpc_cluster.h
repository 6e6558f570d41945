/*
 * A master and workers in one process, over loopback sockets; for the tests of rpc/.
 *
 * The master keeps the sessions by the number at the end of the worker's id and counts what it
 * hears; wait_for() waits for a count.
 */
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "rpc/control.h"
#include "rpc/join.h"
#include "rpc/server.h"
#include "tests/tap.h"

#define UNUSED __attribute__((unused))

enum { PING = DML_COMM_USER, PONG, END };

#define SECOND UINT64_C(1000000)

/* A generous bound for what is expected to happen; only a broken build ever waits so long. */
UNUSED static uint64_t soon(void)
{
    return dml_clock_now_us() + 60 * SECOND;
}

/* ------------------------------------------------------------------ the master's side */

struct master {
    struct dml_server *server;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct dml_session *sessions[8]; /* by the number at the end of the worker's id */
    unsigned n_joined, n_left, n_refused, n_ended, n_beats, n_watched;
    int ended_r;
    char ended_text[256], left_why[256], refused_why[256], refused_id[64];
    double temperature;
    uint64_t stall_us; /* how long the poller thread stands still at the next beat */
    struct dml_control_call *watch;
};

UNUSED static unsigned number(const struct dml_session *s)
{
    const char *id = dml_session_hello(s)->worker_id;
    return (unsigned)(id[strlen(id) - 1] - '0') % 8;
}

UNUSED static int joined(void *arg, struct dml_session *s, char *refusal, size_t refusal_len)
{
    struct master *m = arg;
    int r = 0;
    pthread_mutex_lock(&m->lock);
    if (m->sessions[number(s)]) {
        snprintf(refusal, refusal_len, "The name %s is taken.", dml_session_hello(s)->worker_id);
        r = -EEXIST;
    } else {
        m->sessions[number(s)] = dml_session_ref(s);
        m->n_joined++;
    }
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return r;
}

UNUSED static void left(void *arg, struct dml_session *s, const char *why)
{
    struct master *m = arg;
    pthread_mutex_lock(&m->lock);
    if (m->sessions[number(s)] == s)
        m->sessions[number(s)] = dml_session_unref(s);
    m->n_left++;
    snprintf(m->left_why, sizeof(m->left_why), "%s", why);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

UNUSED static void refused(void *arg, const char *id, const char *peer, const char *why)
{
    struct master *m = arg;
    pthread_mutex_lock(&m->lock);
    m->n_refused += peer[0] != '\0';
    snprintf(m->refused_id, sizeof(m->refused_id), "%s", id);
    snprintf(m->refused_why, sizeof(m->refused_why), "%s", why);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

UNUSED static void beat(void *arg, struct dml_session *s, const struct dml_health *health)
{
    struct master *m = arg;
    (void)s;
    pthread_mutex_lock(&m->lock);
    m->n_beats++;
    m->temperature = health->temperature_c;
    uint64_t stall_us = m->stall_us;
    m->stall_us = 0;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    dml_clock_sleep_us(stall_us);
}

UNUSED static void run_ended(void *arg, struct dml_session *s, uint64_t run_id, int r,
                             const char *text)
{
    struct master *m = arg;
    (void)s;
    (void)run_id;
    pthread_mutex_lock(&m->lock);
    m->n_ended++;
    m->ended_r = r;
    snprintf(m->ended_text, sizeof(m->ended_text), "%s", text);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

UNUSED static void control(void *arg, struct dml_control_call *call,
                           const struct dml_control_request *request)
{
    struct master *m = arg;
    struct dml_err err = {0};
    switch (request->command) {
    case DML_CONTROL_STATUS:
        (void)dml_control_reply(call, dml_control_is_local(call) ? "{\"local\":true}"
                                                                 : "{\"local\":false}");
        (void)dml_control_reply(call, "{\"n\":2}");
        dml_control_end(call, 0, NULL);
        break;
    case DML_CONTROL_RUN:
        dml_control_end(
            call,
            dml_err_at(&err, -EINVAL, request->file, 7, "\"%s\" is no test case.", request->text),
            &err);
        break;
    case DML_CONTROL_REPORT: { /* an object of 5 MiB */
        size_t len = 5u << 20;
        char *json = malloc(len + 1);
        memset(json, 'x', len);
        json[len] = '\0';
        (void)dml_control_reply(call, json);
        free(json);
        dml_control_end(call, 0, NULL);
        break;
    }
    case DML_CONTROL_WATCH:
        (void)dml_control_reply(call, "{\"watching\":true}");
        pthread_mutex_lock(&m->lock);
        m->watch = call;
        m->n_watched++;
        pthread_cond_broadcast(&m->changed);
        pthread_mutex_unlock(&m->lock);
        break;
    default:
        dml_control_end(call, -EPERM, NULL);
    }
}

UNUSED static int master_start(struct master *m, const char *listen, const char *socket,
                               uint64_t beat_timeout_us, struct dml_err *err)
{
    *m = (struct master){0};
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    struct dml_server_options o = {
        .listen = listen, .control_socket = socket, .beat_timeout_us = beat_timeout_us};
    struct dml_server_handlers h = {.joined = joined,
                                    .refused = refused,
                                    .left = left,
                                    .beat = beat,
                                    .run_ended = run_ended,
                                    .control = control,
                                    .arg = m};
    return dml_server_new(&o, &h, &m->server, err);
}

UNUSED static void master_stop(struct master *m)
{
    (void)dml_server_free(m->server);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
}

/* Waits until *counter has become n. */
UNUSED static bool wait_for(struct master *m, const unsigned *counter, unsigned n)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 60;
    int r = 0;
    pthread_mutex_lock(&m->lock);
    while (*counter < n && r == 0)
        r = pthread_cond_timedwait(&m->changed, &m->lock, &until);
    pthread_mutex_unlock(&m->lock);
    return r == 0;
}

UNUSED static unsigned count(struct master *m, const unsigned *counter)
{
    pthread_mutex_lock(&m->lock);
    unsigned n = *counter;
    pthread_mutex_unlock(&m->lock);
    return n;
}

/* ------------------------------------------------------------------ the worker's side */

UNUSED static void health(void *arg, struct dml_health *ret)
{
    (void)arg;
    *ret = (struct dml_health){.temperature_c = 48.5, .throttled = 0, .mhz = 1500, .rss_bytes = 1};
}

UNUSED static struct dml_hello hello_of(unsigned n)
{
    struct dml_hello h = {.protocol = DML_WIRE_PROTOCOL, .host = "test", .cores = 4, .gflops = 2};
    snprintf(h.worker_id, sizeof(h.worker_id), "worker-%u", n);
    snprintf(h.version, sizeof(h.version), "0.1");
    return h;
}

UNUSED static struct dml_join *join_to(const struct master *m, atomic_bool *interrupt, bool beats)
{
    char name[64];
    snprintf(name, sizeof(name), "127.0.0.1:%u", dml_server_port(m->server));
    struct dml_join_options o = {.master = name,
                                 .heartbeat_us = beats ? SECOND / 20 : 3600 * SECOND,
                                 .health = health,
                                 .peer_listen = "127.0.0.1:0",
                                 .interrupt = interrupt};
    struct dml_join *join = NULL;
    struct dml_err err = {0};
    if (dml_join_new(&o, &join, &err) < 0)
        tap_note("%s", err.text);
    return join;
}

/* A joined worker, number n. */
UNUSED static struct dml_join *worker(struct master *m, unsigned n, atomic_bool *interrupt)
{
    struct dml_join *join = join_to(m, interrupt, true);
    struct dml_hello hello = hello_of(n);
    struct dml_err err = {0};
    int r = dml_join_connect(join, &hello, soon(), &err);
    if (r < 0)
        tap_note("worker %u: %d %s", n, r, err.text);
    return join;
}

UNUSED static int attach(struct master *m, struct dml_comm *comm, unsigned n, uint32_t rank,
                         uint64_t run_id)
{
    char testcase[] = "[testcase]\nname = a\n", model[] = "input 3\n";
    struct dml_run_order order = {.run_id = run_id,
                                  .rank = rank,
                                  .size = comm->size,
                                  .slot = rank - 1,
                                  .testcase = testcase,
                                  .model = model};
    pthread_mutex_lock(&m->lock);
    struct dml_session *s = m->sessions[n] ? dml_session_ref(m->sessions[n]) : NULL;
    pthread_mutex_unlock(&m->lock);
    int r = s ? dml_server_comm_attach(comm, s, &order) : -ESRCH;
    (void)dml_session_unref(s);
    return r;
}

UNUSED static const char *next(struct dml_comm *c, uint32_t from)
{
    static char text[64];
    struct dml_comm_msg msg;
    int r = dml_comm_recv(c, from, soon(), &msg);
    if (r < 0) {
        snprintf(text, sizeof(text), "%s", strerror(-r));
        return text;
    }
    snprintf(text, sizeof(text), "%s %u %u",
             msg.kind == DML_COMM_JOINED ? "joined"
             : msg.kind == DML_COMM_LOST ? "lost"
                                         : "message",
             msg.from, (unsigned)msg.seq);
    (void)dml_buf_unref(msg.body);
    return text;
}

/* Takes part in runs: every PING comes back as a PONG, until the run ends. */
UNUSED static void *echo(void *arg)
{
    struct dml_join *join = arg;
    struct dml_run_order order;
    while (dml_join_wait(join, DML_CLOCK_NEVER, &order) == 0) {
        struct dml_comm *comm = NULL;
        int r = dml_join_comm(join, &order, &comm);
        struct dml_comm_msg msg;
        while (r == 0 && (r = dml_comm_recv(comm, 0, DML_CLOCK_NEVER, &msg)) == 0) {
            bool end = msg.kind == END;
            msg.kind = PONG;
            if (!end)
                r = dml_comm_send(comm, 0, &msg);
            (void)dml_buf_unref(msg.body);
            if (end)
                break;
        }
        (void)dml_comm_free(comm);
        (void)dml_join_ended(join, order.run_id, r, r ? strerror(-r) : "");
        dml_run_order_done(&order);
    }
    return NULL;
}

UNUSED static struct dml_buf *pattern(size_t len, unsigned seed)
{
    struct dml_buf *b = dml_buf_new(len);
    for (size_t i = 0; i < len; i++)
        b->data[i] = (unsigned char)((i * 2654435761u + seed) >> 7);
    return b;
}

/* Waits until nobody else holds the body: the network lets go of it a little after delivery. */
UNUSED static bool becomes_sole(const struct dml_buf *b)
{
    for (uint64_t until = soon(); dml_clock_now_us() < until; dml_clock_sleep_us(1000))
        if (dml_buf_is_sole(b))
            return true;
    return false;
}

/* Loopback is all that is needed, but some build machines have not even that. */
UNUSED static bool have_loopback(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return ok;
}
