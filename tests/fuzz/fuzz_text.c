/*
 * Text: any bytes as a text. The first two choose the window and the share of the test set; what was
 * read must be codes, each window's label the code that the next window begins with, and what no
 * window holds less than one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "data/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t check(const struct dml_dataset *ds, size_t window)
{
    const uint8_t *x = ds->x;
    if (ds->n_samples == 0 || ds->channels != window || ds->height != 1 || ds->width != 1 ||
        ds->n_classes != DML_TEXT_CODES || !ds->labels)
        abort();
    for (size_t i = 0; i < ds->n_samples * window; i++)
        if (x[i] >= DML_TEXT_CODES)
            abort();
    for (size_t i = 0; i < ds->n_samples; i++) {
        if (ds->labels[i] < 0 || ds->labels[i] >= DML_TEXT_CODES)
            abort();
        if (i + 1 < ds->n_samples && ds->labels[i] != x[(i + 1) * window])
            abort();
    }
    return ds->n_samples * window + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct dml_data_options o = {.text_window = 1 + data[0] % 70,
                                 .test_fraction = (1.0 + data[1] % 200) / 201.0,
                                 .train_samples = data[1] == 255 ? 3 : 0};
    size_t len = size - 2, n_returns = 0;
    _cleanup_(dml_mem_freep) char *text = malloc(len ? len : 1);
    if (!text)
        return 0;
    memcpy(text, data + 2, len);
    for (size_t i = 0; i < len; i++)
        n_returns += text[i] == '\r';
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    struct dml_err err = {0};
    int r = dml_text_split(text, len, "fuzz", &o, &train, &test, &err);
    if (r < 0) {
        if (train || test || !dml_err_is_set(&err))
            abort();
        return 0;
    }
    size_t n = check(train, o.text_window) + check(test, o.text_window), left = len - n_returns;
    if (n > left || (o.train_samples == 0 && left - n >= 2 * o.text_window))
        abort();
    return 0;
}
