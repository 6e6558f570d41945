/*
 * The linear partition problem, by dynamic programming over the number of runs and their ends: of
 * the cuts that end run k before piece `last`, only the best can be part of a whole one.
 *
 * That holds as long as runs do not depend on each other. A ring's do, under a limit of memory: the
 * runs of a node share it. Then a search in depth, that leaves a branch when what it has, and what
 * the rest must take without any limit, is no better than the best that was found.
 *
 * A run takes the time of its layers, c, and of what its node sends, T: activations on to the next
 * and gradients back to the one before. Where transfers hide behind computing that is max(c, T),
 * else c + T. Only integers are compared: all ranks must agree, whatever processor they have.
 */
#include "paradigm/cut_search.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Multiply-adds in the time one float takes to another node: a core of a small board makes some
 * 3 G of them a second when training, 100 Mbit/s carry 3 M floats. */
#define SEND_MACS 1000

/* Runs that the search in depth looks at: about a second on a small board. */
#define STEPS_MAX 300000

/* What is made least. */
enum aim { LONGEST_RUN, LARGEST_NODE, FLOATS_CROSSING };

struct table {
    const struct dml_cut_search *s;
    uint64_t *best; /* [n_runs + 1][n + 1] of runs 0 … k-1 that end there */
    size_t *from;   /* where the last of them begins */
};

uint64_t dml_cut_search_cost(const struct dml_cut_search *s, size_t first, size_t last)
{
    uint64_t c = s->before[last] - s->before[first];
    uint64_t t = SEND_MACS * (s->crosses[first] + s->crosses[last]);
    return !s->overlap ? c + t : c > t ? c : t;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/*
 * Fills the table. Runs of more than `longest` are not taken, nor, unless memory is what is made
 * least, those above the limit. Returns the best whole cut, UINT64_MAX: there is none.
 */
static uint64_t fill(struct table *t, enum aim aim, uint64_t longest, bool limited)
{
    const struct dml_cut_search *s = t->s;
    size_t row = s->n + 1;
    for (size_t i = 0; i < (s->n_runs + 1) * row; i++)
        t->best[i] = UINT64_MAX;
    t->best[0] = 0;
    for (size_t k = 1; k <= s->n_runs; k++)
        for (size_t last = k; last <= s->n - (s->n_runs - k); last++)
            for (size_t first = k - 1; first < last; first++) {
                uint64_t so_far = t->best[(k - 1) * row + first], *best = &t->best[k * row + last];
                if (so_far >= *best)
                    continue;
                uint64_t cost = dml_cut_search_cost(s, first, last), here = so_far;
                if (cost > longest)
                    continue;
                if (aim == LARGEST_NODE)
                    here = larger(so_far, s->memory(s->arg, k - 1, first, last, *best));
                else
                    here = aim == LONGEST_RUN ? larger(so_far, cost) : so_far + s->crosses[first];
                if (here >= *best)
                    continue;
                if (limited && s->memory(s->arg, k - 1, first, last, s->limit) > s->limit)
                    continue;
                *best = here;
                t->from[k * row + last] = first;
            }
    return t->best[s->n_runs * row + s->n];
}

static void read_off(const struct table *t, size_t *ret_at)
{
    size_t end = t->s->n;
    for (size_t k = t->s->n_runs; k > 0; k--) {
        ret_at[k] = end;
        end = t->from[k * (t->s->n + 1) + end];
    }
    ret_at[0] = 0;
}

/* ---- several runs per node, under a limit -------------------------------------------------- */

struct depth {
    const struct dml_cut_search *s;
    enum aim aim;
    const uint64_t *rest; /* [n_runs + 1][n + 1] longest of runs k … that begin there, at least */
    uint64_t *used;       /* [S] */
    size_t *at, *best_at; /* [n_runs + 1] */
    uint64_t best, best_crossing;
    unsigned steps;
};

/* Least that the longest of the runs k … can be that begin at a piece, whatever the memory. */
static void fill_rest(const struct dml_cut_search *s, uint64_t *rest)
{
    size_t row = s->n + 1;
    for (size_t i = 0; i < (s->n_runs + 1) * row; i++)
        rest[i] = UINT64_MAX;
    rest[s->n_runs * row + s->n] = 0;
    for (size_t k = s->n_runs; k-- > 0;)
        for (size_t first = k; first < s->n; first++)
            for (size_t last = first + 1; last <= s->n; last++) {
                uint64_t then = rest[(k + 1) * row + last];
                uint64_t cost = larger(dml_cut_search_cost(s, first, last), then);
                if (then != UINT64_MAX && cost < rest[k * row + first])
                    rest[k * row + first] = cost;
            }
}

/* What the longest run must be, at least, when run k takes the pieces [first, last). */
static uint64_t bound_of(const struct depth *d, size_t k, size_t first, size_t last)
{
    return larger(dml_cut_search_cost(d->s, first, last), d->rest[(k + 1) * (d->s->n + 1) + last]);
}

static bool is_better(const struct depth *d, uint64_t value, uint64_t crossing)
{
    return value < d->best || (value == d->best && crossing < d->best_crossing);
}

static void descend(struct depth *d, size_t k, size_t first, uint64_t value, uint64_t crossing);

/* Run k takes [first, last), if that may lead to something better. */
static void try_run(struct depth *d, size_t k, size_t first, size_t last, uint64_t value,
                    uint64_t crossing)
{
    const struct dml_cut_search *s = d->s;
    uint64_t *used = &d->used[k % s->n_stages], had = *used;
    uint64_t bound = d->aim == LONGEST_RUN ? bound_of(d, k, first, last) : 0;
    if (!is_better(d, larger(value, bound), crossing) || d->steps == STEPS_MAX)
        return;
    d->steps++;
    uint64_t most = d->aim == LONGEST_RUN ? s->limit : d->best;
    uint64_t takes = s->memory(s->arg, k, first, last, most);
    if (had > most || takes > most - had)
        return;
    uint64_t own = d->aim == LONGEST_RUN ? dml_cut_search_cost(s, first, last) : had + takes;
    value = larger(value, own);
    if (!is_better(d, value, crossing))
        return;
    *used = had + takes;
    d->at[k + 1] = last;
    descend(d, k + 1, last, value, crossing);
    *used = had;
}

/* Runs k … from piece `first`; value: what is made least, of the runs before. The even ends come
 * first: the sooner something good is found, the more need not be tried. */
static void descend(struct depth *d, size_t k, size_t first, uint64_t value, uint64_t crossing)
{
    const struct dml_cut_search *s = d->s;
    if (k == s->n_runs) {
        d->best = value;
        d->best_crossing = crossing;
        memcpy(d->best_at, d->at, (s->n_runs + 1) * sizeof(*d->at));
        return;
    }
    size_t low = k + 1 == s->n_runs ? s->n : first + 1, high = s->n - (s->n_runs - k - 1);
    size_t down = low, up;
    for (size_t last = low; last <= high; last++)
        if (bound_of(d, k, first, last) < bound_of(d, k, first, down))
            down = last;
    crossing += s->crosses[first];
    for (up = down + 1; down >= low || up <= high;) {
        bool goes_up = up <= high && (down < low || bound_of(d, k, first, up) <
                                                        bound_of(d, k, first, down));
        try_run(d, k, first, goes_up ? up++ : down--, value, crossing);
    }
}

static uint64_t in_depth(struct depth *d, enum aim aim)
{
    d->aim = aim;
    d->steps = 0;
    d->best = d->best_crossing = UINT64_MAX;
    memset(d->used, 0, d->s->n_stages * sizeof(*d->used));
    descend(d, 0, 0, 0, 0);
    return d->best;
}

static uint64_t largest_node(const struct dml_cut_search *s, const size_t *at)
{
    uint64_t largest = 0;
    for (size_t stage = 0; stage < s->n_stages; stage++) {
        uint64_t sum = 0;
        for (size_t i = stage; i < s->n_runs; i += s->n_stages)
            sum += s->memory(s->arg, i, at[i], at[i + 1], UINT64_MAX);
        largest = larger(largest, sum);
    }
    return largest;
}

static int ring_search(const struct table *t, size_t *ret_at, uint64_t *ret_need)
{
    const struct dml_cut_search *s = t->s;
    struct depth d = {.s = s, .best_at = ret_at};
    int r = 1;
    /* What is best without a limit need not be searched for when it keeps to it. */
    read_off(t, ret_at);
    *ret_need = largest_node(s, ret_at);
    if (*ret_need <= s->limit)
        return 0;
    fill_rest(s, t->best);
    d.rest = t->best;
    d.used = calloc(s->n_stages, sizeof(*d.used));
    d.at = calloc(s->n_runs + 1, sizeof(*d.at));
    if (!d.used || !d.at) {
        r = -ENOMEM;
    } else if (in_depth(&d, LONGEST_RUN) != UINT64_MAX) {
        r = 0;
    } else if (in_depth(&d, LARGEST_NODE) < *ret_need) {
        *ret_need = d.best;
        r = d.best <= s->limit ? 0 : 1; /* found when the other search had given up */
    }
    free(d.used);
    free(d.at);
    return r;
}

/* ---- both ---------------------------------------------------------------------------------- */

static int search(struct table *t, size_t *ret_at, uint64_t *ret_need)
{
    const struct dml_cut_search *s = t->s;
    bool shares = s->n_runs > s->n_stages, limited = s->limit > 0 && !shares;
    uint64_t longest = fill(t, LONGEST_RUN, UINT64_MAX, limited);
    if (longest == UINT64_MAX) {
        *ret_need = fill(t, LARGEST_NODE, UINT64_MAX, false);
        return 1;
    }
    (void)fill(t, FLOATS_CROSSING, longest, limited);
    if (s->limit > 0 && shares)
        return ring_search(t, ret_at, ret_need);
    read_off(t, ret_at);
    return 0;
}

int dml_cut_search(const struct dml_cut_search *s, size_t *ret_at, uint64_t *ret_need)
{
    size_t len = 0;
    if (!dml_mem_mul(s->n_runs + 1, s->n + 1, &len))
        return -ENOMEM;
    struct table t = {.s = s};
    t.best = dml_mem_array(len, sizeof(*t.best));
    t.from = dml_mem_array(len, sizeof(*t.from));
    int r = t.best && t.from ? search(&t, ret_at, ret_need) : -ENOMEM;
    free(t.best);
    free(t.from);
    return r;
}
