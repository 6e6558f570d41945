/* IDX: any bytes as images and as labels; what is accepted must lie within the input. */
#include <stdint.h>
#include <stdlib.h>

#include "data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *x, *labels;
    uint32_t shape[4];
    size_t n;
    unsigned max;
    if (dml_idx_parse_images(data, size, "fuzz", &x, shape, NULL) == 0) {
        size_t len = (size_t)shape[0] * shape[1] * shape[2] * shape[3];
        if (!len || x < data || x + len != data + size)
            abort();
    }
    if (dml_idx_parse_labels(data, size, "fuzz", &labels, &n, &max, NULL) == 0)
        if (!n || labels + n != data + size || max > 255)
            abort();
    return 0;
}
