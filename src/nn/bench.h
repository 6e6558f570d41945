/*
 * How fast this machine trains a model, and how near that is to what it could do.
 *
 * Data are random and in memory, so that the model and the trainer are measured, nothing else.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "nn/optim.h"

struct dml_err;
struct dml_model;

struct dml_bench_options {
    uint64_t batch;
    unsigned n_threads;
    bool infer;     /* forward alone */
    bool recompute; /* as the key says */
    bool layers;    /* also each layer by itself, on one thread */
    enum dml_optim_kind optimizer;
    double seconds; /* of measuring, calibration apart */
    const atomic_bool *cancel;
};

struct dml_bench_layer {
    char *words;                    /* as in the model file */
    double forward_us, backward_us; /* CPU time per sample */
    double gflops;                  /* both together */
};

struct dml_bench_result {
    const char *level; /* of vector instructions: "base", "avx2", "avx512", "neon" */
    uint64_t n_samples;
    double samples_per_s;      /* median of the windows, wall time */
    double best_samples_per_s; /* the best window: the least disturbed */
    double cpu_us_per_sample;  /* of all threads together; least of the windows */
    double mflop_per_sample;   /* as textbooks count; no dX for the first layer */
    double gflops;             /* of the median */
    double peak_gflops;        /* sgemm 512³ on one thread, by CPU time, times threads */
    double share_of_peak;      /* of what the CPU time that was used could have done */
    double bandwidth_gbs;      /* main memory, one thread: y += a x on 2 x 64 MB */
    uint64_t peak_rss_bytes;   /* of the process up to the end of the measurement */
    uint64_t data_bytes;       /* of which the data set */
    uint64_t memory_bytes;     /* of which the trainer, as predicted; 0 for inference */
    size_t n_layers;           /* 0 unless asked for */
    struct dml_bench_layer *layers;
};

/* Takes `seconds`, and some for calibration. Returns 0, -EINVAL, -ENOMEM, -ECANCELED.
 * ret: dml_bench_done(). */
int dml_bench_run(const struct dml_model *m, const struct dml_bench_options *o,
                  struct dml_bench_result *ret, struct dml_err *err);

void dml_bench_done(struct dml_bench_result *r);
