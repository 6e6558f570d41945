/*
 * Workers wait for each other, and the master hears of it: who keeps the others waiting? A pure
 * book-keeper; times and messages are the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Tries after which two workers that do not reach each other end the run. */
#define DML_BLAME_TRIES 3

struct dml_blame {
    uint32_t size;
    uint32_t *about;      /* [size] whom a rank waits for; 0: nobody that we know of */
    bool *unreachable;    /* [size] because it cannot reach it, not because nothing comes */
    unsigned char *tries; /* [size][size] lower rank first: how often, in this leg */
    unsigned n;           /* complaints */
    bool waits;           /* one of them is that nothing comes */
    unsigned n_knots;     /* in this leg */
};

enum dml_blame_verdict {
    DML_BLAME_AGAIN,  /* nobody's fault yet: all try again */
    DML_BLAME_SILENT, /* *ret_a keeps others waiting and does not say for whom it waits */
    DML_BLAME_PAIR,   /* *ret_a and *ret_b do not reach each other */
    DML_BLAME_KNOT,   /* again and again all wait for each other in a circle; *ret_a for *ret_b */
};

/* Returns 0 or -ENOMEM. */
int dml_blame_init(struct dml_blame *b, uint32_t size);
void dml_blame_done(struct dml_blame *b);

/* A new leg: everything is forgotten. */
void dml_blame_leg(struct dml_blame *b);
/* Another try of it: complaints are forgotten, tries count. */
void dml_blame_again(struct dml_blame *b);

/* Rank `from` waits for rank `about`. */
void dml_blame_add(struct dml_blame *b, uint32_t from, uint32_t about, bool unreachable);

/* Whether nothing more can be learnt by waiting: all of ranks [n] have answered (answered[rank]) or
 * complained. One that has not is silent, or about to speak. */
bool dml_blame_is_ripe(const struct dml_blame *b, const uint32_t *ranks, unsigned n,
                       const bool *answered);

enum dml_blame_verdict dml_blame_judge(struct dml_blame *b, const uint32_t *ranks, unsigned n,
                                       const bool *answered, uint32_t *ret_a, uint32_t *ret_b);
