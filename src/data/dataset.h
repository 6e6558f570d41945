/*
 * A data set in memory, whatever file format it came from.
 *
 * Shapes: N samples; one sample is C channels × H × W (a table row is C features with H = W = 1),
 * D = C·H·W inputs. Pixels stay bytes until a batch is assembled: CIFAR-10 is 150 MB as bytes and
 * 600 MB as floats, and a Pi has 1 GB.
 *
 * Intended usage:
 *     dml_dataset_load(&options, seed, &train, &test, &err);   // statistics from train only
 *     dml_shard_make(train, …);                                // who gets what
 *     dml_batch_…                                              // floats for a step
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/opt.h"

#define DML_DATASET_CLASSES_MAX 65536
#define DML_DATASET_NAME_MAX 128      /* bytes of a class name, NUL included */
/* 4 GiB; a quarter of the addresses where a size has 32 bits. */
#define DML_DATASET_BYTES_MAX (UINT64_C(1) << (sizeof(size_t) > 4 ? 32 : 30))

enum dml_dataset_kind { DML_DATASET_U8, DML_DATASET_F32 };

struct dml_dataset {
    enum dml_dataset_kind kind;
    size_t n_samples;
    uint32_t channels, height, width;
    void *x;             /* [N][C][H][W], uint8_t or float by kind, not normalised */
    int32_t *labels;     /* [N] class 0 … n_classes-1; NULL for regression */
    float *targets;      /* [N] for regression; NULL for classification */
    uint32_t n_classes;  /* 0 for regression */
    char **class_names;  /* [n_classes], each an own string */
    float *mean, *scale; /* [C]: a model sees (x - mean[c]) * scale[c]; from the training set only */
};

static inline size_t dml_dataset_d(const struct dml_dataset *ds)
{
    return (size_t)ds->channels * ds->height * ds->width;
}

enum dml_data_partition { DML_PARTITION_IID, DML_PARTITION_LABEL, DML_PARTITION_DIRICHLET,
                          DML_PARTITION_UNEQUAL };
enum dml_data_placement { DML_PLACEMENT_MASTER, DML_PLACEMENT_LOCAL };
enum dml_data_normalise { DML_NORMALISE_STANDARD, /* training set's mean and deviation, per channel */
                          DML_NORMALISE_HALF,     /* (x/255 - 0.5)/0.5, as PyTorch's tutorial */
                          DML_NORMALISE_NONE };   /* x/255 for pixels, x for tables */
enum dml_data_augment { DML_AUGMENT_NONE, DML_AUGMENT_FLIP, DML_AUGMENT_CROP,
                        DML_AUGMENT_FLIP_CROP };

/* Section [data] of a test case. */
struct dml_data_options {
    char *dataset;        /* a format's name: see dml_dataset_formats() */
    char *path;           /* file or folder; "" = the format's default place */
    char *test_path;      /* csv: a file with the test rows; "" = split off test_fraction */
    char *features;       /* csv: column names, separated by blanks; "" = all but the label */
    char *label;          /* csv: column name */
    int task;             /* csv, synth: 0 classification, 1 regression */
    double test_fraction; /* csv, synth */
    uint64_t split_seed;
    uint64_t train_samples, test_samples; /* 0 = all; otherwise the first n after the split; more
                                             than there are is a mistake */
    int normalise;        /* enum dml_data_normalise */
    int partition;        /* enum dml_data_partition */
    double alpha;         /* dirichlet; unequal: share of rank r is proportional to alpha^r */
    uint64_t labels_per_worker; /* label */
    int placement;        /* enum dml_data_placement */
    int augment;          /* enum dml_data_augment */
    uint64_t crop_padding; /* pixels */
    uint64_t synth_samples, synth_features, synth_classes; /* synth */
    double synth_noise;
    uint64_t text_window; /* text */
};

extern const struct dml_opt dml_data_opts[];

/* What the samples of a set look like, as far as it is known before the files are read. */
struct dml_dataset_shape {
    uint32_t channels, height, width;
    bool has_classes;   /* n_classes is known */
    uint32_t n_classes; /* 0 for regression */
};

/* One reader. A new format is one file with one of these, and a row in dataset.c. */
struct dml_dataset_format {
    const char *name, *summary;
    const char *default_path;  /* NULL when `path` must be given */
    const char *where_to_get;  /* one sentence for people */
    bool is_codes; /* numbers are names, not quantities: never normalised */
    /* NULL, or returns whether it is known. */
    bool (*shape)(const struct dml_data_options *o, struct dml_dataset_shape *ret);
    /*
     * Fills both sets without statistics (mean, scale are set by dml_dataset_load()). `path` is
     * resolved. Errors: err names the file and what is wrong with it. On error nothing is set.
     */
    int (*load)(const struct dml_data_options *o, const char *path, struct dml_dataset **ret_train,
                struct dml_dataset **ret_test, struct dml_err *err);
};

/* Ends with name == NULL. */
const struct dml_dataset_format *const *dml_dataset_formats(void);

/*
 * Reads train and test set, cuts both to train_samples/test_samples, computes mean and scale on
 * the training set and gives the test set the same ones.
 * Returns 0, -ENOENT, -EINVAL, -EBADMSG (torn or malformed file), -ENOMEM.
 * Owner: caller, dml_dataset_free().
 */
int dml_dataset_load(const struct dml_data_options *o, struct dml_dataset **ret_train,
                     struct dml_dataset **ret_test, struct dml_err *err);

/* What the options alone say; false: only the files do. */
bool dml_dataset_foresee(const struct dml_data_options *o, struct dml_dataset_shape *ret);

/* An empty set with room for n_samples; x, labels (or targets), mean = 0, scale = 1, class_names
 * all NULL. Checks every product. NULL when too large or out of memory. */
struct dml_dataset *dml_dataset_new(enum dml_dataset_kind kind, size_t n_samples, uint32_t channels,
                                    uint32_t height, uint32_t width, uint32_t n_classes);
struct dml_dataset *dml_dataset_free(struct dml_dataset *ds);
DML_MEM_CLEANUP(struct dml_dataset, dml_dataset_free);

/* The samples index[0..n) as a new set (statistics and names copied). NULL when out of memory. */
struct dml_dataset *dml_dataset_subset(const struct dml_dataset *ds, const uint32_t *index,
                                       size_t n);

/*
 * The samples index[0..n) as bytes for the wire and the worker's cache; little-endian, with magic,
 * version and every length. The same samples give the same bytes, so their hash names them.
 * Returns 0, -EINVAL for no samples, -ENOMEM.
 */
int dml_dataset_pack(const struct dml_dataset *ds, const uint32_t *index, size_t n,
                     struct dml_buf **ret);

/* The reverse, for bytes from outside: never crashes. Returns 0, -EBADMSG, -ENOMEM. */
int dml_dataset_unpack(const void *data, size_t len, struct dml_dataset **ret,
                       struct dml_err *err);
