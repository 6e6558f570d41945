/*
 * What flows between the nodes of a case: per step, and per node what it computed, transferred and
 * waited, next to the law of the ring paper, time → max(c, T).
 *
 * Figures are means over the runs that did not fail, seconds and bytes of a whole run where nothing
 * else is said; NAN: not measured, or not recorded by the dml that wrote the results.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_result_case;

struct dml_flow_node {
    uint32_t rank; /* 0: the master */
    char id[64], layers[48];
    double compute_s;  /* NAN for the master */
    double transfer_s; /* something of its own waited to be sent or was being sent */
    double idle_s;     /* waited for messages, and computed nothing; NAN for the master */
    double exposed_s;  /* of transfer_s: while it was idle */
    double overlap;    /* share of the transfer that was not exposed */
    double sent_bytes, received_bytes;
    double throttled; /* share of the rounds at whose end it was; NAN: unknown */
};

struct dml_flow {
    bool passes; /* nodes hand each other data in every step */
    double t_s, n_steps, n_samples;
    double step_s, samples_per_s;
    double node_bytes;   /* that a node sends per step, mean of the nodes */
    double master_bytes; /* that the master sends and receives per step */
    double saved;        /* share of the master's bytes that a filter has saved; NAN: no filter */
    double compute_s, transfer_s; /* the law's c and T: the largest of all nodes */
    struct dml_flow_node *nodes;  /* ascending ranks; the master only where it serves the steps */
    size_t n_nodes;
};

/* Returns 0 or -ENOMEM. Owner: caller, dml_flow_done(). */
int dml_flow_make(const struct dml_result_case *c, struct dml_flow *ret);
void dml_flow_done(struct dml_flow *flow);
