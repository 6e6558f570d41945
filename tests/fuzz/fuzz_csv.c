/*
 * CSV: any bytes as a table. The first byte chooses the columns and the task; what was read is
 * split into data sets, whose labels must be classes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/csvset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct dml_dataset *ds)
{
    for (size_t i = 0; i < ds->n_samples && ds->labels; i++)
        if (ds->labels[i] < 0 || (uint32_t)ds->labels[i] >= ds->n_classes)
            abort();
    for (uint32_t k = 0; k < ds->n_classes; k++)
        if (!ds->class_names[k] || strlen(ds->class_names[k]) >= DML_DATASET_NAME_MAX)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    char features[] = "u g", none[] = "", label[] = "class";
    struct dml_data_options o = {.features = data[0] & 2 ? features : none,
                                 .label = label,
                                 .task = data[0] & 1,
                                 .test_fraction = 0.3};
    _cleanup_(dml_mem_freep) char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1); /* the last byte is the one that the parser may write */
    _cleanup_(dml_csv_freep) struct dml_csv *csv = NULL;
    if (dml_csv_parse(text, size - 1, "fuzz", &o, &csv, NULL) < 0)
        return 0;
    if (!csv->n_rows || !csv->n_features || !csv->labels == !csv->targets)
        abort();
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    if (dml_csvset_split(csv, NULL, "fuzz", &o, &train, &test, NULL) == 0) {
        check(train);
        check(test);
    }
    return 0;
}
