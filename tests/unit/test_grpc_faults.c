/*
 * Faults between a master and workers: what everybody hears when somebody goes, is silent, is slow
 * or is told to stop.
 */
#include "tests/unit/grpc_cluster.h"

/* A worker goes in the middle of a large transfer, in either direction. */
static void test_loss(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    atomic_bool interrupt = false;
    struct dml_join *a = worker(&m, 1, NULL), *b = worker(&m, 2, &interrupt);
    struct dml_comm *comm = NULL;
    (void)dml_server_comm_new(m.server, 5, 3, &comm);
    (void)attach(&m, comm, 1, 1, 5);
    (void)attach(&m, comm, 2, 2, 5);
    (void)next(comm, 1);
    (void)next(comm, 2);

    struct dml_run_order order;
    struct dml_comm *ca = NULL, *cb = NULL;
    tap_int(dml_join_wait(a, soon(), &order), 0, "the order arrives");
    tap_str(order.testcase, "[testcase]\nname = a\n", "with the test case");
    tap_str(order.model, "input 3\n", "and the model");
    tap_int(order.rank, 1, "and the rank");
    (void)dml_join_comm(a, &order, &ca);
    dml_run_order_done(&order);
    (void)dml_join_wait(b, soon(), &order);
    (void)dml_join_comm(b, &order, &cb);
    dml_run_order_done(&order);

    struct dml_buf *body = pattern(64u << 20, 3);
    tap_int(dml_comm_send(ca, 0, &(struct dml_comm_msg){.kind = PING, .seq = 1}), 0, "one says a");
    tap_str(next(comm, 1), "message 1 1", "word");
    struct dml_comm_msg large = {.kind = PING, .seq = 2, .body = body};
    tap_int(dml_comm_send(comm, 1, &large), 0, "the master sends it 64 MiB");
    tap_int(dml_comm_send(ca, 0, &large), 0, "and it sends the master 64 MiB");
    dml_join_cancel(a);
    tap_ok(atomic_load(&ca->stopped), "cancelling shows in the comm");
    tap_str(next(ca, 0), strerror(ECANCELED), "and in its calls");
    ca = dml_comm_free(ca);
    a = dml_join_free(a);
    const char *what = next(comm, 1);
    if (!strcmp(what, "message 1 2")) /* it was quick */
        what = next(comm, 1);
    tap_str(what, "lost 1 0", "a worker that goes in between is lost, in band");
    tap_int(dml_comm_send(comm, 1, &large), -EPIPE, "nothing can be sent to it");
    tap_ok(becomes_sole(body), "what was not sent is let go");
    tap_ok(wait_for(&m, &m.n_left, 1), "the program is told");

    tap_ok(dml_comm_alive(comm, 2), "the other goes on");
    tap_int(dml_comm_send(cb, 0, &(struct dml_comm_msg){.kind = PING, .seq = 4}), 0, "and sends");
    tap_str(next(comm, 2), "message 2 4", "and is heard");

    a = worker(&m, 1, NULL);
    tap_int(attach(&m, comm, 1, 1, 5), 0, "a worker that came back gets the rank again");
    tap_str(next(comm, 1), "joined 1 0", "in band");
    tap_int(dml_join_wait(a, soon(), &order), 0, "and the order");
    dml_run_order_done(&order);

    tap_ok(!atomic_load(&interrupt), "the other worker was never interrupted");
    pthread_mutex_lock(&m.lock);
    dml_session_close(m.sessions[2], "Too hot.");
    pthread_mutex_unlock(&m.lock);
    tap_str(next(cb, 0), strerror(EPIPE), "a worker that is hung up on notices");
    tap_ok(atomic_load(&interrupt) && atomic_load(&cb->stopped), "its trainer too");
    cb = dml_comm_free(cb);
    tap_int(dml_join_wait(b, soon(), &order), -EPIPE, "it has no connection");
    tap_ok(wait_for(&m, &m.n_left, 2), "it has left");
    tap_str(m.left_why, "Too hot.", "for the reason given");
    struct dml_hello hello = hello_of(2);
    tap_int(dml_join_connect(b, &hello, soon(), &err), 0, "it may connect again");

    comm = dml_comm_free(comm);
    tap_int(dml_join_ended(a, 5, -EINVAL, "no such model"), 0, "ending a run that is over");
    tap_ok(wait_for(&m, &m.n_ended, 1), "is heard");
    tap_str(m.ended_text, "no such model", "with its sentence");
    (void)dml_join_free(a);
    master_stop(&m);
    tap_int(dml_join_wait(b, soon(), &order), -EPIPE, "the master's end is noticed");
    (void)dml_join_free(b);
    (void)dml_buf_unref(body);
}

static void test_silence(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 2 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *join = join_to(&m, NULL, false);
    struct dml_hello hello = hello_of(3);
    tap_int(dml_join_connect(join, &hello, soon(), &err), 0, "a worker that beats once");
    tap_ok(wait_for(&m, &m.n_left, 1), "is lost after the timeout");
    tap_has(m.left_why, "No heartbeat for 2.0 s", "for that reason");
    struct dml_run_order order;
    tap_int(dml_join_wait(join, soon(), &order), -EPIPE, "and knows it");
    (void)dml_join_free(join);
    master_stop(&m);
}

/* A master that stands still for longer than the timeout finds the beats of that time unread. */
static void test_stall(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 2 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *a = worker(&m, 1, NULL), *b = worker(&m, 2, NULL);
    tap_ok(wait_for(&m, &m.n_beats, 4), "two workers that beat");
    pthread_mutex_lock(&m.lock);
    m.stall_us = 3 * SECOND;
    unsigned n = m.n_beats + 160; /* those of the 3 s, and of a second more */
    pthread_mutex_unlock(&m.lock);
    for (uint64_t until = soon(); count(&m, &m.n_beats) < n && dml_clock_now_us() < until;)
        if (count(&m, &m.n_left) > 0)
            break;
        else
            dml_clock_sleep_us(1000);
    tap_int(count(&m, &m.n_left), 0, "are not lost when the master is late");
    tap_ok(count(&m, &m.n_beats) >= n, "and go on beating");
    (void)dml_join_free(a);
    (void)dml_join_free(b);
    master_stop(&m);
}

/* More unread bytes than the bound: the stream pauses, and goes on when they are read. */
static void test_backpressure(void)
{
    enum { N = 12, LEN = 16 << 20 };
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *join = worker(&m, 1, NULL);
    struct dml_comm *comm = NULL, *wc = NULL;
    (void)dml_server_comm_new(m.server, 9, 2, &comm);
    (void)attach(&m, comm, 1, 1, 9);
    (void)next(comm, 1);
    struct dml_run_order order;
    (void)dml_join_wait(join, soon(), &order);
    (void)dml_join_comm(join, &order, &wc);
    dml_run_order_done(&order);
    struct dml_buf *body = pattern(LEN, 1);
    for (unsigned i = 0; i < N; i++) {
        struct dml_comm_msg msg = {.kind = PING, .seq = i, .body = body};
        if (dml_comm_send(comm, 1, &msg) < 0 || dml_comm_send(wc, 0, &msg) < 0)
            tap_note("send failed");
    }
    dml_clock_sleep_us(SECOND / 5); /* lets it run full; the outcome does not depend on it */
    tap_ok(!dml_buf_is_sole(body), "not everything was taken from the sender");
    unsigned down = 0, up = 0;
    for (unsigned i = 0; i < N; i++) {
        struct dml_comm_msg msg;
        if (dml_comm_recv(wc, 0, soon(), &msg) < 0)
            break;
        down += msg.seq == i && msg.body->len == LEN && !memcmp(msg.body->data, body->data, LEN);
        (void)dml_buf_unref(msg.body);
    }
    for (unsigned i = 0; i < N; i++) {
        struct dml_comm_msg msg;
        if (dml_comm_recv(comm, 1, soon(), &msg) < 0)
            break;
        up += msg.seq == i && msg.body->len == LEN && !memcmp(msg.body->data, body->data, LEN);
        (void)dml_buf_unref(msg.body);
    }
    tap_int(down, N, "all of it reaches the worker");
    tap_int(up, N, "and the master");
    tap_ok(becomes_sole(body), "at last the sender has its buffer back");
    (void)dml_buf_unref(body);
    (void)dml_comm_free(wc);
    (void)dml_comm_free(comm);
    (void)dml_join_free(join);
    master_stop(&m);
}

/* A body that is longer than anybody of the run has reason to send. */
static void test_long_body(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *join = worker(&m, 1, NULL);
    struct dml_comm *comm = NULL, *wc = NULL;
    (void)dml_server_comm_new(m.server, 9, 2, &comm);
    dml_server_comm_limit(comm, 1 << 20);
    (void)attach(&m, comm, 1, 1, 9);
    (void)next(comm, 1);
    struct dml_run_order order;
    (void)dml_join_wait(join, soon(), &order);
    (void)dml_join_comm(join, &order, &wc);
    dml_run_order_done(&order);
    struct dml_comm_msg msg = {.kind = PING, .seq = 1, .body = dml_buf_new(1 << 20)};
    memset(msg.body->data, 0, msg.body->len);
    tap_int(dml_comm_send(wc, 0, &msg), 0, "a body as long as is allowed");
    tap_str(next(comm, 1), "message 1 1", "arrives");
    (void)dml_buf_unref(msg.body);
    msg.body = dml_buf_new((1 << 20) + 1);
    memset(msg.body->data, 0, msg.body->len);
    /* Refused by its header: the master may hang up before all of it is queued. */
    int r = dml_comm_send(wc, 0, &msg);
    tap_ok(r == 0 || r == -EPIPE || r == -ECANCELED, "one that is longer (%d)", r);
    tap_str(next(comm, 1), "lost 1 0", "is the end of its worker's part");
    tap_ok(wait_for(&m, &m.n_left, 1), "and of its connection");
    (void)dml_buf_unref(msg.body);
    (void)dml_comm_free(wc);
    (void)dml_comm_free(comm);
    (void)dml_join_free(join);
    master_stop(&m);
}

/* The run ends before the worker has looked for its order: it must not count as busy for ever. */
static void test_taken_back(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *join = worker(&m, 1, NULL);
    struct dml_comm *comm = NULL;
    (void)dml_server_comm_new(m.server, 9, 2, &comm);
    tap_int(attach(&m, comm, 1, 1, 9), 0, "an order that nobody looks for");
    (void)dml_comm_free(comm);
    tap_ok(wait_for(&m, &m.n_ended, 1), "and is taken back: the master hears that it has ended");
    tap_int(m.ended_r, -ECANCELED, "cancelled");
    struct dml_run_order order;
    tap_int(dml_join_wait(join, dml_clock_now_us(), &order), -ETIMEDOUT, "it is not handed out");
    (void)dml_server_comm_new(m.server, 10, 2, &comm);
    tap_int(attach(&m, comm, 1, 1, 10), 0, "the next one");
    tap_int(dml_join_wait(join, soon(), &order), 0, "is");
    tap_int((int)order.run_id, 10, "with its own number");
    dml_run_order_done(&order);
    (void)dml_comm_free(comm);
    (void)dml_join_free(join);
    master_stop(&m);
}

static void *cancel_comm(void *arg)
{
    dml_comm_cancel(arg);
    return NULL;
}

static void *cancel_join(void *arg)
{
    dml_join_cancel(arg);
    return NULL;
}

static void test_cancel(void)
{
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *join = worker(&m, 1, NULL);
    struct dml_comm *comm = NULL;
    (void)dml_server_comm_new(m.server, 1, 2, &comm);
    (void)attach(&m, comm, 1, 1, 1);
    (void)next(comm, 1);
    pthread_t t;
    pthread_create(&t, NULL, cancel_comm, comm);
    struct dml_comm_msg msg;
    tap_int(dml_comm_recv(comm, 1, DML_CLOCK_NEVER, &msg), -ECANCELED, "a waiting master is woken");
    pthread_join(t, NULL);
    tap_ok(atomic_load(&comm->stopped), "the flag says so");
    (void)dml_comm_free(comm);

    struct dml_run_order order;
    pthread_create(&t, NULL, cancel_join, join);
    int r;
    while ((r = dml_join_wait(join, DML_CLOCK_NEVER, &order)) == 0)
        dml_run_order_done(&order);
    tap_int(r, -ECANCELED, "a waiting worker is woken");
    pthread_join(t, NULL);
    struct dml_hello hello = hello_of(1);
    tap_int(dml_join_connect(join, &hello, soon(), &err), -ECANCELED, "and does not connect again");
    (void)dml_join_free(join);

    /* A port that takes connections and never answers. */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof(addr);
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        tap_note("no silent port: %s", strerror(errno));
    char name[64];
    snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(addr.sin_port));
    struct dml_join_options o = {.master = name, .heartbeat_us = SECOND};
    tap_int(dml_join_new(&o, &join, &err), 0, "a worker that dials a silent port");
    tap_int(dml_join_connect(join, &hello, dml_clock_now_us() + SECOND / 10, &err), -EHOSTDOWN,
            "waits until its deadline");
    tap_has(err.text, "the time is up", "and says so");
    (void)dml_join_free(join);
    (void)close(fd);

    join = worker(&m, 2, NULL);
    (void)dml_server_comm_new(m.server, 2, 2, &comm);
    (void)attach(&m, comm, 2, 1, 2);
    dml_clock_sleep_us(SECOND / 10); /* most likely the order is there by now */
    dml_join_cancel(join);
    tap_int(dml_join_wait(join, soon(), &order), -ECANCELED,
            "an order that comes just then is not obeyed any more");
    (void)dml_join_free(join);
    (void)dml_comm_free(comm);
    master_stop(&m);
}

int main(void)
{
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    test_loss();
    test_silence();
    test_stall();
    test_backpressure();
    test_long_body();
    test_taken_back();
    test_cancel();
    return tap_done();
}
