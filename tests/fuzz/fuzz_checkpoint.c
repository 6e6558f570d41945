/*
 * Any bytes as a checkpoint, twice: as they are, and with magic, version and checksum made right,
 * so that the parser behind them is reached. The first byte of the input is not used then.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "nn/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void parse(const void *data, size_t len)
{
    struct dml_checkpoint *c = NULL;
    struct dml_err err = {0};
    int r = dml_checkpoint_parse(data, len, "fuzz", &c, &err);
    if ((r == 0) != (c != NULL) || (r != 0 && !dml_err_is_set(&err)))
        abort();
    dml_checkpoint_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char head[] = "dmlckpt\n\1\0\0";
    parse(data, len);
    size_t n = sizeof(head) + len;
    char *whole = malloc(n + DML_FILEIO_HASH_LEN);
    if (!whole)
        return 0;
    memcpy(whole, head, sizeof(head));
    if (len)
        memcpy(whole + sizeof(head), data, len);
    dml_fileio_hash(whole, n, whole + n);
    parse(whole, n + DML_FILEIO_HASH_LEN - 1);
    free(whole);
    return 0;
}
