/*
 * What a run does when workers fall silent, lie, die and come back. Rank 0 is the real master half;
 * some workers are real, others are played here.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fileio.h"
#include "lab.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"
#include "paradigm/shard_cache.h"
#include "rpc/comm_local.h"
#include "tests/tap.h"

#define NODES   3
#define N_SHARD 32 /* samples of each: 96 dealt evenly */

enum behaviour {
    HONEST,
    SILENT, /* gets ready, never answers */
    SHORT,  /* answers with half a vector */
    DIES,   /* vanishes when round 2 reaches it */
    UNABLE, /* says that it cannot take part */
    GREEDY, /* asks for its shard again and again, with everything in the wrong order */
};

struct actor {
    pthread_t thread;
    struct lab *lab;
    struct dml_comm *comm;
    enum behaviour behaviour;
    atomic_bool *cancel;
    unsigned n_shards; /* GREEDY: how many it got */
};

/* Answers a round with the vector it came with, or with the first half of it. */
static void answer(struct dml_comm *comm, const struct dml_comm_msg *fit, size_t n_shard, bool half)
{
    struct dml_trainer_result done = {.n_samples = n_shard, .n_steps = 1};
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_UPDATE,
        .seq = fit->seq,
        .body = dml_buf_new_copy(fit->body->data, half ? fit->body->len / 2 : fit->body->len),
    };
    dml_rounds_fill_update(&msg, n_shard, &done);
    (void)dml_comm_send(comm, 0, &msg);
}

#define ASKED 200

/* Says what it should not, then asks ASKED times. Returns how many shards came before round 1. */
static unsigned ask(struct dml_comm *comm, size_t n_shard)
{
    unsigned n_shards = 0;
    (void)dml_message_send(comm, 0, DML_MESSAGE_PROGRESS, 1);
    (void)dml_message_send(comm, 0, DML_MESSAGE_UPDATE, 1);
    (void)dml_message_send(comm, 0, DML_MESSAGE_MAX_ + 1, 1);
    for (bool offered = false;;) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        if (dml_comm_recv(comm, 0, DML_CLOCK_NEVER, &msg) < 0 || msg.kind == DML_COMM_LOST)
            return n_shards;
        if (msg.kind == DML_MESSAGE_OFFER && !offered) {
            offered = true;
            for (int i = 0; i < ASKED; i++)
                (void)dml_message_send(comm, 0, DML_MESSAGE_WANT, 0);
            for (int i = 0; i < 3; i++)
                (void)dml_message_send(comm, 0, DML_MESSAGE_READY, 0);
        }
        n_shards += msg.kind == DML_MESSAGE_SHARD;
        if (msg.kind == DML_MESSAGE_FIT) {
            answer(comm, &msg, n_shard, false);
            answer(comm, &msg, n_shard, false);
            return n_shards;
        }
    }
}

static void *pretend(void *arg)
{
    struct actor *a = arg;
    const struct dml_testcase *tc = &a->lab->cases->cases[0];
    struct dml_err err = {0};
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    _cleanup_(dml_dataset_freep) struct dml_dataset *shard = NULL;
    if (dml_model_load(tc->model.name, NULL, &m, &err) < 0)
        return NULL;
    struct dml_task task = {.tc = tc, .model = m, .comm = a->comm, .data = &tc->data};
    bool cached;
    if (a->behaviour == GREEDY) {
        a->n_shards = ask(a->comm, N_SHARD);
    } else if (a->behaviour == UNABLE) {
        (void)dml_err_set(&err, -ENOSPC, "no room for the shard\x1b[2J\xff");
        dml_message_send_failed(a->comm, -ENOSPC, &err);
    } else if (dml_provision_fetch(&task, &shard, &cached, &err) == 0) {
        (void)dml_provision_ready(&task, shard, cached);
    }
    for (;;) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        if (dml_comm_recv(a->comm, 0, DML_CLOCK_NEVER, &msg) < 0 || msg.kind == DML_COMM_LOST ||
            msg.kind == DML_MESSAGE_FINISH)
            break;
        if (msg.kind != DML_MESSAGE_FIT || a->behaviour == SILENT || a->behaviour == UNABLE)
            continue;
        if (a->behaviour == DIES && msg.seq == 2)
            break;
        answer(a->comm, &msg, shard ? shard->n_samples : N_SHARD, a->behaviour == SHORT);
    }
    a->comm = dml_comm_free(a->comm);
    return NULL;
}

/* Stands for the kernel's quota: what it was asked for. */
static _Atomic unsigned n_halves, n_released;

static int note_limit(void *arg, double cores)
{
    (void)arg;
    if (cores == 0.5)
        n_halves++;
    if (cores == 0.0)
        n_released++;
    return 0;
}

static void *be_honest(void *arg)
{
    struct actor *a = arg;
    struct dml_run_env env = {.limit_cores = note_limit};
    struct dml_err err = {0};
    struct dml_run_args args = {
        .tc = &a->lab->cases->cases[0],
        .comm = a->comm,
        .cancel = a->cancel,
    };
    (void)dml_run(&env, &args, NULL, &err);
    a->comm = dml_comm_free(a->comm);
    return NULL;
}

static void start(struct actor *a, struct lab *lab, struct dml_comm_hub *hub, uint32_t rank,
                  enum behaviour behaviour)
{
    *a = (struct actor){.lab = lab, .behaviour = behaviour, .comm = dml_comm_hub_get(hub, rank)};
    if (!a->comm ||
        pthread_create(&a->thread, NULL, behaviour == HONEST ? be_honest : pretend, a) != 0) {
        printf("Bail out! no worker %u\n", rank);
        exit(1);
    }
}

struct stage {
    struct lab lab;
    struct dml_comm_hub *hub;
    struct actor actors[NODES];
    pthread_t thread;
    int r;
    struct actor returned; /* the second life of rank 2, its first already joined */
    bool came_back;
};

static void *run(void *arg)
{
    struct stage *s = arg;
    struct dml_comm *comm = dml_comm_hub_get(s->hub, 0);
    s->r = lab_run_rank0(&s->lab, comm);
    dml_comm_free(comm);
    return NULL;
}

/* Begins to run `text` with ranks 1 and 3 honest and rank 2 as told. */
static void begin(struct stage *s, const char *text, enum behaviour second,
                  void (*on_round)(void *, const struct dml_round *))
{
    s->came_back = false;
    lab_init(&s->lab, text);
    s->lab.on_round = on_round;
    s->lab.on_round_arg = s;
    s->hub = dml_comm_hub_new(NODES + 1);
    for (uint32_t rank = 1; rank <= NODES; rank++)
        start(&s->actors[rank - 1], &s->lab, s->hub, rank, rank == 2 ? second : HONEST);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        printf("Bail out! no thread\n");
        exit(1);
    }
}

/* Returns what the master half did. */
static int end(struct stage *s)
{
    (void)pthread_join(s->thread, NULL);
    for (int i = 0; i < NODES; i++)
        (void)pthread_join(s->came_back && i == 1 ? s->returned.thread : s->actors[i].thread, NULL);
    dml_comm_hub_free(s->hub);
    return s->r;
}

static int play(struct stage *s, const char *text, enum behaviour second,
                void (*on_round)(void *, const struct dml_round *))
{
    begin(s, text, second, on_round);
    return end(s);
}

static void bring_back(void *arg, const struct dml_round *round)
{
    struct stage *s = arg;
    /* Rounds this small would be over before it is ready. Of 60, together half a minute. */
    if (s->came_back && s->lab.n_ready < NODES + 1)
        dml_clock_sleep_us(round->round * 20000);
    if (round->round != 3)
        return;
    (void)pthread_join(s->actors[1].thread, NULL);
    if (dml_comm_hub_revive(s->hub, 2) < 0) {
        printf("Bail out! rank 2 cannot be revived\n");
        exit(1);
    }
    start(&s->returned, &s->lab, s->hub, 2, HONEST);
    s->came_back = true;
}

#define ROUNDS(n) "[testcase]\nnodes = 3\ncores = 3\n[train]\nrounds = " #n "\nbatch-size = 8\n"

/* Rank 2 dies in round 2 and stays away. */
static void test_death(void)
{
    struct stage s;
    tap_int(play(&s, ROUNDS(4) "[cluster]\nquorum = 0.5\n", DIES, NULL), 0,
            "a run outlives the death of a worker");
    tap_int(s.lab.n_rounds, 4, "all rounds are there");
    tap_int(s.lab.rounds[0].n_participants, 3, "three take part in round 1");
    tap_int(s.lab.rounds[1].n_participants, 2, "two in round 2, in which it dies");
    tap_int(s.lab.rounds[3].n_participants, 2, "two in round 4");
    tap_int(s.lab.totals.n_lost, 1, "the totals count it");
    lab_done(&s.lab);
}

/* It comes back after round 3; later rounds have three again. The master takes it in between. */
static void test_return(void)
{
    struct stage s;
    int r = play(&s, ROUNDS(60) "[cluster]\nquorum = 0.5\n", DIES, bring_back);
    tap_int(r, 0, "a run outlives death and return");
    tap_ok(s.came_back, "rank 2 came back");
    tap_int(s.lab.rounds[2].n_participants, 2, "two in round 3");
    tap_int(s.lab.rounds[s.lab.n_rounds - 1].n_participants, 3, "three again in the last round");
    tap_int(s.lab.n_ready, 4, "it got ready a second time");
    lab_done(&s.lab);
}

/* ------------------------------------------------------------------ deadlines
 *
 * Who is merely starved of a processor must not be taken for one that is silent: the deadline is
 * generous, and waited for side by side, while other tests run.
 */

static void test_deadline(struct stage *s)
{
    tap_int(end(s), 0, "a silent worker does not hang the run");
    tap_int(s->lab.rounds[0].n_participants, 2, "round 1 ends with two answers");
    tap_ok(s->lab.rounds[0].t_us >= 2000000, "at its deadline");
    tap_int(s->lab.rounds[1].n_participants, 2, "so does round 2");
    lab_done(&s->lab);
}

static void test_no_quorum(struct stage *s)
{
    tap_int(end(s), -ENOLINK, "without a quorum the run ends");
    tap_has(s->lab.err.text, "2 of 3 workers answered", "and says who was missing");
    lab_done(&s->lab);
}

static void test_nonsense(void)
{
    struct stage s;
    tap_int(play(&s, ROUNDS(2) "[cluster]\nquorum = 0.5\n", SHORT, NULL), 0,
            "a worker that sends half a vector does no harm");
    tap_int(s.lab.rounds[1].n_participants, 2, "its answers do not count");
    lab_done(&s.lab);
}

static void test_unable(void)
{
    struct stage s;
    int r = play(&s, ROUNDS(2), UNABLE, NULL);
    tap_ok(r < 0, "a worker that cannot take part ends the setup");
    tap_has(s.lab.err.text, "no room for the shard?[2J?", "with its own sentence, made harmless");
    lab_done(&s.lab);
}

static void test_greed(void)
{
    struct stage s;
    tap_int(play(&s, ROUNDS(3) "[cluster]\nquorum = 0.5\n", GREEDY, NULL), 0,
            "a worker that asks for everything at once, and twice, does no harm");
    tap_int(s.actors[1].n_shards, 1, "it gets its shard once");
    tap_int(s.lab.n_ready, 3, "and is ready once");
    tap_int(s.lab.rounds[2].n_participants, 3, "it takes part like the others");
    lab_done(&s.lab);
}

static void test_standalone_loss(void)
{
    struct lab lab;
    lab_init(&lab, "[testcase]\nnodes = 1\ncores = 1\n[parallel]\nparadigm = standalone\n"
                   "[train]\nrounds = 3\n");
    struct dml_comm_hub *hub = dml_comm_hub_new(2);
    struct dml_comm *comm = dml_comm_hub_get(hub, 0);
    struct actor a;
    start(&a, &lab, hub, 1, SILENT);
    dml_comm_hub_kill(hub, 1);
    /* Killed before or after READY: either way the run must end with a sentence. */
    lab.cases->cases[0].cluster.wait_us = 500000;
    int r = lab_run_rank0(&lab, comm);
    tap_ok(r < 0, "standalone cannot outlive its worker");
    tap_ok(dml_err_is_set(&lab.err), "and says so: %s", lab.err.text);
    dml_comm_free(comm);
    (void)pthread_join(a.thread, NULL);
    dml_comm_hub_free(hub);
    lab_done(&lab);
}

static size_t count_files(const char *dir, const char *suffix)
{
    char cmd[PATH_MAX];
    snprintf(cmd, sizeof(cmd), "ls %s | grep -c '%s$'", dir, suffix);
    FILE *p = popen(cmd, "r");
    unsigned n = 0;
    if (!p || fscanf(p, "%u", &n) != 1)
        n = 999;
    if (p)
        (void)pclose(p);
    return n;
}

static void test_cache(void)
{
    char dir[] = "/tmp/dml-cache-XXXXXX";
    if (!mkdtemp(dir)) {
        tap_ok(false, "mkdtemp");
        return;
    }
    struct lab lab;
    lab_init(&lab, "");
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL, *back = NULL;
    lab_data(&lab, &train, &test);
    struct dml_buf *packed[3];
    char hash[3][DML_FILEIO_HASH_LEN];
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t index[2] = {i, i + 3};
        if (dml_dataset_pack(train, index, 2, &packed[i]) < 0)
            exit(1);
        dml_fileio_hash(packed[i]->data, packed[i]->len, hash[i]);
    }
    tap_int(dml_shard_cache_get(dir, hash[0], &back), -ENOENT, "an empty cache has nothing");
    dml_shard_cache_put(dir, 1 << 20, hash[0], packed[0]);
    tap_int(dml_shard_cache_get(dir, hash[0], &back), 0, "what was put is there");
    tap_int((long long)(back ? back->n_samples : 0), 2, "with its samples");

    dml_shard_cache_put(dir, 1 << 20, hash[1], packed[0]); /* a file under a wrong name */
    struct dml_dataset *none = NULL;
    tap_int(dml_shard_cache_get(dir, hash[1], &none), -EBADMSG,
            "bytes of another hash are refused");
    tap_int(dml_shard_cache_get(dir, hash[1], &none), -ENOENT, "and removed");

    size_t room = 2 * packed[0]->len + packed[0]->len / 2;
    dml_shard_cache_put(dir, room, hash[1], packed[1]);
    dml_shard_cache_put(dir, room, hash[2], packed[2]);
    tap_int((long long)count_files(dir, ".shard"), 2, "a full cache lets the oldest go");
    dml_shard_cache_put(dir, 3, hash[0], packed[0]);
    tap_int((long long)count_files(dir, ".shard"), 2, "a shard larger than the cache is not kept");

    for (int i = 0; i < 3; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/%s.shard", dir, hash[i]);
        (void)remove(path);
        (void)dml_buf_unref(packed[i]);
    }
    (void)rmdir(dir);
    lab_done(&lab);
}

/* Half a core for each of three: the kernel holds those that can ask it, and lets go afterwards. */
static void test_kernel_holds(void)
{
    struct stage s;
    tap_int(n_halves, 0, "whole cores need no quota");
    tap_int(play(&s, "[testcase]\nnodes = 3\ncores = 1.5\n[train]\nrounds = 2\n", HONEST, NULL), 0,
            "half a core each");
    tap_int(n_halves, 3, "every worker was held to it");
    tap_int(n_released, 3, "and released");
    lab_done(&s.lab);
}

/* A model that finds no room does not take the measured times with it. */
static void test_unsaved_model(void)
{
    struct lab lab;
    lab_init(&lab, "[testcase]\nnodes = 1\ncores = 1\n[train]\nrounds = 2\n");
    char path[128];
    snprintf(path, sizeof(path), "%s/lab.dmlmodel", lab.dir);
    tap_int(mkdir(path, 0700), 0, "where the model should go is a folder");
    tap_int(lab_run(&lab), 0, "the run counts all the same");
    tap_int((long long)lab.totals.n_rounds, 2, "with its rounds");
    tap_int(lab.n_unsaved, 1, "and the loss is told");
    (void)rmdir(path);
    lab_done(&lab);
}

int main(void)
{
    static struct stage deadline, no_quorum;
    begin(&deadline, ROUNDS(2) "[cluster]\nquorum = 0.5\nround-deadline = 2 s\n", SILENT, NULL);
    begin(&no_quorum, ROUNDS(2) "[cluster]\nquorum = 1\nround-deadline = 2 s\n", SILENT, NULL);
    test_death();
    test_return();
    test_nonsense();
    test_unable();
    test_greed();
    test_standalone_loss();
    test_cache();
    test_deadline(&deadline);
    test_no_quorum(&no_quorum);
    test_kernel_holds(); /* counts what all workers ask of the kernel */
    test_unsaved_model();
    return tap_done();
}
