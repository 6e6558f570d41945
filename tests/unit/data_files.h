/* For the tests of data/: a folder of one's own, small files in it, and the options. */
#pragma once

#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "data/dataset.h"
#include "tests/tap.h"

static char data_folder[256];

__attribute__((unused)) static void data_folder_make(void)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(data_folder, sizeof(data_folder), "%s/dml-data-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(data_folder)) {
        printf("Bail out! cannot make %s\n", data_folder);
        exit(99);
    }
}

/* The path of a file in the folder; valid until the fourth call from now. */
__attribute__((unused)) static const char *data_path(const char *name)
{
    static char path[4][512];
    static unsigned i;
    i = (i + 1) % 4;
    (void)snprintf(path[i], sizeof(path[i]), "%s/%s", data_folder, name);
    return path[i];
}

__attribute__((unused)) static void data_clear(void)
{
    DIR *d = opendir(data_folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            (void)unlink(data_path(e->d_name));
    if (d)
        (void)closedir(d);
}

__attribute__((unused)) static void data_folder_remove(void)
{
    data_clear();
    (void)rmdir(data_folder);
}

__attribute__((unused)) static void data_write(const char *name, const void *data, size_t len)
{
    _cleanup_(dml_mem_fclosep) FILE *f = fopen(data_path(name), "wb");
    if (!f || fwrite(data, 1, len, f) != len) {
        printf("Bail out! cannot write %s\n", data_path(name));
        exit(99);
    }
}

__attribute__((unused)) static void data_write_gz(const char *name, const void *data, size_t len)
{
    gzFile f = gzopen(data_path(name), "wb");
    if (!f || gzwrite(f, data, (unsigned)len) != (int)len || gzclose(f) != Z_OK) {
        printf("Bail out! cannot write %s\n", data_path(name));
        exit(99);
    }
}

/* Sets one option as a test case would. */
__attribute__((unused)) static void data_set(struct dml_data_options *o, const char *key,
                                             const char *value)
{
    const struct dml_opt *row = dml_opt_find(dml_data_opts, "data", key);
    struct dml_err err = {0};
    if (!row || dml_opt_set(row, o, value, "test", 1, &err) < 0) {
        printf("Bail out! option %s = %s: %s\n", key, value, err.text);
        exit(99);
    }
}

/* Defaults, with the given data set in the folder of this test. */
__attribute__((unused)) static struct dml_data_options data_options(const char *dataset)
{
    struct dml_data_options o = {0};
    if (dml_opt_defaults(dml_data_opts, &o) < 0)
        exit(99);
    data_set(&o, "dataset", dataset);
    data_set(&o, "path", data_folder);
    return o;
}

__attribute__((unused)) static void data_options_done(struct dml_data_options *o)
{
    dml_opt_done(dml_data_opts, o);
}

/* Loading must fail with `r` and a sentence that contains `part`. */
__attribute__((unused)) static void data_refused(const struct dml_data_options *o, int r,
                                                 const char *part, const char *what)
{
    struct dml_dataset *train = NULL, *test = NULL;
    struct dml_err err = {0};
    char text[1200];
    tap_int(dml_dataset_load(o, &train, &test, &err), r, what);
    tap_ok(!train && !test, "nothing is set");
    tap_has(dml_err_format(&err, r, text, sizeof(text)), part, "the sentence says why");
    (void)dml_dataset_free(train);
    (void)dml_dataset_free(test);
}
