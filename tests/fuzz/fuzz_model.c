/*
 * Any bytes as a model file; small ones that parse are also run once, forward, loss and backward,
 * with inputs that no data set has: where a layer takes an input for the number of a row, as
 * embeddings and the loss of sequences do, none may lead outside.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "nn/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void run(const struct dml_model *m)
{
    size_t space = dml_model_workspace(m, 1, true), n = dml_model_n_vec(m);
    if (space > 1 << 20 || n > 1 << 18 || dml_model_macs(m) > 1 << 22)
        return;
    float *vec = dml_mem_floats(n), *grad = dml_mem_floats(n);
    float *x = dml_mem_floats(dml_model_n_inputs(m)), *dx = dml_mem_floats(dml_model_n_inputs(m));
    float *y = dml_mem_floats(dml_model_n_outputs(m)), *work = dml_mem_floats(space);
    float *dy = dml_mem_floats(dml_model_n_outputs(m));
    const struct dml_model_training training = {.seed = 1};
    static const float odd[] = {0.0f, 1.0f, -1.0f, 95.5f, 1e30f, -1e30f, NAN, INFINITY, 3.0f};
    const int32_t label = 0;
    const float target = 0.5f;
    double loss;
    size_t correct;
    for (size_t i = 0; x && i < dml_model_n_inputs(m); i++)
        x[i] = odd[i % (sizeof(odd) / sizeof(odd[0]))];
    if (vec && grad && x && dx && y && dy && work) {
        dml_model_init(m, vec, 1);
        dml_model_forward(m, vec, NULL, x, 1, NULL, work, y);
        dml_model_forward(m, vec, vec + dml_model_n_params(m), x, 1, &training, work, y);
        dml_model_loss_grad(m, x, y, &label, &target, 1, 1.0, &loss, &correct, dy);
        dml_model_backward(m, vec, x, dy, 1, &training, work, grad, dx);
    }
    free(vec);
    free(grad);
    free(x);
    free(dx);
    free(y);
    free(dy);
    free(work);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct dml_model *m = NULL;
    struct dml_err err = {0};
    int r = dml_model_parse((const char *)data, len, "fuzz.model", &m, &err);
    if ((r == 0) != (m != NULL) || (r != 0 && !dml_err_is_set(&err)))
        abort();
    if (!m)
        return 0;
    char *text = NULL;
    if (dml_model_print(m, &text) == 0)
        free(text);
    run(m);
    dml_model_free(m);
    return 0;
}
