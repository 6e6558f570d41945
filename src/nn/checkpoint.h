/*
 * A trained model in one file: magic, version, the model's text, what is needed to feed it
 * (normalisation, class names, data set), the flat block, and a SHA-256 over everything before it.
 * Written atomically. Little-endian. Read as bytes from outside: never crashes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_err;
struct dml_dataset;
struct dml_model;

struct dml_checkpoint {
    struct dml_model *model;
    float *vec;          /* [P+Q] */
    uint32_t n_channels; /* C */
    float *mean, *scale; /* [C] */
    uint32_t n_classes;
    char **class_names; /* [n_classes] */
    char *dataset;      /* name of the data set it was trained on */
    char *testcase;     /* name of the test case */
    uint64_t round;     /* rounds behind it */
};

/* Statistics and names are taken from ds. Returns 0 or a negative errno. */
int dml_checkpoint_save(const char *path, const struct dml_model *m, const float *vec,
                        const struct dml_dataset *ds, const char *dataset_name,
                        const char *testcase_name, uint64_t round, struct dml_err *err);

/* Returns 0, -EBADMSG (torn, foreign, newer version: err says which), -ENOENT, -ENOMEM. */
int dml_checkpoint_load(const char *path, struct dml_checkpoint **ret, struct dml_err *err);

/* The parser alone, for tests and fuzzing. */
int dml_checkpoint_parse(const void *data, size_t len, const char *file,
                         struct dml_checkpoint **ret, struct dml_err *err);
struct dml_checkpoint *dml_checkpoint_free(struct dml_checkpoint *c);
DML_MEM_CLEANUP(struct dml_checkpoint, dml_checkpoint_free);
