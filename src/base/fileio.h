/*
 * Files: read whole with a stated limit, written atomically (temporary file in the same folder,
 * fsync, rename, fsync of the folder), because an SD card loses power in the middle of things.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct dml_err;

/*
 * Reads a file, decompressing it when it is gzip. *ret_data has one NUL byte beyond *ret_len.
 * Returns 0, -EFBIG beyond max_len bytes (after decompression), -EBADMSG for a torn gzip stream,
 * or the errno of open/read; err names the file.
 * Owner: caller, free(*ret_data).
 */
int dml_fileio_read(const char *path, size_t max_len, char **ret_data, size_t *ret_len,
                    struct dml_err *err);

/* Returns 0 or a negative errno; on error the old file is untouched. mode as for open(2). */
int dml_fileio_write(const char *path, const void *data, size_t len, unsigned mode,
                     struct dml_err *err);

/*
 * Removes what writers that were killed have left in a folder: temporary files of processes that
 * are gone. For a program's own folder, before it writes there itself, since a file of its own
 * number can only be another's. Not for folders that several machines share.
 * Returns how many were removed, or a negative errno; a folder that is not there holds none.
 */
int dml_fileio_sweep(const char *dir);

/* mkdir -p. */
int dml_fileio_mkdirs(const char *path, unsigned mode, struct dml_err *err);

/* SHA-256 of a block as 64 hex digits and NUL. Source: FIPS 180-4, computed by libcrypto. */
#define DML_FILEIO_HASH_LEN 65
void dml_fileio_hash(const void *data, size_t len, char ret_hex[DML_FILEIO_HASH_LEN]);
