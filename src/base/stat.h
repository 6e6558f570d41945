/* Small statistics over a handful of repeats. All in double. */
#pragma once

#include <stddef.h>

double dml_stat_mean(const double *x, size_t n);

/* Sample standard deviation (n - 1); 0 for n < 2. */
double dml_stat_sd(const double *x, size_t n);

/* Median; does not change x. n > 0. */
double dml_stat_median(const double *x, size_t n);

/*
 * Least squares y = a + b x. Returns 0, or -EDOM when fewer than two different x.
 */
int dml_stat_fit_line(const double *x, const double *y, size_t n, double *ret_a, double *ret_b);
