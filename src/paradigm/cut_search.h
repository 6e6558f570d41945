/*
 * The search behind dml_cut_make(): of all ways to cut n pieces into S·V runs, the one whose
 * longest run is shortest, among those whose nodes keep below a limit of memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dml_cut_search {
    size_t n;                /* pieces */
    size_t n_stages, n_runs; /* S, S·V; n_runs <= n */
    const uint64_t *before;  /* [n + 1] cost of all pieces before a cut */
    const uint64_t *crosses; /* [n + 1] floats that cross it; nothing at the ends */
    bool overlap;            /* transfers are hidden behind computing */
    /* Most bytes of a node, 0: no limit. What run i takes with the pieces [first, last); a node
     * takes the sum of its runs i, i + S, … An answer above `most` need not be exact. */
    uint64_t limit;
    uint64_t (*memory)(void *arg, size_t i, size_t first, size_t last, uint64_t most);
    void *arg;
};

/*
 * Of the cuts that reach the shortest longest run, the one with the fewest floats crossing.
 *   ret_at    [n_runs + 1]
 *   ret_need  when none fits: what the largest node needs with the cut that needs least
 * Returns 0, 1 (none fits), -ENOMEM (of this search).
 * With several runs per node and a limit, there are more ways than can be tried in a model of many
 * pieces: then the best that was found in a bounded number of steps.
 * Cost: S·V·n², and as many calls of memory() at most; usually S·V·n.
 */
int dml_cut_search(const struct dml_cut_search *s, size_t *ret_at, uint64_t *ret_need);

/* What the run of pieces [first, last) costs. */
uint64_t dml_cut_search_cost(const struct dml_cut_search *s, size_t first, size_t last);
