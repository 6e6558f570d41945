/*
 * The two ways of doing a convolution, private to nn/. Weights are [O][C][K][K], as PyTorch
 * stores them; Ho, Wo are height and width of the output.
 */
#pragma once

#include <stdint.h>

struct dml_layer;
struct dml_layer_pass;

enum dml_conv_method {
    DML_CONV_AUTO,
    DML_CONV_DIRECT, /* no column matrix; stride 1 only */
    DML_CONV_IM2COL, /* the textbook's: a column matrix and a matrix product */
};

/* Floats of scratch. */
uint64_t dml_conv_direct_scratch(const struct dml_layer *l);
void dml_conv_direct_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_direct_backward(const struct dml_layer *l, const struct dml_layer_pass *p);

uint64_t dml_conv_im2col_scratch(const struct dml_layer *l);
void dml_conv_im2col_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_im2col_backward(const struct dml_layer *l, const struct dml_layer_pass *p);
