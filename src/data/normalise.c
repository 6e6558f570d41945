/*
 * Normalisation is a mean and a scale per channel on raw units, so that a batch is one subtraction
 * and one multiplication per input, whatever the data set.
 *
 * Bytes are summed in integers, which is exact: a channel has at most 2^32 values, the sum of their
 * squares stays below 2^48. Floats take two passes in double, because the one-pass formula
 * E[x²]-E[x]² cancels for columns like 1.2e18 ± 1e17. The deviation divides by N, as scikit-learn's
 * StandardScaler does, so results can be compared.
 *
 * A column without spread carries nothing; its scale is 1 and it becomes 0. "Without spread" is a
 * deviation below the resolution of a float at that mean.
 */
#include "data/normalise.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/err.h"

static void fit_u8(const struct dml_dataset *ds, size_t c, double *ret_mean, double *ret_sd)
{
    size_t plane = (size_t)ds->height * ds->width, d = dml_dataset_d(ds);
    const uint8_t *x = (const uint8_t *)ds->x + c * plane;
    uint64_t sum = 0, squares = 0;
    for (size_t n = 0; n < ds->n_samples; n++, x += d)
        for (size_t i = 0; i < plane; i++) {
            uint32_t v = x[i];
            sum += v;
            squares += v * v;
        }
    double count = (double)ds->n_samples * (double)plane;
    double mean = (double)sum / count;
    double variance = (double)squares / count - mean * mean;
    *ret_mean = mean;
    *ret_sd = variance > 0 ? sqrt(variance) : 0;
}

static void fit_f32(const struct dml_dataset *ds, size_t c, double *ret_mean, double *ret_sd)
{
    size_t plane = (size_t)ds->height * ds->width, d = dml_dataset_d(ds);
    const float *x0 = (const float *)ds->x + c * plane;
    double count = (double)ds->n_samples * (double)plane;
    double mean = 0, squares = 0;
    const float *x = x0;
    for (size_t n = 0; n < ds->n_samples; n++, x += d)
        for (size_t i = 0; i < plane; i++)
            mean += (double)x[i];
    mean /= count;
    x = x0;
    for (size_t n = 0; n < ds->n_samples; n++, x += d)
        for (size_t i = 0; i < plane; i++) {
            double e = (double)x[i] - mean;
            squares += e * e;
        }
    *ret_mean = mean;
    *ret_sd = sqrt(squares / count);
}

int dml_normalise_fit(struct dml_dataset *train, struct dml_dataset *test, int kind,
                      struct dml_err *err)
{
    bool pixels = train->kind == DML_DATASET_U8;
    if (kind == DML_NORMALISE_HALF && !pixels)
        return dml_err_set(err, -EINVAL,
                           "normalise = half is for pixels, this data set is a table: "
                           "standard or none");
    for (size_t c = 0; c < train->channels; c++) {
        double mean = 0, sd = 1;
        if (kind == DML_NORMALISE_STANDARD) {
            if (pixels)
                fit_u8(train, c, &mean, &sd);
            else
                fit_f32(train, c, &mean, &sd);
            if (sd <= fabs(mean) * (double)FLT_EPSILON || sd < (double)FLT_MIN)
                sd = 1;
        } else if (kind == DML_NORMALISE_HALF) {
            mean = sd = 127.5; /* (x/255 - 0.5)/0.5 = (x - 127.5)/127.5 */
        } else if (pixels) {
            sd = 255;
        }
        train->mean[c] = (float)mean;
        train->scale[c] = (float)(1 / sd);
    }
    memcpy(test->mean, train->mean, train->channels * sizeof(float));
    memcpy(test->scale, train->scale, train->channels * sizeof(float));
    return 0;
}
