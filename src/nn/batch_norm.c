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
    l->n_kept = 2 * dml_kernel_round(c);     /* mean, 1 / deviation */
    l->n_scratch = 4 * dml_kernel_round(c) + /* two sums in double */
                   6 * dml_kernel_round(c);
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

static void train(const struct dml_layer *l, const struct dml_layer_pass *p, float *a, float *b)
{
    size_t c = l->in.c, room = dml_kernel_round(c), rows = rows_of(l, p);
    double *mean = (double *)(void *)p->scratch, *square = mean + room, n = (double)rows;
    float *tmp = b + room, *deviation = p->kept + room;
    const float *gamma = p->params, *beta = gamma + c;
    memset(p->scratch, 0, 4 * room * sizeof(float));
    if (rows) {
        memcpy(p->kept, p->x, c * sizeof(float)); /* the shift: near the mean, whatever it is */
        l->kernel->channels->sums(p->x, rows, c, p->kept, tmp, mean, square);
        for (size_t i = 0; i < c; i++) {
            double off = mean[i] / n;
            square[i] -= off * mean[i];
            square[i] = square[i] > 0.0 || isnan(square[i]) ? square[i] : 0.0;
            mean[i] = (double)p->kept[i] + off;
        }
    }
    struct dml_model_meeting *meeting = p->training->meeting;
    if (meeting) {
        double *row = dml_model_meeting_row(meeting);
        row[0] = n;
        memcpy(row + 1, mean, c * sizeof(double));
        memcpy(row + 1 + c, square, c * sizeof(double));
        n = combine(l, meeting, dml_model_meet(meeting), mean, square);
    }
    for (size_t i = 0; i < c; i++) {
        double inverse = 1.0 / sqrt(square[i] / n + l->args.epsilon);
        p->kept[i] = (float)mean[i];
        deviation[i] = (float)inverse;
        a[i] = gamma[i] * deviation[i];
        b[i] = beta[i] - p->kept[i] * a[i];
    }
    if (!meeting || meeting->i == 0)
        run_on(l, p, mean, square, n);
}

static void forward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, room = dml_kernel_round(c);
    float *a = p->scratch + 4 * room, *b = a + room;
    if (p->training) {
        train(l, p, a, b);
    } else {
        const float *gamma = p->params, *beta = gamma + c;
        for (size_t i = 0; i < c; i++) {
            a[i] = gamma[i] / sqrtf(p->state[c + i] + (float)l->args.epsilon);
            b[i] = beta[i] - p->state[i] * a[i];
        }
    }
    l->kernel->channels->scale(p->x, rows_of(l, p), c, a, b, p->y);
}

static void backward(const struct dml_layer *l, const struct dml_layer_pass *p)
{
    size_t c = l->in.c, room = dml_kernel_round(c), rows = rows_of(l, p);
    double *s1 = (double *)(void *)p->scratch, *s2 = s1 + room, n = (double)rows;
    float *a = p->scratch + 4 * room, *b = a + room, *d = b + room, *tmp = d + room;
    const float *mean = p->kept, *inverse = mean + room;
    memset(p->scratch, 0, 4 * room * sizeof(float));
    l->kernel->channels->sums_back(p->x, p->dy, rows, c, mean, tmp, s1, s2);
    for (size_t i = 0; i < c; i++) { /* this thread's share; the trainer adds them up */
        p->dparams[i] += (float)s2[i] * inverse[i];
        p->dparams[c + i] += (float)s1[i];
    }
    struct dml_model_meeting *meeting = p->training->meeting;
    if (meeting) {
        double *row = dml_model_meeting_row(meeting);
        row[0] = n;
        memcpy(row + 1, s1, c * sizeof(double));
        memcpy(row + 1 + c, s2, c * sizeof(double));
        const double *all = dml_model_meet(meeting);
        memset(p->scratch, 0, 4 * room * sizeof(float));
        n = 0.0;
        for (unsigned t = 0; t < meeting->n; t++, all += meeting->room) {
            n += all[0];
            for (size_t i = 0; i < c; i++) {
                s1[i] += all[1 + i];
                s2[i] += all[1 + c + i];
            }
        }
    }
    if (!p->dx || !rows)
        return;
    for (size_t i = 0; i < c; i++) {
        double dev = (double)inverse[i], gain = (double)p->params[i] * dev;
        double slope = -gain * dev * dev * s2[i] / n;
        a[i] = (float)gain;
        b[i] = (float)slope;
        d[i] = (float)(-gain * s1[i] / n - slope * (double)mean[i]);
    }
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
