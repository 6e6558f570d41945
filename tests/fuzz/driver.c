/*
 * Stands in for libFuzzer where there is none, so that `make check` feeds every target its corpus.
 *
 * Each file of tests/fuzz/corpus/X (X from the program's name fuzz_X), or each file named on the
 * command line, goes in as it is, then cut at some places, then with some bytes changed. The places
 * come from a fixed seed: a failure repeats. Every input lies in a block of exactly its size, so
 * that AddressSanitizer sees one byte too far.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/tap.h"

#define INPUT_MAX  (16u << 20)
#define N_CUTS     64
#define N_CHANGES  192
#define BYTES_WORK (32u << 20) /* per file: large inputs get fewer variants */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void feed(const void *data, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact)
        return;
    memcpy(exact, data, len);
    (void)LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

/* Bytes that parsers trip over, besides random ones. */
static unsigned char odd_byte(struct dml_rng *rng)
{
    static const unsigned char odd[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '"', '=', '[', '9', '-', ' '};
    return dml_rng_below(rng, 2) ? odd[dml_rng_below(rng, sizeof(odd))]
                                 : (unsigned char)dml_rng_u64(rng);
}

/* The bytes as they lie in the file: dml_fileio_read() would unpack gzip. */
static char *read_raw(const char *path, size_t *ret_len)
{
    _cleanup_(dml_mem_fclosep) FILE *f = fopen(path, "rb");
    char *data = f ? malloc(INPUT_MAX) : NULL;
    if (data)
        *ret_len = fread(data, 1, INPUT_MAX, f);
    return data;
}

static void replay(const char *path)
{
    size_t len = 0;
    _cleanup_(dml_mem_freep) char *text = read_raw(path, &len);
    if (!text) {
        tap_ok(false, "cannot read %s", path);
        return;
    }
    feed(text, len);
    struct dml_rng rng;
    dml_rng_init(&rng, 1, 0, DML_RNG_TEST, len);
    size_t affordable = BYTES_WORK / (len + 1);
    for (size_t i = 0; len && i < N_CUTS && i < affordable; i++)
        feed(text, len <= N_CUTS ? i % len : dml_rng_below(&rng, len));
    for (size_t i = 0; len && i < N_CHANGES && i < affordable; i++) {
        size_t at = dml_rng_below(&rng, len);
        char kept = text[at];
        text[at] = (char)odd_byte(&rng);
        feed(text, len);
        if (i % 3) /* every third change stays, so that changes add up */
            text[at] = kept;
    }
    tap_ok(true, "%s and its variants", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
}

static int is_visible(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static void replay_folder(const char *dir)
{
    struct dirent **list;
    int n = scandir(dir, &list, is_visible, alphasort);
    tap_ok(n > 0, "%s has files", dir);
    for (int i = 0; i < n; i++) {
        _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, list[i]->d_name);
        if (path)
            replay(path);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            replay(argv[i]);
        return tap_done();
    }
    const char *name = strstr(argv[0], "fuzz_"), *top = getenv("top_srcdir");
    for (const char *p = name; p; p = strstr(p + 1, "fuzz_"))
        name = p;
    _cleanup_(dml_mem_freep) char *dir =
        dml_mem_printf("%s/tests/fuzz/corpus/%s", top ? top : ".", name ? name + 5 : "");
    feed("", 0);
    replay_folder(dir);
    return tap_done();
}
