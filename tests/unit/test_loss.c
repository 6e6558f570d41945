/*
 * Losses against their definition in double; the gradient against central differences of it.
 * Tolerance 1e-6: float32 exp() and sums of five numbers, relative to values of about one.
 */
#include "nn/model.h"

#include <math.h>
#include <stdlib.h>

#include "tests/tap.h"

enum { B = 4, O = 5 };

static struct dml_model *model(const char *text)
{
    struct dml_model *m = NULL;
    tap_ok(dml_model_parse(text, strlen(text), "t", &m, NULL) == 0, "parse");
    return m;
}

/* The label counts 1 - smoothing, all classes together smoothing. */
static double cross_entropy(const double *y, const int32_t *labels, double smoothing)
{
    double loss = 0.0;
    for (size_t b = 0; b < B; b++) {
        double sum = 0.0;
        for (size_t i = 0; i < O; i++)
            sum += exp(y[b * O + i]);
        for (size_t i = 0; i < O; i++)
            loss -= (smoothing / O + ((size_t)labels[b] == i ? 1.0 - smoothing : 0.0)) *
                    (y[b * O + i] - log(sum));
    }
    return loss;
}

static void test_smoothing(void)
{
    struct dml_model *m = model("name t\ninput 2\nlinear 5\nloss cross-entropy smoothing 0.3\n");
    float y[B * O], dy[B * O];
    double wide[B * O], loss, off = 0.0;
    const int32_t labels[B] = {1, 0, 4, 3};
    size_t correct;
    for (size_t i = 0; i < B * O; i++)
        wide[i] = (double)(y[i] = 4.0f * sinf(2.0f + 3.0f * (float)i));
    dml_model_loss_grad(m, NULL, y, labels, NULL, B, 8.0, &loss, &correct, dy);
    tap_near(loss, cross_entropy(wide, labels, 0.3), 1e-6 * loss, "smoothed labels");
    for (size_t i = 0; i < B * O; i++) {
        double here = wide[i];
        wide[i] = here + 1e-5;
        double up = cross_entropy(wide, labels, 0.3);
        wide[i] = here - 1e-5;
        double down = cross_entropy(wide, labels, 0.3);
        wide[i] = here;
        off = fmax(off, fabs((double)dy[i] - (up - down) / 2e-5 / 8.0));
    }
    tap_ok(off < 1e-6, "their gradient, max difference %.1e", off);
    dml_model_free(m);
}

static void test_cross_entropy(void)
{
    struct dml_model *m = model("name t\ninput 2\nlinear 5\n");
    float y[B * O], dy[B * O];
    double wide[B * O], loss, off = 0.0;
    const int32_t labels[B] = {0, 4, 2, 2};
    size_t correct;
    for (size_t i = 0; i < B * O; i++)
        wide[i] = (double)(y[i] = 3.0f * sinf(1.0f + 2.0f * (float)i));
    dml_model_loss_grad(m, NULL, y, labels, NULL, B, 8.0, &loss, &correct, dy);
    tap_near(loss, cross_entropy(wide, labels, 0.0), 1e-6 * loss,
             "cross-entropy is the sum over samples");
    for (size_t i = 0; i < B * O; i++) {
        double here = wide[i];
        wide[i] = here + 1e-5;
        double up = cross_entropy(wide, labels, 0.0);
        wide[i] = here - 1e-5;
        double down = cross_entropy(wide, labels, 0.0);
        wide[i] = here;
        off = fmax(off, fabs((double)dy[i] - (up - down) / 2e-5 / 8.0));
    }
    tap_ok(off < 1e-6, "gradient of sum / divisor, max difference %.1e", off);
    size_t want = 0;
    for (size_t b = 0; b < B; b++) {
        size_t best = 0;
        for (size_t i = 1; i < O; i++)
            best = y[b * O + i] > y[b * O + best] ? i : best;
        want += best == (size_t)labels[b];
    }
    tap_int((long long)correct, (long long)want, "correct");
    dml_model_loss_grad(m, NULL, y, labels, NULL, B, 8.0, &loss, &correct, NULL);
    tap_near(loss, cross_entropy(wide, labels, 0.0), 1e-6 * loss, "without a gradient");

    const int32_t label = 1;
    float big[O] = {3000.0f, 2000.0f, -3000.0f, 0.0f, 0.0f};
    dml_model_loss_grad(m, NULL, big, &label, NULL, 1, 1.0, &loss, &correct, dy);
    tap_near(loss, 1000.0, 1e-3, "huge logits do not overflow");
    tap_near((double)dy[0], 1.0, 1e-6, "gradient of the wrong winner");
    tap_near((double)dy[1], -1.0, 1e-6, "gradient of the label");
    big[3] = NAN;
    dml_model_loss_grad(m, NULL, big, &label, NULL, 1, 1.0, &loss, &correct, dy);
    tap_ok(isnan(loss), "a NaN anywhere makes the loss NaN");
    tap_int((long long)correct, 0, "and is never correct");
    dml_model_free(m);
}

static void test_mse(void)
{
    struct dml_model *m = model("name t\ninput 2\nlinear 1\nloss mse\n");
    const float y[B] = {1.0f, 2.0f, -1.0f, 0.5f}, targets[B] = {0.0f, 2.5f, -3.0f, 0.5f};
    float dy[B];
    double loss;
    size_t correct = 9;
    dml_model_loss_grad(m, NULL, y, NULL, targets, B, 4.0, &loss, &correct, dy);
    tap_near(loss, 1.0 + 0.25 + 4.0, 1e-6, "mse is the sum of squares");
    tap_int((long long)correct, 0, "nothing is correct in a regression");
    const double want[B] = {0.5, -0.25, 1.0, 0.0};
    /* One by one: at their maximum gcc 12 fails for arm64 (vect_transform_reduction). */
    for (size_t i = 0; i < B; i++)
        tap_near((double)dy[i], want[i], 1e-7, "its gradient");
    for (size_t i = 0; i < B; i++) {
        float near[B];
        double up, down;
        memcpy(near, y, sizeof(near));
        near[i] = y[i] + 0.25f; /* exact in binary, and a square's difference quotient is exact */
        dml_model_loss_grad(m, NULL, near, NULL, targets, B, 1.0, &up, &correct, NULL);
        near[i] = y[i] - 0.25f;
        dml_model_loss_grad(m, NULL, near, NULL, targets, B, 1.0, &down, &correct, NULL);
        tap_near((double)dy[i], (up - down) / 0.5 / 4.0, 1e-7, "its gradient by differences");
    }
    dml_model_free(m);
}

int main(void)
{
    test_cross_entropy();
    test_smoothing();
    test_mse();
    return tap_done();
}
