/* What is saved comes back; whatever is cut or changed is refused, and never believed. */
#include "nn/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fileio.h"
#include "data/dataset.h"
#include "nn/model.h"
#include "tests/tap.h"

static const char text[] = "name t\ninput 2 4 4\nconv 2 kernel 3\nlinear 3\n";

static struct dml_dataset dataset(void)
{
    static char *names[] = {(char *)"cat", (char *)"", (char *)"żółw"};
    static float mean[] = {0.25f, 100.0f}, scale[] = {2.0f, 0.5f};
    return (struct dml_dataset){.channels = 2,
                                .height = 4,
                                .width = 4,
                                .n_classes = 3,
                                .class_names = names,
                                .mean = mean,
                                .scale = scale};
}

static void test_damage(const char *data, size_t len)
{
    struct dml_checkpoint *c = NULL;
    struct dml_err err = {0};
    tap_int(dml_checkpoint_parse(data, len, "c", &c, &err), 0, "the bytes parse");
    c = dml_checkpoint_free(c);
    size_t n_taken = 0;
    for (size_t cut = 0; cut < len; cut++) {
        char *part = malloc(cut + 1); /* its own block, so that ASan sees one byte too far */
        memcpy(part, data, cut);
        n_taken += dml_checkpoint_parse(part, cut, "c", &c, &err) != -EBADMSG;
        free(part);
    }
    tap_int((long long)n_taken, 0, "every shorter file is refused");
    char *copy = malloc(len + 100);
    memcpy(copy, data, len);
    for (size_t i = 0; i < len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            copy[i] ^= (char)(1u << bit);
            n_taken += dml_checkpoint_parse(copy, len, "c", &c, &err) != -EBADMSG;
            copy[i] ^= (char)(1u << bit);
        }
    tap_int((long long)n_taken, 0, "every flipped bit is refused");
    copy[len] = 'x';
    tap_int(dml_checkpoint_parse(copy, len + 1, "c", &c, &err), -EBADMSG, "a byte too many");
    copy[8] = 2;
    tap_int(dml_checkpoint_parse(copy, len, "c", &c, &err), -EBADMSG, "a newer version");
    tap_has(err.text, "version 2, this dml reads version 1", "says so");
    copy[8] = 1;
    /* Wrong lengths under a right checksum: the parser's own checks. */
    for (size_t i = 12; i + 64 < len; i++) {
        char digest[DML_FILEIO_HASH_LEN];
        memcpy(copy, data, len);
        copy[i] = (char)0xff;
        dml_fileio_hash(copy, len - 64, digest);
        memcpy(copy + len - 64, digest, 64);
        struct dml_checkpoint *any = NULL;
        int r = dml_checkpoint_parse(copy, len, "c", &any, &err);
        n_taken += r != 0 && r != -EBADMSG;
        dml_checkpoint_free(any);
    }
    tap_int((long long)n_taken, 0, "forged bytes are parsed or refused, nothing else");
    tap_int(dml_checkpoint_parse("", 0, "c", &c, &err), -EBADMSG, "nothing at all");
    tap_has(err.text, "not a checkpoint of dml", "is no checkpoint");
    free(copy);
}

/* Such a model has an output for each class at each position. */
static void test_sequence(const char *path)
{
    static const char lines[] = "name s\ninput 2\nembedding 3 size 3\nloss next-token\n";
    static char *names[] = {(char *)"a", (char *)"b", (char *)"c"};
    static float mean[2], scale[] = {1.0f, 1.0f};
    struct dml_dataset ds = {.channels = 2,
                             .height = 1,
                             .width = 1,
                             .n_classes = 3,
                             .class_names = names,
                             .mean = mean,
                             .scale = scale};
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    _cleanup_(dml_checkpoint_freep) struct dml_checkpoint *c = NULL;
    struct dml_err err = {0};
    if (!tap_int(dml_model_parse(lines, sizeof(lines) - 1, "s", &m, &err), 0, "a model"))
        return;
    float vec[9] = {1.0f};
    tap_int(dml_checkpoint_save(path, m, vec, &ds, "text", "case-2", 1, &err), 0, "save");
    if (!tap_int(dml_checkpoint_load(path, &c, &err), 0, "a model of sequences comes back"))
        tap_note("%s", err.text);
    else
        tap_int(c->n_classes, 3, "with a name for each code");
}

int main(void)
{
    char dir[] = "/tmp/dml-test-XXXXXX";
    if (!tap_ok(mkdtemp(dir) != NULL, "a folder"))
        return tap_done();
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/a.dml", dir);
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    struct dml_err err = {0};
    struct dml_dataset ds = dataset();
    tap_int(dml_model_parse(text, sizeof(text) - 1, "t", &m, &err), 0, "a model");
    size_t n = dml_model_n_vec(m);
    _cleanup_(dml_mem_freep) float *vec = dml_mem_floats(n);
    dml_model_init(m, vec, 5);
    vec[1] = -0.0f;
    vec[2] = INFINITY;
    tap_int(dml_checkpoint_save(path, m, vec, &ds, "pets", "case-1", 1234567890123, &err), 0,
            "save");

    _cleanup_(dml_checkpoint_freep) struct dml_checkpoint *c = NULL;
    if (!tap_ok(dml_checkpoint_load(path, &c, &err) == 0, "load")) {
        tap_note("%s", err.text);
        return tap_done();
    }
    tap_str(dml_model_text(c->model), text, "the model's text");
    tap_ok(memcmp(c->vec, vec, n * sizeof(float)) == 0, "the block, bit for bit");
    tap_str(c->dataset, "pets", "data set");
    tap_str(c->testcase, "case-1", "test case");
    tap_int((long long)c->round, 1234567890123, "round");
    tap_int(c->n_channels, 2, "channels");
    tap_ok(c->mean[1] == 100.0f && c->scale[0] == 2.0f, "statistics");
    tap_int(c->n_classes, 3, "classes");
    tap_str(c->class_names[2], "żółw", "a class name");

    _cleanup_(dml_mem_freep) char *data = NULL;
    size_t len;
    if (tap_int(dml_fileio_read(path, 1 << 20, &data, &len, &err), 0, "read back"))
        test_damage(data, len);
    test_sequence(path);
    struct dml_checkpoint *none = NULL;
    tap_int(dml_checkpoint_load("/nonexistent", &none, &err), -ENOENT, "a missing file");
    (void)unlink(path);
    (void)rmdir(dir);
    return tap_done();
}
