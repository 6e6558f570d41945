/* Random streams: known values, independence, no bias, moments. All seeds fixed. */
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/tap.h"

static void test_reference(void)
{
    /* State 1 2 3 4: the first outputs of the authors' reference code. */
    struct dml_rng rng = {{1, 2, 3, 4}};
    static const uint64_t want[] = {UINT64_C(41943041), UINT64_C(58720359),
                                    UINT64_C(3588806011781223), UINT64_C(3591011842654386)};
    for (size_t i = 0; i < ARRAY_SIZE(want); i++)
        tap_int((long long)dml_rng_u64(&rng), (long long)want[i], "xoshiro256++ reference output");
}

static void test_streams(void)
{
    /* Any two of these differ in one coordinate, or have two exchanged. */
    static const uint64_t at[][4] = {{1, 0, 0, 0}, {2, 0, 0, 0}, {1, 1, 0, 0}, {1, 0, 1, 0},
                                     {1, 0, 0, 1}, {1, 1, 2, 3}, {1, 3, 2, 1}, {0, 1, 0, 0}};
    uint64_t first[ARRAY_SIZE(at)];
    unsigned equal = 0;
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        struct dml_rng rng;
        dml_rng_init(&rng, at[i][0], at[i][1], (enum dml_rng_purpose)at[i][2], at[i][3]);
        first[i] = dml_rng_u64(&rng);
        for (size_t j = 0; j < i; j++)
            equal += first[i] == first[j];
    }
    tap_int(equal, 0, "streams with different coordinates start differently");

    struct dml_rng a, b;
    dml_rng_init(&a, 7, 1, DML_RNG_SHUFFLE, 5);
    dml_rng_init(&b, 7, 1, DML_RNG_SHUFFLE, 5);
    bool same = true;
    for (int i = 0; i < 1000; i++)
        same &= dml_rng_u64(&a) == dml_rng_u64(&b);
    tap_ok(same, "the same coordinates give the same stream");

    /* Neighbouring streams: bits agree half of the time. 64000 coin flips, sd 126.5: 6 sd. */
    dml_rng_init(&a, 7, 1, DML_RNG_SHUFFLE, 5);
    dml_rng_init(&b, 7, 1, DML_RNG_SHUFFLE, 6);
    int differ = 0;
    for (int i = 0; i < 1000; i++)
        differ += __builtin_popcountll(dml_rng_u64(&a) ^ dml_rng_u64(&b));
    tap_near(differ, 32000, 759, "neighbouring streams are not correlated");
}

static void test_pinned(void)
{
    /* What this tree gave from its first day: a change would change every recorded run. */
    struct dml_rng rng;
    dml_rng_init(&rng, 1, 0, DML_RNG_INIT, 0);
    tap_int((long long)dml_rng_u64(&rng), (long long)UINT64_C(10616057846497598800), "stream (1, 0, init, 0)");
    dml_rng_init(&rng, 42, 3, DML_RNG_SHARD, 9);
    tap_int((long long)dml_rng_u64(&rng), (long long)UINT64_C(15461432559972118469), "stream (42, 3, shard, 9)");
}

static void test_below(void)
{
    struct dml_rng rng;
    dml_rng_init(&rng, 11, 0, DML_RNG_TEST, 0);
    int count[6] = {0};
    for (int i = 0; i < 60000; i++)
        count[dml_rng_below(&rng, 6)]++;
    /* Binomial, sd 91: 5 sd. */
    for (int i = 0; i < 6; i++)
        tap_near(count[i], 10000, 456, "a fair die");

    /* With n = 3·2^62 a plain modulo would give the lowest third half of the draws. */
    uint64_t n = UINT64_C(3) << 62;
    int low = 0;
    for (int i = 0; i < 30000; i++)
        low += dml_rng_below(&rng, n) < n / 3;
    tap_near(low, 10000, 408, "no modulo bias for a large n (5 sd)");
    tap_int((long long)dml_rng_below(&rng, 1), 0, "below 1 is 0");
}

static void moments(double (*draw)(struct dml_rng *, double), double arg, double mean, double var,
                    const char *name)
{
    enum { N = 100000 };
    struct dml_rng rng;
    dml_rng_init(&rng, 23, 0, DML_RNG_TEST, 1);
    double sum = 0.0, square = 0.0;
    for (int i = 0; i < N; i++) {
        double x = draw(&rng, arg);
        sum += x;
        square += (x - mean) * (x - mean);
    }
    /* 5 standard errors of the mean; the variance of these has a standard error below 1.7 %
     * (gamma 0.5: kurtosis 15, sqrt(14/N) = 1.2 %). */
    tap_near(sum / N, mean, 5.0 * sqrt(var / N), name);
    tap_near(square / N, var, 0.06 * var, name);
}

static double uniform(struct dml_rng *rng, double unused)
{
    (void)unused;
    return dml_rng_uniform(rng);
}

static double normal(struct dml_rng *rng, double unused)
{
    (void)unused;
    return dml_rng_normal(rng);
}

static void test_moments(void)
{
    moments(uniform, 0, 0.5, 1.0 / 12.0, "uniform: mean and variance");
    moments(normal, 0, 0.0, 1.0, "normal: mean and variance");
    moments(dml_rng_gamma, 0.5, 0.5, 0.5, "gamma(0.5): mean and variance");
    moments(dml_rng_gamma, 1.0, 1.0, 1.0, "gamma(1): mean and variance");
    moments(dml_rng_gamma, 7.5, 7.5, 7.5, "gamma(7.5): mean and variance");

    struct dml_rng rng;
    dml_rng_init(&rng, 5, 0, DML_RNG_TEST, 2);
    bool in = true;
    for (int i = 0; i < 10000; i++) {
        double u = dml_rng_uniform(&rng);
        in &= u >= 0.0 && u < 1.0;
    }
    tap_ok(in, "uniform stays in [0, 1)");
    bool fine = true;
    for (int i = 0; i < 1000; i++) {
        double g = dml_rng_gamma(&rng, 0.001);
        fine &= isfinite(g) && g >= 0.0;
    }
    tap_ok(fine, "gamma of a tiny shape is finite");
}

static void test_shuffle(void)
{
    enum { N = 1000 };
    uint32_t index[N];
    unsigned char seen[N] = {0};
    struct dml_rng rng;
    for (uint32_t i = 0; i < N; i++)
        index[i] = i;
    dml_rng_init(&rng, 3, 1, DML_RNG_SHUFFLE, 0);
    dml_rng_shuffle(&rng, index, N);
    unsigned n_seen = 0, fixed = 0;
    for (uint32_t i = 0; i < N; i++) {
        if (index[i] < N && !seen[index[i]]++)
            n_seen++;
        fixed += index[i] == i;
    }
    tap_int(n_seen, N, "a shuffle is a permutation");
    tap_ok(fixed < 10, "that moves nearly everything: %u stayed (1 expected)", fixed);

    /* All six orders of three, equally often: sd 91, 5 sd. */
    int count[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint32_t p[3] = {0, 1, 2};
        dml_rng_shuffle(&rng, p, 3);
        count[2 * p[0] + (p[1] > p[2])]++;
    }
    for (int i = 0; i < 6; i++)
        tap_near(count[i], 10000, 456, "every order is as likely");
    dml_rng_shuffle(&rng, index, 0);
    dml_rng_shuffle(&rng, NULL, 0);
    tap_ok(true, "nothing to shuffle is fine");
}

int main(void)
{
    test_reference();
    test_streams();
    test_pinned();
    test_below();
    test_moments();
    test_shuffle();
    return tap_done();
}
