/* linear and relu as one step, private to nn/. */
#pragma once

#include <stdbool.h>

struct dml_layer;

/* l: [2]. Makes one step of linear and relu; false when they are not. */
bool dml_linear_join(const struct dml_layer *l, struct dml_layer *ret);
