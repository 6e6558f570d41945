/*
 * A test case from a few lines of INI, run over comm_local, with what came out kept: the vector of
 * the trained model and every round.
 */
#pragma once

#include "base/err.h"
#include "conf/testcase.h"
#include "nn/checkpoint.h"
#include "run.h"

#define LAB_ROUNDS_MAX  64
#define LAB_WORKERS_MAX 8

struct lab {
    char dir[64];                 /* scratch folder */
    struct dml_testcases *cases;
    struct dml_run_env env;
    struct dml_events *events;
    struct dml_run_totals totals;
    struct dml_checkpoint *trained;
    struct dml_err err;
    struct dml_round rounds[LAB_ROUNDS_MAX]; /* workers: NULL */
    struct dml_round_worker workers[LAB_ROUNDS_MAX][LAB_WORKERS_MAX]; /* theirs */
    unsigned n_rounds;
    char lost[2048];              /* the last WORKER_LOST event, as JSON */
    unsigned n_ready;             /* WORKER_READY events */
    unsigned n_unsaved;           /* MODEL_UNSAVED events; then `trained` stays NULL */
    void (*on_round)(void *arg, const struct dml_round *round);
    void *on_round_arg;
};

/* Synthetic data (3 classes, 4 features, 96 samples) and an MLP, plus `text`, whose keys come last;
 * a text with a dataset of its own replaces the synthetic one.
 * Bails out of the test program when the text does not parse. */
void lab_init(struct lab *lab, const char *text);
/* The same with another model than the MLP; the text of its file. */
void lab_init_model(struct lab *lab, const char *model, const char *text);
void lab_done(struct lab *lab);

/* Returns what dml_run_local() returned; lab->trained is loaded on success. */
int lab_run(struct lab *lab);

/* The same, step by step, for tests that play a rank themselves. */
int lab_run_rank0(struct lab *lab, struct dml_comm *comm);

/* The model and the training set of the case. Owner: caller. */
struct dml_model *lab_model(struct lab *lab);
void lab_data(struct lab *lab, struct dml_dataset **ret_train, struct dml_dataset **ret_test);

/* Number of floats whose bits differ. */
size_t lab_differs(const float *a, const float *b, size_t n);
