/*
 * The order of a pipeline's operations, for every size up to 8 nodes, 6 chunks, 20 micro-batches:
 * played through with nodes that wait for what they need.
 */
#include "paradigm/schedule.h"

#include <stdlib.h>

#include "tests/tap.h"

#define S_MAX 8
#define V_MAX 6
#define M_MAX 20

/* Units of time an operation takes. */
#define F 1
#define B 2

struct cluster {
    unsigned n_stages, n_chunks, n_micro;
    struct dml_schedule *node[S_MAX];
    unsigned transfer; /* time from node to node, however many are on the way */
    unsigned done[2][S_MAX * V_MAX][M_MAX]; /* when; 0: not yet. [backward][run][micro-batch] */
};

static void init(struct cluster *c, unsigned s, unsigned v, unsigned m, bool hides)
{
    *c = (struct cluster){.n_stages = s, .n_chunks = v, .n_micro = m};
    for (unsigned i = 0; i < s; i++)
        if (dml_schedule_make(s, v, m, i, hides, &c->node[i]) < 0) {
            printf("Bail out! no memory\n");
            exit(1);
        }
}

static void done(struct cluster *c)
{
    for (unsigned i = 0; i < c->n_stages; i++)
        dml_schedule_free(c->node[i]);
}

/* When the input of an operation is there; 0: not yet. The first run needs nothing: 1. */
static unsigned input_at(const struct cluster *c, unsigned node, const struct dml_schedule_op *op)
{
    unsigned link = c->n_stages > 1 ? c->transfer : 0, sent;
    unsigned run = op->chunk * c->n_stages + node, last = c->n_stages * c->n_chunks - 1;
    if (!op->backward && run == 0)
        return 1;
    if (op->backward && (run == last || !c->done[0][run][op->micro]))
        return c->done[0][run][op->micro];
    sent = op->backward ? c->done[1][run + 1][op->micro] : c->done[0][run - 1][op->micro];
    return sent ? sent + link : 0;
}

/* Plays all lists. Returns the time of the last operation, or 0 when nodes wait for ever. */
static unsigned play(struct cluster *c)
{
    size_t at[S_MAX] = {0};
    unsigned free_at[S_MAX], end = 0;
    for (unsigned i = 0; i < S_MAX; i++)
        free_at[i] = 1;
    for (bool moved = true; moved;) {
        moved = false;
        for (unsigned i = 0; i < c->n_stages; i++)
            while (at[i] < c->node[i]->n_ops) {
                const struct dml_schedule_op *op = &c->node[i]->ops[at[i]];
                unsigned input = input_at(c, i, op);
                if (!input)
                    break;
                unsigned begin = input > free_at[i] ? input : free_at[i];
                free_at[i] = begin + (op->backward ? B : F);
                c->done[op->backward][op->chunk * c->n_stages + i][op->micro] = free_at[i];
                end = free_at[i] > end ? free_at[i] : end;
                at[i]++;
                moved = true;
            }
    }
    for (unsigned i = 0; i < c->n_stages; i++)
        if (at[i] < c->node[i]->n_ops)
            return 0;
    return end - 1;
}

/* Every operation once; within a chunk micro-batches ascend, forward and back; slots suffice. */
static bool list_is_sound(const struct cluster *c, unsigned node)
{
    const struct dml_schedule *s = c->node[node];
    unsigned n[2][V_MAX] = {{0}}, most[V_MAX] = {0};
    if (s->n_ops != 2 * (size_t)c->n_chunks * c->n_micro)
        return false;
    for (size_t i = 0; i < s->n_ops; i++) {
        const struct dml_schedule_op *op = &s->ops[i];
        if (op->chunk >= c->n_chunks || op->micro != n[op->backward][op->chunk]++)
            return false;
        unsigned now = n[0][op->chunk] - n[1][op->chunk];
        most[op->chunk] = now > most[op->chunk] ? now : most[op->chunk];
    }
    for (unsigned v = 0; v < c->n_chunks; v++)
        if (n[0][v] != c->n_micro || n[1][v] != c->n_micro || s->n_slots[v] != most[v])
            return false;
    return true;
}

/* V = 1: what Narayanan et al. 2021, figure 4 draws. */
static bool is_textbook(const struct cluster *c, unsigned node)
{
    const struct dml_schedule_op *op = c->node[node]->ops;
    unsigned m = c->n_micro, warm = c->n_stages - 1 - node, f = 0, b = 0;
    warm = warm < m ? warm : m;
    while (f < warm) {
        if (op->backward || op->micro != f++)
            return false;
        op++;
    }
    while (f < m) {
        if (op[0].backward || op[0].micro != f++ || !op[1].backward || op[1].micro != b++)
            return false;
        op += 2;
    }
    while (b < m) {
        if (!op->backward || op->micro != b++)
            return false;
        op++;
    }
    return true;
}

static unsigned n_in_flight(const struct dml_schedule *s)
{
    unsigned now = 0, most = 0;
    for (size_t i = 0; i < s->n_ops; i++) {
        now = s->ops[i].backward ? now - 1 : now + 1;
        most = now > most ? now : most;
    }
    return most;
}

static void test_all(bool hides)
{
    unsigned unsound = 0, stuck = 0, slow = 0, crowded = 0, odd = 0, n = 0;
    for (unsigned s = 1; s <= S_MAX; s++)
        for (unsigned v = 1; v <= V_MAX; v++)
            for (unsigned m = 1; m <= M_MAX; m++) {
                struct cluster c;
                init(&c, s, v, m, hides);
                unsigned took = play(&c);
                /* A round of less than S micro-batches has a gap wherever a chunk begins. */
                unsigned gaps = m < s ? (v - 1) * (s - m) : 0;
                unsigned want = (v * m + s - 1 + gaps) * (F + B);
                /* A group has less than 2 S micro-batches (4 S), or all. */
                unsigned group = m < 2 * s * (1 + hides) ? m : 2 * s * (1 + hides) - 1;
                if (took == 0)
                    stuck++;
                else if (took != want && slow++ < 5)
                    tap_note("S %u V %u M %u: took %u, wanted %u", s, v, m, took, want);
                for (unsigned i = 0; i < s; i++) {
                    unsigned room = v == 1 ? s - i : 2 * (s - 1 - i) + (v - 1) * group + 1;
                    if (hides)
                        room += v == 1 ? s - 1 - i : s - i;
                    if (!list_is_sound(&c, i) && unsound++ < 5)
                        tap_note("S %u V %u M %u: list of node %u", s, v, m, i);
                    if (n_in_flight(c.node[i]) > room && crowded++ < 5)
                        tap_note("S %u V %u M %u: node %u has %u in flight, room for %u", s, v, m,
                                 i, n_in_flight(c.node[i]), room);
                    odd += v == 1 && !is_textbook(&c, i);
                }
                done(&c);
                n++;
            }
    tap_int(n, S_MAX * V_MAX * M_MAX, "sizes played");
    tap_int(unsound, 0, "every operation once, in order, within its slots");
    tap_int(stuck, 0, "nobody waits for ever");
    tap_int(slow, 0, "a step takes (V M + S - 1)(F + B), with M < S no longer than it must");
    tap_int(crowded, 0, "micro-batches in flight stay bounded, however many there are");
    if (!hides)
        tap_int(odd, 0, "V = 1: the lists of one-forward-one-backward");
}

/* (S - 1)/(M + S - 1) of the time nothing happens, for V = 1. */
static void test_bubble(void)
{
    for (unsigned s = 2; s <= 4; s++) {
        struct cluster c;
        init(&c, s, 1, 8, false);
        double took = play(&c), busy = 8.0 * (F + B);
        tap_near(1.0 - busy / took, (s - 1.0) / (8.0 + s - 1.0), 1e-12, "the share that is idle");
        done(&c);
    }
}

/* Chunks make the same model's bubble V times smaller; a run's operation costs a V-th. */
static void test_chunks_pay(void)
{
    struct cluster one, two;
    init(&one, 4, 1, 8, false);
    init(&two, 4, 2, 8, false);
    double bubble_one = (play(&one) - 8.0 * (F + B)) / 1.0;
    double bubble_two = (play(&two) - 16.0 * (F + B)) / 2.0;
    tap_near(bubble_two, bubble_one / 2.0, 1e-12, "two chunks per node halve the bubble");
    done(&one);
    done(&two);
}

/* Transfers as long as a forward operation: of 16 micro-batches on 4 nodes each is paid for, or only
 * those of the first and the last, of which there are 3 each way. */
static void test_hiding(void)
{
    struct cluster plain, hiding;
    init(&plain, 4, 1, 16, false);
    init(&hiding, 4, 1, 16, true);
    plain.transfer = hiding.transfer = F;
    tap_int(play(&plain), 57 + 28, "the textbook's order waits for transfers");
    tap_int(play(&hiding), 57 + 6, "hidden, only what fills and empties the pipeline waits");
    done(&plain);
    done(&hiding);
    init(&plain, 3, 2, 12, false);
    init(&hiding, 3, 2, 12, true);
    plain.transfer = hiding.transfer = F;
    unsigned waits = play(&plain), hides = play(&hiding);
    tap_ok(waits > hides && hides <= 78 + 4, "in a ring too: %u, then %u; 78 without transfers",
           waits, hides);
    done(&plain);
    done(&hiding);
}

static void test_large(void)
{
    struct dml_schedule *s = NULL;
    tap_int(dml_schedule_make(52, 8, 1024, 17, true, &s), 0, "a large one");
    tap_ok(s && s->n_ops == 2u * 8 * 1024, "has all its operations");
    dml_schedule_free(s);
    dml_schedule_free(NULL);
}

int main(void)
{
    test_all(false);
    test_all(true);
    test_bubble();
    test_chunks_pay();
    test_hiding();
    test_large();
    return tap_done();
}
