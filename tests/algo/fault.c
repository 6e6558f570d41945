#include "fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Forwards to the comm of the hub, but for what is wrong. */
struct bad_comm {
    struct dml_comm comm;
    struct dml_comm *inner;
    struct theatre *theatre;
    unsigned n_sent; /* to other workers */
};

struct actor {
    pthread_t thread;
    struct theatre *theatre;
    struct dml_comm *comm;
};

struct theatre {
    struct lab *lab;
    struct dml_comm_hub *hub;
    struct fault fault;
    struct actor actors[FAULT_NODES_MAX];
    struct actor second; /* the one that takes the place of the dead */
    bool came_back;
    atomic_bool died, released, over;
};

static struct bad_comm *bad(struct dml_comm *c)
{
    return (struct bad_comm *)c;
}

static void look(struct bad_comm *b)
{
    if (atomic_load(&b->inner->stopped))
        atomic_store(&b->comm.stopped, true);
}

static int bad_send(struct dml_comm *c, uint32_t to, const struct dml_comm_msg *msg)
{
    struct bad_comm *b = bad(c);
    struct theatre *t = b->theatre;
    unsigned i = to ? b->n_sent++ : 0;
    if (to && t->fault.kind == FAULT_DIE && i == t->fault.at) {
        dml_comm_hub_kill(t->hub, c->rank);
        atomic_store(&t->died, true);
    }
    while (to && t->fault.kind == FAULT_STOP && i == t->fault.at && !atomic_load(&t->released) &&
           !atomic_load(&t->over))
        dml_clock_sleep_us(1000);
    if (to == t->fault.to && t->fault.kind == FAULT_CUT && i >= t->fault.at)
        return -EPIPE;
    if (to == t->fault.to && t->fault.kind == FAULT_LOSE && i >= t->fault.at)
        return 0;
    int r = dml_comm_send(b->inner, to, msg);
    look(b);
    return r;
}

static int bad_recv(struct dml_comm *c, uint32_t from, uint64_t deadline_us,
                    struct dml_comm_msg *ret)
{
    int r = dml_comm_recv(bad(c)->inner, from, deadline_us, ret);
    look(bad(c));
    return r;
}

static bool bad_alive(struct dml_comm *c, uint32_t rank)
{
    return dml_comm_alive(bad(c)->inner, rank);
}

static void bad_stats(struct dml_comm *c, struct dml_comm_stats *ret)
{
    dml_comm_stats(bad(c)->inner, ret);
}

static void bad_cancel(struct dml_comm *c)
{
    dml_comm_cancel(bad(c)->inner);
    look(bad(c));
}

static void bad_free(struct dml_comm *c)
{
    dml_comm_free(bad(c)->inner);
    free(c);
}

static const struct dml_comm_ops bad_ops = {
    .send = bad_send,
    .recv = bad_recv,
    .alive = bad_alive,
    .stats = bad_stats,
    .cancel = bad_cancel,
    .free = bad_free,
};

static struct dml_comm *spoil(struct theatre *t, struct dml_comm *inner)
{
    struct bad_comm *b = calloc(1, sizeof(*b));
    if (!b) {
        printf("Bail out! out of memory\n");
        exit(1);
    }
    b->comm = (struct dml_comm){.ops = &bad_ops, .rank = inner->rank, .size = inner->size};
    b->inner = inner;
    b->theatre = t;
    return &b->comm;
}

static void *act(void *arg)
{
    struct actor *a = arg;
    struct dml_run_env env = {.max_cores = 1};
    struct dml_err err = {0};
    struct dml_run_args args = {
        .tc = &a->theatre->lab->cases->cases[0], .comm = a->comm, .cancel = &a->theatre->over};
    (void)dml_run(&env, &args, NULL, &err);
    a->comm = dml_comm_free(a->comm);
    return NULL;
}

static void start(struct theatre *t, struct actor *a, uint32_t rank, bool is_bad)
{
    *a = (struct actor){.theatre = t, .comm = dml_comm_hub_get(t->hub, rank)};
    if (a->comm && is_bad)
        a->comm = spoil(t, a->comm);
    if (!a->comm || pthread_create(&a->thread, NULL, act, a) != 0) {
        printf("Bail out! no worker %u\n", rank);
        exit(1);
    }
}

/* Waits for the death, then sends another. */
static void *resurrect(void *arg)
{
    struct theatre *t = arg;
    while (!atomic_load(&t->died) && !atomic_load(&t->over))
        dml_clock_sleep_us(1000);
    if (atomic_load(&t->over))
        return NULL;
    dml_clock_sleep_us(50000); /* long enough for the master to miss it */
    if (dml_comm_hub_revive(t->hub, t->fault.rank) < 0) {
        printf("Bail out! rank %u cannot be revived\n", t->fault.rank);
        exit(1);
    }
    t->came_back = true;
    start(t, &t->second, t->fault.rank, false);
    return NULL;
}

static void on_round(void *arg, const struct dml_round *round)
{
    struct theatre *t = arg;
    if (t->fault.on_round)
        t->fault.on_round(t->lab, round);
    bool comes = t->fault.comes_back && atomic_load(&t->died);
    if (t->fault.release_at && round->round >= t->fault.release_at) {
        atomic_store(&t->released, true);
        comes = true;
    }
    /* Rounds this small would be over before it is heard of. Of 60, together half a minute. */
    if (comes && round->n_participants < t->lab->cases->cases[0].testcase.nodes)
        dml_clock_sleep_us(round->round * 20000);
}

int fault_run(struct lab *lab, const struct fault *fault)
{
    struct theatre t = {.lab = lab, .fault = *fault};
    uint32_t n = (uint32_t)lab->cases->cases[0].testcase.nodes;
    pthread_t healer;
    lab->on_round = on_round;
    lab->on_round_arg = &t;
    t.hub = dml_comm_hub_new(n + 1);
    struct dml_comm *comm = dml_comm_hub_get(t.hub, 0);
    for (uint32_t rank = 1; rank <= n; rank++)
        start(&t, &t.actors[rank - 1], rank, rank == fault->rank);
    bool heals = fault->comes_back && pthread_create(&healer, NULL, resurrect, &t) == 0;
    int r = lab_run_rank0(lab, comm);
    atomic_store(&t.over, true);
    dml_comm_free(comm);
    if (heals)
        (void)pthread_join(healer, NULL);
    if (t.came_back)
        (void)pthread_join(t.second.thread, NULL);
    for (uint32_t i = 0; i < n; i++)
        (void)pthread_join(t.actors[i].thread, NULL);
    dml_comm_hub_free(t.hub);
    return r;
}

static void *run_scene(void *arg)
{
    struct fault_scene *s = arg;
    s->r = fault_run(&s->lab, &s->fault);
    return NULL;
}

void fault_begin(struct fault_scene *s)
{
    if (pthread_create(&s->thread, NULL, run_scene, s) != 0) {
        printf("Bail out! no thread\n");
        exit(1);
    }
}

int fault_end(struct fault_scene *s)
{
    (void)pthread_join(s->thread, NULL);
    return s->r;
}
