/*
 * Sums round a ring: against a plain sum, with the same bits on every rank and every time, and with
 * as many bytes as the paper says. And what the group beneath puts aside, drops and refuses.
 */
#include "paradigm/collective.h"

#include <errno.h>
#include <pthread.h>

#include "base/err.h"
#include "base/rng.h"
#include "rpc/comm_local.h"
#include "rpc/inbox.h"
#include "tests/tap.h"

#define RANKS_MAX 8
#define TAG       1000

static const char model_text[] = "name m\ninput 4\nlinear 3\n";
static struct dml_model *model;
static struct dml_testcase tc;

/* A member of a group that no master has made. */
struct member {
    pthread_t thread;
    struct dml_task task;
    struct dml_group group;
    size_t n;
    float *x;
    uint64_t sent, received; /* bytes */
    int r;
};

struct cluster {
    struct dml_comm_hub *hub;
    struct dml_comm *master;
    struct member members[RANKS_MAX];
    unsigned n;
};

static float value(unsigned member, size_t i)
{
    struct dml_rng rng;
    dml_rng_init(&rng, 7, member, DML_RNG_TEST, i);
    return (float)(dml_rng_uniform(&rng) - 0.5);
}

static void open_cluster(struct cluster *c, unsigned n)
{
    *c = (struct cluster){.hub = dml_comm_hub_new(n + 1), .n = n};
    c->master = dml_comm_hub_get(c->hub, 0);
    for (unsigned i = 0; i < n; i++) {
        struct member *m = &c->members[i];
        m->task = (struct dml_task){
            .tc = &tc, .model = model, .comm = dml_comm_hub_get(c->hub, i + 1)};
        m->group = (struct dml_group){.task = &m->task, .generation = 1, .n = n, .i = i};
        for (unsigned k = 0; k < n; k++)
            m->group.ranks[k] = k + 1;
    }
}

static void close_cluster(struct cluster *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        dml_group_done(&c->members[i].group);
        dml_comm_free(c->members[i].task.comm);
    }
    dml_comm_free(c->master);
    dml_comm_hub_free(c->hub);
}

static void run(struct cluster *c, void *(*fn)(void *))
{
    for (unsigned i = 0; i < c->n; i++)
        if (pthread_create(&c->members[i].thread, NULL, fn, &c->members[i]) != 0) {
            printf("Bail out! no thread\n");
            exit(1);
        }
    for (unsigned i = 0; i < c->n; i++)
        (void)pthread_join(c->members[i].thread, NULL);
}

static void *sum(void *arg)
{
    struct member *m = arg;
    struct dml_collective all;
    struct dml_comm_stats stats;
    dml_collective_all(&all, &m->group);
    for (size_t i = 0; i < m->n; i++)
        m->x[i] = value(m->group.i, i);
    m->r = dml_collective_sum(&all, TAG, m->x, m->n);
    dml_comm_stats(m->task.comm, &stats);
    m->sent = stats.sent_bytes;
    m->received = stats.received_bytes;
    return NULL;
}

/* The sum of n floats over R members; the bits of the first in ret. */
static void check_sum(unsigned R, size_t n, float *ret)
{
    struct cluster c;
    open_cluster(&c, R);
    for (unsigned i = 0; i < R; i++) {
        c.members[i].n = n;
        c.members[i].x = dml_mem_floats(n);
    }
    run(&c, sum);
    double worst = 0.0;
    size_t differ = 0;
    uint64_t sent = 0, received = 0;
    bool ok = true;
    for (unsigned i = 0; i < R; i++) {
        ok &= c.members[i].r == 0;
        differ += memcmp(c.members[i].x, c.members[0].x, n * sizeof(float)) != 0;
        sent += c.members[i].sent;
        received += c.members[i].received;
    }
    for (size_t k = 0; k < n; k++) {
        double want = 0.0;
        for (unsigned i = 0; i < R; i++)
            want += (double)value(i, k);
        worst = fmax(worst, fabs((double)c.members[0].x[k] - want));
    }
    char what[80];
    snprintf(what, sizeof(what), "R = %u, n = %zu", R, n);
    tap_ok(ok, "%s: it ends well", what);
    tap_int((long long)differ, 0, "all members have the same bits");
    /* R additions of numbers below 1/2, each rounded to 2^-24 of a sum below R/2 */
    tap_near(worst, 0.0, R * R * 0x1p-25, "they are the plain sum");

    /* All members together: in each of 2(R-1) steps every piece of at least one float travels. */
    uint64_t messages = 2 * (uint64_t)(R - 1) * (n < R ? n : R);
    struct dml_comm_msg empty = {.n_meta = DML_PEER_N_};
    uint64_t want = 2 * (uint64_t)(R - 1) * n * sizeof(float) + messages * dml_inbox_cost(&empty);
    tap_int((long long)sent, (long long)want, "bytes sent: 2 (R-1)/R n floats each, and headers");
    tap_int((long long)received, (long long)want, "and received");
    if (R > 0 && n % R == 0 && n > 0)
        tap_int((long long)c.members[R - 1].sent, (long long)(want / R), "the same on each member");
    memcpy(ret, c.members[0].x, n * sizeof(float));
    for (unsigned i = 0; i < R; i++)
        free(c.members[i].x);
    close_cluster(&c);
}

static void test_sums(void)
{
    static const size_t sizes[] = {0, 1, 2, 3, 6, 7, 100, 420, 20011};
    _cleanup_(dml_mem_freep) float *a = dml_mem_floats(20011), *b = dml_mem_floats(20011);
    for (unsigned R = 1; R <= 7; R++) {
        for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
            check_sum(R, sizes[k], a);
            check_sum(R, sizes[k], b);
            tap_ok(!memcmp(a, b, sizes[k] * sizeof(float)), "the same bits again");
        }
    }
}

static void *mean(void *arg)
{
    struct member *m = arg;
    struct dml_collective all;
    float x[3] = {3.0f, (float)m->group.i, 0.1f};
    dml_collective_all(&all, &m->group);
    m->r = dml_collective_mean(&all, TAG, x, 3);
    m->x = dml_mem_floats(3);
    memcpy(m->x, x, sizeof(x));
    return NULL;
}

static void test_mean(void)
{
    struct cluster c;
    open_cluster(&c, 3);
    run(&c, mean);
    for (unsigned i = 0; i < 3; i++) {
        tap_int(c.members[i].r, 0, "a mean");
        tap_near((double)c.members[i].x[0], 3.0, 0, "of equal numbers is that number");
        tap_near((double)c.members[i].x[1], 1.0, 0, "of 0, 1, 2");
        free(c.members[i].x);
    }
    close_cluster(&c);
}

/* Members 0, 2, 4 and 1, 3, 5: two rings side by side. */
static void *half(void *arg)
{
    struct member *m = arg;
    struct dml_collective c;
    float x = (float)(m->group.i + 1);
    dml_collective_some(&c, &m->group, m->group.i % 2, 2, 3);
    m->r = dml_collective_sum(&c, TAG, &x, 1);
    m->sent = (uint64_t)x;
    return NULL;
}

static void test_halves(void)
{
    struct cluster c;
    open_cluster(&c, 6);
    run(&c, half);
    for (unsigned i = 0; i < 6; i++)
        tap_int((long long)c.members[i].sent, i % 2 ? 2 + 4 + 6 : 1 + 3 + 5, "a sum of one half");
    close_cluster(&c);
}

static _Atomic unsigned n_there;

static void *meet(void *arg)
{
    struct member *m = arg;
    struct dml_collective all;
    dml_collective_all(&all, &m->group);
    m->sent = 0;
    for (unsigned k = 0; k < 20 && m->r == 0; k++) {
        if (m->group.i == k % m->group.n)
            dml_clock_sleep_us(1000);
        n_there++;
        m->r = dml_collective_barrier(&all, TAG + 2 * k * DML_COLLECTIVE_TAGS);
        m->sent += n_there < (k + 1) * m->group.n; /* somebody was not there yet */
        if (m->r == 0)
            m->r = dml_collective_barrier(&all, TAG + (2 * k + 1) * DML_COLLECTIVE_TAGS);
    }
    return NULL;
}

static void test_barrier(void)
{
    for (unsigned R = 1; R <= 7; R++) {
        struct cluster c;
        uint64_t early = 0;
        n_there = 0;
        open_cluster(&c, R);
        run(&c, meet);
        for (unsigned i = 0; i < R; i++)
            early += c.members[i].sent + (c.members[i].r != 0);
        tap_int((long long)early, 0, "nobody leaves a barrier before all are there");
        close_cluster(&c);
    }
}

static struct dml_buf *number(float x)
{
    return dml_buf_new_copy(&x, sizeof(x));
}

static float receive(struct member *m, unsigned from, uint64_t tag)
{
    _cleanup_(dml_buf_unrefp) struct dml_buf *buf = NULL;
    m->r = dml_group_recv_floats(&m->group, from, tag, 1, &buf);
    return m->r == 0 ? dml_buf_floats(buf)[0] : -1.0f;
}

static void send_number(struct member *m, unsigned to, uint64_t tag, float x)
{
    _cleanup_(dml_buf_unrefp) struct dml_buf *buf = number(x);
    tap_int(dml_group_send(&m->group, to, tag, buf), 0, "sent");
}

/* An order of the master with members 1 … n of n_samples 0 each, and no state. */
static void send_leg(struct cluster *c, uint32_t to, uint64_t generation, unsigned members)
{
    uint32_t none[RANKS_MAX] = {0};
    unsigned n = (unsigned)__builtin_popcount(members);
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_LEG,
        .seq = generation,
        .n_meta = DML_LEG_N_,
        .meta = {[DML_LEG_GENERATION] = (double)generation,
                 [DML_LEG_ROUND] = 1,
                 [DML_LEG_STEPS] = 1,
                 [DML_LEG_EPOCH_BATCHES] = 1,
                 [DML_LEG_MEMBERS] = members},
        .body = dml_buf_new_copy(none, n * sizeof(none[0])),
    };
    tap_int(dml_comm_send(c->master, to, &msg), 0, "the master orders a leg");
}

static void test_early(void)
{
    struct cluster c;
    struct dml_err err = {0};
    struct dml_dataset nothing = {0};
    open_cluster(&c, 3);
    struct member *a = &c.members[0], *b = &c.members[1], *d = &c.members[2];
    send_number(a, 1, 5, 5.0f);
    send_number(a, 1, 4, 4.0f);
    send_number(d, 1, 4, 44.0f);
    a->group.generation = 2; /* it has heard of the next generation before b has */
    send_number(a, 1, 4, 444.0f);
    tap_near((double)receive(b, 0, 4), 4.0, 0, "by tag, not by arrival");
    tap_near((double)receive(b, 2, 4), 44.0, 0, "by sender");
    tap_near((double)receive(b, 0, 5), 5.0, 0, "what came early was kept");

    send_number(d, 1, 77, 1.0f); /* of the old generation, never taken */
    send_leg(&c, 2, 2, 1u << 1 | 1u << 2);
    tap_near((double)receive(b, 2, 8), -1.0, 0, "nothing comes");
    tap_int(b->r, -ERESTART, "the master's order ends waiting");
    struct dml_group_leg leg = {0};
    b->group.shard = &nothing;
    tap_int(dml_group_next(&b->group, &leg, &err), 0, "the next leg");
    tap_int(leg.fresh, 1, "is of a new generation");
    tap_int(b->group.n, 2, "of two members");
    tap_int((long long)b->group.n_early, 1, "what the old one sent is forgotten");
    tap_near((double)receive(b, 0, 4), 444.0, 0, "what the new one sent is not");

    /* Nobody there: the master is told, and decides. */
    tc.cluster.step_deadline_us = 100000;
    send_leg(&c, 2, 3, 1u << 2);
    tap_near((double)receive(b, 0, 9), -1.0, 0, "nothing comes again");
    tap_int(b->r, -ERESTART, "another order came first");
    b->group.order.kind = 0; /* as if it had not */
    dml_message_done(&b->group.order);
    dml_comm_hub_kill(c.hub, 1);
    struct dml_comm_msg finish = {.kind = DML_MESSAGE_FINISH};
    _cleanup_(dml_buf_unrefp) struct dml_buf *x = number(1.0f);
    tap_int(dml_comm_send(c.master, 2, &finish), 0, "the run ends meanwhile");
    tap_int(dml_group_send(&b->group, 0, 10, x), -ERESTART, "sending to one that is gone");
    bool told = false;
    struct dml_comm_msg msg = {0};
    while (!told && dml_comm_recv(c.master, DML_COMM_ANY, 0, &msg) == 0) {
        told = msg.kind == DML_MESSAGE_STUCK && msg.from == 2 && msg.seq == 2 &&
               msg.meta[DML_STUCK_RANK] == 1.0 && msg.meta[DML_STUCK_UNREACHABLE] == 1.0;
        dml_message_done(&msg);
    }
    tap_ok(told, "the master hears whom it cannot reach, in which generation");
    tap_int(dml_group_next(&b->group, &leg, &err), 1, "and the end of the run is seen");
    b->group.shard = NULL;
    dml_group_leg_done(&leg);
    tc.cluster.step_deadline_us = 60000000;
    close_cluster(&c);
}

/* Bytes of anybody: an error, not a crash. */
static void test_nonsense(void)
{
    struct cluster c;
    struct dml_err err = {0};
    struct dml_group_leg leg = {0};
    struct dml_dataset nothing = {0};
    open_cluster(&c, 2);
    struct member *a = &c.members[0], *b = &c.members[1];
    b->group.shard = &nothing;
    _cleanup_(dml_buf_unrefp) struct dml_buf *x = number(1.0f), *two = dml_buf_new(9);
    tap_int(dml_group_send(&a->group, 1, 1, two), 0, "nine bytes");
    (void)receive(b, 0, 1);
    tap_int(b->r, -EPROTO, "are not a float");
    struct dml_comm_msg bad = {.kind = DML_MESSAGE_PEER, .seq = 1, .body = x};
    tap_int(dml_comm_send(a->task.comm, 2, &bad), 0, "no generation");
    (void)receive(b, 0, 2);
    tap_int(b->r, -EPROTO, "is refused");
    bad.kind = DML_MESSAGE_LEG;
    tap_int(dml_comm_send(a->task.comm, 2, &bad), 0, "a worker that gives orders");
    (void)receive(b, 0, 2);
    tap_int(b->r, -EPROTO, "is refused");

    static const struct {
        double generation, round, steps, members;
        const char *what;
    } legs[] = {
        {2, 1, 1, 2, "without this member"},      {2, 1, 1, 6.5, "half a member"},
        {2, 1, 0, 6, "of no steps"},              {2, -1, 1, 6, "a round before the first"},
        {0, 1, 1, 6, "of an earlier generation"}, {2, 1, 1, 12, "of a member that does not exist"},
        {1e300, 1, 1, 6, "of no generation"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(legs); i++) {
        uint32_t none[2] = {0};
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
            .kind = DML_MESSAGE_LEG,
            .seq = 1,
            .n_meta = DML_LEG_N_,
            .meta = {[DML_LEG_GENERATION] = legs[i].generation,
                     [DML_LEG_ROUND] = legs[i].round,
                     [DML_LEG_STEPS] = legs[i].steps,
                     [DML_LEG_EPOCH_BATCHES] = 1,
                     [DML_LEG_MEMBERS] = legs[i].members},
            .body = dml_buf_new_copy(none, sizeof(none)),
        };
        (void)dml_comm_send(c.master, 2, &msg);
        tap_int(dml_group_next(&b->group, &leg, &err), -EPROTO, legs[i].what);
    }
    b->group.shard = NULL;
    dml_group_leg_done(&leg);
    close_cluster(&c);
}

int main(void)
{
    struct dml_err err = {0};
    if (dml_model_parse(model_text, strlen(model_text), "m", &model, &err) < 0) {
        printf("Bail out! %s\n", err.text);
        return 1;
    }
    tc.train.batch_size = 1;
    tc.cluster.step_deadline_us = 60000000;
    test_sums();
    test_mean();
    test_halves();
    test_barrier();
    test_early();
    test_nonsense();
    model = dml_model_free(model);
    return tap_done();
}
