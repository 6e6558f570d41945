/*
 * Checkpoints.
 *
 *     "dmlckpt\n"  u32 version
 *     text model   text dataset   text testcase   u64 round
 *     u32 C        f32 mean[C]    f32 scale[C]
 *     u32 classes  text name[classes]
 *     u64 P+Q      f32 vec[P+Q]
 *     64 hexadecimal digits: SHA-256 of everything before
 *
 * A text is u32 length and bytes; everything is little-endian, as the machines are. The digest is
 * checked before anything is believed, so a torn write or a flipped bit is told apart from a
 * mistake in the format; but a file can be made by hand with a right digest, so every length is
 * checked again where it is read.
 */
#include "nn/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "data/dataset.h"
#include "nn/model.h"

#define MAGIC        "dmlckpt\n"
#define MAGIC_LEN    8
#define VERSION      1u
#define DIGEST_LEN   (DML_FILEIO_HASH_LEN - 1)
#define NAME_MAX_LEN 4096
#define FILE_MAX     ((size_t)1200 << 20) /* parameters of the largest model, and room for the rest */

/* ---- writing ------------------------------------------------------------------------------ */

static size_t text_len(const char *s)
{
    return 4 + strlen(s);
}

static void put(unsigned char **io_at, const void *data, size_t len)
{
    if (len)
        memcpy(*io_at, data, len);
    *io_at += len;
}

static void put_u32(unsigned char **io_at, uint32_t v)
{
    put(io_at, &v, sizeof(v));
}

static void put_u64(unsigned char **io_at, uint64_t v)
{
    put(io_at, &v, sizeof(v));
}

static void put_text(unsigned char **io_at, const char *s)
{
    put_u32(io_at, (uint32_t)strlen(s));
    put(io_at, s, strlen(s));
}

static const char *class_name(const struct dml_dataset *ds, uint32_t i)
{
    return ds->class_names && ds->class_names[i] ? ds->class_names[i] : "";
}

int dml_checkpoint_save(const char *path, const struct dml_model *m, const float *vec,
                        const struct dml_dataset *ds, const char *dataset_name,
                        const char *testcase_name, uint64_t round, struct dml_err *err)
{
    if (strlen(dataset_name) > NAME_MAX_LEN || strlen(testcase_name) > NAME_MAX_LEN)
        return dml_err_set(err, -EINVAL, "the name of the data set or test case is too long");
    size_t n = dml_model_n_vec(m), c = ds->channels;
    size_t len = MAGIC_LEN + 4 + text_len(dml_model_text(m)) + text_len(dataset_name) +
                 text_len(testcase_name) + 8 + 4 + 8 * c + 4 + 8 + n * sizeof(float) + DIGEST_LEN;
    for (uint32_t i = 0; i < ds->n_classes; i++)
        len += text_len(class_name(ds, i));
    _cleanup_(dml_mem_freep) unsigned char *block = malloc(len);
    if (!block)
        return -ENOMEM;
    unsigned char *at = block;
    put(&at, MAGIC, MAGIC_LEN);
    put_u32(&at, VERSION);
    put_text(&at, dml_model_text(m));
    put_text(&at, dataset_name);
    put_text(&at, testcase_name);
    put_u64(&at, round);
    put_u32(&at, ds->channels);
    put(&at, ds->mean, c * sizeof(float));
    put(&at, ds->scale, c * sizeof(float));
    put_u32(&at, ds->n_classes);
    for (uint32_t i = 0; i < ds->n_classes; i++)
        put_text(&at, class_name(ds, i));
    put_u64(&at, n);
    put(&at, vec, n * sizeof(float));
    char digest[DML_FILEIO_HASH_LEN];
    dml_fileio_hash(block, (size_t)(at - block), digest);
    put(&at, digest, DIGEST_LEN);
    return dml_fileio_write(path, block, len, 0644, err);
}

/* ---- reading ------------------------------------------------------------------------------ */

struct reader {
    const unsigned char *at;
    size_t left;
    const char *file;
    struct dml_err *err;
};

static int bad(struct reader *r, const char *what)
{
    return dml_err_at(r->err, -EBADMSG, r->file, 0, "not a whole checkpoint: %s", what);
}

static int take(struct reader *r, void *to, size_t len, const char *what)
{
    if (len > r->left)
        return bad(r, what);
    if (len)
        memcpy(to, r->at, len);
    r->at += len;
    r->left -= len;
    return 0;
}

static int take_text(struct reader *r, size_t max, const char *what, char **ret)
{
    uint32_t len = 0;
    int e = take(r, &len, sizeof(len), what);
    if (e < 0)
        return e;
    if (len > max || len > r->left || memchr(r->at, '\0', len))
        return bad(r, what);
    char *s = strndup((const char *)r->at, len);
    if (!s)
        return -ENOMEM;
    r->at += len;
    r->left -= len;
    *ret = s;
    return 0;
}

/* n is checked against what is left before anything is allocated. */
static int take_floats(struct reader *r, size_t n, const char *what, float **ret)
{
    if (n > r->left / sizeof(float))
        return bad(r, what);
    float *f = dml_mem_floats(n);
    if (!f)
        return -ENOMEM;
    (void)take(r, f, n * sizeof(float), what);
    *ret = f;
    return 0;
}

static int take_model(struct reader *r, struct dml_model **ret)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    int e = take_text(r, DML_MODEL_TEXT_MAX, "its model's text", &text);
    if (e < 0)
        return e;
    e = dml_model_parse(text, strlen(text), r->file, ret, r->err);
    return e == -EINVAL ? -EBADMSG : e;
}

static int take_names(struct reader *r, struct dml_checkpoint *c)
{
    int e = take(r, &c->n_classes, sizeof(c->n_classes), "its number of classes");
    if (e < 0)
        return e;
    uint32_t n = c->n_classes;
    c->n_classes = 0;
    if (n > DML_DATASET_CLASSES_MAX || n > r->left / 4)
        return bad(r, "its number of classes");
    c->class_names = calloc(n + 1, sizeof(char *));
    if (!c->class_names)
        return -ENOMEM;
    for (; c->n_classes < n; c->n_classes++) {
        e = take_text(r, DML_DATASET_NAME_MAX - 1, "the name of a class",
                      &c->class_names[c->n_classes]);
        if (e < 0)
            return e;
    }
    return 0;
}

static int take_all(struct reader *r, struct dml_checkpoint *c)
{
    int e = take_model(r, &c->model);
    if (e == 0)
        e = take_text(r, NAME_MAX_LEN, "its data set's name", &c->dataset);
    if (e == 0)
        e = take_text(r, NAME_MAX_LEN, "its test case's name", &c->testcase);
    if (e == 0)
        e = take(r, &c->round, sizeof(c->round), "its round");
    if (e == 0)
        e = take(r, &c->n_channels, sizeof(c->n_channels), "its number of channels");
    if (e < 0)
        return e;
    uint32_t channels, height, width;
    dml_model_input_shape(c->model, &channels, &height, &width);
    if (c->n_channels != channels)
        return bad(r, "model and statistics have different numbers of channels");
    e = take_floats(r, c->n_channels, "its means", &c->mean);
    if (e == 0)
        e = take_floats(r, c->n_channels, "its scales", &c->scale);
    if (e == 0)
        e = take_names(r, c);
    if (e < 0)
        return e;
    if (c->n_classes !=
        (dml_model_loss(c->model) == DML_LOSS_MSE ? 0 : dml_model_n_classes(c->model)))
        return bad(r, "model and class names do not fit");
    uint64_t n = 0;
    e = take(r, &n, sizeof(n), "its number of parameters");
    if (e < 0)
        return e;
    if (n != dml_model_n_vec(c->model))
        return bad(r, "model and number of parameters do not fit");
    e = take_floats(r, (size_t)n, "its parameters", &c->vec);
    if (e == 0 && r->left)
        return bad(r, "bytes after the parameters");
    return e;
}

int dml_checkpoint_parse(const void *data, size_t len, const char *file,
                         struct dml_checkpoint **ret, struct dml_err *err)
{
    struct reader r = {.at = data, .left = len, .file = file, .err = err};
    uint32_t version;
    if (len < MAGIC_LEN + sizeof(version) || memcmp(data, MAGIC, MAGIC_LEN) != 0)
        return dml_err_at(err, -EBADMSG, file, 0, "not a checkpoint of dml");
    r.at += MAGIC_LEN;
    r.left -= MAGIC_LEN;
    (void)take(&r, &version, sizeof(version), "its version");
    if (version != VERSION)
        return dml_err_at(err, -EBADMSG, file, 0,
                          "a checkpoint of version %u, this dml reads version %u", version,
                          VERSION);
    if (r.left < DIGEST_LEN)
        return bad(&r, "cut short");
    char digest[DML_FILEIO_HASH_LEN];
    dml_fileio_hash(data, len - DIGEST_LEN, digest);
    if (memcmp((const char *)data + len - DIGEST_LEN, digest, DIGEST_LEN) != 0)
        return bad(&r, "its checksum does not fit, so it was cut short or changed");
    r.left -= DIGEST_LEN;
    _cleanup_(dml_checkpoint_freep) struct dml_checkpoint *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    int e = take_all(&r, c);
    if (e < 0)
        return e;
    *ret = c;
    c = NULL;
    return 0;
}

int dml_checkpoint_load(const char *path, struct dml_checkpoint **ret, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *data = NULL;
    size_t len;
    int r = dml_fileio_read(path, FILE_MAX, &data, &len, err);
    return r < 0 ? r : dml_checkpoint_parse(data, len, path, ret, err);
}

struct dml_checkpoint *dml_checkpoint_free(struct dml_checkpoint *c)
{
    if (!c)
        return NULL;
    for (uint32_t i = 0; c->class_names && i < c->n_classes; i++)
        free(c->class_names[i]);
    free(c->class_names);
    dml_model_free(c->model);
    free(c->vec);
    free(c->mean);
    free(c->scale);
    free(c->dataset);
    free(c->testcase);
    free(c);
    return NULL;
}
