/* Files: limits, gzip, and writes that leave the old file whole when they fail. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zlib.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/mem.h"
#include "tests/tap.h"

static char dir[] = "/tmp/dml-test-fileio.XXXXXX";

static char *in_dir(const char *name)
{
    return dml_mem_printf("%s/%s", dir, name);
}

static void test_plain(void)
{
    _cleanup_(dml_mem_freep) char *path = in_dir("plain"), *data = NULL;
    size_t len = 99;
    struct dml_err err = {0};
    tap_int(dml_fileio_read(path, 100, &data, &len, &err), -ENOENT, "no such file");
    tap_str(err.file, path, "the error names the file");
    tap_ok(data == NULL && len == 99, "nothing is set on error");
    tap_int(dml_fileio_write(path, "hello", 5, 0600, &err), 0, "write");
    struct stat st;
    tap_ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "with the mode asked for");
    tap_int(dml_fileio_read(path, 5, &data, &len, &err), 0, "read exactly the limit");
    tap_ok(len == 5 && !memcmp(data, "hello", 6), "content, and a NUL behind it");
    char *more = NULL;
    tap_int(dml_fileio_read(path, 4, &more, &len, &err), -EFBIG, "one byte over the limit");
    tap_has(err.text, "limit of 4 bytes", "says the limit");
    tap_int(dml_fileio_read(dir, 100, &more, &len, &err), -EISDIR, "a folder is not a file");
    tap_int(dml_fileio_write(path, "", 0, 0600, &err), 0, "write nothing");
    _cleanup_(dml_mem_freep) char *none = NULL;
    tap_int(dml_fileio_read(path, 0, &none, &len, &err), 0, "read nothing");
    tap_ok(none && len == 0 && none[0] == '\0', "is an empty text");
}

static void put_gz(const char *path, const void *data, unsigned len)
{
    gzFile gz = gzopen(path, "wb");
    if (!gz || gzwrite(gz, data, len) != (int)len || gzclose(gz) != Z_OK)
        tap_ok(false, "cannot write %s", path);
}

static void test_gzip(void)
{
    enum { LEN = 300000 };
    _cleanup_(dml_mem_freep) char *path = in_dir("x.gz"), *raw = malloc(LEN), *data = NULL;
    size_t len = 0;
    struct dml_err err = {0};
    /* A little noise, so that the compressed file is long enough to be cut in the middle. */
    unsigned x = 1;
    for (int i = 0; i < LEN; i++)
        raw[i] = (char)((x = x * 1103515245u + 12345u) >> 28);
    put_gz(path, raw, LEN);
    tap_int(dml_fileio_read(path, LEN, &data, &len, &err), 0, "gzip is decompressed");
    tap_ok(len == LEN && !memcmp(data, raw, LEN), "to the same bytes");
    char *other = NULL;
    tap_int(dml_fileio_read(path, LEN - 1, &other, &len, &err), -EFBIG,
            "the limit counts decompressed bytes");

    struct stat st;
    (void)stat(path, &st);
    for (int cut = 1; cut <= 3; cut++) {
        /* In the trailer, in the middle, in the head's first bytes of data. */
        off_t at = cut == 1 ? st.st_size - 3 : cut == 2 ? st.st_size / 2 : 14;
        put_gz(path, raw, LEN);
        tap_int(truncate(path, at), 0, "cut");
        memset(&err, 0, sizeof(err));
        tap_int(dml_fileio_read(path, LEN, &other, &len, &err), -EBADMSG, "a torn gzip file");
        tap_has(err.text, "gzip", "is called one");
    }
    put_gz(path, raw, LEN);
    FILE *f = fopen(path, "r+b");
    (void)fseek(f, st.st_size / 2, SEEK_SET);
    (void)fwrite("\0\0\0\0\0\0\0\0", 1, 8, f);
    (void)fclose(f);
    tap_int(dml_fileio_read(path, LEN, &other, &len, &err), -EBADMSG, "a damaged gzip file");
}

static int n_files(void)
{
    DIR *d = opendir(dir);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        (void)closedir(d);
    return n;
}

static void test_atomic(void)
{
    _cleanup_(dml_mem_freep) char *path = in_dir("kept"), *data = NULL, *big = calloc(1, 100000);
    size_t len;
    struct dml_err err = {0};
    tap_int(dml_fileio_write(path, "old", 3, 0644, &err), 0, "the old file");
    int before = n_files();
    /* The disk is full: simulated by a limit on file size, which also root obeys. */
    struct rlimit old, small = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    (void)getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)setrlimit(RLIMIT_FSIZE, &small);
    int r = dml_fileio_write(path, big, 100000, 0644, &err);
    (void)setrlimit(RLIMIT_FSIZE, &old);
    tap_int(r, -EFBIG, "a write that fails in the middle");
    tap_str(err.file, path, "names the file, not the temporary one");
    tap_int(dml_fileio_read(path, 100, &data, &len, &err), 0, "the old file is there");
    tap_str(data, "old", "and whole");
    tap_int(n_files(), before, "no temporary file is left");

    _cleanup_(dml_mem_freep) char *sub = in_dir("a/b/c");
    tap_int(dml_fileio_write(sub, "x", 1, 0644, &err), -ENOENT, "no folder to write to");
    tap_int(dml_fileio_mkdirs(sub, 0755, &err), 0, "mkdirs");
    tap_int(dml_fileio_mkdirs(sub, 0755, &err), 0, "once more");
    tap_int(dml_fileio_write(sub, "x", 1, 0644, &err), -EISDIR, "a folder is in the way");
    _cleanup_(dml_mem_freep) char *under = in_dir("kept/x");
    tap_int(dml_fileio_mkdirs(under, 0755, &err), -ENOTDIR, "a file is in the way");
}

static void leave(const char *name)
{
    _cleanup_(dml_mem_freep) char *path = in_dir(name);
    FILE *f = fopen(path, "w");
    if (!f || fclose(f))
        tap_ok(false, "cannot write %s", path);
}

static bool is_there(const char *name)
{
    _cleanup_(dml_mem_freep) char *path = in_dir(name);
    struct stat st;
    return lstat(path, &st) == 0;
}

/* A writer was killed, and its number belongs to nobody, to us by now, or to somebody else. */
static void test_sweep(void)
{
    pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    (void)waitpid(gone, NULL, 0);
    char of_gone[64], of_us[64], of_parent[64], of_boot[64], folder[64];
    snprintf(of_gone, sizeof(of_gone), "swept/.dml-%ld-1a2b", (long)gone);
    snprintf(of_us, sizeof(of_us), "swept/.dml-%ld-1", (long)getpid());
    snprintf(of_parent, sizeof(of_parent), "swept/.dml-%ld-1", (long)getppid());
    snprintf(of_boot, sizeof(of_boot), "swept/.dml-%ld-ffffffffffffff", (long)getppid());
    snprintf(folder, sizeof(folder), "swept/.dml-%ld-2", (long)gone);
    static const char *const others[] = {"swept/.dml-probe",       "swept/.dml-1-",
                                         "swept/.dml--1",          "swept/.dml-0-1",
                                         "swept/t.json",           "swept/.dml-99999999999-1",
                                         "swept/.dml-999999999-g", "swept/x.dml-999999999-1"};
    _cleanup_(dml_mem_freep) char *swept = in_dir("swept"), *none = in_dir("none");
    _cleanup_(dml_mem_freep) char *sub = in_dir(folder);
    (void)mkdir(swept, 0755);
    (void)mkdir(sub, 0755);
    leave(of_gone);
    leave(of_us);
    leave(of_parent);
    leave(of_boot);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        leave(others[i]);
    tap_int(dml_fileio_sweep(swept), 3, "three files of killed writers are removed");
    tap_ok(!is_there(of_gone), "that of a process that is gone");
    tap_ok(!is_there(of_us), "that of one whose number is ours now");
    tap_ok(!is_there(of_boot), "that from before the last boot, whose number is another's now");
    tap_ok(is_there(of_parent), "not that of a process that lives");
    tap_ok(is_there(folder), "not a folder");
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        tap_ok(is_there(others[i]), "not %s", others[i]);
    tap_int(dml_fileio_sweep(swept), 0, "the second time there is nothing to do");
    tap_int(dml_fileio_sweep(none), 0, "nor in a folder that is not there");
}

static void test_hash(void)
{
    char hex[DML_FILEIO_HASH_LEN];
    /* FIPS 180-4's examples. */
    dml_fileio_hash("abc", 3, hex);
    tap_str(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc");
    dml_fileio_hash("", 0, hex);
    tap_str(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "nothing");
}

int main(void)
{
    if (!mkdtemp(dir))
        return 99;
    test_plain();
    test_gzip();
    test_atomic();
    test_sweep();
    test_hash();
    _cleanup_(dml_mem_freep) char *clean = dml_mem_printf("rm -rf %s", dir);
    return system(clean) == 0 ? tap_done() : 99;
}
