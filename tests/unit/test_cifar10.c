/* CIFAR-10 from small batches: good, gzipped, torn, mislabelled, missing. */
#include <errno.h>

#include "data/cifar10.h"
#include "tests/unit/data_files.h"

#define N 3u /* images per batch */

static const char *const names[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                    "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};

static uint8_t batch[N * DML_CIFAR10_RECORD];

/* Image i of batch f: label (f + i) mod 10, pixels that tell batch, image and place. */
static uint8_t pixel(unsigned f, unsigned i, unsigned j)
{
    return (uint8_t)(f * 50 + i * 7 + j % 31);
}

static void make_batch(unsigned f)
{
    uint8_t *p = batch;
    for (unsigned i = 0; i < N; i++) {
        *p++ = (uint8_t)((f + i) % 10);
        for (unsigned j = 0; j < DML_CIFAR10_PIXELS; j++)
            *p++ = pixel(f, i, j);
    }
}

static void write_all(void)
{
    data_clear();
    for (unsigned f = 0; f < ARRAY_SIZE(names); f++) {
        make_batch(f);
        data_write(names[f], batch, sizeof(batch));
    }
}

static void test_good(struct dml_data_options *o)
{
    write_all();
    make_batch(2);
    (void)unlink(data_path(names[2]));
    data_write_gz("data_batch_3.bin.gz", batch, sizeof(batch));

    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    struct dml_err err = {0};
    if (!tap_int(dml_dataset_load(o, &train, &test, &err), 0, "six batches, one of them gzipped")) {
        tap_note("%s", err.text);
        return;
    }
    tap_int((long long)train->n_samples, 5 * N, "training images");
    tap_int((long long)test->n_samples, N, "test images");
    tap_int(train->channels * 10000 + train->height * 100 + train->width, 33232, "3x32x32");
    unsigned wrong = 0, wrong_labels = 0;
    const uint8_t *x = train->x;
    for (unsigned f = 0; f < 5; f++)
        for (unsigned i = 0; i < N; i++) {
            wrong_labels += train->labels[f * N + i] != (int32_t)((f + i) % 10);
            for (unsigned j = 0; j < DML_CIFAR10_PIXELS; j++)
                wrong += *x++ != pixel(f, i, j);
        }
    tap_int(wrong, 0, "every pixel in its place");
    tap_int(wrong_labels, 0, "every label");
    tap_int(test->labels[0], 5, "the test batch is the test set");
    tap_str(train->class_names[3], "cat", "built-in class names");

    (void)dml_dataset_free(train);
    (void)dml_dataset_free(test);
    train = test = NULL;
    const char meta[] = "null\neins\nzwei\ndrei\nvier\n5\n6\n7\n8\nneun\n\n";
    data_write("batches.meta.txt", meta, strlen(meta));
    data_set(o, "train-samples", "4");
    tap_int(dml_dataset_load(o, &train, &test, NULL), 0, "again, cut");
    tap_int((long long)train->n_samples, 4, "train-samples");
    tap_str(train->class_names[9], "neun", "names from batches.meta.txt");
    data_set(o, "train-samples", "0");
}

static void test_bad(struct dml_data_options *o)
{
    write_all();
    make_batch(3);
    data_write(names[3], batch, sizeof(batch) - 1);
    data_refused(o, -EBADMSG, "data_batch_4.bin", "a torn batch");
    data_write(names[3], batch, 2 * DML_CIFAR10_RECORD);
    data_refused(o, -EBADMSG, "all batches have one size", "a batch torn between two images");
    batch[DML_CIFAR10_RECORD] = 10;
    data_write(names[3], batch, sizeof(batch));
    data_refused(o, -EBADMSG, "image 1 has label 10", "a label out of range");
    data_write(names[0], batch, 0);
    data_refused(o, -EBADMSG, "0 bytes", "an empty first batch");

    write_all();
    (void)unlink(data_path(names[4]));
    data_refused(o, -ENOENT, "no data_batch_5.bin", "a missing batch");
    data_refused(o, -ENOENT, "cifar-10-binary.tar.gz", "and where to get it");
    data_write_gz("data_batch_5.bin.gz", batch, sizeof(batch));
    char torn[64];
    FILE *f = fopen(data_path("data_batch_5.bin.gz"), "rb");
    size_t n = f ? fread(torn, 1, sizeof(torn), f) : 0;
    if (f)
        (void)fclose(f);
    data_write("data_batch_5.bin.gz", torn, n);
    data_refused(o, -EBADMSG, "data_batch_5.bin.gz", "a torn gzip stream");

    data_write("plain", "x", 1);
    data_set(o, "path", data_path("plain"));
    data_refused(o, -EINVAL, "must name a folder", "a file where a folder belongs");
    data_set(o, "path", data_path("nowhere"));
    data_refused(o, -ENOENT, "nowhere", "a missing folder");
}

int main(void)
{
    data_folder_make();
    struct dml_data_options o = data_options("cifar10");
    test_good(&o);
    test_bad(&o);
    data_options_done(&o);
    data_folder_remove();
    return tap_done();
}
