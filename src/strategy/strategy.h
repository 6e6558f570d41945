/*
 * The plugin ABI of aggregation strategies. This header is installed.
 *
 * A strategy is numeric policy and nothing else: client updates in, new global vector out. No I/O,
 * no threads, no globals, no RPC. A plugin exports exactly one symbol,
 *
 *     const struct dml_strategy dml_strategy_plugin = { .abi = DML_STRATEGY_ABI, … };
 *
 * Nothing runs when it is loaded. The loader checks abi, size, name and option table, and says in
 * one line why it refuses.
 *
 * Per run: init → per round: begin, add for each update (in order of rank, so that the same updates
 * give the same bits), end → done.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/opt.h"

#define DML_STRATEGY_ABI 1

/* One client's answer to one round. Borrowed for the call. */
struct dml_strategy_update {
    uint32_t rank;
    uint64_t n_samples;   /* that it trained on: FedAvg's n_k */
    uint64_t n_steps;     /* optimiser steps behind it */
    double loss;          /* mean training loss */
    const float *vec;     /* [n_vec]: its parameters (and other state) after local training */
};

/* The mean family may run under paradigms that only ever average. */
#define DML_STRATEGY_MEAN 1u

struct dml_strategy {
    uint32_t abi;                  /* DML_STRATEGY_ABI */
    uint32_t size;                 /* sizeof(struct dml_strategy) */
    const char *name;              /* as in `[strategy] name =`; a-z, 0-9, - */
    const char *summary, *source;  /* one sentence; paper or standard text */
    uint32_t flags;
    const struct dml_opt *opts;    /* section "strategy"; NULL: no keys of its own */
    size_t opts_size;              /* sizeof the struct that opts describes */

    /*
     * options: that struct, filled; borrowed until done. vec: [n_vec] initial global vector.
     * Returns 0 or a negative errno; on error *ret_state is not set.
     */
    int (*init)(const void *options, size_t n_params, size_t n_vec, const float *vec,
                void **ret_state);
    void (*done)(void *state);

    /* global: [n_vec], what the clients are about to start from. */
    int (*begin)(void *state, uint64_t round, const float *global);
    int (*add)(void *state, const struct dml_strategy_update *update);

    /* io_global: [n_vec], in: as in begin; out: the new global vector. Called only after at least
     * one add. */
    int (*end)(void *state, float *io_global);
};
