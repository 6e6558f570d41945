/* The agreed state on the master, dealt to members as the paradigm says. For paradigm/legs.c. */
#pragma once

#include "paradigm/legs.h"

struct dml_legs_deal {
    const struct dml_legs_ops *ops;
    void *arg;
};

/* The state a run begins with: task->vec, borrowed, and moments of 0. Returns 0 or -ENOMEM. */
int dml_legs_state_init(struct dml_legs_state *s, const struct dml_task *task);
void dml_legs_state_done(struct dml_legs_state *s);

/* What the ops say of member i of n; see there. */
size_t dml_legs_part(const struct dml_legs_deal *d, const struct dml_legs_state *s, unsigned n,
                     unsigned i);
void dml_legs_take(const struct dml_legs_deal *d, const struct dml_legs_state *s, unsigned n,
                   unsigned i, float *ret_part);
void dml_legs_put(const struct dml_legs_deal *d, struct dml_legs_state *io_s, unsigned n,
                  unsigned i, const float *part);
bool dml_legs_sends(const struct dml_legs_deal *d, unsigned n, unsigned i);
void dml_legs_layers(const struct dml_legs_deal *d, unsigned n, unsigned i,
                     struct dml_round_worker *io_worker);
