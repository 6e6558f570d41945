/*
 * Section [data] of a test case. Pure table: see base/opt.h for what a row means.
 *
 * Limits: samples are indexed by 32 bits; 0.999 of the rows for the test set leaves something to
 * train on; a pad of 64 pixels is twice the largest image that the shipped models take.
 */
#include "data/dataset.h"

#define FIELD(f)    offsetof(struct dml_data_options, f)
#define SAMPLES_MAX 4294967295.0 /* uint32_t */

const struct dml_opt dml_data_opts[] = {
    {"data", "dataset", DML_OPT_TEXT, FIELD(dataset), .min = 1, .max = 64, .dflt = "fashion-mnist",
     .help = "Which data set: a name that dmlctl datasets lists"},
    {"data", "path", DML_OPT_TEXT, FIELD(path), .dflt = "", .flags = DML_OPT_WORDS,
     .help = "File or folder of the data set; empty: the data set's usual place"},
    {"data", "test-path", DML_OPT_TEXT, FIELD(test_path), .dflt = "", .flags = DML_OPT_WORDS,
     .help = "csv: a second file with the test rows; empty: split off test-fraction"},
    {"data", "features", DML_OPT_TEXT, FIELD(features), .dflt = "", .flags = DML_OPT_WORDS,
     .help = "csv: names of the input columns; empty: all but the label"},
    {"data", "label", DML_OPT_TEXT, FIELD(label), .dflt = "class", .flags = DML_OPT_WORDS,
     .help = "csv: name of the column to predict"},
    {"data", "task", DML_OPT_CHOICE, FIELD(task), .dflt = "classification",
     .choices = "classification regression",
     .help = "csv, synth: whether the label is a class or a number"},
    {"data", "test-fraction", DML_OPT_REAL, FIELD(test_fraction), .min = 0.001, .max = 0.999,
     .dflt = "0.2", .help = "csv, synth, text: share of the rows held back for the test set"},
    {"data", "split-seed", DML_OPT_UINT, FIELD(split_seed), .dflt = "1",
     .help = "Fixes which rows are held back, and what a synthetic set holds"},
    {"data", "train-samples", DML_OPT_UINT, FIELD(train_samples), .min = 0, .max = SAMPLES_MAX,
     .dflt = "0", .unit = "samples", .help = "Use only the first so many; 0: all"},
    {"data", "test-samples", DML_OPT_UINT, FIELD(test_samples), .min = 0, .max = SAMPLES_MAX,
     .dflt = "0", .unit = "samples", .help = "Use only the first so many; 0: all"},
    {"data", "normalise", DML_OPT_CHOICE, FIELD(normalise), .dflt = "standard",
     .choices = "standard half none",
     .help = "standard: mean and deviation of the training set; half: pixels to -1…1; "
             "none: pixels to 0…1, tables as they are"},
    {"data", "partition", DML_OPT_CHOICE, FIELD(partition), .dflt = "iid",
     .choices = "iid label dirichlet unequal",
     .help = "How the training set is dealt to the workers"},
    {"data", "alpha", DML_OPT_REAL, FIELD(alpha), .min = 0.001, .max = 1e6, .dflt = "0.5",
     .help = "dirichlet: concentration, small is uneven; unequal: size ratio of one worker to the "
             "one before"},
    {"data", "labels-per-worker", DML_OPT_UINT, FIELD(labels_per_worker), .min = 1,
     .max = DML_DATASET_CLASSES_MAX, .dflt = "2", .unit = "classes",
     .help = "partition = label: classes of each worker"},
    {"data", "placement", DML_OPT_CHOICE, FIELD(placement), .dflt = "master",
     .choices = "master local",
     .help = "master: the master sends each worker its share; local: each worker reads its own "
             "files"},
    {"data", "augment", DML_OPT_CHOICE, FIELD(augment), .dflt = "none",
     .choices = "none flip crop flip-crop",
     .help = "Random changes to training images: mirrored, shifted, both"},
    {"data", "crop-padding", DML_OPT_UINT, FIELD(crop_padding), .min = 1, .max = 64, .dflt = "4",
     .unit = "pixels", .help = "augment = crop: black border from which the image is cut anew"},
    {"data", "synth-samples", DML_OPT_UINT, FIELD(synth_samples), .min = 2, .max = 10000000,
     .dflt = "1000", .unit = "samples", .help = "synth: size of both sets together"},
    {"data", "synth-features", DML_OPT_UINT, FIELD(synth_features), .min = 1, .max = 65536,
     .dflt = "16",
     .help = "synth: inputs; synth-images: pixels, a square (784) or three of them (3072)"},
    {"data", "synth-classes", DML_OPT_UINT, FIELD(synth_classes), .min = 2, .max = 1000,
     .dflt = "4", .unit = "classes", .help = "synth: number of classes"},
    {"data", "synth-noise", DML_OPT_REAL, FIELD(synth_noise), .min = 0, .max = 100, .dflt = "1",
     .help = "synth: deviation around a class's centre; centres lie about 1 apart per input"},
    {"data", "text-window", DML_OPT_UINT, FIELD(text_window), .min = 1, .max = 4096, .dflt = "64",
     .unit = "characters", .help = "text: length of a sample"},
    {0},
};
