#include "paradigm/feed.h"

#include <errno.h>
#include <stdlib.h>

#include "data/batch.h"
#include "data/dataset.h"
#include "nn/optim.h"

#define NO_STEP UINT64_MAX

struct slot {
    uint64_t step;
    struct dml_feed_batch batch;
    float *x, *targets;
    int32_t *labels;
};

struct dml_feed {
    const struct dml_dataset *ds;
    struct dml_batch_augment augment;
    size_t batch;
    uint64_t steps_per_epoch, epoch; /* epoch: whose order it is */
    uint32_t *order;                 /* [N] */
    struct slot slots[2];
};

int dml_feed_new(const struct dml_dataset *ds, const struct dml_train_options *train,
                 const struct dml_data_options *data, uint64_t rank, uint64_t steps_per_epoch,
                 struct dml_feed **ret)
{
    _cleanup_(dml_feed_freep) struct dml_feed *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->ds = ds;
    f->augment = (struct dml_batch_augment){.kind = data->augment,
                                            .padding = (uint32_t)data->crop_padding,
                                            .seed = train->seed,
                                            .rank = rank};
    f->batch = train->batch_size < ds->n_samples ? (size_t)train->batch_size : ds->n_samples;
    f->steps_per_epoch = steps_per_epoch;
    f->epoch = NO_STEP;
    f->order = dml_mem_array(ds->n_samples ? ds->n_samples : 1, sizeof(uint32_t));
    size_t len;
    size_t room = f->batch ? f->batch : 1;
    if (!f->order || !dml_mem_mul(room, dml_dataset_d(ds), &len))
        return -ENOMEM;
    for (size_t i = 0; i < 2; i++) {
        struct slot *s = &f->slots[i];
        s->step = NO_STEP;
        s->x = dml_mem_floats(len);
        s->labels = dml_mem_array(room, sizeof(int32_t));
        s->targets = dml_mem_floats(room);
        if (!s->x || !s->labels || !s->targets)
            return -ENOMEM;
    }
    *ret = f;
    f = NULL;
    return 0;
}

struct dml_feed *dml_feed_free(struct dml_feed *f)
{
    for (size_t i = 0; f && i < 2; i++) {
        free(f->slots[i].x);
        free(f->slots[i].labels);
        free(f->slots[i].targets);
    }
    if (f)
        free(f->order);
    free(f);
    return NULL;
}

const struct dml_feed_batch *dml_feed_get(struct dml_feed *f, uint64_t step)
{
    struct slot *s = &f->slots[step % 2];
    if (s->step == step)
        return &s->batch;
    size_t n_samples = f->ds->n_samples;
    uint64_t epoch = step / f->steps_per_epoch, at = step % f->steps_per_epoch * f->batch;
    if (f->epoch != epoch)
        dml_batch_order(f->order, n_samples, f->augment.seed, f->augment.rank, epoch);
    f->epoch = epoch;
    f->augment.step = step;
    bool has_labels = f->ds->labels != NULL;
    size_t left = at < n_samples ? n_samples - (size_t)at : 0;
    s->step = step;
    s->batch = (struct dml_feed_batch){.n = left < f->batch ? left : f->batch,
                                       .x = s->x,
                                       .labels = has_labels ? s->labels : NULL,
                                       .targets = has_labels ? NULL : s->targets};
    if (s->batch.n > 0)
        dml_batch_fill(f->ds, f->order + at, s->batch.n, 0,
                       f->augment.kind == DML_AUGMENT_NONE ? NULL : &f->augment, s->x,
                       has_labels ? s->labels : NULL, has_labels ? NULL : s->targets);
    return &s->batch;
}
