/*
 * The agreed state changes only when all members of a leg have answered: until then their answers
 * are held, and a leg that fails leaves no trace but the time it took.
 *
 * Samples are dealt for the whole run. While a worker is away, its shard is not trained on, as in
 * federated learning; an epoch keeps its number of steps, so that the schedule of the learning rate
 * does not depend on who was there.
 */
#include "paradigm/legs.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "paradigm/blame.h"
#include "paradigm/group.h"
#include "paradigm/legs_state.h"
#include "paradigm/provision.h"
#include "paradigm/rounds.h"

/* After a first complaint: how long the others have to say theirs, and how long a worker that
 * cannot be reached has to turn out to be gone. Members' deadlines run from the last message each
 * has got, which differ by the computing of a step. Who cannot reach another says so at once; the
 * first that complains of silence gives the others their time anew. */
#define GRACE_US       10000000
#define GRACE_REACH_US 2000000

struct legs {
    struct dml_task *task;
    struct dml_legs_deal deal;
    struct dml_provision provision;
    struct dml_rounds rounds;
    struct dml_blame blame;
    struct dml_legs_state s;
    uint64_t generation, number, epoch_batches;
    uint32_t *ranks;    /* [n] members, ascending */
    unsigned n, n_most; /* … the most there ever were */
    bool *silent;       /* [size] left out until it says something */
    bool *agrees;       /* [size] its own state is the agreed one */
    bool *dealt;        /* [size] got another shard and has not said yet that it is there */
    bool *answered;     /* [size] this leg */
    struct dml_comm_msg *held; /* [size] the answers */
    unsigned n_answers, n_left_out;
    uint64_t judge_us;  /* when complaints are looked at */
    char why[304];      /* the last one that said more, or "" */
};

/* What is asked of the members. */
struct leg {
    uint64_t round, first, n_steps;
};

static void legs_done(struct legs *l)
{
    for (uint32_t rank = 0; l->held && rank < l->task->comm->size; rank++)
        dml_message_done(&l->held[rank]);
    free(l->held);
    free(l->ranks);
    free(l->silent);
    free(l->agrees);
    free(l->dealt);
    free(l->answered);
    dml_legs_state_done(&l->s);
    dml_blame_done(&l->blame);
    dml_rounds_done(&l->rounds);
    dml_provision_done(&l->provision);
}

static int legs_init(struct legs *l, struct dml_task *task, const struct dml_legs_ops *ops,
                     void *arg)
{
    uint32_t size = task->comm->size;
    size_t most = 0;
    *l = (struct legs){.task = task, .deal = {.ops = ops, .arg = arg}};
    l->ranks = calloc(size, sizeof(*l->ranks));
    l->silent = calloc(size, sizeof(*l->silent));
    l->agrees = calloc(size, sizeof(*l->agrees));
    l->dealt = calloc(size, sizeof(*l->dealt));
    l->answered = calloc(size, sizeof(*l->answered));
    l->held = calloc(size, sizeof(*l->held));
    if (dml_legs_state_init(&l->s, task) < 0 || !l->ranks || !l->silent || !l->agrees || !l->dealt || !l->answered ||
        !l->held)
        return -ENOMEM;
    for (size_t i = 0; i < task->shards->n_shards; i++)
        most = task->shards->n[i] > most ? task->shards->n[i] : most;
    l->epoch_batches = (most + task->tc->train.batch_size - 1) / task->tc->train.batch_size;
    int r = dml_blame_init(&l->blame, size);
    if (r == 0)
        r = dml_rounds_init(&l->rounds, task);
    return r < 0 ? r : dml_provision_init(&l->provision, task);
}

/* "pi-3", or "worker 3" */
static const char *name_of(const struct legs *l, uint32_t rank, char *buf, size_t buf_len)
{
    struct dml_round_worker who = {.rank = rank};
    if (l->task->describe)
        l->task->describe(l->task->describe_arg, rank, &who);
    if (who.id[0])
        (void)snprintf(buf, buf_len, "%s", who.id);
    else
        (void)snprintf(buf, buf_len, "worker %u", rank);
    return buf;
}

/* A worker that is there, but of no use. */
static void leave_out(struct legs *l, uint32_t rank, const char *why)
{
    struct dml_round_worker who = {.rank = rank};
    if (l->task->describe)
        l->task->describe(l->task->describe_arg, rank, &who);
    if (!who.id[0])
        (void)snprintf(who.id, sizeof(who.id), "%u", rank);
    l->silent[rank] = true;
    l->n_left_out++;
    dml_event_worker_lost(l->task->events, who.id, why);
}

static bool is_member(const struct legs *l, uint32_t rank)
{
    for (unsigned i = 0; i < l->n; i++)
        if (l->ranks[i] == rank)
            return true;
    return false;
}

/* A worker's answer to the current leg. */
static bool is_sound(const struct legs *l, const struct leg *leg, const struct dml_comm_msg *msg)
{
    unsigned i = 0;
    while (l->ranks[i] != msg->from)
        i++;
    size_t len = dml_legs_sends(&l->deal, l->n, i) ? dml_legs_part(&l->deal, &l->s, l->n, i) * sizeof(float) : 0;
    if (msg->n_meta < DML_UPDATE_N_ || (msg->body ? msg->body->len : 0) != len)
        return false;
    for (int k = 0; k < DML_UPDATE_N_; k++)
        if (k != DML_UPDATE_LOSS && k != DML_UPDATE_ACCURACY &&
            !dml_message_is_count(msg->meta[k], 0))
            return false;
    return msg->meta[DML_UPDATE_STEPS] == (double)leg->n_steps &&
           msg->meta[DML_UPDATE_SHARD] ==
               (double)dml_provision_n_samples(&l->provision, msg->from);
}

static int take_complaint(struct legs *l, const struct dml_comm_msg *msg)
{
    const struct dml_testcase *tc = l->task->tc;
    double about = msg->n_meta >= DML_STUCK_N_ ? msg->meta[DML_STUCK_RANK] : 0.0;
    if (msg->seq != l->generation || !is_member(l, msg->from) ||
        !dml_message_is_count(about, 1) || about >= l->task->comm->size ||
        about == msg->from || !is_member(l, (uint32_t)about))
        return 0;
    bool unreachable = msg->meta[DML_STUCK_UNREACHABLE] > 0.0;
    uint64_t grace = unreachable ? GRACE_REACH_US : GRACE_US, now = dml_clock_now_us();
    if (grace > tc->cluster.step_deadline_us)
        grace = tc->cluster.step_deadline_us;
    if (l->blame.n == 0 || (!unreachable && !l->blame.waits))
        l->judge_us = now + grace;
    if (msg->body) {
        l->why[0] = ' ';
        (void)dml_message_text(msg->body, l->why + 1, sizeof(l->why) - 1);
    }
    dml_blame_add(&l->blame, msg->from, (uint32_t)about, unreachable);
    if (dml_blame_is_ripe(&l->blame, l->ranks, l->n, l->answered))
        l->judge_us = now;
    return 0;
}

/* Whatever arrives. leg: NULL between legs. -ERESTART: the leg cannot be finished. */
static int take(struct legs *l, const struct leg *leg, struct dml_comm_msg *io_msg)
{
    uint32_t from = io_msg->from;
    bool gone = io_msg->kind == DML_COMM_LOST || io_msg->kind == DML_MESSAGE_FAILED;
    if (!gone)
        l->silent[from] = false; /* it is there after all */
    if (io_msg->kind == DML_MESSAGE_STUCK)
        return leg ? take_complaint(l, io_msg) : 0;
    if (io_msg->kind == DML_MESSAGE_UPDATE) {
        if (!leg || io_msg->seq != l->number || !is_member(l, from) || l->answered[from])
            return 0; /* to a leg that is over */
        if (!is_sound(l, leg, io_msg)) {
            leave_out(l, from, "its answer makes no sense");
            return -ERESTART;
        }
        l->answered[from] = true;
        l->n_answers++;
        l->held[from] = *io_msg;
        io_msg->body = NULL;
        if (l->blame.n && dml_blame_is_ripe(&l->blame, l->ranks, l->n, l->answered))
            l->judge_us = dml_clock_now_us();
        return 0;
    }
    int r = dml_provision_handle(&l->provision, io_msg);
    if (r < 0)
        return r;
    if (l->provision.state[from] == DML_PROVISION_READY)
        l->dealt[from] = false;
    if (!gone)
        return 0;
    l->silent[from] = l->agrees[from] = l->dealt[from] = false;
    return leg && is_member(l, from) ? -ERESTART : 0;
}

static bool may_train(const struct legs *l, uint32_t rank)
{
    enum dml_provision_state state = l->provision.state[rank];
    return !l->silent[rank] &&
           (state == DML_PROVISION_READY || (l->dealt[rank] && state != DML_PROVISION_GONE));
}

/* The members there could be now. Returns how many; may be too few. */
static unsigned choose(const struct legs *l, uint32_t *ret_ranks)
{
    unsigned n = 0;
    for (uint32_t rank = 1; rank < l->task->comm->size; rank++)
        if (may_train(l, rank))
            ret_ranks[n++] = rank;
    return l->deal.ops->fit ? l->deal.ops->fit(l->deal.arg, n) : n;
}

/* Without so many the run does not go on. */
static unsigned needed(const struct legs *l)
{
    const struct dml_testcase *tc = l->task->tc;
    double quorum = ceil(tc->cluster.quorum * (double)tc->testcase.nodes - 1e-9);
    if (tc->cluster.on_loss == DML_ON_LOSS_WAIT && l->n_most > 0)
        return l->n_most;
    return quorum < 1.0 ? 1 : (unsigned)quorum;
}

/* Gives the chosen ones their shards. Returns 0 when all have theirs, 1 when some must get it. */
static int deal(struct legs *l, const uint32_t *ranks, unsigned n)
{
    int all = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t rank = ranks[i];
        uint32_t shard = l->deal.ops->shard ? l->deal.ops->shard(l->deal.arg, n, i) : rank - 1;
        if (l->provision.shard[rank] != shard)
            l->dealt[rank] = true;
        int r = dml_provision_assign(&l->provision, rank, shard);
        if (r < 0)
            return r;
        all |= l->provision.state[rank] != DML_PROVISION_READY;
    }
    return all;
}

static int too_few(const struct legs *l, const struct leg *leg, unsigned n, struct dml_err *err)
{
    return dml_err_set(err, -ENOLINK,
                       "round %llu cannot go on: it needs %u workers, %u can train%s%s",
                       (unsigned long long)leg->round, needed(l), n,
                       l->provision.last_failure[0] ? "; " : "", l->provision.last_failure);
}

/* Chooses the members of the next leg: the same as before, or a new generation. */
static int gather(struct legs *l, const struct leg *leg, bool broken, struct dml_err *err)
{
    struct dml_task *task = l->task;
    uint64_t deadline = task->tc->cluster.on_loss == DML_ON_LOSS_WAIT
                            ? dml_rounds_setup_deadline(task)
                            : dml_rounds_deadline(task);
    uint32_t ranks[DML_COMM_RANKS_MAX];
    unsigned n;
    for (;;) {
        n = choose(l, ranks);
        int r = n < needed(l) || n == 0 ? 1 : deal(l, ranks, n);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        r = dml_message_next(task, deadline, &msg);
        if (r == -ETIMEDOUT)
            return too_few(l, leg, n, err);
        if (r == 0)
            r = take(l, NULL, &msg);
        if (r < 0)
            return r;
    }
    if (!broken && n == l->n && !memcmp(ranks, l->ranks, n * sizeof(*ranks)))
        return 0;
    memcpy(l->ranks, ranks, n * sizeof(*ranks));
    l->n = n;
    l->n_most = n > l->n_most ? n : l->n_most;
    l->generation++;
    if (l->deal.ops->part) /* parts depend on who is there */
        memset(l->agrees, 0, task->comm->size * sizeof(*l->agrees));
    return 0;
}

/* What member i is sent with its order. */
static struct dml_buf *order_body(const struct legs *l, unsigned i, bool has_part)
{
    size_t n = has_part ? dml_legs_part(&l->deal, &l->s, l->n, i) : 0;
    struct dml_buf *body = dml_buf_new((l->n + n) * sizeof(float));
    if (!body)
        return NULL;
    for (unsigned m = 0; m < l->n; m++) {
        uint32_t v = htole32((uint32_t)dml_provision_n_samples(&l->provision, l->ranks[m]));
        memcpy(body->data + m * sizeof(v), &v, sizeof(v));
    }
    if (has_part)
        dml_legs_take(&l->deal, &l->s, l->n, i, dml_buf_floats(body) + l->n);
    return body;
}

static int order(struct legs *l, const struct leg *leg)
{
    _cleanup_(dml_buf_unrefp) struct dml_buf *whole = NULL; /* the same for all that need it */
    struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_LEG,
        .seq = ++l->number,
        .n_meta = DML_LEG_N_,
        .meta = {[DML_LEG_GENERATION] = (double)l->generation,
                 [DML_LEG_ROUND] = (double)leg->round,
                 [DML_LEG_FIRST] = (double)leg->first,
                 [DML_LEG_STEPS] = (double)leg->n_steps,
                 [DML_LEG_EPOCH_BATCHES] = (double)l->epoch_batches,
                 [DML_LEG_OPTIM_STEP] = (double)l->s.step},
    };
    for (unsigned i = 0; i < l->n; i++)
        msg.meta[DML_LEG_MEMBERS + l->ranks[i] / DML_LEG_BITS] +=
            (double)(UINT64_C(1) << l->ranks[i] % DML_LEG_BITS);
    for (unsigned i = 0; i < l->n; i++) {
        bool has_part = !l->agrees[l->ranks[i]], shared = has_part && !l->deal.ops->part;
        msg.body = shared && whole ? dml_buf_ref(whole) : order_body(l, i, has_part);
        if (!msg.body)
            return -ENOMEM;
        if (shared && !whole)
            whole = dml_buf_ref(msg.body);
        msg.meta[DML_LEG_HAS_PART] = has_part;
        int r = dml_comm_send(l->task->comm, l->ranks[i], &msg);
        dml_message_done(&msg);
        if (r < 0 && r != -EPIPE) /* gone: LOST says so in its turn */
            return r;
    }
    return 0;
}

static int judge(struct legs *l, const struct leg *leg, struct dml_err *err)
{
    uint32_t a = 0, b = 0;
    char name_a[80], name_b[80], text[200];
    switch (dml_blame_judge(&l->blame, l->ranks, l->n, l->answered, &a, &b)) {
    case DML_BLAME_AGAIN:
        return -ERESTART;
    case DML_BLAME_SILENT:
        (void)snprintf(text, sizeof(text),
                       "it kept the others waiting for longer than step-deadline (%g s) in round "
                       "%llu and is left out until it is heard of again",
                       (double)l->task->tc->cluster.step_deadline_us / 1e6,
                       (unsigned long long)leg->round);
        leave_out(l, a, text);
        return -ERESTART;
    case DML_BLAME_PAIR:
        return dml_err_set(err, -ENOLINK,
                           "%s and %s both reach the master, but not each other, in %u tries: "
                           "check that nodes may connect to each other (firewall, isolated "
                           "wireless clients, different networks).%s",
                           name_of(l, a, name_a, sizeof(name_a)),
                           name_of(l, b, name_b, sizeof(name_b)), DML_BLAME_TRIES, l->why);
    case DML_BLAME_KNOT:
        break;
    }
    return dml_err_set(err, -EDEADLK,
                       "in round %llu all workers waited for each other, %s for %s, in %u tries",
                       (unsigned long long)leg->round, name_of(l, a, name_a, sizeof(name_a)),
                       name_of(l, b, name_b, sizeof(name_b)), DML_BLAME_TRIES);
}

/* Nobody complains, but round-deadline has passed. */
static int give_up(struct legs *l)
{
    for (unsigned i = 0; i < l->n; i++)
        if (!l->answered[l->ranks[i]])
            leave_out(l, l->ranks[i], "it did not answer within round-deadline");
    return -ERESTART;
}

static int collect(struct legs *l, const struct leg *leg, struct dml_err *err)
{
    uint64_t deadline = dml_rounds_deadline(l->task);
    while (l->n_answers < l->n) {
        uint64_t until = l->judge_us < deadline ? l->judge_us : deadline;
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        int r = dml_message_next(l->task, until, &msg);
        if (r == -ETIMEDOUT)
            return until == l->judge_us ? judge(l, leg, err) : give_up(l);
        if (r == 0)
            r = take(l, leg, &msg);
        if (r < 0)
            return r;
    }
    return 0;
}

static void forget_answers(struct legs *l)
{
    for (uint32_t rank = 1; rank < l->task->comm->size; rank++) {
        dml_message_done(&l->held[rank]);
        l->answered[rank] = false;
    }
    l->n_answers = 0;
    l->judge_us = DML_CLOCK_NEVER;
    dml_blame_again(&l->blame);
}

/* All have answered: their state is the agreed one. */
static int conclude(struct legs *l, const struct leg *leg, struct dml_err *err)
{
    uint32_t first = 0;
    for (unsigned i = 0; i < l->n; i++) {
        const struct dml_comm_msg *msg = &l->held[l->ranks[i]];
        double check = msg->meta[DML_UPDATE_CHECK];
        char a[80], b[80];
        if (check > 0.0 && first && check != l->held[first].meta[DML_UPDATE_CHECK])
            return dml_err_set(err, -EBADMSG,
                               "%s and %s have come to different parameters in round %llu: they do "
                               "not run the same program, or one of them has computed wrongly",
                               name_of(l, first, a, sizeof(a)),
                               name_of(l, l->ranks[i], b, sizeof(b)),
                               (unsigned long long)leg->round);
        if (check > 0.0 && !first)
            first = l->ranks[i];
    }
    for (unsigned i = 0; i < l->n; i++) {
        const struct dml_comm_msg *msg = &l->held[l->ranks[i]];
        if (msg->body)
            dml_legs_put(&l->deal, &l->s, l->n, i, dml_buf_floats(msg->body));
        dml_legs_layers(&l->deal, l->n, i, dml_rounds_answer(&l->rounds, msg));
        l->agrees[l->ranks[i]] = true;
    }
    l->s.step = (uint64_t)l->held[l->ranks[0]].meta[DML_UPDATE_OPTIM_STEP];
    forget_answers(l);
    return 0;
}

static int run_leg(struct legs *l, const struct leg *leg, struct dml_err *err)
{
    dml_blame_leg(&l->blame);
    l->why[0] = '\0';
    for (bool broken = false;; broken = true) {
        forget_answers(l);
        int r = gather(l, leg, broken, err);
        if (r == 0)
            r = order(l, leg);
        if (r == 0)
            r = collect(l, leg, err);
        if (r == 0)
            return conclude(l, leg, err);
        if (r != -ERESTART)
            return r;
        memset(l->agrees, 0, l->task->comm->size * sizeof(*l->agrees));
    }
}

static int run_round(struct legs *l, uint64_t round, struct dml_err *err)
{
    const struct dml_testcase *tc = l->task->tc;
    uint64_t n_steps = tc->train.local_epochs * dml_group_epoch_steps(tc, l->epoch_batches);
    uint64_t most = tc->parallel.checkpoint_steps ? tc->parallel.checkpoint_steps : n_steps;
    struct leg leg = {.round = round};
    int r = 0;
    dml_rounds_begin(&l->rounds, round);
    for (; r == 0 && leg.first < n_steps; leg.first += leg.n_steps) {
        leg.n_steps = n_steps - leg.first < most ? n_steps - leg.first : most;
        r = run_leg(l, &leg, err);
    }
    return r < 0 ? r : dml_rounds_end(&l->rounds, true, "", err);
}

/* Enough workers to begin with. */
static unsigned n_first(const struct dml_task *task)
{
    uint64_t n = task->tc->cluster.min_workers, nodes = task->tc->testcase.nodes;
    return (unsigned)(n && n < nodes ? n : nodes);
}

int dml_legs_lead(struct dml_task *task, const struct dml_legs_ops *ops, void *arg,
                  struct dml_err *err)
{
    struct legs l;
    uint64_t begin = dml_clock_now_us();
    int r = legs_init(&l, task, ops, arg);
    if (r == 0)
        r = dml_provision_wait(&l.provision, n_first(task), dml_rounds_setup_deadline(task), err);
    task->totals.setup_us = dml_clock_now_us() - begin;
    for (uint64_t round = 1; r == 0 && round <= task->tc->train.rounds; round++)
        r = run_round(&l, round, err);
    if (r == 0) {
        struct dml_comm_msg finish = {.kind = DML_MESSAGE_FINISH};
        (void)dml_comm_bcast(task->comm, &finish);
        dml_rounds_totals(&l.rounds, l.provision.n_lost + l.n_left_out);
    }
    legs_done(&l);
    return r;
}
