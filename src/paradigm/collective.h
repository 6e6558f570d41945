/*
 * What all members of a group, or some of them, do with a vector of which each has one.
 *
 * The sum goes round a ring, in two rounds: in the first every member becomes the owner of the sum
 * of one of R pieces, in the second the pieces go to everybody. Each member sends and receives
 * 2 (R-1)/R · n floats, whatever R is. The sums of a piece are made once, by its way round the
 * ring, so all members have the same bits, and again the same each time.
 *
 * Source: Patarasuk & Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of
 * workstations.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "paradigm/group.h"

/* A call uses the tags tag … tag + DML_COLLECTIVE_TAGS - 1 of every member. */
#define DML_COLLECTIVE_TAGS 512

/* Who takes part: members of g, the same list on each of them. */
struct dml_collective {
    struct dml_group *g;
    unsigned n, i;                          /* how many, and which of them this one is */
    unsigned members[DML_COMM_RANKS_MAX];   /* [n] numbers of members */
};

/* All members of g. To be called again in every generation. */
void dml_collective_all(struct dml_collective *c, struct dml_group *g);

/* Members first, first + stride, …, count of them; the own one must be among them. */
void dml_collective_some(struct dml_collective *c, struct dml_group *g, unsigned first,
                         unsigned stride, unsigned count);

/* x [n] becomes the sum over the members' x. Returns as dml_group_recv(); x is then undefined. */
int dml_collective_sum(struct dml_collective *c, uint64_t tag, float *io_x, size_t n);

/* The same, divided by the number of members. */
int dml_collective_mean(struct dml_collective *c, uint64_t tag, float *io_x, size_t n);

/* Returns when every member has called it. */
int dml_collective_barrier(struct dml_collective *c, uint64_t tag);
