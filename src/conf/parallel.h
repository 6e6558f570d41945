/*
 * Section [parallel]: how a test case is trained on several nodes. What each paradigm is told by
 * which key, so that a key that would have no effect is refused instead of ignored.
 */
#pragma once

#include <stdbool.h>

#include "conf/testcase.h"

struct dml_err;
struct dml_ini;

extern const struct dml_opt dml_parallel_opts[];

/* "ring". kind: enum dml_paradigm_kind. */
const char *dml_parallel_name(int kind);

/* False for a paradigm in which no strategy aggregates. */
bool dml_parallel_takes_strategy(int kind);

/* Whether the key means anything to the paradigm. True for every key that is not one of those which
 * belong to some paradigms only. */
bool dml_parallel_uses(int kind, const char *section, const char *key);

/*
 * Whether every key that `ini` sets is used by at least one of `paradigms` (bit k: kind k), so that
 * a matrix of several may set the keys of each. Returns 0 or -EINVAL with line and key.
 */
int dml_parallel_check_keys(unsigned paradigms, const struct dml_ini *ini, struct dml_err *err);

/* Whether the numbers of one case fit together: replicas × stages, cut, micro-batches.
 * Returns 0 or -EINVAL as dml_check_case(). */
int dml_parallel_check_case(const struct dml_testcase *tc, const struct dml_ini *ini,
                            const char *file, struct dml_err *err);

/* Stages of a replica: as told, or as many as the nodes give; 1 where layers are not dealt out. */
uint64_t dml_parallel_stages(const struct dml_testcase *tc);
/* Whole models that are trained side by side. */
uint64_t dml_parallel_replicas(const struct dml_testcase *tc);

/* The key `cut` where it lists layers, else NULL: the cut is to be found by cost, … */
const char *dml_parallel_cut_layers(const struct dml_testcase *tc);
/* … which is to be measured before a run. */
bool dml_parallel_measures(const struct dml_testcase *tc);
