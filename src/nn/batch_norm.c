/*
 * batch-norm: y = gamma (x - mean) / sqrt(var + epsilon) + beta, per channel, channels last.
 *
 * Training takes mean and variance of the whole minibatch, however many threads share it: each
 * sums its own samples about a shift, the sums are exchanged (struct dml_model_meeting), and all
 * combine them in order of thread number, so every thread has the same figures and they differ from
 * those of one thread only by rounding in double. With a gradient from several nodes each node has
 * statistics of its own, as in PyTorch. Running statistics move by `momentum` towards those of the
 * minibatch, the variance unbiased, as PyTorch does; inference uses them. They are the layer's
 * state: [C] means, then [C] variances.
 *
 * Backward, with u = (x - mean) / sqrt(var + epsilon) and means over N = samples × places:
 *   dbeta = sum dy, dgamma = sum dy u,
 *   dx = gamma / sqrt(var + epsilon) (dy - mean(dy) - u mean(dy u)).
 *
 * Source: Ioffe, Szegedy 2015; sums combined as in Chan, Golub, LeVeque 1979.
 */
#include "nn/batch_norm.h"

#include <math.h>
#include <string.h>

#include "nn/kernel.h"
#include "nn/kernel_channels.h"
#include "nn/layer.h"
#include "nn/model.h"

static const struct dml_opt opts[] = {
    {"batch-norm", "momentum", DML_OPT_REAL, offsetof(struct dml_layer_args, momentum), .min = 0,
     .max = 1, .dflt = "0.1", .help = "How far a minibatch moves the running statistics"},
    {"batch-norm", "epsilon", DML_OPT_REAL, offsetof(struct dml_layer_args, epsilon), .min = 1e-12,
     .max = 1, .dflt = "1e-5", .help = "Added to the variance"},
    {0},
};

static int prepare(struct dml_layer *l, char *why, size_t why_len)
{
    (void)why;
    (void)why_len;
    size_t c = l->in.c;
    l->out = l->in;
    l->n_weights = l->n_biases = c;
    l->n_state = 2 * c;
    l->fan_in = l->fan_out = 1;
    l->fill = DML_FILL_ONES;
    l->n_kept = 4 * dml_kernel_round(c);    /* mean, 1 / deviation, a, b */
    l->n_scratch = 7 * dml_kernel_round(c); /* two sums in double, three factors */
    l->n_meeting = dml_batch_norm_room(l);
    l->macs = 2 * dml_layer_size(l->in);
    return 0;
}

static size_t rows_of(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    return p->batch * l->in.h * l->in.w;
}

/* Running statistics: PyTorch's arithmetic. */
static void run_on(const struct dml_layer *l, const struct dml_layer_pass *p, const double *mean,
                   const double *square, double n)
{
    size_t c = l->in.c;
    float m = (float)l->args.momentum;
    for (size_t i = 0; i < c; i++) {
        float var = (float)(square[i] / (n > 1.0 ? n - 1.0 : 1.0));
        p->io_state[i] = (1.0f - m) * p->io_state[i] + m * (float)mean[i];
        p->io_state[c + i] = (1.0f - m) * p->io_state[c + i] + m * var;
    }
}

/* Combines the threads' n, mean, sum of squares about it: board rows are [1 + 2C]. */
static double combine(const struct dml_layer *l, const struct dml_model_meeting *meeting,
                      const double *all, double *mean, double *square)
{
    size_t c = l->in.c;
    double n = 0.0;
    memset(mean, 0, c * sizeof(double));
    memset(square, 0, c * sizeof(double));
    for (unsigned t = 0; t < meeting->n; t++) {
        const double *row = all + t * meeting->room, *m = row + 1, *s = m + c;
        double here = row[0], total = n + here;
        for (size_t i = 0; here > 0.0 && i < c; i++) {
            double off = m[i] - mean[i];
            mean[i] += off * here / total;
            square[i] += s[i] + off * off * n * here / total;
        }
        n = total;
    }
    return n;
}

size_t dml_batch_norm_room(const struct dml_layer *l)
{
    return 1 + 2 * (size_t)l->in.c;
}

struct dml_batch_norm_kept dml_batch_norm_places(const struct dml_layer *l, float *kept)
{
    size_t room = dml_kernel_round(l->in.c);
    return (struct dml_batch_norm_kept){kept, kept + room, kept + 2 * room, kept + 3 * room};
}

/* The board's rows, this thread's written. */
static const double *exchange(const struct dml_layer *l, struct dml_model_meeting *meeting,
                              double n, const double *s1, const double *s2)
{
    double *row = dml_model_meeting_row(meeting);
    row[0] = n;
    memcpy(row + 1, s1, l->in.c * sizeof(double));
    memcpy(row + 1 + l->in.c, s2, l->in.c * sizeof(double));
    return dml_model_meet(meeting);
}

void dml_batch_norm_settle(const struct dml_layer *l, const struct dml_layer_pass *p, size_t rows,
                           const float *shift, double *io_s1, double *io_s2,
                           const struct dml_batch_norm_kept *ret)
{
    size_t c = l->in.c;
    double *mean = io_s1, *square = io_s2, n = (double)rows;
    const float *gamma = p->params, *beta = gamma + c;
    for (size_t i = 0; rows && i < c; i++) {
        double off = mean[i] / n;
        square[i] -= off * mean[i];
        square[i] = square[i] > 0.0 || isnan(square[i]) ? square[i] : 0.0;
        mean[i] = (double)shift[i] + off;
    }
    struct dml_model_meeting *meeting = p->training->meeting;
    if (meeting)
        n = combine(l, meeting, exchange(l, meeting, n, mean, square), mean, square);
    for (size_t i = 0; i < c; i++) {
        double inverse = 1.0 / sqrt(square[i] / n + l->args.epsilon);
        ret->mean[i] = (float)mean[i];
        ret->inverse[i] = (float)inverse;
        ret->a[i] = gamma[i] * ret->inverse[i];
        ret->b[i] = beta[i] - ret->mean[i] * ret->a[i];
    }
    if (!meeting || meeting->i == 0)
        run_on(l, p, mean, square, n);
}

void dml_batch_norm_slopes(const struct dml_layer *l, const struct dml_layer_pass *p, size_t rows,
                           const struct dml_batch_norm_kept *kept, double *io_s1, double *io_s2,
                           float *ret_a, float *ret_b, float *ret_d)
{
    size_t c = l->in.c;
    double n = (double)rows;
    for (size_t i = 0; i < c; i++) { /* this thread's share; the trainer adds them up */
        p->dparams[i] += (float)io_s2[i] * kept->inverse[i];
        p->dparams[c + i] += (float)io_s1[i];
    }
    struct dml_model_meeting *meeting = p->training->meeting;
    if (meeting) {
        const double *all = exchange(l, meeting, n, io_s1, io_s2);
        memset(io_s1, 0, c * sizeof(double));
        memset(io_s2, 0, c * sizeof(double));
        n = 0.0;
        for (unsigned t = 0; t < meeting->n; t++, all += meeting->room) {
            n += all[0];
            for (size_t i = 0; i < c; i++) {
                io_s1[i] += all[1 + i];
                io_s2[i] += all[1 + c + i];
            }
        }
    }
    for (size_t i = 0; i < c; i++) {
        double inverse = (double)kept->inverse[i], gain = (double)p->params[i] * inverse;
        double slope = -gain * inverse * inverse * io_s2[i] / n;
        ret_a[i] = (float)gain;
        ret_b[i] = (float)slope;
        ret_d[i] = (float)(-gain * io_s1[i] / n - slope * (double)kept->mean[i]);
    }
}

void dml_batch_norm_running(const struct dml_layer *l, const struct dml_layer_pass *p, float *ret_a,
                            float *ret_b)
{
    size_t c = l->in.c;
    const float *gamma = p->params, *beta = gamma + c, *mean = p->state, *var = mean + c;
    for (size_t i = 0; i < c; i++) {
        ret_a[i] = gamma[i] / sqrtf(var[i] + (float)l->args.epsilon);
        ret_b[i] = beta[i] - mean[i] * ret_a[i];
    }
}

/* ---- the layer of its own ----------------------------------------------------------------- */

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, room = dml_kernel_round(c), rows = rows_of(l, p);
    double *s1 = (double *)(void *)p->scratch, *s2 = s1 + room;
    struct dml_batch_norm_kept k = dml_batch_norm_places(l, p->training ? p->kept : p->scratch);
    const struct dml_kernel_clip clip = {.a = k.a, .b = k.b, .lo = -INFINITY, .hi = INFINITY};
    if (p->training && !p->recomputes) {
        memset(s1, 0, 2 * room * sizeof(double));
        if (rows) {
            memcpy(k.mean, p->x, c * sizeof(float)); /* the shift */
            l->kernel->channels->sums(p->x, rows, c, k.mean, s1, s2);
        }
        dml_batch_norm_settle(l, p, rows, k.mean, s1, s2, &k);
    } else if (!p->training) {
        dml_batch_norm_running(l, p, k.a, k.b);
    }
    l->kernel->channels->clip(p->x, rows, c, &clip, p->y);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, room = dml_kernel_round(c), rows = rows_of(l, p);
    double *s1 = (double *)(void *)p->scratch, *s2 = s1 + room;
    float *a = p->scratch + 4 * room, *b = a + room, *d = b + room;
    struct dml_batch_norm_kept k = dml_batch_norm_places(l, p->kept);
    const struct dml_kernel_clip clip = {
        .a = k.a, .b = k.b, .mean = k.mean, .lo = -INFINITY, .hi = INFINITY};
    memset(s1, 0, 2 * room * sizeof(double));
    l->kernel->channels->sums_back(p->x, p->dy, rows, c, &clip, NULL, s1, s2);
    dml_batch_norm_slopes(l, p, rows, &k, s1, s2, a, b, d);
    if (p->dx && rows)
        l->kernel->channels->mix(p->x, p->dy, rows, c, a, b, d, p->dx);
}

const struct dml_layer_type dml_batch_norm = {
    .name = "batch-norm",
    .usage = "batch-norm [momentum M] [epsilon E]",
    .opts = opts,
    .meets = true,
    .order = dml_layer_hwc,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
