/*
 * A model: a chain of layers over one flat block of floats.
 *
 * The block has two parts, P trained parameters followed by Q other state (batch-norm running
 * statistics): vec[0..P) and vec[P..P+Q). The optimiser is one loop over the first part, a network
 * message or a checkpoint is the whole block.
 *
 * One alphabet for the whole tree: B batch, D inputs, O outputs, C channels, H W height width,
 * K kernel, N samples, P parameters, R ranks, S stages, M micro-batches. Gradients are dX.
 *
 * Intended usage:
 *     dml_model_load("cifar-cnn", dirs, &m, &err);
 *     float *vec = dml_mem_floats(dml_model_n_vec(m));
 *     dml_model_init(m, vec, seed);
 *     (a trainer does the rest: nn/trainer.h)
 *
 * Model files are for students to read and write:
 *     # LeNet's grandchild
 *     name  cifar-cnn
 *     input 3 32 32
 *     conv 6 kernel 5
 *     relu
 *     max-pool 2
 *     …
 *     linear 10
 *     loss cross-entropy
 *
 * `input` is C H W, or D alone for a row of numbers. linear takes a picture as the row of numbers
 * it is in memory, so flatten is allowed but never needed. Without a `loss` line the loss is
 * cross-entropy.
 *
 * `repeat N … end` stands for its lines N times. `residual … end` adds what goes into the block to
 * what comes out of it; with `shortcut` in between, `residual … shortcut … end` adds what the
 * layers of the second half make of it. Blocks nest. dml.model(5) explains every layer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_err;
struct dml_kernel_product;
struct dml_model;

#define DML_MODEL_TEXT_MAX   65536 /* bytes of a model file */
#define DML_MODEL_LAYERS_MAX 1024
#define DML_MODEL_PARAMS_MAX (1u << 28) /* 1 GiB of float32 */
#define DML_MODEL_BATCH_MAX  65536

#define DML_MODEL_DEPTH_MAX 16 /* blocks in blocks */

enum dml_model_loss {
    DML_LOSS_CROSS_ENTROPY,
    DML_LOSS_MSE,
    DML_LOSS_NEXT_TOKEN,
    DML_LOSS_NONE /* a part of a model that is not its last: nn/model_cut.h */
};

/* Parses the text of a model file; `file` is for messages. Never crashes on any bytes.
 * Errors: -EINVAL with file, line, what was found, what is allowed (shapes on both sides). */
int dml_model_parse(const char *text, size_t len, const char *file, struct dml_model **ret,
                    struct dml_err *err);

/*
 * `name` is a path (when it has a '/') or a shipped model's name, looked up as NAME.model in
 * `dirs` (NULL-terminated list). An unknown name is answered with the nearest known one.
 */
int dml_model_load(const char *name, const char *const *dirs, struct dml_model **ret,
                   struct dml_err *err);
struct dml_model *dml_model_free(struct dml_model *m);
DML_MEM_CLEANUP(struct dml_model, dml_model_free);

const char *dml_model_name(const struct dml_model *m);
const char *dml_model_text(const struct dml_model *m); /* as parsed; NUL-terminated */
size_t dml_model_n_params(const struct dml_model *m);  /* P */
size_t dml_model_n_state(const struct dml_model *m);   /* Q */
static inline size_t dml_model_n_vec(const struct dml_model *m)
{
    return dml_model_n_params(m) + dml_model_n_state(m);
}
size_t dml_model_n_inputs(const struct dml_model *m); /* D */
void dml_model_input_shape(const struct dml_model *m, uint32_t *ret_c, uint32_t *ret_h,
                           uint32_t *ret_w);
size_t dml_model_n_outputs(const struct dml_model *m); /* O */
/* Outputs that belong to a sample's label, the last ones: O; of a sequence, those of its end. */
size_t dml_model_n_classes(const struct dml_model *m);
enum dml_model_loss dml_model_loss(const struct dml_model *m);
/* Numbers of x per sample that the loss reads: T of a sequence (next-token), else 0. The last part
 * of a model, whose own x is another, asks for those of the whole model. */
size_t dml_model_n_codes(const struct dml_model *m);
size_t dml_model_n_layers(const struct dml_model *m);

/* "  1  conv 6 kernel 5   3×32×32 → 6×28×28   456 parameters": one line per layer, for people. Where
 * the model can be cut (nn/model_cut.h), the number of the layer stands before it. */
int dml_model_print(const struct dml_model *m, char **ret_text);

/*
 * Whether `m` fits data of that shape and number of classes (0: regression).
 * Returns 0 or -EINVAL with both shapes in err.
 */
int dml_model_check_data(const struct dml_model *m, uint32_t c, uint32_t h, uint32_t w,
                         uint32_t n_classes, struct dml_err *err);

/*
 * vec: [P+Q], as the model's init line says:
 *   uniform  (or no line) weights and biases ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), which is what
 *            PyTorch's defaults (kaiming_uniform with a = sqrt(5)) amount to; embeddings N(0, 1)
 *   kaiming  conv ~ N(0, 2/fan_out), linear ~ N(0, 0.01²), biases 0: as torchvision's MobileNetV2
 *   normal   all ~ N(0, 0.02²), biases 0: as GPT-2
 * Normalisations start with 1 and 0, running statistics with mean 0 and variance 1.
 */
void dml_model_init(const struct dml_model *m, float *vec, uint64_t seed);

/*
 * Where the threads that share a minibatch exchange sums (batch-norm): each writes a row, all wait
 * for each other, all read all rows. The board has two halves that take turns, so one wait per
 * meeting is enough. Each thread has a struct of its own; the board is one.
 */
struct dml_model_meeting {
    unsigned n, i;  /* threads, and which this one is */
    size_t room;    /* dml_model_meeting_room() */
    double *board;  /* [2][n][room] */
    unsigned n_met; /* meetings so far; starts at 0 */
    void (*wait)(void *arg);
    void *arg;
};

/* Doubles of a row; 0: no layer of the model meets. */
size_t dml_model_meeting_room(const struct dml_model *m);

/* For layers: the row to write, then all rows [n][room]. */
double *dml_model_meeting_row(struct dml_model_meeting *meeting);
const double *dml_model_meet(struct dml_model_meeting *meeting);

struct dml_model_training {
    uint64_t seed, rank, step; /* name the random streams (dropout) */
    size_t first; /* place of x[0] within the whole minibatch, so that threads may split it */
    /* NULL: these B samples are the whole minibatch. Otherwise all threads make the same passes at
     * the same time, a thread without samples with B = 0. */
    struct dml_model_meeting *meeting;
    /* dml_model_turns() floats that this pass has to itself, for what is of no use after it; the
     * workspace then needs but dml_model_kept() floats. NULL: they lie in the workspace. */
    float *turns;
    /* Forward keeps only what passes from one run of layers to the next (model_span.c), backward
     * computes the rest again: the same bits from dml_model_workspace_recompute() floats. */
    bool recompute;
    /* Backward says when the gradient of parameters [at, P) has got all of this pass; `at` falls,
     * and ends with 0. NULL: nobody asks. */
    void (*settled)(void *arg, size_t at);
    void *settled_arg;
    /* The last pass of a step, and these samples are all there are: backward hands over what it
     * finds instead of leaving it in io_grad. take() gets the whole gradient of parameters
     * [at, at + n), the rest of io_grad included, once for each of them and when nothing needs
     * their values any more: it may change them. io_grad is 0 afterwards. NULL: nobody takes. */
    void (*take)(void *arg, const float *grad, size_t at, size_t n);
    /* The same for a product that gives the gradient of parameters [at, …), row behind row, its c
     * not being used. false: it has not been taken, its result is wanted. NULL: as false. */
    bool (*take_product)(void *arg, const struct dml_kernel_product *p, size_t at);
    void *take_arg;
    bool is_fresh; /* for take(): io_grad is 0 before the pass */
};

/* Multiply-adds of a forward pass per sample; forward and backward are about three times that. */
uint64_t dml_model_macs(const struct dml_model *m);
/* The same of the model that m is a part of (nn/model_cut.h), or of m. */
uint64_t dml_model_whole_macs(const struct dml_model *m);

/*
 * One pass over B samples with a workspace of dml_model_workspace(m, B, …) floats, aligned to
 * DML_MEM_ALIGN, which holds what backward needs. No allocation. Thread-safe with a workspace each.
 *   vec       [P+Q]
 *   io_state  [Q] written when training; NULL when Q = 0
 *   training  NULL: inference
 *   x [B][D]    y [B][O] logits or predictions
 * dml_model_workspace() is SIZE_MAX where this machine cannot address so much, which no allocation
 * grants; wherever it is granted, B times D or O cannot overflow either.
 */
size_t dml_model_workspace(const struct dml_model *m, size_t batch, bool training);
size_t dml_model_workspace_recompute(const struct dml_model *m, size_t batch);
/* Floats that each further sample of a training pass takes: can be counted for any model. */
uint64_t dml_model_per_sample(const struct dml_model *m);

/* The two parts of a training workspace: what backward wants of forward, and what serves one pass.
 * For passes that wait for their backward side by side and share the second part. */
size_t dml_model_kept(const struct dml_model *m, size_t batch, bool recompute);
size_t dml_model_turns(const struct dml_model *m, size_t batch);

void dml_model_forward(const struct dml_model *m, const float *vec, float *io_state, const float *x,
                       size_t batch, const struct dml_model_training *training, float *workspace,
                       float *y);

/*
 * After a training forward with the same arguments. Adds to io_grad [P]; dy [B][O] is overwritten.
 * dx [B][D] or NULL when nobody needs it.
 */
void dml_model_backward(const struct dml_model *m, const float *vec, const float *x, float *dy,
                        size_t batch, const struct dml_model_training *training, float *workspace,
                        float *io_grad, float *dx);

/*
 * Loss over B samples and its gradient: cross-entropy of the softmax of y, in nats, or the squared
 * error (one output), or for sequences y [T][V] the mean over positions of the cross-entropy, where
 * the right answer at a position is the code x [B][T] has at the next, and behind the last position
 * the sample's label. *ret_loss is the SUM over samples, dy [B][O] the gradient
 * of (sum / divisor), so that slices of one minibatch add up. dy may be NULL.
 * correct: number of samples whose largest output (at the last position) is the label (0 for
 * regression).
 *   x  [B][dml_model_n_codes(m)]: a sequence's codes; not read by other losses
 */
void dml_model_loss_grad(const struct dml_model *m, const float *x, const float *y,
                         const int32_t *labels,
                         const float *targets, size_t batch, double divisor, double *ret_loss,
                         size_t *ret_correct, float *dy);
