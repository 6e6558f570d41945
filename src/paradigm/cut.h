/*
 * Where a model is cut for a pipeline: S·V consecutive runs of layers that take about as long as
 * each other. A pure function: every rank of a run comes to the same cuts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_err;
struct dml_model;

struct dml_cut_options {
    const struct dml_model *model; /* the whole one */
    unsigned n_stages, n_chunks;   /* S, V; at least 1 */
    const char *layers;            /* key `cut`: numbers of the layers that begin runs 2 …, separated
                                    * by blanks; NULL or "": by cost */
    const double *costs_us;        /* [n] of the pieces, measured (nn/bench_cuts.h); NULL: estimated
                                    */
    bool overlap;                  /* transfers are hidden behind computing */
    /* Most bytes of a node, 0: no limit; and what run i takes with the cuts [first, last). A node
     * takes the sum of its runs. An answer above `most` need not be exact. */
    uint64_t limit;
    uint64_t (*memory)(void *arg, size_t i, size_t first, size_t last, uint64_t most);
    void *arg;
};

struct dml_cut {
    size_t n_runs; /* S·V */
    size_t *at;    /* [n_runs + 1] numbers of cuts (nn/model_cut.h), ascending, all of them */
    double *share; /* [n_runs] of what all pieces cost, transfers apart */
};

/*
 * Errors: -EINVAL with a sentence: more runs than the model has pieces, a layer that begins no
 * piece (names the nearest that do); -ENOMEM with one when no cut keeps below the limit, without
 * when memory is out here. Owner: caller.
 * Measured costs decide how much of the whole a piece takes; how that compares with a transfer
 * stays estimated, since who measures need not be who trains.
 * Cost: paradigm/cut_search.h.
 */
int dml_cut_make(const struct dml_cut_options *o, struct dml_cut **ret, struct dml_err *err);
struct dml_cut *dml_cut_free(struct dml_cut *cut);
DML_MEM_CLEANUP(struct dml_cut, dml_cut_free);

/* "1-7 8-12": the layers of each run, as dmlctl models numbers them. Returns 0 or -ENOMEM. Caller
 * frees. */
int dml_cut_print(const struct dml_cut *cut, const struct dml_model *model, char **ret);
/* "8": the same as the key `cut` takes it. Returns 0 or -ENOMEM. Caller frees. */
int dml_cut_print_key(const struct dml_cut *cut, const struct dml_model *model, char **ret);
