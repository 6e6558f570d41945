/* The worker's half of server.c, and what both halves say to each other. */
#pragma once

#include "paradigm/paradigm.h"

/* Meta of FIT; its seq is the first step. */
enum { DML_FIT_EPOCH_STEPS, DML_FIT_N_ };

/* Meta of PARAMS; its seq is the last step that may begin. */
enum {
    DML_PARAMS_TAKEN,    /* the first step whose gradient the master does not have */
    DML_PARAMS_PAUSE_US, /* how long the answer was held back for an evaluation */
    DML_PARAMS_N_
};

int dml_server_client(struct dml_task *task, struct dml_err *err);
