/* Units of durations and sizes, shared by the halves of opt: reading and printing. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/opt.h"

struct dml_opt_unit {
    const char *name; /* "" is the unit of a plain number; NULL ends the table */
    uint64_t factor;  /* in microseconds or bytes */
    int print;        /* values are printed in this unit when it divides them */
};

/* Largest factor first among the printed ones. */
extern const struct dml_opt_unit dml_opt_unit_time[];
extern const struct dml_opt_unit dml_opt_unit_size[];

/* "90 s", "64 MiB": exact. Returns buf. */
const char *dml_opt_unit_text(const struct dml_opt_unit *units, uint64_t x, char *buf,
                              size_t buf_len);

/* "1 to 9 rounds", "at least 1 s". Returns buf. The row must have a range. */
const char *dml_opt_unit_range(const struct dml_opt *opt, char *buf, size_t buf_len);
