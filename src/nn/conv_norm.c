/*
 * conv, batch-norm and relu or relu6 done at once, with channels last: nearly all of a modern
 * network.
 *
 * Apart they go over the picture five times forward and seven backward, and a picture of a whole
 * minibatch comes from memory each time. Together the minibatch is worked on in blocks of samples
 * that stay in the L2 cache:
 *
 *   forward   z = conv(x), and sums of z for the statistics, block by block; all threads meet;
 *             y = cut(a z + b).
 *   backward  g = dy where nothing was cut off, and sums of g and g (z - mean); all threads meet;
 *             block by block, dz from g and z, then dW and dx from dz.
 *
 * Where such a step is read by another one alone (is_raw), y is not made at all: what is handed on
 * is z, and the reader makes y of a block just before it needs it, in both directions. In return it
 * hands back g instead of dy, with its sums, since it has the block at hand. So of each step one
 * picture is stored forward and one backward, and each is read twice.
 *
 * In inference a and b are known beforehand, and y is made of each block while it is in the cache.
 *
 * A model file does not mention it. model_steps.c looks for the sequence.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/batch_norm.h"
#include "nn/conv.h"
#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/layer.h"
#include "nn/model.h"

#define BLOCK_FLOATS 49152 /* of a block's x and y together: 192 KiB, of an L2 cache of 512 */
#define BLOCK_MAX    128   /* samples */

/* What is kept: mean, 1 / deviation, a, b, and of a raw step two sums in double. */
#define KEPT_ROOMS 8

/* The two layers inside. */
static const struct dml_layer *conv_of(const struct dml_layer *l)
{
    return &l->parts[0];
}

static const struct dml_layer *norm_of(const struct dml_layer *l)
{
    return &l->parts[1];
}

static struct dml_layer_pass norm_pass(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    struct dml_layer_pass n = *p;
    size_t at = norm_of(l)->params_at - l->params_at;
    n.params += at;
    n.dparams = p->dparams ? p->dparams + at : NULL;
    return n;
}

static size_t room_of(const struct dml_layer *l)
{
    return dml_kernel_round(l->out.c);
}

/* Most samples of a block; more where each block would fetch weights that fill the cache anew. */
static size_t block_of(const struct dml_layer *l)
{
    size_t floats = l->parts[0].n_weights > BLOCK_FLOATS ? l->parts[0].n_weights : BLOCK_FLOATS;
    uint64_t n = floats / ((uint64_t)dml_layer_size(l->in) + dml_layer_size(l->out));
    return n < 1 ? 1 : n > BLOCK_MAX ? BLOCK_MAX : (size_t)n;
}

/* Blocks of nearly equal size: a product of the last few samples alone would be a slow one. */
static size_t share_of(const struct dml_layer *l, size_t batch)
{
    size_t most = block_of(l), n = (batch + most - 1) / most;
    return n ? (batch + n - 1) / n : 1;
}

/* ---- scratch ------------------------------------------------------------------------------ */

struct space {
    double *s1, *s2;    /* sums: of the step, unless they are kept */
    float *a, *b, *d;   /* of backward; the first two also of inference */
    float *x, *z;       /* a block's input and dz */
};

static struct space space_of(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t room = room_of(l);
    struct space s;
    s.s1 = (double *)(void *)(p->scratch + dml_kernel_round(conv_of(l)->n_scratch));
    s.s2 = s.s1 + room;
    s.a = (float *)(void *)(s.s2 + room);
    s.b = s.a + room;
    s.d = s.b + room;
    s.x = s.d + room;
    s.z = s.x + dml_kernel_round(block_of(l) * dml_layer_size(l->in));
    return s;
}

static uint64_t scratch_of(const struct dml_layer *l)
{
    uint64_t n = block_of(l);
    return dml_kernel_round(conv_of(l)->n_scratch) + 7 * room_of(l) +
           dml_kernel_round(n * dml_layer_size(l->in)) + n * dml_layer_size(l->out);
}

/* ---- what follows the convolution --------------------------------------------------------- */

static struct dml_kernel_clip clip_of(const struct dml_batch_norm_kept *k, const float *cut)
{
    return (struct dml_kernel_clip){
        .a = k->a, .b = k->b, .mean = k->mean, .lo = cut[0], .hi = cut[1]};
}

/* Sums that a raw step keeps; its reader fills them backward. */
static double *kept_sums(const struct dml_layer *norm, float *kept)
{
    return (double *)(void *)(kept + 4 * dml_kernel_round(norm->in.c));
}

/* The input of n samples: p->x, or, where it is raw, made of it. */
static const float *input(const struct dml_layer *l, const struct dml_layer_pass *p, size_t at,
                          size_t n, float *space)
{
    const float *x = p->x + at * dml_layer_size(l->in);
    if (!l->reads_raw || !p->training)
        return x;
    struct dml_batch_norm_kept k = dml_batch_norm_places(conv_of(l), p->from_kept);
    struct dml_kernel_clip clip = clip_of(&k, l->cut_before);
    l->kernel->channels->clip(x, n * l->in.h * l->in.w, l->in.c, &clip, space);
    return space;
}

/* ---- passes ------------------------------------------------------------------------------- */

static void infer(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t most = share_of(l, p->batch), rows = (size_t)l->out.h * l->out.w;
    struct dml_layer_pass n = norm_pass(l, p);
    struct space s = space_of(l, p);
    const struct dml_kernel_clip clip = {.a = s.a, .b = s.b, .lo = l->cut[0], .hi = l->cut[1]};
    dml_batch_norm_running(norm_of(l), &n, s.a, s.b);
    dml_conv_last_begin(conv_of(l), p);
    for (size_t at = 0; at < p->batch; at += most) {
        size_t b = p->batch - at < most ? p->batch - at : most;
        float *y = p->y + at * dml_layer_size(l->out);
        dml_conv_last_some(conv_of(l), p, b, p->x + at * dml_layer_size(l->in), y);
        l->kernel->channels->clip(y, b * rows, l->out.c, &clip, y);
    }
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    if (!p->training) {
        infer(l, p);
        return;
    }
    size_t most = share_of(l, p->batch), rows = (size_t)l->out.h * l->out.w, c = l->out.c;
    struct dml_layer_pass n = norm_pass(l, p);
    struct space s = space_of(l, p);
    struct dml_batch_norm_kept k = dml_batch_norm_places(norm_of(l), p->kept);
    float *z = l->is_raw ? p->y : p->saved;
    memset(s.s1, 0, 2 * room_of(l) * sizeof(double));
    if (p->batch)
        dml_conv_last_begin(conv_of(l), p);
    for (size_t at = 0; at < p->batch; at += most) {
        size_t b = p->batch - at < most ? p->batch - at : most;
        float *to = z + at * dml_layer_size(l->out);
        dml_conv_last_some(conv_of(l), p, b, input(l, p, at, b, s.x), to);
        if (p->recomputes)
            continue;
        if (at == 0)
            memcpy(k.mean, z, c * sizeof(float)); /* the shift: near the mean, whatever it is */
        l->kernel->channels->sums(to, b * rows, c, k.mean, s.s1, s.s2);
    }
    if (!p->recomputes)
        dml_batch_norm_settle(norm_of(l), &n, p->batch * rows, k.mean, s.s1, s.s2, &k);
    if (l->is_raw)
        return;
    struct dml_kernel_clip clip = clip_of(&k, l->cut);
    l->kernel->channels->clip(z, p->batch * rows, c, &clip, p->y);
}

/* dx of a block becomes what a raw step before wants. */
static void hand_back(const struct dml_layer *l, const struct dml_layer_pass *p, size_t at,
                      size_t n, float *dx)
{
    struct dml_batch_norm_kept k = dml_batch_norm_places(conv_of(l), p->from_kept);
    struct dml_kernel_clip clip = clip_of(&k, l->cut_before);
    double *sums = kept_sums(conv_of(l), p->from_kept);
    l->kernel->channels->sums_back(p->x + at * dml_layer_size(l->in), dx, n * l->in.h * l->in.w,
                                   l->in.c, &clip, dx, sums, sums + dml_kernel_round(l->in.c));
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t most = share_of(l, p->batch), rows = (size_t)l->out.h * l->out.w, c = l->out.c;
    size_t room = room_of(l);
    struct dml_layer_pass n = norm_pass(l, p);
    struct space s = space_of(l, p);
    struct dml_batch_norm_kept k = dml_batch_norm_places(norm_of(l), p->kept);
    struct dml_kernel_clip clip = clip_of(&k, l->cut);
    const float *z = l->is_raw ? p->y : p->saved;
    const struct dml_kernel_channels *channels = l->kernel->channels;
    bool is_cut = l->cut[0] > -INFINITY || l->cut[1] < INFINITY;
    if (l->is_raw) {
        s.s1 = kept_sums(norm_of(l), p->kept);
        s.s2 = s.s1 + room;
    } else {
        memset(s.s1, 0, 2 * room * sizeof(double));
        channels->sums_back(z, p->dy, p->batch * rows, c, &clip, NULL, s.s1, s.s2);
    }
    dml_batch_norm_slopes(norm_of(l), &n, p->batch * rows, &k, s.s1, s.s2, s.a, s.b, s.d);
    if (l->reads_raw)
        memset(kept_sums(conv_of(l), p->from_kept), 0,
               2 * dml_kernel_round(l->in.c) * sizeof(double));
    if (!p->batch)
        return;
    dml_conv_last_begin(conv_of(l), p);
    for (size_t at = 0; at < p->batch; at += most) {
        size_t b = p->batch - at < most ? p->batch - at : most, from = at * dml_layer_size(l->out);
        const float *x = input(l, p, at, b, s.x), *dy = p->dy + from;
        float *dx = p->dx ? p->dx + at * dml_layer_size(l->in) : NULL;
        if (!l->is_raw && is_cut) {
            channels->cut_back(z + from, dy, b * rows, c, &clip, s.z);
            dy = s.z;
        }
        channels->mix(z + from, dy, b * rows, c, s.a, s.b, s.d, s.z);
        dml_conv_last_back(conv_of(l), p, b, x, s.z, dx);
        if (dx && l->reads_raw)
            hand_back(l, p, at, b, dx);
    }
    dml_conv_last_end(conv_of(l), p);
}

/* ---- joining ------------------------------------------------------------------------------ */

bool dml_conv_norm_join(const struct dml_layer *l, size_t n, struct dml_layer *ret)
{
    const struct dml_layer *conv = &l[0], *norm = &l[1], *last = &l[n - 1];
    if (conv->type != &dml_conv || conv->args.method != DML_CONV_LAST || conv->n_biases ||
        norm->type != &dml_batch_norm ||
        (n == 3 && last->type != &dml_relu && last->type != &dml_relu6))
        return false;
    struct dml_layer step = *conv;
    step.type = &dml_conv_norm;
    step.parts = l;
    step.out = last->out;
    step.out_order = last->out_order;
    step.n_weights = conv->n_weights + norm->n_weights;
    step.n_biases = norm->n_biases;
    step.n_state = norm->n_state;
    step.state_at = norm->state_at;
    step.n_saved = dml_layer_size(step.out);
    step.n_kept = KEPT_ROOMS * dml_kernel_round(step.out.c);
    step.n_meeting = norm->n_meeting;
    step.macs = conv->macs + norm->macs;
    step.cut[0] = n == 3 ? 0.0f : -INFINITY;
    step.cut[1] = n == 3 && last->type == &dml_relu6 ? 6.0f : INFINITY;
    step.n_scratch = scratch_of(&step);
    (void)snprintf(step.words, sizeof(step.words), "%.70s, %.40s%s%.10s", conv->words, norm->words,
                   n == 3 ? ", " : "", n == 3 ? last->words : "");
    *ret = step;
    return true;
}

void dml_conv_norm_link(struct dml_layer *first, struct dml_layer *second)
{
    first->is_raw = second->reads_raw = true;
    first->n_saved = 0;
    memcpy(second->cut_before, first->cut, sizeof(first->cut));
}

const struct dml_layer_type dml_conv_norm = {
    .name = "conv-norm",
    .usage = "conv, batch-norm[, relu or relu6]",
    .is_internal = true,
    .meets = true,
    .forward = forward,
    .backward = backward,
};
