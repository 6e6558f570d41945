#include "paradigm/legs_state.h"

#include <errno.h>
#include <string.h>

#include "nn/model.h"

size_t dml_legs_n_moments(const struct dml_train_options *train)
{
    return dml_optim_n_moments_of(train);
}

size_t dml_legs_n_state(const struct dml_task *task)
{
    return dml_model_n_vec(task->model) +
           dml_legs_n_moments(&task->tc->train) * dml_model_n_params(task->model);
}

int dml_legs_state_init(struct dml_legs_state *s, const struct dml_task *task)
{
    *s = (struct dml_legs_state){
        .vec = task->vec,
        .n_params = dml_model_n_params(task->model),
        .n_vec = dml_model_n_vec(task->model),
        .n_moments = dml_legs_n_moments(&task->tc->train),
    };
    s->moments = dml_mem_floats(s->n_moments * s->n_params);
    return s->moments ? 0 : -ENOMEM;
}

void dml_legs_state_done(struct dml_legs_state *s)
{
    free(s->moments);
    s->moments = NULL;
}

size_t dml_legs_part(const struct dml_legs_deal *d, const struct dml_legs_state *s, unsigned n,
                     unsigned i)
{
    return d->ops->part ? d->ops->part(d->arg, n, i) : s->n_vec + s->n_moments * s->n_params;
}

void dml_legs_take(const struct dml_legs_deal *d, const struct dml_legs_state *s, unsigned n,
                   unsigned i, float *ret_part)
{
    if (d->ops->take) {
        d->ops->take(d->arg, n, i, s, ret_part);
        return;
    }
    memcpy(ret_part, s->vec, s->n_vec * sizeof(float));
    memcpy(ret_part + s->n_vec, s->moments, s->n_moments * s->n_params * sizeof(float));
}

void dml_legs_put(const struct dml_legs_deal *d, struct dml_legs_state *io_s, unsigned n,
                  unsigned i, const float *part)
{
    if (d->ops->put) {
        d->ops->put(d->arg, n, i, part, io_s);
        return;
    }
    memcpy(io_s->vec, part, io_s->n_vec * sizeof(float));
    memcpy(io_s->moments, part + io_s->n_vec,
           io_s->n_moments * io_s->n_params * sizeof(float));
}

bool dml_legs_sends(const struct dml_legs_deal *d, unsigned n, unsigned i)
{
    return d->ops->sends ? d->ops->sends(d->arg, n, i) : i == 0;
}

void dml_legs_layers(const struct dml_legs_deal *d, unsigned n, unsigned i,
                     struct dml_round_worker *io_worker)
{
    if (d->ops->layers)
        d->ops->layers(d->arg, n, i, io_worker->layers, sizeof(io_worker->layers));
}
