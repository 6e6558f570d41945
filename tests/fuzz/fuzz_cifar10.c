/* CIFAR-10: any bytes as a batch, into a set with room for three images. */
#include <stdint.h>
#include <stdlib.h>

#include "data/cifar10.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds =
        dml_dataset_new(DML_DATASET_U8, 3, 3, 32, 32, DML_CIFAR10_CLASSES);
    for (size_t first = 0; ds && first < 3; first++) {
        size_t n = 0;
        if (dml_cifar10_parse(data, size, "fuzz", ds, first, &n, NULL) < 0)
            continue;
        if (!n || first + n > 3)
            abort();
        for (size_t i = first; i < first + n; i++)
            if (ds->labels[i] < 0 || ds->labels[i] >= (int32_t)DML_CIFAR10_CLASSES)
                abort();
    }
    return 0;
}
