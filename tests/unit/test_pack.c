/* Packing: what goes in comes out, equal samples give equal bytes, and no other bytes get in. */
#include <errno.h>

#include "tests/unit/data_files.h"

static struct dml_dataset *load(const char *name, const char *key, const char *value)
{
    struct dml_data_options o = data_options(name);
    struct dml_dataset *train = NULL, *test = NULL;
    data_set(&o, "synth-samples", "20");
    data_set(&o, "synth-features", "12");
    data_set(&o, key, value);
    tap_int(dml_dataset_load(&o, &train, &test, NULL), 0, name);
    (void)dml_dataset_free(test);
    data_options_done(&o);
    return train;
}

static void test_round_trip(const char *name, const char *key, const char *value)
{
    static const uint32_t index[] = {3, 15, 0, 3};
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = load(name, key, value), *back = NULL,
                                                    *want = NULL;
    _cleanup_(dml_buf_unrefp) struct dml_buf *buf = NULL, *again = NULL;
    tap_int(dml_dataset_pack(ds, index, 4, &buf), 0, "packed");
    tap_int(dml_dataset_pack(ds, index, 4, &again), 0, "and again");
    tap_ok(buf->len == again->len && !memcmp(buf->data, again->data, buf->len),
           "the same samples give the same bytes");
    tap_int(dml_dataset_unpack(buf->data, buf->len, &back, NULL), 0, "unpacked");
    want = dml_dataset_subset(ds, index, 4);
    size_t d = dml_dataset_d(ds), value_len = ds->kind == DML_DATASET_U8 ? 1 : 4;
    tap_ok(back->kind == want->kind && back->n_samples == 4 && back->channels == want->channels &&
               back->height == want->height && back->width == want->width &&
               back->n_classes == want->n_classes,
           "shape");
    tap_ok(!memcmp(back->x, want->x, 4 * d * value_len), "inputs");
    tap_ok(!memcmp(back->mean, want->mean, 4 * want->channels) &&
               !memcmp(back->scale, want->scale, 4 * want->channels),
           "statistics");
    if (want->n_classes) {
        tap_ok(!memcmp(back->labels, want->labels, 4 * 4), "labels");
        tap_str(back->class_names[2], want->class_names[2], "names");
    } else {
        tap_ok(!memcmp(back->targets, want->targets, 4 * 4), "targets");
    }

    /* Every prefix, in a block of just that size so that ASan sees a read beyond it. */
    size_t refused = 0, told = 0;
    for (size_t len = 0; len < buf->len; len++) {
        _cleanup_(dml_mem_freep) char *part = malloc(len + !len);
        struct dml_dataset *none = NULL;
        struct dml_err err = {0};
        memcpy(part, buf->data, len);
        refused += dml_dataset_unpack(part, len, &none, &err) == -EBADMSG && !none;
        told += dml_err_is_set(&err) != 0;
    }
    tap_int((long long)refused, (long long)buf->len, "every prefix is refused");
    tap_int((long long)told, (long long)buf->len, "with a sentence");

    /* Any one byte wrong: never a crash, and labels stay in range. */
    unsigned odd = 0;
    for (size_t i = 0; i < buf->len; i++) {
        struct dml_dataset *ds2 = NULL;
        buf->data[i] ^= 0x80;
        if (dml_dataset_unpack(buf->data, buf->len, &ds2, NULL) == 0)
            for (size_t k = 0; k < ds2->n_samples && ds2->labels; k++)
                odd += ds2->labels[k] < 0 || (uint32_t)ds2->labels[k] >= ds2->n_classes;
        buf->data[i] ^= 0x80;
        (void)dml_dataset_free(ds2);
    }
    tap_int(odd, 0, "no label out of range gets in");
}

static void refuse(struct dml_buf *buf, size_t at, uint32_t value, const char *part,
                   const char *what)
{
    uint32_t old;
    struct dml_dataset *ds = NULL;
    struct dml_err err = {0};
    memcpy(&old, buf->data + at, 4);
    memcpy(buf->data + at, &value, 4);
    tap_int(dml_dataset_unpack(buf->data, buf->len, &ds, &err), -EBADMSG, what);
    tap_has(err.text, part, "and why");
    memcpy(buf->data + at, &old, 4);
    (void)dml_dataset_free(ds);
}

static void test_bad(void)
{
    static const uint32_t index[] = {0, 1};
    _cleanup_(dml_dataset_freep) struct dml_dataset *ds = load("synth", "synth-classes", "3");
    _cleanup_(dml_buf_unrefp) struct dml_buf *buf = NULL, *longer = NULL;
    tap_int(dml_dataset_pack(ds, index, 0, &buf), -EINVAL, "nothing is not packed");
    tap_int(dml_dataset_pack(ds, index, 2, &buf), 0, "two samples");
    refuse(buf, 0, 0, "does not begin", "magic");
    refuse(buf, 8, 2, "version 2, this program reads 1", "version");
    refuse(buf, 12, 2, "impossible", "kind");
    refuse(buf, 16, 0, "impossible", "no samples");
    refuse(buf, 16, 3, "impossible", "a sample too many");
    refuse(buf, 16, 1, "wrong length", "a sample too few");
    refuse(buf, 20, 1, "impossible", "2^32 samples too many");
    refuse(buf, 24, 0, "impossible", "no channels");
    refuse(buf, 24, UINT32_MAX, "impossible", "channels");
    refuse(buf, 28, UINT32_MAX, "impossible", "height");
    refuse(buf, 36, UINT32_MAX, "impossible", "classes");
    refuse(buf, 40, 0, "header says", "total length");
    size_t stats = 48, names = stats + 12 * 8, labels = names + 3 * (4 + strlen("class-0"));
    refuse(buf, stats, 0x7fc00000, "statistics", "a mean that is no number");
    refuse(buf, names, 200, "name", "a name too long");
    refuse(buf, names + 4, 0, "control character", "a NUL in a name");
    refuse(buf, labels, 3, "label", "a label out of range");
    refuse(buf, labels, UINT32_MAX, "label", "a negative label");
    refuse(buf, labels + 8, 0x7f800000, "inputs", "an infinite input");
    longer = dml_buf_new(buf->len + 1);
    memcpy(longer->data, buf->data, buf->len);
    struct dml_dataset *none = NULL;
    tap_int(dml_dataset_unpack(longer->data, longer->len, &none, NULL), -EBADMSG, "a byte more");
}

int main(void)
{
    test_round_trip("synth", "synth-classes", "3");
    test_round_trip("synth", "task", "regression");
    test_round_trip("synth-images", "synth-classes", "3");
    test_bad();
    return tap_done();
}
