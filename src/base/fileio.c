/*
 * Reading goes through zlib's gzFile, which passes a file that is not gzip through unchanged: the
 * two formats need no two paths. Writing follows the only order that survives a power cut: write a
 * temporary file, fsync it (else the rename may reach the card before the bytes), rename it over
 * the old one, fsync the folder.
 */
#include "base/fileio.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#define GZ_BUFFER  (256u << 10) /* fewer, larger reads from an SD card; zlib's default is 8 KiB */
#define FIRST_SIZE (64u << 10)  /* first guess where the size is not known beforehand */
#define READ_MAX   (1u << 30)   /* gzread() counts in int */
#define TEMPORARY  ".dml-"      /* and PID-TIME */

static void gz_closep(gzFile *gz)
{
    if (*gz)
        (void)gzclose(*gz);
}

static int fail(struct dml_err *err, int r, const char *path, const char *what)
{
    return dml_err_at(err, r, path, 0, "%s: %s", what, strerror(-r));
}

static int too_large(struct dml_err *err, const char *path, size_t max_len)
{
    return dml_err_at(err, -EFBIG, path, 0, "larger than the limit of %zu bytes", max_len);
}

/* Why gzread() stopped: a torn stream, or the errno of read(2). */
static int gz_failure(gzFile gz, const char *path, struct dml_err *err)
{
    int saved = errno, code;
    const char *text = gzerror(gz, &code);
    if (code == Z_ERRNO)
        return fail(err, saved > 0 ? -saved : -EIO, path, "cannot read");
    if (code == Z_MEM_ERROR)
        return -ENOMEM;
    return dml_err_at(err, -EBADMSG, path, 0, "not a whole gzip file: %s", text);
}

/* Opens path; *ret_size is the size on disk of a regular file, otherwise 0. */
static int open_gz(const char *path, gzFile *ret, size_t *ret_size, struct dml_err *err)
{
    _cleanup_(dml_mem_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return fail(err, -errno, path, "cannot open");
    if (S_ISDIR(st.st_mode))
        return fail(err, -EISDIR, path, "cannot read");
    gzFile gz = gzdopen(fd, "rb");
    if (!gz)
        return -ENOMEM;
    fd = -1; /* gz closes it */
    (void)gzbuffer(gz, GZ_BUFFER);
    *ret_size = S_ISREG(st.st_mode) ? (size_t)st.st_size : 0;
    *ret = gz;
    return 0;
}

int dml_fileio_read(const char *path, size_t max_len, char **ret_data, size_t *ret_len,
                    struct dml_err *err)
{
    _cleanup_(gz_closep) gzFile gz = NULL;
    _cleanup_(dml_mem_freep) char *data = NULL;
    size_t len = 0, size = 0;
    assert(max_len < SIZE_MAX - 1);
    int r = open_gz(path, &gz, &size, err);
    if (r < 0)
        return r;
    /* One byte beyond the limit shows that there is more; one beyond that is the NUL. */
    size_t cap = (size && size <= max_len ? size : FIRST_SIZE < max_len ? FIRST_SIZE : max_len) + 1;
    for (;;) {
        char *grown = realloc(data, cap + 1);
        if (!grown)
            return -ENOMEM;
        data = grown;
        while (len < cap) {
            errno = 0;
            size_t want = cap - len < READ_MAX ? cap - len : READ_MAX;
            int n = gzread(gz, data + len, (unsigned)want);
            if (n < 0)
                return gz_failure(gz, path, err);
            if (n == 0)
                break;
            len += (size_t)n;
        }
        if (len < cap)
            break;
        if (len > max_len)
            return too_large(err, path, max_len);
        cap = cap > max_len / 2 ? max_len + 1 : 2 * cap;
    }
    /* At the end of a gzip stream that was cut, gzread() gives what there was and only then says
     * so. */
    int code;
    (void)gzerror(gz, &code);
    if (code != Z_OK && code != Z_STREAM_END)
        return gz_failure(gz, path, err);
    char *fitted = realloc(data, len + 1);
    if (fitted)
        data = fitted;
    data[len] = '\0';
    *ret_data = data;
    *ret_len = len;
    data = NULL;
    return 0;
}

/* A new file beside `path`, not visible under a name that anything looks for. */
static int open_temporary(const char *dir, unsigned mode, char **ret_path)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        _cleanup_(dml_mem_freep) char *path =
            dml_mem_printf("%s/" TEMPORARY "%ld-%" PRIx64, dir, (long)getpid(), dml_clock_now_us());
        if (!path)
            return -ENOMEM;
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
        if (fd >= 0) {
            *ret_path = path;
            path = NULL;
            return fd;
        }
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

/* The writer named in .dml-PID-TIME, else 0. A time to come was counted before the last boot, when
 * PID was another's. */
static pid_t writer_of(const char *name, uint64_t now_us)
{
    if (strncmp(name, TEMPORARY, strlen(TEMPORARY)) != 0)
        return 0;
    const char *p = name + strlen(TEMPORARY);
    size_t n = strspn(p, "0123456789"), m;
    if (n == 0 || n > 9 || p[n] != '-')
        return 0;
    m = strspn(p + n + 1, "0123456789abcdef");
    if (m == 0 || m > 16 || p[n + 1 + m])
        return 0;
    return strtoull(p + n + 1, NULL, 16) > now_us ? getpid() : (pid_t)strtol(p, NULL, 10);
}

int dml_fileio_sweep(const char *dir)
{
    int n = 0, r = 0;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : -errno;
    uint64_t now_us = dml_clock_now_us();
    for (struct dirent *entry; (entry = readdir(d));) {
        pid_t pid = writer_of(entry->d_name, now_us);
        struct stat st;
        if (pid <= 0 || (pid != getpid() && (kill(pid, 0) == 0 || errno != ESRCH)))
            continue;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
            continue;
        if (!unlinkat(dirfd(d), entry->d_name, 0))
            n++;
        else if (!r)
            r = -errno;
    }
    (void)closedir(d);
    return r ? r : n;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len < READ_MAX ? len : READ_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* The folder `path` lies in. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

int dml_fileio_write(const char *path, const void *data, size_t len, unsigned mode,
                     struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *dir = folder_of(path), *temporary = NULL;
    if (!dir)
        return -ENOMEM;
    int fd = open_temporary(dir, mode, &temporary);
    if (fd < 0)
        return fail(err, fd, path, "cannot write");
    int r = write_all(fd, data, len);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlink(temporary);
        return fail(err, r, path, "cannot write");
    }
    /* The new file is whole and in place; a folder that cannot be synced does not undo that. */
    _cleanup_(dml_mem_closep) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0)
        (void)fsync(dir_fd);
    return 0;
}

int dml_fileio_mkdirs(const char *path, unsigned mode, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *part = strdup(path);
    if (!part)
        return -ENOMEM;
    for (char *p = part; *p;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        char kept = *p;
        *p = '\0';
        struct stat st;
        if (mkdir(part, (mode_t)mode) < 0 && errno != EEXIST)
            return fail(err, -errno, part, "cannot make the folder");
        if (stat(part, &st) < 0)
            return fail(err, -errno, part, "cannot make the folder");
        if (!S_ISDIR(st.st_mode))
            return fail(err, -ENOTDIR, part, "cannot make the folder");
        *p = kept;
    }
    return 0;
}

void dml_fileio_hash(const void *data, size_t len, char ret_hex[DML_FILEIO_HASH_LEN])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    /* Fails only when libcrypto has no SHA-256 or no memory: then the name of nothing, all zeros.
     */
    if (!EVP_Digest(data, len, digest, &digest_len, EVP_sha256(), NULL) || digest_len != 32)
        memset(digest, 0, 32);
    for (int i = 0; i < 32; i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}
