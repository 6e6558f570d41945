/*
 * What ranks that train in step with each other must come to: one loop over steps that takes the
 * minibatches of all of them as one, written with nothing but a model and an optimiser.
 */
#pragma once

#include "lab.h"

/* vec [P+Q] of the lab's case after all its epochs; accumulate: minibatches of each rank in a step.
 * Every rank keeps the running statistics of its own minibatches; the result has their mean.
 * Owner: caller, free(). */
float *together_train(struct lab *lab, uint64_t accumulate);

/* The largest |a - b| / (largest |b|) over vec [n]. */
double together_distance(const float *a, const float *b, size_t n);
