/*
 * Worker to worker: throughput of a ring of three workers, each sending to the next while it
 * receives from the one before, and latency of small messages between two; Peer streams against
 * plain TCP sockets between the same processes in the same run.
 *
 *     make bench-peer, or bench/bench_peer [ROUNDS]
 *
 * All processes are on this machine, so what is measured is what dml and gRPC cost, not a network.
 * Both ways take turns; printed are the median and the best of the rounds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/err.h"
#include "rpc/join.h"
#include "rpc/server.h"

extern char **environ;

enum { WORKERS = 3, ROUNDS_MAX = 50, PINGS = 1000, RESULT = DML_COMM_USER, DATA };

static const size_t sizes[] = {4u << 10, 64u << 10, 1u << 20, 16u << 20};
enum { N_SIZES = ARRAY_SIZE(sizes), N_FIGURES = 2 * (N_SIZES + 1) };

/* Bytes that each node sends in one measurement. */
static unsigned n_times(size_t size)
{
    size_t n = (128u << 20) / size;
    return n > 2000 ? 2000 : (unsigned)n;
}

struct node {
    struct dml_comm *comm;
    uint32_t next, before;
    int to, from; /* TCP */
    char *scratch;
};

static int give(struct node *n, uint32_t to, uint64_t seq, struct dml_buf *body)
{
    return dml_comm_send(n->comm, to,
                         &(struct dml_comm_msg){.kind = DATA, .seq = seq, .body = body});
}

static int take(struct node *n, uint32_t from, uint64_t *ret_seq)
{
    struct dml_comm_msg msg;
    int r = dml_comm_recv(n->comm, from, DML_CLOCK_NEVER, &msg);
    if (r == 0) {
        *ret_seq = msg.seq;
        (void)dml_buf_unref(msg.body);
    }
    return r;
}

/* Sends `len` bytes one way and receives as many the other, at once. */
static int exchange(int to, int from, char *buf, size_t len)
{
    for (size_t sent = 0, got = 0; sent < len || got < len;) {
        struct pollfd fds[] = {{.fd = sent < len ? to : -1, .events = POLLOUT},
                               {.fd = got < len ? from : -1, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            return -errno;
        ssize_t w = fds[0].revents ? write(to, buf, len - sent) : 0;
        ssize_t r = fds[1].revents ? read(from, buf + len, len - got) : 0;
        if ((fds[1].revents && r == 0) || ((w < 0 || r < 0) && errno != EAGAIN))
            return -EPIPE;
        sent += w > 0 ? (size_t)w : 0;
        got += r > 0 ? (size_t)r : 0;
    }
    return 0;
}

/* MB/s that each node sends. */
static int ring(struct node *n, size_t size, bool tcp, double *ret)
{
    struct dml_buf *body = dml_buf_new(size);
    if (!body)
        return -ENOMEM;
    memset(body->data, 1, size);
    uint64_t seq, start = 0;
    int r = 0;
    unsigned times = n_times(size), warm = 1 + times / 10;
    for (unsigned i = 0; r == 0 && i < warm + times; i++) {
        if (i == warm)
            start = dml_clock_now_us();
        if (tcp) {
            r = exchange(n->to, n->from, n->scratch, size);
        } else {
            r = give(n, n->next, i, body);
            if (r == 0)
                r = take(n, n->before, &seq);
        }
    }
    *ret = (double)size * times / (double)(dml_clock_now_us() - start);
    (void)dml_buf_unref(body);
    return r;
}

/* Microseconds from worker 1 to worker 2 and back, with 16 bytes; the third waits. */
static int ping(struct node *n, bool tcp, double *ret)
{
    char b[16] = "";
    uint64_t seq, start = dml_clock_now_us();
    int r = 0;
    *ret = 0;
    for (unsigned i = 0; r == 0 && i < PINGS && n->comm->rank < 3; i++) {
        bool first = n->comm->rank == 1;
        if (!tcp && first)
            r = give(n, 2, i, NULL) < 0 ? -EPIPE : take(n, 2, &seq);
        else if (!tcp)
            r = take(n, 1, &seq) < 0 ? -EPIPE : give(n, 1, i, NULL);
        else if (first)
            r = write(n->to, b, sizeof(b)) < 0 || read(n->to, b, sizeof(b)) <= 0 ? -EPIPE : 0;
        else
            r = read(n->from, b, sizeof(b)) <= 0 || write(n->from, b, sizeof(b)) < 0 ? -EPIPE : 0;
    }
    *ret = (double)(dml_clock_now_us() - start) / PINGS;
    return r;
}

static void set_blocking(int fd, bool blocking)
{
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

/* Each tells the one before where it listens. */
static int connect_tcp(struct node *n)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof(addr);
    uint64_t port = 0;
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0 ||
        give(n, n->before, ntohs(addr.sin_port), NULL) < 0 || take(n, n->next, &port) < 0)
        return -EIO;
    addr.sin_port = htons((uint16_t)port);
    n->to = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(n->to, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    n->from = accept(fd, NULL, NULL);
    (void)setsockopt(n->to, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(n->from, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    n->scratch = malloc(2 * sizes[N_SIZES - 1]);
    (void)close(fd);
    return n->from < 0 || !n->scratch ? -errno : 0;
}

static int measure(struct node *n, unsigned rounds)
{
    int r = connect_tcp(n);
    for (unsigned round = 0; r == 0 && round < rounds; round++) {
        struct dml_comm_msg msg = {.kind = RESULT, .n_meta = N_FIGURES};
        unsigned at = 0;
        for (unsigned i = 0; r == 0 && i < N_SIZES; i++) {
            set_blocking(n->to, false);
            set_blocking(n->from, false);
            for (unsigned tcp = 0; r == 0 && tcp < 2; tcp++)
                r = ring(n, sizes[i], tcp, &msg.meta[at++]);
        }
        set_blocking(n->to, true);
        set_blocking(n->from, true);
        for (unsigned tcp = 0; r == 0 && tcp < 2; tcp++)
            r = ping(n, tcp, &msg.meta[at++]);
        if (r == 0 && n->comm->rank == 1)
            r = dml_comm_send(n->comm, 0, &msg);
    }
    return r;
}

static int worker(const char *master, const char *id, unsigned rounds)
{
    struct dml_join_options o = {
        .master = master, .heartbeat_us = 1000000, .peer_listen = "127.0.0.1:0"};
    struct dml_hello hello = {.protocol = DML_WIRE_PROTOCOL, .cores = 1};
    snprintf(hello.worker_id, sizeof(hello.worker_id), "%s", id);
    _cleanup_(dml_join_freep) struct dml_join *join = NULL;
    struct dml_run_order order;
    struct node n = {0};
    struct dml_comm_msg go;
    if (dml_join_new(&o, &join, NULL) < 0 ||
        dml_join_connect(join, &hello, dml_clock_now_us() + 20000000, NULL) < 0 ||
        dml_join_wait(join, DML_CLOCK_NEVER, &order) < 0 ||
        dml_join_comm(join, &order, &n.comm) < 0 ||
        dml_comm_recv(n.comm, 0, DML_CLOCK_NEVER, &go) < 0)
        return 1;
    n.next = order.rank % WORKERS + 1;
    n.before = (order.rank + WORKERS - 2) % WORKERS + 1;
    int r = measure(&n, rounds);
    char why[256];
    if (r < 0)
        fprintf(stderr, "bench_peer: %s: %s; %s %s\n", id, strerror(-r),
                dml_comm_why(n.comm, n.next, why, sizeof(why) / 2),
                dml_comm_why(n.comm, n.before, why + sizeof(why) / 2, sizeof(why) / 2));
    else /* until the master has heard of everything */
        (void)dml_comm_recv(n.comm, 0, DML_CLOCK_NEVER, &go);
    (void)dml_comm_free(n.comm);
    (void)dml_join_ended(join, order.run_id, r, "");
    free(n.scratch);
    return r < 0;
}

/* ------------------------------------------------------------------ the master */

struct seats {
    struct dml_session *sessions[WORKERS];
    atomic_uint n;
};

static int joined(void *arg, struct dml_session *s, char *refusal, size_t refusal_len)
{
    struct seats *seats = arg;
    unsigned n = atomic_load(&seats->n);
    if (n == WORKERS) {
        snprintf(refusal, refusal_len, "All are here.");
        return -EBUSY;
    }
    seats->sessions[n] = dml_session_ref(s);
    atomic_store(&seats->n, n + 1);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(double (*figures)[ROUNDS_MAX], unsigned rounds)
{
    printf("%-22s %12s %12s %8s   (best)\n", "median", "peer stream", "plain TCP", "ratio");
    for (unsigned i = 0; i < N_FIGURES; i++)
        qsort(figures[i], rounds, sizeof(double), by_size);
    for (unsigned i = 0; i < N_FIGURES; i += 2) {
        bool is_ring = i < 2 * N_SIZES;
        const double *peer = figures[i], *tcp = figures[i + 1];
        unsigned mid = rounds / 2, best = is_ring ? rounds - 1 : 0;
        char what[32] = "there and back, 16 B";
        if (is_ring)
            snprintf(what, sizeof(what), "ring, %zu KiB", sizes[i / 2] >> 10);
        printf("%-22s %7.0f %-4s %7.0f %-4s %8.2f   (%.0f, %.0f)\n", what, peer[mid],
               is_ring ? "MB/s" : "us", tcp[mid], is_ring ? "MB/s" : "us", peer[mid] / tcp[mid],
               peer[best], tcp[best]);
    }
}

static int run(struct dml_server *server, struct seats *seats, unsigned rounds)
{
    static double figures[N_FIGURES][ROUNDS_MAX];
    _cleanup_(dml_comm_freep) struct dml_comm *comm = NULL;
    char nothing[] = "";
    for (uint64_t until = dml_clock_now_us() + 20000000; atomic_load(&seats->n) < WORKERS;) {
        dml_clock_sleep_us(1000);
        if (dml_clock_now_us() > until)
            return -ETIMEDOUT;
    }
    int r = dml_server_comm_new(server, 1, WORKERS + 1, &comm);
    for (uint32_t i = 0; r == 0 && i < WORKERS; i++) {
        struct dml_run_order order = {
            .run_id = 1, .rank = i + 1, .size = WORKERS + 1, .testcase = nothing, .model = nothing};
        r = dml_server_comm_attach(comm, seats->sessions[i], &order);
    }
    if (r == 0)
        (void)dml_comm_bcast(comm, &(struct dml_comm_msg){.kind = DATA});
    for (unsigned n = 0; r == 0 && n < rounds;) {
        struct dml_comm_msg msg;
        r = dml_comm_recv(comm, DML_COMM_ANY, DML_CLOCK_NEVER, &msg);
        if (r == 0 && msg.kind == DML_COMM_LOST)
            r = -EPIPE;
        if (r < 0 || msg.kind != RESULT)
            continue;
        for (unsigned i = 0; i < N_FIGURES; i++)
            figures[i][n] = msg.meta[i];
        n++;
    }
    if (r == 0)
        print(figures, rounds);
    return r;
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return worker(argv[1], argv[2], (unsigned)atoi(argv[3]));
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 5;
    if (rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "bench_peer: 1 to %d rounds\n", ROUNDS_MAX);
        return 64;
    }
    struct seats seats = {0};
    struct dml_err err = {0};
    struct dml_server *server = NULL;
    struct dml_server_options o = {.listen = "127.0.0.1:0", .beat_timeout_us = 60000000};
    struct dml_server_handlers h = {.joined = joined, .arg = &seats};
    pid_t pids[WORKERS];
    int r = dml_server_new(&o, &h, &server, &err);
    for (unsigned i = 0; r == 0 && i < WORKERS; i++) {
        char master[32], id[16], n[16];
        snprintf(master, sizeof(master), "127.0.0.1:%u", dml_server_port(server));
        snprintf(id, sizeof(id), "worker-%u", i);
        snprintf(n, sizeof(n), "%u", rounds);
        char self[] = "/proc/self/exe";
        char *args[] = {self, master, id, n, NULL};
        r = -posix_spawn(&pids[i], self, NULL, NULL, args, environ);
    }
    if (r == 0)
        r = run(server, &seats, rounds);
    for (unsigned i = 0; i < WORKERS; i++)
        (void)dml_session_unref(seats.sessions[i]);
    (void)dml_server_free(server);
    while (wait(NULL) > 0)
        ;
    if (r < 0)
        fprintf(stderr, "bench_peer: %s\n", err.text[0] ? err.text : strerror(-r));
    return r < 0;
}
