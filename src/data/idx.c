/*
 * IDX: two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, each dimension as
 * 32 bits big-endian, then the values, last dimension fastest. Nothing may follow.
 *
 * MNIST, Fashion-MNIST and their relatives are four such files under fixed names; three formats
 * share this reader and differ in the usual place, the class names and what labels are allowed. The
 * generic one takes as many classes as the labels of both sets need and names them by number.
 *
 * Source: LeCun, http://yann.lecun.com/exdb/mnist/, "the IDX file format".
 */
#include "data/idx.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "data/format.h"

#define TYPE_U8  8u
#define DIMS_MAX 4u

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Checks header and length; ret_dims[0 … n) are the dimensions, *ret_values what follows them. */
static int parse_header(const uint8_t *p, size_t len, const char *file, unsigned dims_min,
                        unsigned dims_max, uint32_t ret_dims[DIMS_MAX], unsigned *ret_n_dims,
                        const uint8_t **ret_values, struct dml_err *err)
{
    if (len < 4)
        return dml_err_at(err, -EBADMSG, file, 0, "%zu bytes are too short for an IDX header", len);
    if (p[0] || p[1] || p[2] != TYPE_U8 || p[3] < dims_min || p[3] > dims_max)
        return dml_err_at(err, -EBADMSG, file, 0,
                          "the file begins with %02x %02x %02x %02x; unsigned bytes in %u%s%u "
                          "dimensions begin with 00 00 08 %02x",
                          p[0], p[1], p[2], p[3], dims_min, dims_min < dims_max ? " to " : "/",
                          dims_max, dims_min);
    unsigned n_dims = p[3];
    size_t head = 4 + 4 * (size_t)n_dims;
    if (len < head)
        return dml_err_at(err, -EBADMSG, file, 0, "the file ends within its header");
    size_t total = 1;
    for (unsigned i = 0; i < n_dims; i++) {
        ret_dims[i] = be32(p + 4 + 4 * (size_t)i);
        if (!ret_dims[i])
            return dml_err_at(err, -EBADMSG, file, 0, "dimension %u is 0", i + 1);
        if (!dml_mem_mul(total, ret_dims[i], &total))
            return dml_err_at(err, -EBADMSG, file, 0, "the dimensions are too large");
    }
    if (len - head != total)
        return dml_err_at(err, -EBADMSG, file, 0,
                          "the header announces %zu values, the file holds %zu", total, len - head);
    *ret_n_dims = n_dims;
    *ret_values = p + head;
    return 0;
}

int dml_idx_parse_images(const void *data, size_t len, const char *file, const uint8_t **ret_x,
                         uint32_t ret_shape[4], struct dml_err *err)
{
    uint32_t d[DIMS_MAX];
    unsigned n;
    int r = parse_header(data, len, file, 2, DIMS_MAX, d, &n, ret_x, err);
    if (r < 0)
        return r;
    ret_shape[0] = d[0];
    ret_shape[1] = n == 3 ? 1 : d[1];
    ret_shape[2] = n == 2 ? 1 : d[n - 2];
    ret_shape[3] = n == 2 ? 1 : d[n - 1];
    return 0;
}

int dml_idx_parse_labels(const void *data, size_t len, const char *file, const uint8_t **ret_labels,
                         size_t *ret_n, unsigned *ret_max, struct dml_err *err)
{
    uint32_t d[DIMS_MAX];
    unsigned n_dims, max = 0;
    const uint8_t *labels;
    int r = parse_header(data, len, file, 1, 1, d, &n_dims, &labels, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < d[0]; i++)
        if (labels[i] > max)
            max = labels[i];
    *ret_labels = labels, *ret_n = d[0], *ret_max = max;
    return 0;
}

/* One set: its images, its labels, and what the labels need. n_classes 0: as many as needed. */
static int load_set(const char *folder, const char *prefix, unsigned n_classes, uint64_t limit,
                    struct dml_dataset **ret, unsigned *ret_max, struct dml_err *err)
{
    char path[DML_FORMAT_PATH_MAX], label_path[DML_FORMAT_PATH_MAX], name[4][64];
    _cleanup_(dml_mem_freep) char *data = NULL, *label_data = NULL;
    size_t len, label_len, n_labels;
    const uint8_t *x, *labels;
    uint32_t shape[4];
    unsigned max;

    /* Some unpackers write a dot for the first dash of the suffix. */
    static const char *const suffix[] = {"-idx3-ubyte", ".idx3-ubyte", "-idx4-ubyte",
                                         "-idx2-ubyte"};
    const char *names[ARRAY_SIZE(suffix)];
    for (size_t i = 0; i < ARRAY_SIZE(suffix); i++) {
        (void)snprintf(name[i], sizeof(name[i]), "%s-images%s", prefix, suffix[i]);
        names[i] = name[i];
    }
    int r = dml_format_read(folder, names, ARRAY_SIZE(suffix), path, &data, &len, err);
    if (r < 0)
        return r;
    r = dml_idx_parse_images(data, len, path, &x, shape, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < 2; i++)
        (void)snprintf(name[i], sizeof(name[i]), "%s-labels%sidx1-ubyte", prefix, i ? "." : "-");
    r = dml_format_read(folder, names, 2, label_path, &label_data, &label_len, err);
    if (r < 0)
        return r;
    r = dml_idx_parse_labels(label_data, label_len, label_path, &labels, &n_labels, &max, err);
    if (r < 0)
        return r;
    if (n_labels != shape[0])
        return dml_err_at(err, -EBADMSG, label_path, 0, "%zu labels for the %u images of %s",
                          n_labels, shape[0], path);
    if (n_classes && max >= n_classes)
        for (size_t i = 0;; i++)
            if (labels[i] == max)
                return dml_err_at(err, -EBADMSG, label_path, 0,
                                  "label %zu is %u; labels are 0 to %u", i, max, n_classes - 1);

    struct dml_dataset *ds =
        dml_dataset_new(DML_DATASET_U8, dml_format_cut(n_labels, limit), shape[1], shape[2],
                        shape[3], n_classes ? n_classes : 256);
    if (!ds)
        return -ENOMEM;
    memcpy(ds->x, x, ds->n_samples * dml_dataset_d(ds));
    for (size_t i = 0; i < ds->n_samples; i++)
        ds->labels[i] = labels[i];
    *ret = ds, *ret_max = max;
    return 0;
}

static int name_classes(struct dml_dataset *ds, unsigned n_classes, const char *const *names)
{
    ds->n_classes = n_classes;
    for (unsigned k = 0; k < n_classes; k++) {
        ds->class_names[k] = names ? strdup(names[k]) : dml_mem_printf("%u", k);
        if (!ds->class_names[k])
            return -ENOMEM;
    }
    return 0;
}

/* n_classes 0: as many as the labels of both sets need; names NULL: numbers. */
static int load_both(const struct dml_data_options *o, const char *path, unsigned n_classes,
                     const char *const *names, struct dml_dataset **ret_train,
                     struct dml_dataset **ret_test, struct dml_err *err)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    unsigned max_train, max_test;
    int r = load_set(path, "train", n_classes, o->train_samples, &train, &max_train, err);
    if (r == 0)
        r = load_set(path, "t10k", n_classes, o->test_samples, &test, &max_test, err);
    if (r < 0)
        return r;
    if (!n_classes)
        n_classes = 1 + (max_train > max_test ? max_train : max_test);
    r = name_classes(train, n_classes, names);
    if (r == 0)
        r = name_classes(test, n_classes, names);
    if (r < 0)
        return r;
    *ret_train = train, *ret_test = test;
    train = test = NULL;
    return 0;
}

static int load_idx(const struct dml_data_options *o, const char *path,
                    struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                    struct dml_err *err)
{
    return load_both(o, path, 0, NULL, ret_train, ret_test, err);
}

static int load_mnist(const struct dml_data_options *o, const char *path,
                      struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                      struct dml_err *err)
{
    return load_both(o, path, 10, NULL, ret_train, ret_test, err);
}

static int load_fashion(const struct dml_data_options *o, const char *path,
                        struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                        struct dml_err *err)
{
    /* Source: the table of labels in Fashion-MNIST's README. */
    static const char *const names[10] = {"T-shirt/top", "Trouser",   "Pullover", "Dress",
                                          "Coat",        "Sandal",    "Shirt",    "Sneaker",
                                          "Bag",         "Ankle boot"};
    return load_both(o, path, 10, names, ret_train, ret_test, err);
}

/* Of MNIST and what is called after it. */
static bool shape(const struct dml_data_options *o, struct dml_dataset_shape *ret)
{
    (void)o;
    *ret = (struct dml_dataset_shape){1, 28, 28, true, 10};
    return true;
}

const struct dml_dataset_format dml_idx_format = {
    .name = "idx",
    .summary = "A folder of IDX files named as MNIST's, with any size of image and labels 0 to 255",
    .where_to_get = "Let path name a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or .gz",
    .load = load_idx,
};

const struct dml_dataset_format dml_idx_mnist_format = {
    .name = "mnist",
    .summary = "MNIST: 70,000 grey images of handwritten digits, 28x28 pixels, 10 classes",
    .default_path = DML_STATE_DIR "/datasets/mnist",
    .where_to_get = "Get its four .gz files from https://ossci-datasets.s3.amazonaws.com/mnist/ "
                    "and let path name their folder",
    .shape = shape,
    .load = load_mnist,
};

const struct dml_dataset_format dml_idx_fashion_format = {
    .name = "fashion-mnist",
    .summary = "Fashion-MNIST: 70,000 grey images of clothes, 28x28 pixels, 10 classes",
    .default_path = "/usr/share/datasets/fashion-mnist",
    .where_to_get = "Debian has it: apt install dataset-fashion-mnist",
    .shape = shape,
    .load = load_fashion,
};
