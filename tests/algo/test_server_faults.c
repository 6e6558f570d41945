/*
 * The parameter server's master half among workers that are slow, fall silent, lie, die and come
 * back. All workers are played here: they hand in gradients of zeros, so only the order of things
 * is at stake.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lab.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"
#include "paradigm/server_client.h"
#include "paradigm/sparse.h"
#include "rpc/comm_local.h"
#include "tests/tap.h"

#define NODES    3
#define N_SHARD  32
#define BATCH    4
#define STEPS    (N_SHARD / BATCH) /* of a round of one epoch */
#define N_ROUNDS 3
#define N_STEPS  (STEPS * N_ROUNDS)
#define P        67 /* parameters of the lab's model */
#define PATIENCE 20000000 /* us until a wait for another actor is given up */

enum behaviour {
    DILIGENT,
    SLOW,   /* waits until the others have gone as far as they may */
    DIES,   /* after its first round */
    SILENT, /* after its first round, until the others are through with the second */
    KEEPS,  /* before its last round, until the silent one has been told where the others are */
    LIAR,   /* reports of rounds to come, a gradient of another step, one of unsound bytes, then the
             * right one */
};

struct actor {
    pthread_t thread;
    struct play *play;
    struct dml_comm *comm;
    enum behaviour behaviour;
    uint64_t step, grant, taken;
    bool has_begun, is_over;
};

struct play {
    struct lab lab;
    struct dml_comm_hub *hub;
    struct actor actors[NODES];
    pthread_t thread;
    int r;
    bool hurries; /* from the second round on: to begin may take its time */
    uint64_t staleness;
    atomic_ullong n_begun[NODES + 1], n_pushed[NODES + 1]; /* steps */
    atomic_ullong most_ahead; /* steps of any worker before the slowest */
    atomic_uint n_fits[NODES + 1], n_over;
    unsigned n_early;         /* steps begun before the evaluation that they wait for was over */
};

static int push(struct actor *a, uint64_t step, bool sound)
{
    static const float zeros[P];
    uint64_t mask[2] = {0};
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_PUSH, .seq = step, .body = dml_buf_new(dml_sparse_room(P))};
    if (!msg.body)
        return -ENOMEM;
    msg.body->len = dml_sparse_pack(zeros, mask, P, msg.body->data);
    msg.body->data[0] ^= (unsigned char)(sound ? 0 : 0x40);
    return dml_comm_send(a->comm, 0, &msg);
}

static int report(struct actor *a, uint64_t round, double loss)
{
    struct dml_trainer_result done = {.n_samples = N_SHARD, .n_steps = STEPS, .loss = loss};
    struct dml_comm_msg msg = {.kind = DML_MESSAGE_UPDATE, .seq = round};
    dml_rounds_fill_update(&msg, N_SHARD, &done);
    return dml_comm_send(a->comm, 0, &msg);
}

/* Takes one message, if one comes until then. */
static int take(struct actor *a, uint64_t deadline_us)
{
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
    int r = dml_comm_recv(a->comm, 0, deadline_us, &msg);
    if (r < 0)
        return r;
    if (msg.kind == DML_MESSAGE_FIT) {
        a->step = a->grant = a->taken = msg.seq;
        a->has_begun = true;
        a->play->n_fits[a->comm->rank]++;
    } else if (msg.kind == DML_MESSAGE_PARAMS) {
        a->grant = msg.seq;
        a->taken = (uint64_t)msg.meta[DML_PARAMS_TAKEN];
    } else if (msg.kind == DML_MESSAGE_FINISH) {
        a->is_over = true;
        a->play->n_over++;
    }
    return msg.kind == DML_COMM_LOST ? -EPIPE : 0;
}

static uint64_t others_least(const atomic_ullong *steps, uint32_t but)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t rank = 1; rank <= NODES; rank++)
        if (rank != but && steps[rank] < least)
            least = steps[rank];
    return least;
}

static void wait_for_others(const struct actor *a, const atomic_ullong *steps, uint64_t least)
{
    uint64_t until = dml_clock_now_us() + PATIENCE;
    while (others_least(steps, a->comm->rank) < least && dml_clock_now_us() < until)
        dml_clock_sleep_us(1000);
}

static void wait_for_fit(const struct actor *a, uint32_t rank, unsigned n)
{
    uint64_t until = dml_clock_now_us() + PATIENCE;
    while (a->play->n_fits[rank] < n && dml_clock_now_us() < until)
        dml_clock_sleep_us(1000);
}

/* Before a step: returns false when the actor leaves. */
static bool behave(struct actor *a)
{
    uint64_t ahead = a->step + a->play->staleness + 1, limit = N_STEPS;
    if (a->behaviour == SLOW)
        wait_for_others(a, a->play->n_pushed, ahead < limit ? ahead : limit);
    if (a->behaviour == DIES && a->step == STEPS)
        return false;
    if (a->behaviour == SILENT && a->step == STEPS)
        wait_for_others(a, a->play->n_begun, 2 * STEPS + 1);
    if (a->behaviour == KEEPS && a->step == 2 * STEPS)
        wait_for_fit(a, 2, 2);
    if (a->behaviour == LIAR) {
        for (uint64_t round = 1; round <= N_ROUNDS + 1; round++)
            (void)report(a, round, 99.0); /* of rounds that it has not done */
        (void)push(a, a->step + 5, true);
        (void)push(a, a->step, false);
    }
    return true;
}

static bool may_begin(const struct actor *a)
{
    uint64_t under_way = a->play->staleness == 0 ? 0 : 1;
    return a->has_begun && a->step < N_STEPS && a->step <= a->grant &&
           a->step - a->taken <= under_way;
}

static void note_lead(struct actor *a)
{
    uint64_t least = others_least(a->play->n_pushed, 0), most = a->play->most_ahead;
    if (a->step > least && a->step - least > most)
        a->play->most_ahead = a->step - least;
}

static int train(struct actor *a)
{
    while (!a->is_over) {
        int r = take(a, may_begin(a) ? 0 : DML_CLOCK_NEVER);
        if (r < 0 && r != -ETIMEDOUT)
            return r;
        if (r == 0 || !may_begin(a))
            continue;
        a->play->n_begun[a->comm->rank] = a->step + 1;
        if (!behave(a))
            return 0;
        note_lead(a);
        a->play->n_pushed[a->comm->rank]++; /* before somebody else goes on because of it */
        r = push(a, a->step, true);
        a->step++;
        if (r == 0 && a->step % STEPS == 0)
            r = report(a, a->step / STEPS, 1.0);
        if (r < 0)
            return r;
    }
    return 0;
}

static void *act(void *arg)
{
    struct actor *a = arg;
    const struct dml_testcase *tc = &a->play->lab.cases->cases[0];
    struct dml_err err = {0};
    struct dml_task task = {.tc = tc, .comm = a->comm, .data = &tc->data};
    _cleanup_(dml_dataset_freep) struct dml_dataset *shard = NULL;
    bool cached;
    if (dml_provision_fetch(&task, &shard, &cached, &err) == 0 &&
        dml_provision_ready(&task, shard, cached) == 0)
        (void)train(a);
    a->comm = dml_comm_free(a->comm);
    return NULL;
}

/* Listens when the evaluation of a round is over, but the next one has not begun. */
static void look_for_early(void *arg, const struct dml_round *round)
{
    struct play *p = arg;
    if (p->hurries)
        p->lab.cases->cases[0].cluster.round_deadline_us = 2000000;
    dml_clock_sleep_us(50000); /* to let the guilty be seen: the innocent need no time */
    for (uint32_t rank = 1; round->evaluated && rank <= NODES; rank++)
        if (p->n_begun[rank] > round->round * STEPS)
            p->n_early += (unsigned)(p->n_begun[rank] - round->round * STEPS);
}

static void *run(void *arg)
{
    struct play *p = arg;
    struct dml_comm *comm = dml_comm_hub_get(p->hub, 0);
    p->r = lab_run_rank0(&p->lab, comm);
    dml_comm_free(comm);
    return NULL;
}

static void start(pthread_t *ret, void *(*f)(void *), void *arg)
{
    if (pthread_create(ret, NULL, f, arg) != 0) {
        printf("Bail out! no thread\n");
        exit(1);
    }
}

/* Rank 2 behaves as told, ranks 1 and 3 as the others. */
static void begin(struct play *p, const char *keys, uint64_t staleness, enum behaviour second,
                  enum behaviour others, bool hurries)
{
    char text[600];
    snprintf(text, sizeof(text),
             "[testcase]\nnodes = %d\ncores = %d\n[train]\nrounds = %d\nbatch-size = %d\n"
             "[parallel]\nparadigm = server\nstaleness = %llu\n%s",
             NODES, NODES, N_ROUNDS, BATCH, (unsigned long long)staleness, keys);
    *p = (struct play){.staleness = staleness, .hurries = hurries};
    lab_init(&p->lab, text);
    p->lab.on_round = look_for_early;
    p->lab.on_round_arg = p;
    p->hub = dml_comm_hub_new(NODES + 1);
    for (uint32_t rank = 1; rank <= NODES; rank++) {
        struct actor *a = &p->actors[rank - 1];
        *a = (struct actor){.play = p,
                            .comm = dml_comm_hub_get(p->hub, rank),
                            .behaviour = rank == 2 ? second : others};
        start(&a->thread, act, a);
    }
    start(&p->thread, run, p);
}

/* Returns what the master half did. */
static int end(struct play *p)
{
    (void)pthread_join(p->thread, NULL);
    if (p->r < 0)
        tap_note("the run: %s", p->lab.err.text);
    for (size_t i = 0; i < NODES; i++)
        (void)pthread_join(p->actors[i].thread, NULL);
    dml_comm_hub_free(p->hub);
    return p->r;
}

static int play(struct play *p, const char *keys, uint64_t staleness, enum behaviour second)
{
    begin(p, keys, staleness, second, DILIGENT, false);
    return end(p);
}

static void test_bound(void)
{
    struct play p;
    tap_int(play(&p, "[train]\neval-every = 1000\n", 2, SLOW), 0,
            "two fast workers and a slow one, staleness 2");
    tap_int((long long)p.most_ahead, 2, "the fast ones go as far as they may, and no further");
    tap_int(p.n_over, NODES, "all hear that it is over");
    lab_done(&p.lab);
    tap_int(play(&p, "", 0, SLOW), 0, "the same, staleness 0");
    tap_int((long long)p.most_ahead, 0, "nobody is ahead of anybody");
    lab_done(&p.lab);
}

static void check_pause(const char *keys, uint64_t staleness, enum behaviour second,
                        const char *what)
{
    struct play p;
    char all[200];
    snprintf(all, sizeof(all), "%s[cluster]\nquorum = 0.5\nstep-deadline = 2 s\n", keys);
    tap_int(play(&p, all, staleness, second), 0, what);
    tap_int(p.n_early, 0, "nobody trains while the master evaluates");
    for (int i = 0; i < N_ROUNDS; i++)
        tap_int(p.lab.rounds[i].overhead_us,
                (long long)p.lab.rounds[i].t_us - (long long)p.lab.rounds[i].work_us, "O = T - W");
    tap_int(p.n_over, second == DIES ? NODES - 1 : NODES, "all hear that it is over");
    lab_done(&p.lab);
}

static void test_pause(void)
{
    check_pause("", 0, DILIGENT, "in step");
    check_pause("", 2, DILIGENT, "bounded delay");
    check_pause("", 2, DIES, "bounded delay, and a worker dies");
    check_pause("[train]\neval-every = 2\n", 5, DILIGENT, "every second round is evaluated");
}

static void test_death(uint64_t staleness, const char *what)
{
    struct play p;
    tap_int(play(&p, "[cluster]\nquorum = 0.5\n", staleness, DIES), 0, what);
    tap_int(p.lab.n_rounds, N_ROUNDS, "all rounds are there");
    tap_int(p.lab.rounds[0].n_participants, 3, "three take part in round 1");
    tap_int(p.lab.rounds[2].n_participants, 2, "two in round 3");
    tap_int(p.lab.totals.n_lost, 1, "the totals count the lost one");
    lab_done(&p.lab);
}

/* ------------------------------------------------------------------ deadlines
 *
 * Who is merely starved of a processor must not be taken for one that is silent: the deadlines are
 * generous, and waited for side by side, while the other tests run.
 */

static void begin_no_quorum(struct play *p)
{
    begin(p, "[cluster]\nquorum = 1\n", 0, DIES, DILIGENT, true);
}

static void test_no_quorum(struct play *p)
{
    tap_int(end(p), -ENOLINK, "without a quorum the run ends");
    tap_has(p->lab.err.text, "2 workers train, 3 are needed", "and says how many there are");
    lab_done(&p->lab);
}

static void begin_wait(struct play *p)
{
    begin(p, "[cluster]\nquorum = 0.1\non-loss = wait\n", 2, DIES, DILIGENT, true);
}

static void test_wait(struct play *p)
{
    tap_int(end(p), -ENOLINK, "on-loss = wait waits for the lost one, and not for ever");
    lab_done(&p->lab);
}

static void begin_silence(struct play *p)
{
    begin(p, "[cluster]\nquorum = 0.5\nstep-deadline = 2 s\n", 0, SILENT, KEEPS, false);
}

static void test_silence(struct play *p)
{
    tap_int(end(p), 0, "a worker falls silent, and speaks again");
    tap_int(p->lab.rounds[1].n_participants, 2, "it is left out of round 2");
    tap_ok(p->n_fits[2] >= 2, "when it speaks again it is told where the others are");
    tap_int(p->n_over, NODES, "and hears the end with them");
    lab_done(&p->lab);
}

static void test_lies(void)
{
    struct play p;
    tap_int(play(&p, "", 0, LIAR), 0, "gradients that make no sense do no harm");
    tap_int(p.lab.rounds[2].n_participants, 3, "those that do count");
    for (int i = 0; i < N_ROUNDS; i++)
        tap_near(p.lab.rounds[i].loss, 1.0, 1e-9, "nobody reports a round before it is done");
    lab_done(&p.lab);
}

int main(void)
{
    static struct play no_quorum, lost, silence;
    begin_no_quorum(&no_quorum);
    begin_wait(&lost);
    begin_silence(&silence);
    test_bound();
    test_pause();
    test_death(0, "a synchronous run outlives a worker");
    test_death(3, "so does one with bounded delay");
    test_lies();
    test_no_quorum(&no_quorum);
    test_wait(&lost);
    test_silence(&silence);
    return tap_done();
}
