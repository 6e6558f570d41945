#include "paradigm/shard_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"

#define SUFFIX ".shard"

static char *path_of(const char *dir, const char *hash)
{
    return dml_mem_printf("%s/%s" SUFFIX, dir, hash);
}

int dml_shard_cache_get(const char *dir, const char *hash, struct dml_dataset **ret)
{
    _cleanup_(dml_mem_freep) char *path = path_of(dir, hash);
    if (!path)
        return -ENOMEM;
    _cleanup_(dml_mem_freep) char *data = NULL;
    size_t len;
    struct dml_err ignored = {0};
    int r = dml_fileio_read(path, DML_DATASET_BYTES_MAX, &data, &len, &ignored);
    if (r < 0)
        return r;
    char own[DML_FILEIO_HASH_LEN];
    dml_fileio_hash(data, len, own);
    if (strcmp(own, hash) != 0 || dml_dataset_unpack(data, len, ret, &ignored) < 0) {
        (void)unlink(path);
        return -EBADMSG;
    }
    (void)utimensat(AT_FDCWD, path, NULL, 0); /* used just now: eviction goes by age */
    return 0;
}

/* The total size of the cached shards, and the one that was not used for longest. */
static uint64_t survey(int dir_fd, DIR *d, char *ret_oldest, size_t oldest_len)
{
    uint64_t total = 0;
    struct timespec oldest = {0};
    ret_oldest[0] = '\0';
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        struct stat st;
        if (n <= strlen(SUFFIX) || n >= oldest_len ||
            strcmp(e->d_name + n - strlen(SUFFIX), SUFFIX))
            continue;
        if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        total += (uint64_t)st.st_size;
        if (!ret_oldest[0] || st.st_mtim.tv_sec < oldest.tv_sec ||
            (st.st_mtim.tv_sec == oldest.tv_sec && st.st_mtim.tv_nsec < oldest.tv_nsec)) {
            oldest = st.st_mtim;
            memcpy(ret_oldest, e->d_name, n + 1);
        }
    }
    return total;
}

static void make_room(const char *dir, uint64_t max_bytes, uint64_t wanted)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    char oldest[256];
    while (survey(dirfd(d), d, oldest, sizeof(oldest)) + wanted > max_bytes && oldest[0])
        if (unlinkat(dirfd(d), oldest, 0) != 0)
            break;
    (void)closedir(d);
}

void dml_shard_cache_put(const char *dir, uint64_t max_bytes, const char *hash,
                         const struct dml_buf *packed)
{
    if (packed->len > max_bytes)
        return;
    struct dml_err ignored = {0};
    if (dml_fileio_mkdirs(dir, 0750, &ignored) < 0)
        return;
    make_room(dir, max_bytes, packed->len);
    _cleanup_(dml_mem_freep) char *path = path_of(dir, hash);
    if (path)
        (void)dml_fileio_write(path, packed->data, packed->len, 0640, &ignored);
}
