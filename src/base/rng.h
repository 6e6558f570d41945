/*
 * Random numbers from named streams.
 *
 * A stream is fixed by (seed, rank, purpose, step): whoever draws for one purpose never disturbs
 * another, so a run repeats bit for bit whatever the threads do.
 * Source: xoshiro256++ (Blackman, Vigna 2019), state filled by splitmix64.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum dml_rng_purpose {
    DML_RNG_INIT,    /* initial weights */
    DML_RNG_SHUFFLE, /* order of samples within an epoch */
    DML_RNG_SPLIT,   /* train/test split */
    DML_RNG_SHARD,   /* who gets which samples */
    DML_RNG_AUGMENT, /* flips and crops */
    DML_RNG_DROPOUT,
    DML_RNG_SYNTH, /* synthetic data sets */
    DML_RNG_STRATEGY,
    DML_RNG_TEST,
    DML_RNG_MAX_
};

struct dml_rng {
    uint64_t s[4];
};

void dml_rng_init(struct dml_rng *rng, uint64_t seed, uint64_t rank, enum dml_rng_purpose purpose,
                  uint64_t step);
uint64_t dml_rng_u64(struct dml_rng *rng);

/* Uniform in [0, n), without modulo bias; n > 0. */
uint64_t dml_rng_below(struct dml_rng *rng, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
double dml_rng_uniform(struct dml_rng *rng);

/* Standard normal (polar method; no state besides the stream). */
double dml_rng_normal(struct dml_rng *rng);

/* Gamma(shape, 1), shape > 0. Source: Marsaglia, Tsang 2000. */
double dml_rng_gamma(struct dml_rng *rng, double shape);

/* Fisher-Yates on n indices. */
void dml_rng_shuffle(struct dml_rng *rng, uint32_t *index, size_t n);
