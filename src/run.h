/*
 * The flow, as one function called with the same test case on every rank:
 *     test case → data set → model → plan → paradigm → strategy → comm → event → report
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "paradigm/paradigm.h"

/* What this process offers to every run. Filled by the program, kept between runs. */
struct dml_run_env {
    const char *const *model_dirs;    /* NULL-terminated */
    const char *plugin_dir;
    const char *cache_dir;            /* or NULL */
    uint64_t cache_max;
    const char *data_dir;             /* or NULL */
    unsigned max_cores;               /* this node may use; 0 = all that are there */
    bool affinity;
    /* Worker: lets the kernel hold this process to so many cores (0: no limit again). Returns 0, or
     * a negative errno: then the trainer's duty cycle holds them. NULL: no kernel asked. */
    int (*limit_cores)(void *arg, double cores);
    void *limit_arg;
    unsigned n_sharing;               /* workers that share this process's memory; 0 = 1 */
    struct dml_events *events;        /* rank 0 */
    void (*describe)(void *arg, uint32_t rank, struct dml_round_worker *io_worker);
    void *describe_arg;

    /* Owned: the data set last loaded, kept because a matrix of test cases uses the same one. */
    struct dml_dataset *train, *test;
    char *dataset_key;
};

/* Frees what the env owns. */
void dml_run_env_done(struct dml_run_env *env);

/* One rank's part in one run. */
struct dml_run_args {
    const struct dml_testcase *tc;
    const char *model_text;           /* NULL: load tc->model.name from model_dirs */
    struct dml_comm *comm;
    unsigned slot;                    /* see struct dml_run_order */
    const atomic_bool *cancel;
    struct dml_event_run event;       /* rank 0: ids and indices; the rest is filled in here */
    const char *checkpoint_path;      /* rank 0: where the trained model goes; NULL: nowhere */
};

/* Returns 0 or a negative errno with err filled. *ret_totals (rank 0; may be NULL) on success. */
int dml_run(struct dml_run_env *env, struct dml_run_args *args, struct dml_run_totals *ret_totals,
            struct dml_err *err);

/*
 * A whole run inside this process: rank 0 here, `nodes` workers as threads over comm_local.
 * What `dmlctl run --local` and the algorithm tests call.
 */
int dml_run_local(struct dml_run_env *env, struct dml_run_args *args,
                  struct dml_run_totals *ret_totals, struct dml_err *err);
