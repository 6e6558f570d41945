/*
 * Results of an experiment: test cases, their runs, their rounds; the source paper's table.
 *
 * T total training time, W mean of the nodes' work times, O = T - W, W% = W/T, O% = O/T,
 * S = T(base case)/T(case), accuracy; means over the repeats with sample standard deviations.
 * The base case is the first one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "report/event.h"

struct dml_err;

struct dml_result_run {
    unsigned repeat; /* 0-based */
    bool failed;
    char *error; /* own; NULL when it did not fail */
    struct dml_run_totals totals;
    struct dml_round *rounds; /* own; workers arrays own too; strategy/paradigm NULL */
    size_t n_rounds;
};

struct dml_result_case {
    char *label, *paradigm, *strategy, *model, *dataset;
    char *cut; /* layers that begin the stages; NULL: the model is not dealt to nodes */
    unsigned nodes;
    double cores;
    struct dml_result_run *runs;
    size_t n_runs;
};

struct dml_results {
    char *name;    /* of the experiment */
    char *started; /* wall time, for people */
    struct dml_result_case *cases;
    size_t n_cases;
};

/* A case's means over its runs that did not fail. */
struct dml_result_summary {
    size_t n_runs, n_failed;
    double t_s, w_s, o_s, w_share, o_share, speedup, accuracy, loss;
    double t_s_sd, w_s_sd, o_s_sd, w_share_sd, o_share_sd, speedup_sd, accuracy_sd, loss_sd;
};

struct dml_results *dml_results_new(const char *name);
struct dml_results *dml_results_free(struct dml_results *r);
DML_MEM_CLEANUP(struct dml_results, dml_results_free);

/* A dml_event_fn (arg: the results): records rounds, ends and failures of runs. */
void dml_results_listen(void *arg, enum dml_event_kind kind, const char *json,
                        const struct dml_event_run *run, const struct dml_round *round,
                        const struct dml_run_totals *totals);

/* How they are built, by the listener and by the readers. NULL or -ENOMEM: out of memory; texts may
 * be NULL; a round and its workers are copied. Pointers last until the next one is added. */
struct dml_result_case *dml_results_add_case(struct dml_results *r, const char *label,
                                             const char *paradigm, const char *strategy,
                                             const char *model, const char *dataset, unsigned nodes,
                                             double cores);
struct dml_result_run *dml_results_add_run(struct dml_result_case *c, unsigned repeat);
int dml_results_add_round(struct dml_result_run *run, const struct dml_round *round);

/* Figures are NAN when all runs of the case (speedup: or of the base case) failed. */
void dml_results_summary(const struct dml_results *r, size_t i_case,
                         struct dml_result_summary *ret);

/*
 * W and O in seconds over the node count n, fitted to the means of the cases: work is shared out,
 * W = w_fixed + w_shared / n; overhead grows with everybody who must be waited for,
 * O = o_fixed + o_per_node n.
 */
struct dml_result_fit {
    double w_fixed, w_shared, o_fixed, o_per_node;
};

/* Returns 0, -EDOM (fewer than two node counts, several paradigms), -ENOMEM. */
int dml_results_fit(const struct dml_results *r, struct dml_result_fit *ret);

static inline double dml_results_fit_w(const struct dml_result_fit *fit, double nodes)
{
    return fit->w_fixed + fit->w_shared / nodes;
}

static inline double dml_results_fit_o(const struct dml_result_fit *fit, double nodes)
{
    return fit->o_fixed + fit->o_per_node * nodes;
}

/* What the fits and the measured cases say together. */
enum dml_result_even {
    DML_RESULT_EVEN_FROM,    /* O exceeds W from `nodes` on, by the fits */
    DML_RESULT_EVEN_ABOVE,   /* no such number; O exceeds W in every measured case */
    DML_RESULT_EVEN_BELOW,   /* no such number; O exceeds W in no measured case */
    DML_RESULT_EVEN_UNKNOWN, /* no such number; in some cases O exceeds W, in others not */
};

struct dml_result_break_even {
    enum dml_result_even kind;
    double nodes;            /* FROM: 1 or more */
    bool as_measured;        /* FROM: only as far as was measured: O falls with the nodes */
    size_t n_above, n_cases; /* measured cases in which O exceeds W; all */
};

/* Returns 0, -EDOM (as above), -ENOMEM. */
int dml_results_break_even(const struct dml_results *r, struct dml_result_break_even *ret);

/*
 * The tables for a terminal: aligned, within 80 columns where they can; below the first one what
 * failed and the break-even. Where nodes hand each other data in every step there follow what a
 * step costs and, when that is short or `all_nodes`, what each node did.
 */
void dml_results_print_table(const struct dml_results *r, bool all_nodes, FILE *f);

/* The latter two, for dml_results_print_table(). */
void dml_results_print_flow(const struct dml_results *r, bool all_nodes, FILE *f);

/* What all cases share, "cnn on cifar10, federated, fedavg": without what some have otherwise. */
void dml_results_shared(const struct dml_results *r, char *buf, size_t buf_len);

/* Whether a run that did not fail lost workers, missed some in a round, or had throttled boards. */
bool dml_results_has_notes(const struct dml_result_case *c);

/* A line for each of these, beginning with "!", and a blank line behind the last. */
void dml_results_print_notes(const struct dml_results *r, FILE *f);

/* Workers that were throttled at the end of a round, -1 when nobody's firmware says; and the
 * temperature of the warmest, negative when unknown. */
int dml_results_throttled(const struct dml_round *round, double *ret_temperature_c);

/* {"name", "started", "cases": [one object per case with the fields of the summary and "runs"]}.
 * Numbers keep every bit: reading gives equal results. Owner: caller, free(*ret_json). */
int dml_results_to_json(const struct dml_results *r, char **ret_json);

/* The same per case and node: what it computed, transferred, waited. Also -ENODATA: no case has
 * such nodes, see dml_flow. */
int dml_results_nodes_csv(const struct dml_results *r, char **ret_csv);

/* The array "cases" alone, for scripts (--json). */
int dml_results_cases_json(const struct dml_results *r, char **ret_json);

/* Never crashes on any bytes. Returns 0, -EBADMSG, -ENOMEM. Owner: caller, dml_results_free(). */
int dml_results_from_json(const char *json, size_t len, const char *file, struct dml_results **ret,
                          struct dml_err *err);

/* RFC 4180, one row per run and round; a run that failed before its first round has one row too. */
int dml_results_to_csv(const struct dml_results *r, char **ret_csv);

/* Makes the folder, and a file in it to see that this works, before anything is trained for hours.
 * Returns 0 or a negative errno with a sentence. */
int dml_results_prepare(const char *dir, struct dml_err *err);

/* Writes NAME.json and NAME.csv (one row per run and round) into dir, atomically. *ret_path: path
 * of the JSON, own string. */
int dml_results_save(const struct dml_results *r, const char *dir, char **ret_path,
                     struct dml_err *err);
/* dir/NAME.suffix or dir/NAME-what.suffix, NAME made harmless. NULL: out of memory. Caller frees.
 */
char *dml_results_path(const struct dml_results *r, const char *dir, const char *what,
                       const char *suffix);
int dml_results_load(const char *path, struct dml_results **ret, struct dml_err *err);

/* The *.json of dir that was saved last; where that is not known, the newest by its time. Own
 * string. -ENOENT when there is none. */
int dml_results_newest(const char *dir, char **ret_path, struct dml_err *err);
