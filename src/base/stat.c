/* Two passes everywhere: the mean first, then deviations from it, which loses no digits. */
#include "base/stat.h"

#include <assert.h>
#include <errno.h>
#include <math.h>

double dml_stat_mean(const double *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : 0.0;
}

double dml_stat_sd(const double *x, size_t n)
{
    if (n < 2)
        return 0.0;
    double mean = dml_stat_mean(x, n), sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

/* The k-th smallest by counting, O(n²): a handful of values, and no copy to allocate. */
static double kth(const double *x, size_t n, size_t k)
{
    for (size_t i = 0; i < n; i++) {
        size_t less = 0, equal = 0;
        for (size_t j = 0; j < n; j++) {
            less += x[j] < x[i];
            equal += x[j] == x[i];
        }
        if (less <= k && k < less + equal)
            return x[i];
    }
    return NAN; /* only when a value is NaN */
}

double dml_stat_median(const double *x, size_t n)
{
    assert(n > 0);
    return n % 2 ? kth(x, n, n / 2) : (kth(x, n, n / 2 - 1) + kth(x, n, n / 2)) / 2.0;
}

int dml_stat_fit_line(const double *x, const double *y, size_t n, double *ret_a, double *ret_b)
{
    double mx = dml_stat_mean(x, n), my = dml_stat_mean(y, n), sxx = 0.0, sxy = 0.0;
    size_t n_other = 0;
    for (size_t i = 0; i < n; i++) {
        n_other += x[i] != x[0];
        sxx += (x[i] - mx) * (x[i] - mx);
        sxy += (x[i] - mx) * (y[i] - my);
    }
    if (n_other == 0 || sxx == 0.0)
        return -EDOM;
    *ret_b = sxy / sxx;
    *ret_a = my - *ret_b * mx;
    return 0;
}
