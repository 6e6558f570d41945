/* IDX files: in memory and in a folder; plain, gzipped, torn, with the wrong magic or sizes. */
#include <errno.h>

#include "data/idx.h"
#include "tests/unit/data_files.h"

/* 2 images of 2 × 3 pixels, and their labels. */
static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0,  0,  0,  2,  0,  0,
                                 0, 3, 1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 255};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 9, 4};

static void refuse_images(const uint8_t *p, size_t len, const char *part, const char *what)
{
    const uint8_t *x = NULL;
    uint32_t shape[4];
    struct dml_err err = {0};
    tap_int(dml_idx_parse_images(p, len, "f", &x, shape, &err), -EBADMSG, what);
    tap_has(err.text, part, "and why");
    tap_str(err.file, "f", "and where");
}

static void test_memory(void)
{
    const uint8_t *x;
    uint32_t shape[4];
    tap_int(dml_idx_parse_images(images, sizeof(images), "f", &x, shape, NULL), 0, "three dims");
    tap_ok(shape[0] == 2 && shape[1] == 1 && shape[2] == 2 && shape[3] == 3, "N 1 H W");
    tap_int(x[11], 255, "values follow the header");

    static const uint8_t table[] = {0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9};
    tap_int(dml_idx_parse_images(table, sizeof(table), "f", &x, shape, NULL), 0, "two dims");
    tap_ok(shape[0] == 1 && shape[1] == 3 && shape[2] == 1 && shape[3] == 1, "N D 1 1");
    static const uint8_t rgb[] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 3,
                                  0, 0, 0, 1, 0, 0, 0, 1, 7, 8, 9};
    tap_int(dml_idx_parse_images(rgb, sizeof(rgb), "f", &x, shape, NULL), 0, "four dims");
    tap_ok(shape[0] == 1 && shape[1] == 3 && shape[2] == 1 && shape[3] == 1, "N C H W");

    unsigned refused = 0;
    for (size_t len = 0; len < sizeof(images); len++)
        refused += dml_idx_parse_images(images, len, "f", &x, shape, NULL) == -EBADMSG;
    tap_int(refused, sizeof(images), "every shorter file is refused");

    uint8_t odd[sizeof(images) + 1];
    memcpy(odd, images, sizeof(images));
    refuse_images(odd, sizeof(odd), "announces 12 values, the file holds 13", "a byte too many");
    odd[2] = 13;
    refuse_images(odd, sizeof(images), "00 00 0d 03", "floats");
    odd[2] = 8, odd[3] = 1;
    refuse_images(odd, sizeof(images), "2 to 4 dimensions", "labels instead of images");
    odd[3] = 3, odd[7] = 0;
    refuse_images(odd, sizeof(images), "dimension 1 is 0", "no images");
    memset(odd + 4, 255, 12);
    refuse_images(odd, sizeof(images), "too large", "dimensions whose product overflows");

    const uint8_t *l;
    size_t n;
    unsigned max;
    tap_int(dml_idx_parse_labels(labels, sizeof(labels), "f", &l, &n, &max, NULL), 0, "labels");
    tap_ok(n == 2 && max == 9 && l[1] == 4, "two of them, 9 the largest");
    tap_int(dml_idx_parse_labels(images, sizeof(images), "f", &l, &n, &max, NULL), -EBADMSG,
            "images instead of labels");
}

static void write_all(void)
{
    data_clear();
    data_write_gz("train-images-idx3-ubyte.gz", images, sizeof(images));
    data_write("train-labels-idx1-ubyte", labels, sizeof(labels));
    data_write("t10k-images.idx3-ubyte", images, sizeof(images));
    data_write_gz("t10k-labels-idx1-ubyte.gz", labels, sizeof(labels));
}

static void test_folder(void)
{
    static const struct {
        const char *format, *name_of_9;
    } all[] = {{"mnist", "9"}, {"fashion-mnist", "Ankle boot"}, {"idx", "9"}};
    write_all();
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct dml_data_options o = data_options(all[i].format);
        _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
        struct dml_err err = {0};
        if (!tap_int(dml_dataset_load(&o, &train, &test, &err), 0, all[i].format))
            tap_note("%s", err.text);
        tap_int(train->n_classes, 10, "ten classes");
        tap_str(train->class_names[9], all[i].name_of_9, "name of a class");
        tap_int(test->labels[1], 4, "label");
        tap_int(((uint8_t *)test->x)[11], 255, "pixel");
        data_options_done(&o);
    }

    struct dml_data_options o = data_options("mnist");
    uint8_t odd[sizeof(labels) + 1];
    memcpy(odd, labels, sizeof(labels));
    odd[9] = 10;
    data_write("train-labels-idx1-ubyte", odd, sizeof(labels));
    data_refused(&o, -EBADMSG, "label 1 is 10; labels are 0 to 9", "a label out of range");
    odd[7] = 3;
    data_write("train-labels-idx1-ubyte", odd, sizeof(odd));
    data_refused(&o, -EBADMSG, "3 labels for the 2 images", "a label too many");
    (void)unlink(data_path("train-labels-idx1-ubyte"));
    data_refused(&o, -ENOENT, "no train-labels-idx1-ubyte", "no labels");
    write_all();
    static const uint8_t narrow[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2};
    data_write("t10k-images.idx3-ubyte", narrow, sizeof(narrow));
    data_refused(&o, -EBADMSG, "training samples are 1x2x3", "sets of different shapes");
    data_write("t10k-images.idx3-ubyte", narrow, 0);
    data_refused(&o, -EBADMSG, "too short", "an empty file");
    data_options_done(&o);

    o = data_options("fashion-mnist");
    data_set(&o, "path", data_path("nowhere"));
    data_refused(&o, -ENOENT, "apt install dataset-fashion-mnist", "where to get it");
    data_options_done(&o);
}

int main(void)
{
    data_folder_make();
    test_memory();
    test_folder();
    data_folder_remove();
    return tap_done();
}
