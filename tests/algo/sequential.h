/*
 * Training as plainly as it can be written: the whole model, one minibatch after the other, no
 * threads, no messages. What the paradigms must come to as well.
 */
#pragma once

#include "lab.h"

struct sequential {
    float *vec; /* [P+Q] after all rounds; free() */
    double loss; /* mean over the last round's samples, as training saw them */
};

/*
 * The lab's case on `replicas` shards: each step takes a minibatch of every shard, in n_micro parts
 * each, and makes one step of the optimiser with the gradient of the mean over all their samples.
 * Batch-norm takes the statistics of each part; the running ones of the shards are averaged at the
 * end of a round.
 * Bails out of the test program when it cannot.
 */
struct sequential sequential_train(struct lab *lab, unsigned replicas, unsigned n_micro);
