/*
 * Shards a worker has received, kept in files named by their SHA-256. A cache is never a reason to
 * fail: whatever goes wrong, the shard comes over the network again.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "data/dataset.h"

/* Returns 0, -ENOENT, or -EBADMSG (a torn file, which is then removed). Owner: caller. */
int dml_shard_cache_get(const char *dir, const char *hash, struct dml_dataset **ret);

/* Writes it and removes the least recently used others until all fit into max_bytes. */
void dml_shard_cache_put(const char *dir, uint64_t max_bytes, const char *hash,
                         const struct dml_buf *packed);
