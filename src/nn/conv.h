/*
 * The ways of doing a convolution, private to nn/. Weights are [O][C/groups][K][K], as PyTorch
 * stores them; Ho, Wo are height and width of the output.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct dml_layer;
struct dml_layer_pass;

enum dml_conv_method {
    DML_CONV_AUTO,
    DML_CONV_DIRECT, /* no column matrix; stride 1 only */
    DML_CONV_IM2COL, /* the textbook's: a column matrix and a matrix product */
    DML_CONV_LAST,   /* channels last: the product alone where K = 1 */
};

/* One filter for each channel. */
bool dml_conv_is_depthwise(const struct dml_layer *l);

/* Floats of scratch. */
uint64_t dml_conv_direct_scratch(const struct dml_layer *l);
void dml_conv_direct_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_direct_backward(const struct dml_layer *l, const struct dml_layer_pass *p);

/* l: [3]. Makes one step of a direct convolution, relu and max-pool 2; false when they are not. */
bool dml_conv_pool_join(const struct dml_layer *l, struct dml_layer *ret);

uint64_t dml_conv_im2col_scratch(const struct dml_layer *l);
void dml_conv_im2col_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_im2col_backward(const struct dml_layer *l, const struct dml_layer_pass *p);

uint64_t dml_conv_last_scratch(const struct dml_layer *l);
void dml_conv_last_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_last_backward(const struct dml_layer *l, const struct dml_layer_pass *p);

uint64_t dml_conv_depthwise_scratch(const struct dml_layer *l);
void dml_conv_depthwise_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_depthwise_backward(const struct dml_layer *l, const struct dml_layer_pass *p);
