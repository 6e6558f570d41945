#include "paradigm/feed.h"

#include <stdlib.h>

#include "base/err.h"
#include "data/dataset.h"
#include "nn/optim.h"
#include "tests/tap.h"

#define N 23 /* samples; the first number of each says which it is */

static struct dml_dataset *make_data(size_t n)
{
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_F32, n, 2, 1, 1, 2);
    if (!ds) {
        printf("Bail out! no memory\n");
        exit(1);
    }
    float *x = ds->x;
    for (size_t i = 0; i < n; i++) {
        x[2 * i] = (float)i;
        x[2 * i + 1] = -1.0f;
        ds->labels[i] = (int32_t)(i % 2);
    }
    return ds;
}

static struct dml_feed *make_feed(const struct dml_dataset *ds, uint64_t batch, uint64_t steps)
{
    struct dml_train_options train = {.batch_size = batch, .seed = 7};
    struct dml_data_options data = {.augment = DML_AUGMENT_NONE};
    struct dml_feed *f = NULL;
    tap_int(dml_feed_new(ds, &train, &data, 1, steps, &f), 0, "a feed");
    if (!f)
        exit(1);
    return f;
}

/* One epoch; how often each sample came. Returns samples seen. */
static size_t epoch_of(struct dml_feed *f, uint64_t first, uint64_t steps, unsigned *seen,
                       size_t *io_wrong_labels)
{
    size_t n = 0;
    for (uint64_t step = first; step < first + steps; step++) {
        const struct dml_feed_batch *b = dml_feed_get(f, step);
        for (size_t i = 0; i < b->n; i++) {
            size_t which = (size_t)b->x[2 * i];
            seen[which]++;
            *io_wrong_labels += b->labels[i] != (int32_t)(which % 2);
        }
        n += b->n;
    }
    return n;
}

static void test_epochs(void)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make_data(N);
    uint64_t steps = dml_feed_steps(N, 5);
    tap_int((long long)steps, 5, "23 samples are 5 minibatches of 5");
    _cleanup_(dml_feed_freep) struct dml_feed *f = make_feed(ds, 5, steps);
    unsigned seen[N] = {0};
    size_t wrong = 0;
    for (uint64_t epoch = 0; epoch < 3; epoch++)
        tap_int((long long)epoch_of(f, epoch * steps, steps, seen, &wrong), N,
                "an epoch has all samples");
    for (size_t i = 0; i < N; i++)
        wrong += seen[i] != 3;
    tap_int((long long)wrong, 0, "each sample once in each epoch, with its label");
    tap_int((long long)dml_feed_get(f, 4)->n, 3, "the last minibatch has what is left");
}

static void test_longer_epoch(void)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make_data(N);
    _cleanup_(dml_feed_freep) struct dml_feed *f = make_feed(ds, 10, 5);
    unsigned seen[N] = {0};
    size_t wrong = 0;
    tap_int((long long)epoch_of(f, 0, 5, seen, &wrong), N, "an epoch of more steps than needed");
    tap_int((long long)dml_feed_get(f, 3)->n, 0, "has empty minibatches at its end");
    tap_int((long long)dml_feed_get(f, 5)->n, 10, "and the next one begins in full");
}

static void test_ahead(void)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make_data(N);
    _cleanup_(dml_feed_freep) struct dml_feed *f = make_feed(ds, 5, 5);
    _cleanup_(dml_feed_freep) struct dml_feed *other = make_feed(ds, 5, 5);
    float kept[10];
    const struct dml_feed_batch *b = dml_feed_get(f, 4);
    memcpy(kept, b->x, b->n * 2 * sizeof(float));
    const struct dml_feed_batch *next = dml_feed_get(f, 5); /* of the next epoch */
    tap_int(memcmp(kept, b->x, b->n * 2 * sizeof(float)), 0,
            "preparing the next minibatch leaves the current one alone");
    tap_int(memcmp(next->x, dml_feed_get(other, 5)->x, 10 * sizeof(float)), 0,
            "what a step gets does not depend on the steps before");
    tap_ok(dml_feed_get(f, 5) == next, "a minibatch is prepared once");
    tap_int(memcmp(kept, dml_feed_get(f, 4)->x, 3 * 2 * sizeof(float)), 0, "a step back");
}

static void test_no_samples(void)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = make_data(1);
    ds->n_samples = 0;
    _cleanup_(dml_feed_freep) struct dml_feed *f = make_feed(ds, 5, 2);
    tap_int((long long)dml_feed_get(f, 0)->n, 0, "an empty shard gives empty minibatches");
    tap_int((long long)dml_feed_get(f, 3)->n, 0, "in every epoch");
}

int main(void)
{
    test_epochs();
    test_longer_epoch();
    test_ahead();
    test_no_samples();
    return tap_done();
}
