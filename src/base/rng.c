/*
 * xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna, "Scrambled linear pseudorandom number
 * generators" (2019; ACM TOMS 2021): 256 bits of state, period 2^256 - 1, passes the usual
 * batteries, four words and a few shifts per draw.
 *
 * The four coordinates of a stream are folded into one word by splitmix64's finaliser, which is a
 * bijection: two streams of one run that differ in one coordinate never start alike. The word then
 * seeds splitmix64, whose outputs are the state, as the authors recommend. Rank, purpose and step
 * enter one after the other, so (rank 1, step 2) and (rank 2, step 1) are different streams.
 */
#include "base/rng.h"

#include <assert.h>
#include <math.h>

/* 2^64 / golden ratio, odd: the step of splitmix64 (Steele, Lea, Flood 2014). */
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

/* The finaliser of splitmix64: Stafford's mix 13 of MurmurHash3's. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void dml_rng_init(struct dml_rng *rng, uint64_t seed, uint64_t rank, enum dml_rng_purpose purpose,
                  uint64_t step)
{
    uint64_t h = mix(seed + GOLDEN);
    h = mix((h ^ rank) + GOLDEN);
    h = mix((h ^ (uint64_t)purpose) + GOLDEN);
    h = mix((h ^ step) + GOLDEN);
    /* Four outputs of a bijection on four different inputs: at most one is 0, so never all. */
    for (int i = 0; i < 4; i++)
        rng->s[i] = mix(h += GOLDEN);
}

uint64_t dml_rng_u64(struct dml_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t dml_rng_below(struct dml_rng *rng, uint64_t n)
{
    assert(n > 0);
    /* 2^64 mod n: below it lies the incomplete last block of n, which would favour small results.
     */
    uint64_t excess = -n % n;
    uint64_t x;
    do
        x = dml_rng_u64(rng);
    while (x < excess);
    return x % n;
}

double dml_rng_uniform(struct dml_rng *rng)
{
    return (double)(dml_rng_u64(rng) >> 11) * 0x1p-53;
}

double dml_rng_normal(struct dml_rng *rng)
{
    /* Marsaglia and Bray 1964. The second variate is dropped: keeping it would be hidden state. */
    double u, v, q;
    do {
        u = 2.0 * dml_rng_uniform(rng) - 1.0;
        v = 2.0 * dml_rng_uniform(rng) - 1.0;
        q = u * u + v * v;
    } while (q >= 1.0 || q == 0.0);
    return u * sqrt(-2.0 * log(q) / q);
}

double dml_rng_gamma(struct dml_rng *rng, double shape)
{
    assert(shape > 0.0);
    if (shape < 1.0) {
        /* Their section 6: Gamma(a) = Gamma(a + 1) U^(1/a), U in (0, 1]. */
        double u = 1.0 - dml_rng_uniform(rng);
        return dml_rng_gamma(rng, shape + 1.0) * pow(u, 1.0 / shape);
    }
    double d = shape - 1.0 / 3.0;
    double c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = dml_rng_normal(rng);
        double v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        double u = 1.0 - dml_rng_uniform(rng);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

void dml_rng_shuffle(struct dml_rng *rng, uint32_t *index, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)dml_rng_below(rng, i);
        uint32_t t = index[i - 1];
        index[i - 1] = index[j];
        index[j] = t;
    }
}
