/* Packed data sets: any bytes; what is accepted packs to the very same bytes again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = NULL;
    if (dml_dataset_unpack(data, size, &ds, NULL) < 0)
        return 0;
    _cleanup_(dml_mem_freep) uint32_t *index = dml_mem_array(ds->n_samples, sizeof(*index));
    _cleanup_(dml_buf_unrefp) struct dml_buf *buf = NULL;
    for (size_t i = 0; index && i < ds->n_samples; i++)
        index[i] = (uint32_t)i;
    if (!index || dml_dataset_pack(ds, index, ds->n_samples, &buf) < 0)
        abort();
    if (buf->len != size || memcmp(buf->data, data, size))
        abort();
    return 0;
}
