/* The model language, what is said about mistakes in it, and the first weights. */
#include "nn/model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fileio.h"
#include "nn/layer.h"
#include "tests/tap.h"

static const char *top_srcdir(void)
{
    const char *dir = getenv("top_srcdir");
    return dir ? dir : ".";
}

struct shipped {
    const char *name;
    size_t n_params, n_state, n_layers, n_inputs, n_outputs;
};

static void test_shipped(void)
{
    static const struct shipped all[] = {
        {"char-transformer", 826208, 0, 0, 64, 6144},
        {"cifar-cnn", 62006, 0, 11, 3072, 10},
        {"grey-cnn", 44426, 0, 11, 784, 10},
        {"sdss-mlp", 6787, 0, 7, 6, 3},
        /* torchvision's counts; running statistics twice per normalised channel */
        {"mobilenetv2", 2236682, 34112, 153, 3072, 10},
        {"resnet-8", 78042, 672, 0, 3072, 10},
        {"resnet-20", 272474, 1568, 0, 3072, 10},
        {"softmax", 7850, 0, 1, 784, 10},
    };
    _cleanup_(dml_mem_freep) char *dir = dml_mem_printf("%s/etc/models", top_srcdir());
    const char *const dirs[] = {"/nonexistent", dir, NULL};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        _cleanup_(dml_model_freep) struct dml_model *m = NULL;
        struct dml_err err = {0};
        if (!tap_ok(dml_model_load(all[i].name, dirs, &m, &err) == 0, "%s loads", all[i].name)) {
            tap_note("%s", err.text);
            continue;
        }
        tap_str(dml_model_name(m), all[i].name, "its name");
        tap_int((long long)dml_model_n_params(m), (long long)all[i].n_params, "parameters");
        tap_int((long long)dml_model_n_vec(m), (long long)(all[i].n_params + all[i].n_state),
                "block");
        if (all[i].n_layers)
            tap_int((long long)dml_model_n_layers(m), (long long)all[i].n_layers, "layers");
        tap_int((long long)dml_model_n_inputs(m), (long long)all[i].n_inputs, "inputs");
        tap_int((long long)dml_model_n_outputs(m), (long long)all[i].n_outputs, "outputs");
        tap_has(dml_model_text(m), "\nloss   ", "its text is kept");
    }
    struct dml_err err = {0};
    struct dml_model *m = NULL;
    tap_int(dml_model_load("cifar-cn", dirs, &m, &err), -ENOENT, "an unknown name");
    tap_has(err.text, "did you mean \"cifar-cnn\"", "is answered with the nearest");
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/softmax.model", dir);
    tap_int(dml_model_load(path, NULL, &m, &err), 0, "a path needs no folders");
    dml_model_free(m);
    tap_int(dml_model_load("/nonexistent/a.model", dirs, &m, &err), -ENOENT, "a missing file");
}

static struct dml_model *parse(const char *text, struct dml_err *err)
{
    struct dml_model *m = NULL;
    *err = (struct dml_err){0};
    return dml_model_parse(text, strlen(text), "x.model", &m, err) == 0 ? m : NULL;
}

struct mistake {
    const char *text;
    unsigned line;
    const char *says;
};

static void test_mistakes(void)
{
    static const struct mistake all[] = {
        {"", 0, "no name line"},
        {"name a\n", 0, "no input line"},
        {"name a\ninput 3\n", 0, "no layer line"},
        {"name a\nname b\n", 2, "given twice"},
        {"name a b\n", 1, "one word"},
        {"name a/b\n", 1, "other characters"},
        {"input 1 2\n", 1, "CHANNELS HEIGHT WIDTH"},
        {"input 0\n", 1, "number from 1"},
        {"input -3\n", 1, "number from 1"},
        {"input 3x\n", 1, "\"3x\""},
        {"input 99999 2 2\n", 1, "65536"},
        {"input 65536 65536 65536\n", 1, "more than"},
        {"input 3\ninput 3\n", 2, "given twice"},
        {"name a\nlinear 3\n", 2, "input line must come before"},
        {"name a\ninput 3\nlinaer 3\n", 3, "did you mean \"linear\""},
        {"name a\ninput 3\nfrobnicate\n", 3, "allowed are"},
        {"name a\ninput 3\nlinear\n", 3, "outputs is missing"},
        {"name a\ninput 3\nlinear 0\n", 3, "1"},
        {"name a\ninput 3\nlinear three\n", 3, "three"},
        {"name a\ninput 3\nlinear 3 4\n", 3, "linear OUTPUTS"},
        {"name a\ninput 3 8 8\nconv 6\n", 3, "kernel is missing"},
        {"name a\ninput 3 8 8\nconv 6 kernel\n", 3, "kernel has no value"},
        {"name a\ninput 3 8 8\nconv 6 kernl 3\n", 3, "did you mean \"kernel\""},
        {"name a\ninput 3 8 8\nconv 6 kernel 3 kernel 3\n", 3, "given twice"},
        {"name a\ninput 3 8 8\nconv 6 kernel 3 padding 3\n", 3, "see only zeros"},
        {"name a\ninput 3 8 8\nconv 6 kernel 3 stride 2 method direct\n", 3, "stride 1"},
        {"name a\ninput 3 8 8\nrelu\n\nconv 6 kernel 9\n", 5,
         "layer 2 (conv 6 kernel 9) cannot take 3×8×8 from relu: a kernel of 9×9"},
        {"name a\ninput 3 8 8\nmax-pool 9\n", 3, "cannot take 3×8×8 from the input"},
        {"name a\ninput 3 8 8\nrelu 3\n", 3, "unknown word \"3\""},
        {"name a\ninput 3 8 8\ndropout 1\n", 3, "dropout"},
        {"name a\ninput 3 8 8\nlinear 2\nloss l2\n", 4, "cross-entropy, mse or next-token"},
        {"name a\ninput 3 8 8\nlinear 2\nloss cross-entrpy\n", 4, "did you mean"},
        {"name a\ninput 3 8 8\nlinear 2\nloss mse\n", 3, "needs one output"},
        {"name a\ninput 3 8 8\nlinear 1\n", 3, "for regression write \"loss mse\""},
        {"name a\ninput 3\nlinear 1\nloss mse\nloss mse\n", 5, "given twice"},
        {"name a\ninput 16777216\nlinear 16777216\n", 3, "parameters"},
        {"name a\ninput 65536 64 64\nconv 65536 kernel 64\n", 3, "parameters"},
        {"name a\ninput 1 16384 16384\nrelu\nmax-pool 4096\nlinear 2\n", 3, "1 GiB"},
        /* What they need is little or nothing modulo 2^32. */
        {"name a\ninput 4096\nembedding 96 size 256\nposition\nattention 256\nlinear 2\n", 5,
         "1 GiB"},
        {"name a\ninput 1 6 16388\nconv 65536 kernel 5 method direct\nrelu\nmax-pool 2\n"
         "global-avg-pool\nlinear 2\n",
         3, "1 GiB"},
        {"name a\ninput 1 256 256\nconv 65535 kernel 1 bias no\nbatch-norm\nrelu\n"
         "global-avg-pool\nlinear 2\n",
         3, "1 GiB"},
        {"name a\ninput 2048 1 20664\nconv 1 kernel 51 padding 50 method direct\nlinear 2\n", 3,
         "1 GiB"},
        {"name a\ninput 3 8 8\nlinear 2\nloss cross-entropy smoothing\n", 4, "a number is allowed"},
        {"name a\ninput 3 8 8\nlinear 2\nloss cross-entropy smoothing 2\n", 4, "smoothing"},
        {"name a\ninput 3 8 8\nlinear 1\nloss mse smoothing 0.1\n", 4, "smoothing"},
        {"init kaimng\n", 1, "did you mean \"kaiming\""},
        {"init uniform\ninit normal\n", 2, "given twice"},
        {"init uniform 3\n", 1, "one word"},
        {"name a\ninput 3 8 8\nconv 4 kernel 3 groups 2\n", 3,
         "2 groups must divide the 3 channels"},
        {"name a\ninput 3 8 8\nconv 4 kernel 3 groups 3\n", 3, "and the 4 it gives"},
        {"name a\ninput 4 8 8\nconv 4 kernel 3 groups 2 method im2col\n", 3, "auto and last"},
        {"name a\ninput 3 8 8\nconv 4 kernel 3 bias maybe\n", 3, "bias"},
        {"name a\ninput 3 8 8\nconv 4 kernel 3 bias no method direct\n", 3, "and a bias"},
        {"name a\ninput 3 8 8\nleaky-relu 0\n", 3, "slope"},
        {"name a\ninput 6 5 1\nattention 4\n", 3, "4 heads must divide the 6 channels"},
        {"name a\ninput 6\nrelu\nembedding 3 size 4\n", 4, "must be the first layer"},
        {"name a\ninput 6\nembedding 3\n", 3, "size is missing"},
        {"repeat 3\n", 1, "input line must come before"},
        {"name a\ninput 3\nrepeat\n", 3, "one number"},
        {"name a\ninput 3\nrepeat 0\n", 3, "from 1 to 1024"},
        {"name a\ninput 3\nrepeat 1000000000\n", 3, "from 1 to 1024"},
        {"name a\ninput 3\nrepeat 3\nrelu\n", 3, "there is no end"},
        {"name a\ninput 3\nrepeat 3\n\nend\n", 5, "no layer between it and the repeat of line 3"},
        {"name a\ninput 3\nrepeat 1000\nrepeat 1000\nrelu\nend\nend\n", 5, "more than 1024 layers"},
        {"name a\ninput 3\nend\n", 3, "no repeat or residual"},
        {"name a\ninput 3\nrepeat 2\nloss mse\nrelu\nend\n", 4, "not allowed inside a block"},
        {"name a\ninput 3\nresidual 3\nrelu\nend\n", 3, "stands alone"},
        {"name a\ninput 3\nresidual\nend\n", 4, "no layer between it and the residual of line 3"},
        {"name a\ninput 3\nresidual\nshortcut\nend\n", 4, "no layer between"},
        {"name a\ninput 3\nresidual\nrelu\nshortcut\nend\n", 6,
         "shortcut of the residual block of line 3"},
        {"name a\ninput 3\nresidual\nrelu\nshortcut\nrelu\nshortcut\n", 7, "has one already"},
        {"name a\ninput 3\nshortcut\n", 3, "directly inside a residual"},
        {"name a\ninput 3\nresidual\nrelu\nrepeat 2\nshortcut\n", 6, "directly inside a residual"},
        {"name a\ninput 3 8 8\nrelu\nresidual\nconv 16 kernel 3 stride 2 padding 1\nend\n", 6,
         "line 4 gives 16×4×4 (conv 16 kernel 3 stride 2 padding 1), but what goes into it is "
         "3×8×8 "
         "(relu)"},
        {"name a\ninput 3 8 8\nresidual\nconv 5 kernel 1\nshortcut\nconv 4 kernel 1\nend\n", 7,
         "but its shortcut gives 4×8×8"},
        {"name a\ninput 3\nresidul\n", 3, "did you mean \"residual\""},
        {"a b c d e f g h i j k l m\n", 1, "more than 12 words"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 1,
         "longer than 63"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct dml_err err;
        struct dml_model *m = parse(all[i].text, &err);
        tap_ok(m == NULL, "refused: mistake %zu", i);
        tap_has(err.text, all[i].says, "what is said");
        tap_int(err.line, all[i].line, err.text);
        dml_model_free(m);
    }
    struct dml_err err = {0};
    struct dml_model *m = NULL;
    tap_int(dml_model_parse("name a\0b", 8, "x", &m, &err), -EINVAL, "a zero byte");
    tap_has(err.text, "zero byte", "is named");
    _cleanup_(dml_mem_freep) char *layers = malloc(70000);
    strcpy(layers, "name a\ninput 2\n");
    for (size_t i = 0; i < DML_MODEL_LAYERS_MAX + 1; i++)
        strcat(layers, "relu\n");
    m = parse(layers, &err);
    tap_ok(!m, "too many layers");
    tap_has(err.text, "more than 1024 layers", "are named");
    memset(layers, '\n', 66000);
    tap_int(dml_model_parse(layers, 66000, "x", &m, &err), -EINVAL, "a text too long");
}

static void test_print(void)
{
    struct dml_err err;
    _cleanup_(dml_model_freep) struct dml_model *m =
        parse("# head\r\n\n name\tt # what it is\ninput 3 9 9\n  conv  6   kernel 5 # first\n"
              "avg-pool 3 stride 2\nflatten\nlinear 1\nloss mse",
              &err);
    if (!tap_ok(m != NULL, "blanks, comments, carriage returns, no newline at the end"))
        return;
    char *text = NULL;
    tap_int(dml_model_print(m, &text), 0, "print");
    tap_has(text, "conv 6 kernel 5       3×9×9 → 6×5×5              456 parameters\n", "conv");
    tap_has(text, "avg-pool 3 stride 2   6×5×5 → 6×2×2\n", "avg-pool");
    tap_has(text, "flatten               6×2×2 → 24\n", "flatten");
    tap_has(text, "linear 1              24 → 1", "linear");
    tap_has(text, "  1  conv 6", "numbers where the model can be cut");
    tap_has(text, "481 parameters, loss mse", "total");
    tap_note("\n%s", text);
    free(text);
}

/* Blocks as people see them, and files made to keep a parser busy. */
static void test_blocks(void)
{
    struct dml_err err;
    _cleanup_(dml_model_freep) struct dml_model *m = parse(
        "name t\ninput 2 4 4\nrepeat 2\nresidual\nrepeat 2\nconv 2 kernel 3 padding 1 bias no\n"
        "batch-norm\nend\nend\nrelu\nend\nlinear 3\nloss cross-entropy smoothing 0.1\n",
        &err);
    if (!tap_ok(m != NULL, "repeat in residual in repeat")) {
        tap_note("line %u: %s", err.line, err.text);
        return;
    }
    tap_int((long long)dml_model_n_params(m), 2 * 2 * (36 + 4) + 99, "parameters");
    tap_int((long long)dml_model_n_state(m), 2 * 2 * 4, "state: a mean and a variance per channel");
    char *text = NULL;
    tap_int(dml_model_print(m, &text), 0, "print");
    tap_has(text,
            "\n       batch-norm                          2×4×4 → 2×4×4              4 parameters\n",
            "a block is indented");
    tap_has(text, "sum of the residual block of line 4", "its end");
    tap_has(text, "smoothing 0.1", "smoothing");
    tap_note("\n%s", text);
    free(text);

    char deep[70000] = "name a\ninput 3\n";
    for (size_t i = 0; i < 7000; i++)
        strcat(deep, "residual\n");
    tap_ok(!parse(deep, &err), "7000 blocks in each other");
    tap_has(err.text, "more than 16 blocks", "are too many");
    tap_int(err.line, 19, "at the seventeenth");
    strcpy(deep, "name a\ninput 3\n");
    for (size_t i = 0; i < 16; i++)
        strcat(deep, "repeat 1024\n");
    size_t len = strlen(deep);
    memset(deep + len, '\n', 60000);
    strcpy(deep + len + 60000, "relu\n");
    for (size_t i = 0; i < 16; i++)
        strcat(deep, "end\n");
    tap_ok(!parse(deep, &err), "1024^16 turns over 60000 empty lines");
    tap_has(err.text, "more than 1024 layers", "end at the limit on layers");
}

static void test_check_data(void)
{
    struct dml_err err;
    struct dml_model *m = parse("name t\ninput 1 4 4\nlinear 3\n", &err);
    tap_int(dml_model_check_data(m, 1, 4, 4, 3, &err), 0, "fits");
    tap_int(dml_model_check_data(m, 1, 4, 5, 3, &err), -EINVAL, "another shape");
    tap_has(err.text, "takes samples of 1×4×4, the data set has 1×4×5", "both are told");
    tap_int(dml_model_check_data(m, 1, 4, 4, 4, &err), -EINVAL, "another number of classes");
    tap_has(err.text, "3 outputs, the data set has 4 classes", "both are told");
    tap_int(dml_model_check_data(m, 1, 4, 4, 0, &err), -EINVAL, "regression");
    dml_model_free(m);
    m = parse("name t\ninput 4\nlinear 1\nloss mse\n", &err);
    tap_int(dml_model_check_data(m, 4, 1, 1, 0, &err), 0, "regression fits");
    tap_int(dml_model_check_data(m, 4, 1, 1, 2, &err), -EINVAL, "classes do not");
    dml_model_free(m);
}

/*
 * n draws from U(-b, b): the deviation of their mean is b/sqrt(3n), of their mean square about
 * b²·0.3/sqrt(n). Five deviations are allowed; the seed is fixed, so this either holds or not.
 */
static void test_init(void)
{
    struct dml_err err;
    struct dml_model *m = parse("name t\ninput 3 9 9\nconv 64 kernel 5\nlinear 10\n", &err);
    size_t n = dml_model_n_params(m), n_conv = 64 * 75 + 64;
    float *a = dml_mem_floats(n), *b = dml_mem_floats(n), *c = dml_mem_floats(n);
    dml_model_init(m, a, 1);
    dml_model_init(m, b, 1);
    dml_model_init(m, c, 2);
    tap_ok(memcmp(a, b, n * sizeof(float)) == 0, "same seed, same bits");
    tap_ok(memcmp(a, c, n * sizeof(float)) != 0, "another seed, others");
    const size_t from[] = {0, n_conv}, to[] = {n_conv, n}, fan_in[] = {75, 64 * 25};
    for (size_t l = 0; l < 2; l++) {
        double bound = 1.0 / sqrt((double)fan_in[l]), sum = 0.0, square = 0.0, top = 0.0;
        double count = (double)(to[l] - from[l]);
        for (size_t i = from[l]; i < to[l]; i++) {
            sum += (double)a[i];
            square += (double)a[i] * (double)a[i];
            top = fmax(top, fabs((double)a[i]));
        }
        tap_ok(top <= bound && top > 0.99 * bound, "largest %.5f within the bound %.5f", top,
               bound);
        tap_near(sum / count, 0.0, 5.0 * bound / sqrt(3.0 * count), "mean");
        tap_near(square / count, bound * bound / 3.0, 5.0 * 0.3 * bound * bound / sqrt(count),
                 "mean square is a uniform distribution's");
    }
    free(a);
    free(b);
    free(c);
    dml_model_free(m);
}

/* Inference must give what training sees, and dropout must do nothing there. */
static void test_inference(void)
{
    struct dml_err err;
    struct dml_model *m =
        parse("name t\ninput 2 8 8\nrelu\nconv 3 kernel 3\ntanh\nmax-pool 2\nflatten\nrelu\n"
              "linear 9\nsigmoid\nlinear 4\n",
              &err);
    enum { B = 5, D = 128, O = 4 };
    float *vec = dml_mem_floats(dml_model_n_vec(m)), *x = dml_mem_floats(B * D);
    float *space = dml_mem_floats(dml_model_workspace(m, B, true)), y[B * O], z[B * O];
    dml_model_init(m, vec, 3);
    for (size_t i = 0; i < B * D; i++)
        x[i] = sinf((float)i);
    const struct dml_model_training training = {.seed = 1};
    dml_model_forward(m, vec, NULL, x, B, &training, space, y);
    dml_model_forward(m, vec, NULL, x, B, NULL, space, z);
    tap_ok(memcmp(y, z, sizeof(y)) == 0, "training and inference give the same bits");
    tap_ok(dml_model_workspace(m, B, false) < dml_model_workspace(m, B, true),
           "inference needs less");
    free(vec);
    free(x);
    free(space);
    dml_model_free(m);

    m = parse("name t\ninput 1000\ndropout 0.3\n", &err);
    float *a = dml_mem_floats(2000), *b = dml_mem_floats(2000), *c = dml_mem_floats(2000);
    space = dml_mem_floats(dml_model_workspace(m, 2, true));
    for (size_t i = 0; i < 2000; i++)
        a[i] = 1.0f;
    dml_model_forward(m, NULL, NULL, a, 2, NULL, space, b);
    tap_ok(memcmp(a, b, 2000 * sizeof(float)) == 0, "dropout rests in inference");
    dml_model_forward(m, NULL, NULL, a, 2, &training, space, b);
    size_t kept = 0;
    bool scaled = true;
    for (size_t i = 0; i < 2000; i++) {
        kept += b[i] != 0.0f;
        scaled = scaled && (b[i] == 0.0f || fabsf(b[i] - 1.0f / 0.7f) < 1e-6f);
    }
    tap_near((double)kept, 1400.0, 5.0 * sqrt(2000 * 0.3 * 0.7), "dropout keeps 70 %");
    tap_ok(scaled, "and scales them by 1/0.7");
    struct dml_model_training second = training;
    second.first = 1;
    dml_model_forward(m, NULL, NULL, a, 1, &second, space, c);
    tap_ok(memcmp(b + 1000, c, 1000 * sizeof(float)) == 0,
           "a sample's mask depends on its place in the minibatch, not on the split");
    second.step = 1;
    dml_model_forward(m, NULL, NULL, a, 1, &second, space, c);
    tap_ok(memcmp(b + 1000, c, 1000 * sizeof(float)) != 0, "another step, another mask");
    free(a);
    free(b);
    free(c);
    free(space);
    dml_model_free(m);
}

/* The manual explains every layer and shows an example that parses. */
static void test_manual(void)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/man/dml.model.5", top_srcdir());
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    if (!tap_int(dml_fileio_read(path, 1 << 20, &text, &len, NULL), 0, path))
        return;
    for (size_t i = 0; dml_layer_types()[i]; i++) {
        char item[64];
        snprintf(item, sizeof(item), "\n.It Ic %s", dml_layer_types()[i]->name);
        const char *at = strstr(text, item);
        tap_ok(at && strchr(" \n", at[strlen(item)]), "dml.model(5) explains %s",
               dml_layer_types()[i]->name);
    }
    const char *from = strstr(text, "indent\n"), *to = from ? strstr(from, ".Ed") : NULL;
    struct dml_model *m = NULL;
    struct dml_err err = {0};
    if (tap_ok(to != NULL, "it has an example"))
        tap_int(dml_model_parse(from + 7, (size_t)(to - from - 7), path, &m, &err), 0,
                "that parses");
    dml_model_free(m);
}

/* What is not a number goes through max-pool whichever way it is computed and wherever in its
 * window it lies, and so into the loss. */
static void test_pooling_not_a_number(void)
{
    static const struct {
        const char *way, *text;
        size_t row; /* of the input; the window is at its corner */
    } ways[] = {
        {"two by two", "name p\ninput 1 2 2\nmax-pool 2\nloss mse\n", 2},
        {"any window", "name p\ninput 1 3 3\nmax-pool 2\nloss mse\n", 3},
        {"joined",
         "name p\ninput 1 2 2\nconv 1 kernel 1 method direct\nrelu\nmax-pool 2\nloss mse\n", 2},
        {"Winograd",
         "name p\ninput 1 6 6\nconv 1 kernel 5 method direct\nrelu\nmax-pool 2\nloss mse\n", 6},
    };
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct dml_err err;
        _cleanup_(dml_model_freep) struct dml_model *m = parse(ways[i].text, &err);
        if (!tap_ok(m != NULL, "%s: %s", ways[i].way, err.text))
            continue;
        size_t n = dml_model_n_inputs(m), n_vec = dml_model_n_vec(m);
        _cleanup_(dml_mem_freep) float *space = dml_mem_floats(dml_model_workspace(m, 1, false));
        _cleanup_(dml_mem_freep) float *vec = dml_mem_floats(n_vec), *x = dml_mem_floats(n);
        if (n_vec)
            vec[0] = 1.0f; /* the other weights are 0: each place sees its own corner, or a NaN */
        for (size_t place = 0; place < 4; place++) {
            float y = 0.0f;
            for (size_t j = 0; j < n; j++)
                x[j] = 1.0f + (float)j;
            x[place / 2 * ways[i].row + place % 2] = NAN;
            dml_model_forward(m, vec, NULL, x, 1, NULL, space, &y);
            tap_ok(isnan(y), "%s: not a number at place %zu gives %g", ways[i].way, place,
                   (double)y);
        }
    }
}

/* Sizes that 32 bits cannot count, and models that would need gigabytes for one sample. */
static void test_bounds(void)
{
    static const char wide[] = "name t\ninput 1 4096 4096\nrelu\nglobal-avg-pool\nlinear 2\n";
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    struct dml_err err = {0};
    if (tap_int(dml_model_parse(wide, sizeof(wide) - 1, "t", &m, &err), 0, "a wide model")) {
        /* at least x and y of relu */
        uint64_t least = (uint64_t)DML_MODEL_BATCH_MAX << 24;
        size_t got = dml_model_workspace(m, DML_MODEL_BATCH_MAX, true);
        tap_ok(sizeof(size_t) > 4 ? got >= least && got < 16 * least : got == SIZE_MAX,
               "the workspace of 65536 samples is counted or called too large");
        tap_ok(sizeof(size_t) > 4 || !dml_mem_floats(got), "and not granted in 32 bits");
        uint64_t per_sample = dml_model_per_sample(m);
        tap_ok(per_sample >= 1 << 24 && per_sample < 16 << 24,
               "what each sample takes is counted, %llu floats", (unsigned long long)per_sample);
    }
    char text[2048];
    size_t len = (size_t)snprintf(text, sizeof(text), "name t\ninput 1 8192 8192\nglobal-avg-pool\n");
    for (unsigned i = 0; i < 10; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "residual\nlinear 1\n");
    for (unsigned i = 0; i < 10; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "end\n");
    len += (size_t)snprintf(text + len, sizeof(text) - len, "linear 2\n");
    struct dml_model *deep = NULL;
    tap_int(dml_model_parse(text, len, "t", &deep, &err), -EINVAL, "many values that wait");
    tap_has(err.text, "more than 1 GiB of memory for one sample", "are too much");
    dml_model_free(deep);
}

int main(void)
{
    test_manual();
    test_shipped();
    test_mistakes();
    test_print();
    test_blocks();
    test_check_data();
    test_init();
    test_inference();
    test_pooling_not_a_number();
    test_bounds();
    return tap_done();
}
