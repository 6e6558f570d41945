/*
 * Hello, refusal, orders and messages between a master and workers: what is said, who is refused,
 * what arrives.
 */
#include "tests/unit/grpc_cluster.h"

static void test_refusals(void)
{
    struct master m;
    struct dml_err err = {0};
    tap_int(master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err), 0, "a server starts");
    tap_ok(dml_server_port(m.server) != 0, "on a port of its own choice");

    struct dml_join *join = join_to(&m, NULL, true);
    struct dml_hello hello = hello_of(1);
    hello.protocol = DML_WIRE_PROTOCOL + 1;
    tap_int(dml_join_connect(join, &hello, soon(), &err), -EPROTO, "another protocol is refused");
    char want[64];
    snprintf(want, sizeof(want), "speaks protocol %d, the master %d", DML_WIRE_PROTOCOL + 1,
             DML_WIRE_PROTOCOL);
    tap_has(err.text, want, "with a sentence here");
    tap_ok(wait_for(&m, &m.n_refused, 1), "and there");
    tap_has(m.refused_why, want, "the same");
    tap_str(m.refused_id, "worker-1", "with the name of the worker");
    tap_int(m.n_joined, 0, "the program is not asked");

    hello = hello_of(1);
    snprintf(hello.worker_id, sizeof(hello.worker_id), "a/b 1");
    tap_int(dml_join_connect(join, &hello, soon(), &err), -EPROTO, "an impossible id is refused");
    tap_has(err.text, "hello cannot be understood", "with a sentence");
    tap_ok(wait_for(&m, &m.n_refused, 2), "and reported");

    hello = hello_of(1);
    tap_int(dml_join_connect(join, &hello, soon(), &err), 0, "the right hello is welcome");
    tap_ok(wait_for(&m, &m.n_joined, 1), "the program is asked");
    pthread_mutex_lock(&m.lock);
    tap_str(dml_session_hello(m.sessions[1])->worker_id, "worker-1", "and told who it is");
    tap_has(dml_session_peer(m.sessions[1]), "127.0.0.1:", "and where from");
    pthread_mutex_unlock(&m.lock);
    tap_ok(wait_for(&m, &m.n_beats, 3), "heartbeats come");
    tap_near(m.temperature, 48.5, 0, "with the worker's health");

    struct dml_join *twin = join_to(&m, NULL, true);
    tap_int(dml_join_connect(twin, &hello, soon(), &err), -EPROTO, "the program can refuse");
    tap_str(err.text, "The name worker-1 is taken.", "with its own sentence");
    twin = dml_join_free(twin);
    tap_int(m.n_left, 0, "whoever was refused did not leave");

    struct dml_run_order order;
    tap_int(dml_join_wait(join, dml_clock_now_us() + 1000, &order), -ETIMEDOUT, "no order yet");
    join = dml_join_free(join);
    tap_ok(wait_for(&m, &m.n_left, 1), "a worker that goes has left");
    tap_str(m.left_why, "The worker said goodbye.", "in good order");

    /* Nobody listens on the port once the server is gone. */
    join = join_to(&m, NULL, true);
    master_stop(&m);
    tap_int(dml_join_connect(join, &hello, soon(), &err), -EHOSTDOWN, "nobody is there");
    tap_has(err.text, "Connection refused", "and the sentence says why");
    (void)dml_join_free(join);
}

static void test_messages(void)
{
    enum { R = 4 };
    static const size_t sizes[] = {0, 1, (1u << 20) - 1, 1u << 20, 10u << 20};
    struct master m;
    struct dml_err err = {0};
    if (master_start(&m, "127.0.0.1:0", "", 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    struct dml_join *joins[R];
    pthread_t threads[R];
    for (unsigned n = 1; n < R; n++) {
        joins[n] = worker(&m, n, NULL);
        pthread_create(&threads[n], NULL, echo, joins[n]);
    }
    struct dml_comm *comm = NULL;
    tap_int(dml_server_comm_new(m.server, 77, R, &comm), 0, "a run begins");
    tap_int(dml_comm_bcast(comm, &(struct dml_comm_msg){.kind = PING}), 0, "with nobody in it");
    for (unsigned n = 1; n < R; n++) {
        char want[16];
        snprintf(want, sizeof(want), "joined %u 0", n);
        tap_int(attach(&m, comm, n, n, 77), 0, "a worker gets a rank");
        tap_str(next(comm, n), want, "and has joined");
    }
    tap_int(attach(&m, comm, 1, 2, 77), -EBUSY, "a taken worker gets no other rank");

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct dml_buf *body = pattern(sizes[i], (unsigned)i);
        struct dml_comm_msg ping = {
            .kind = PING, .seq = i, .n_meta = 2, .meta = {0.1, -1e300}, .body = body};
        tap_int(dml_comm_bcast(comm, &ping), R - 1, "one buffer goes to all");
        unsigned good = 0;
        for (unsigned n = 1; n < R; n++) {
            struct dml_comm_msg pong;
            if (dml_comm_recv(comm, DML_COMM_ANY, soon(), &pong) < 0)
                break;
            good += pong.kind == PONG && pong.seq == i && pong.n_meta == 2 && pong.meta[0] == 0.1 &&
                    pong.meta[1] == -1e300 && pong.body && pong.body->len == sizes[i] &&
                    (sizes[i] == 0 || !memcmp(pong.body->data, body->data, sizes[i]));
            (void)dml_buf_unref(pong.body);
        }
        char what[64];
        snprintf(what, sizeof(what), "and comes back from all, %zu bytes each", sizes[i]);
        tap_int(good, R - 1, what);
        tap_ok(becomes_sole(body), "then it is ours again");
        (void)dml_buf_unref(body);
    }
    struct dml_comm_msg none = {.kind = PING, .seq = 99}, pong;
    tap_int(dml_comm_send(comm, 1, &none), 0, "a message without a body");
    tap_int(dml_comm_recv(comm, 1, soon(), &pong), 0, "comes back");
    tap_ok(!pong.body && pong.n_meta == 0, "without one");
    struct dml_comm_stats stats;
    dml_comm_stats(comm, &stats);
    tap_ok(stats.sent_bytes > 3 * (12u << 20) && stats.received_bytes == stats.sent_bytes,
           "the statistics count what went both ways");

    tap_int(dml_comm_send(comm, 1, &(struct dml_comm_msg){.kind = END}), 0, "one is told to end");
    tap_str(next(comm, 1), "lost 1 0", "its going is told in band");
    tap_ok(wait_for(&m, &m.n_ended, 1), "and to the program");
    tap_int(m.ended_r, 0, "with its result");
    tap_ok(!dml_comm_alive(comm, 1), "the rank is free");
    tap_int(attach(&m, comm, 1, 1, 77), 0, "and can be given again");
    tap_str(next(comm, 1), "joined 1 0", "in band");
    tap_int(dml_comm_send(comm, 1, &none), 0, "a message to the new one");
    tap_str(next(comm, 1), "message 1 99", "is answered");

    dml_server_comm_stop(comm);
    tap_int(dml_comm_send(comm, 1, &none), -ECANCELED, "a stopped run sends nothing");
    tap_ok(wait_for(&m, &m.n_ended, 1 + R - 1), "its workers end");
    tap_int(m.ended_r, -ECANCELED, "their comm says so");
    tap_int(attach(&m, comm, 1, 1, 77), -ECANCELED, "nobody gets in any more");
    comm = dml_comm_free(comm);

    tap_int(dml_server_comm_new(m.server, 78, 2, &comm), 0, "another run");
    tap_int(attach(&m, comm, 2, 1, 78), 0, "with one of them");
    tap_str(next(comm, 1), "joined 1 0", "has one worker");
    tap_int(dml_comm_send(comm, 1, &none), 0, "that is sent to");
    tap_str(next(comm, 1), "message 1 99", "and answers");
    comm = dml_comm_free(comm);

    for (unsigned n = 1; n < R; n++) {
        dml_join_cancel(joins[n]);
        pthread_join(threads[n], NULL);
        (void)dml_join_free(joins[n]);
    }
    master_stop(&m);
}

int main(void)
{
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    test_refusals();
    test_messages();
    return tap_done();
}
