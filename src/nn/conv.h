/*
 * The ways of doing a convolution, private to nn/. Weights are [O][C/groups][K][K], as PyTorch
 * stores them; Ho, Wo are height and width of the output.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
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

/*
 * What direct convolutions move about (conv_pixels.c). A padded picture is Hp = H + 2·padding rows
 * of Wp pixels; borders are the caller's to clear. Packed weights of an output channel are `size`
 * floats: K rows of K·C, `row` apart.
 */
void dml_conv_pad_planes(const struct dml_layer *l, const float *x, float *to);
void dml_conv_planes_to_pixels(const struct dml_layer *l, const float *x, float *to);
void dml_conv_pixels_to_planes(const struct dml_layer *l, const float *from, float *dx);
void dml_conv_pack(const struct dml_layer *l, const float *w, size_t size, size_t row,
                   float *packed);
/* some: C·K·K floats of scratch. */
void dml_conv_add_packed(const struct dml_layer *l, const float *packed, size_t size, size_t row,
                         float *some, float *io_w);
/* For the shifted product: wt [C·K·K][O], and where each tap is in the padded planes. */
void dml_conv_turn(const struct dml_layer *l, const float *w, float *wt, uint32_t *at);

/* l: [3]. Makes one step of a direct convolution, relu and max-pool 2; false when they are not. */
bool dml_conv_pool_join(const struct dml_layer *l, struct dml_layer *ret);

/* Forward of conv-pool by nn/kernel_winograd.h, for filters of 5×5. */
uint64_t dml_conv_winograd_scratch(const struct dml_layer *l);
void dml_conv_winograd_forward(const struct dml_layer *l, const struct dml_layer_pass *p);

uint64_t dml_conv_im2col_scratch(const struct dml_layer *l);
void dml_conv_im2col_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_im2col_backward(const struct dml_layer *l, const struct dml_layer_pass *p);

/* Channels last, whatever the filter; forward and backward of a whole pass. */
uint64_t dml_conv_last_scratch(const struct dml_layer *l);
void dml_conv_last_forward(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_last_backward(const struct dml_layer *l, const struct dml_layer_pass *p);

/*
 * The same in pieces, for who has other things to do with a piece while it is in the cache: begin;
 * then _some or _back over n samples at a time; after all _back, end. Of p they use params,
 * dparams (NULL: forward) and scratch, which stays untouched in between. dx may be NULL.
 */
void dml_conv_last_begin(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_last_some(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                        const float *x, float *y);
void dml_conv_last_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                        const float *x, const float *dy, float *dx);
void dml_conv_last_end(const struct dml_layer *l, const struct dml_layer_pass *p);

/* Of these, filters of 3×3 with many channels, by nn/kernel_winograd_3.h. Whether a layer is one is
 * known as soon as its input and arguments are. */
bool dml_conv_is_winograd_3(const struct dml_layer *l);
uint64_t dml_conv_winograd_3_scratch(const struct dml_layer *l);
void dml_conv_winograd_3_begin(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_winograd_3_some(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                              const float *x, float *y);
void dml_conv_winograd_3_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                              const float *x, const float *dy, float *dx);
void dml_conv_winograd_3_end(const struct dml_layer *l, const struct dml_layer_pass *p);

/* Of these, one filter for each channel. */
uint64_t dml_conv_depthwise_scratch(const struct dml_layer *l);
void dml_conv_depthwise_begin(const struct dml_layer *l, const struct dml_layer_pass *p);
void dml_conv_depthwise_some(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                             const float *x, float *y);
void dml_conv_depthwise_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t n,
                             const float *x, const float *dy, float *dx);
void dml_conv_depthwise_end(const struct dml_layer *l, const struct dml_layer_pass *p);

/*
 * Makes one step of a convolution with channels last, batch-norm and, if n is 3, relu or relu6;
 * false when l [n] is something else. dml_conv_norm_link() is for two such steps of which the
 * second alone reads the first.
 */
bool dml_conv_norm_join(const struct dml_layer *l, size_t n, struct dml_layer *ret);
void dml_conv_norm_link(struct dml_layer *first, struct dml_layer *second);
