/* Statistics against values worked out by hand. */
#include <errno.h>

#include "base/stat.h"
#include "tests/tap.h"

int main(void)
{
    const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    tap_near(dml_stat_mean(x, 8), 5.0, 0.0, "mean");
    /* Sum of squares 32, divided by 7. */
    tap_near(dml_stat_sd(x, 8), sqrt(32.0 / 7.0), 1e-15, "sample deviation");
    tap_near(dml_stat_sd(x, 1), 0.0, 0.0, "deviation of one value");
    tap_near(dml_stat_mean(x, 0), 0.0, 0.0, "mean of nothing");

    /* A large offset must not eat the deviation: two passes. */
    const double far[] = {1e9 + 1, 1e9 + 2, 1e9 + 3};
    tap_near(dml_stat_sd(far, 3), 1.0, 1e-9, "deviation far from zero");

    const double m[] = {9, 1, 5, 3};
    tap_near(dml_stat_median(m, 4), 4.0, 0.0, "median of an even number");
    tap_near(dml_stat_median(m, 3), 5.0, 0.0, "median of an odd number");
    tap_near(m[0], 9.0, 0.0, "the values stay in place");
    const double ties[] = {2, 2, 2, 7};
    tap_near(dml_stat_median(ties, 4), 2.0, 0.0, "median with ties");

    const double n[] = {1, 2, 3, 4}, t[] = {5, 7, 9, 11};
    double a = -1, b = -1;
    tap_int(dml_stat_fit_line(n, t, 4, &a, &b), 0, "fit");
    tap_near(a, 3.0, 1e-12, "intercept");
    tap_near(b, 2.0, 1e-12, "slope");
    const double noisy[] = {0, 2, 1, 3};
    tap_int(dml_stat_fit_line(n, noisy, 4, &a, &b), 0, "fit of points off the line");
    tap_near(b, 0.8, 1e-12, "least-squares slope");
    tap_near(a, -0.5, 1e-12, "least-squares intercept");
    const double same[] = {3, 3, 3};
    a = 42;
    tap_int(dml_stat_fit_line(same, t, 3, &a, &b), -EDOM, "one x is no line");
    tap_int(dml_stat_fit_line(same, t, 0, &a, &b), -EDOM, "nothing is no line");
    tap_near(a, 42.0, 0.0, "outputs are untouched on error");
    return tap_done();
}
