/*
 * text: any file of characters, for models that predict the next one.
 *
 * The alphabet is the same for every file, so a model fits all of them: code 0 is a line's end, 1
 * to 95 are the printable characters of ASCII; a tab counts as a blank, a carriage return is left
 * out, everything else is '?'. A sample is a window of text-window codes, its label the code behind
 * it; the next window begins with that one. The last test-fraction of the file is the test set.
 */
#include "data/text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "data/format.h"

/* Characters to codes, in place; returns how many are left. */
static size_t encode(unsigned char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = s[i] == '\t' ? ' ' : s[i];
        if (c == '\r')
            continue;
        if (c == '\n')
            s[n++] = 0;
        else
            s[n++] = (unsigned char)((c >= ' ' && c <= '~' ? c : '?') - ' ' + 1);
    }
    return n;
}

static int name_codes(struct dml_dataset *ds)
{
    for (unsigned i = 0; i < DML_TEXT_CODES; i++) {
        char one[2] = {(char)(' ' + i - 1), '\0'};
        ds->class_names[i] = strdup(i == 0 ? "newline" : i == 1 ? "space" : one);
        if (!ds->class_names[i])
            return -ENOMEM;
    }
    return 0;
}

/* Windows of t codes from s; NULL when out of memory. */
static struct dml_dataset *cut(const unsigned char *s, size_t len, size_t t, uint64_t limit)
{
    size_t n = dml_format_cut((len - 1) / t, limit);
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds =
        dml_dataset_new(DML_DATASET_U8, n, (uint32_t)t, 1, 1, DML_TEXT_CODES);
    if (!ds || name_codes(ds) < 0)
        return NULL;
    memcpy(ds->x, s, n * t);
    for (size_t i = 0; i < n; i++)
        ds->labels[i] = s[(i + 1) * t];
    struct dml_dataset *done = ds;
    ds = NULL;
    return done;
}

int dml_text_split(char *io_text, size_t len, const char *file, const struct dml_data_options *o,
                   struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                   struct dml_err *err)
{
    size_t t = (size_t)o->text_window;
    unsigned char *s = (unsigned char *)io_text;
    len = encode(s, len);
    size_t n_test = (size_t)floor((double)len * o->test_fraction), n_train = len - n_test;
    if (n_train <= t || n_test <= t)
        return dml_err_at(err, -EINVAL, file, 0,
                          "%zu characters are too few: both sets need more than text-window = %zu "
                          "of them, these have %zu and %zu",
                          len, t, n_train, n_test);
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = cut(s, n_train, t, o->train_samples);
    _cleanup_(dml_dataset_freep) struct dml_dataset *test =
        cut(s + n_train, n_test, t, o->test_samples);
    if (!train || !test)
        return -ENOMEM;
    *ret_train = train, *ret_test = test;
    train = test = NULL;
    return 0;
}

static int load(const struct dml_data_options *o, const char *path, struct dml_dataset **ret_train,
                struct dml_dataset **ret_test, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    int r = dml_fileio_read(path, DML_FORMAT_FILE_MAX, &text, &len, err);
    return r < 0 ? r : dml_text_split(text, len, path, o, ret_train, ret_test, err);
}

static bool shape(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    *ret = (struct dml_dataset_shape){(uint32_t)o->text_window, 1, 1, true, DML_TEXT_CODES};
    return true;
}

const struct dml_dataset_format dml_text_format = {
    .name = "text",
    .summary = "Any text file: windows of characters, and the one that comes next",
    .where_to_get = "Any text of some 100 kB will do",
    .is_codes = true,
    .shape = shape,
    .load = load,
};
