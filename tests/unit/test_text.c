/* Text as codes, and a transformer that learns a text it can only know by looking back. */
#include <errno.h>
#include <math.h>

#include "base/fileio.h"
#include "nn/trainer.h"
#include "tests/unit/data_files.h"

static struct dml_model *parse(const char *text)
{
    struct dml_model *m = NULL;
    struct dml_err err = {0};
    if (!tap_int(dml_model_parse(text, strlen(text), "t", &m, &err), 0, "the model"))
        tap_note("line %u: %s", err.line, err.text);
    return m;
}

static void test_codes(const char *path)
{
    struct dml_data_options o = {0};
    struct dml_dataset *train = NULL, *test = NULL;
    struct dml_err err = {0};
    (void)dml_opt_defaults(dml_data_opts, &o);
    free(o.dataset);
    free(o.path);
    o.dataset = strdup("text");
    o.path = strdup(path);
    o.text_window = 4;
    o.test_fraction = 0.5;
    /* 18 characters without the carriage return: 9 and 9, two windows of 4 in each */
    (void)dml_fileio_write(path,
                           "ab\r\n\tz~\x80"
                           "cdABCDEFGHI",
                           19, 0644, NULL);
    if (!tap_int(dml_dataset_load(&o, &train, &test, &err), 0, "a text")) {
        tap_note("%s", err.text);
    } else {
        static const uint8_t want[] = {66, 67, 0, 1, 91, 95, 32, 68};
        tap_int((long long)train->n_samples, 2, "samples");
        tap_int((long long)test->n_samples, 2, "for the test");
        tap_ok(memcmp(train->x, want, 8) == 0, "newline, tab, ends of the alphabet, unknown");
        tap_int(train->labels[0], 91, "the label is what comes next");
        tap_int(train->labels[1], 69, "behind the last window too");
        tap_int(train->n_classes, 96, "codes");
        tap_str(train->class_names[0], "newline", "names");
        tap_str(train->class_names[95], "~", "names");
        tap_ok(train->mean[0] == 0.0f && train->scale[0] == 1.0f, "never normalised");
    }
    dml_dataset_free(train);
    dml_dataset_free(test);
    o.text_window = 9;
    tap_int(dml_dataset_load(&o, &train, &test, &err), -EINVAL, "too short a text");
    tap_has(err.text, "18 characters are too few", "is told");
    dml_opt_done(dml_data_opts, &o);
}

/* Uniform logits: log V at each position; and the gradient against differences. */
static void test_loss(void)
{
    struct dml_model *m = parse("name t\ninput 3\nembedding 4 size 4\nloss next-token\n");
    if (!m)
        return;
    tap_int((long long)dml_model_n_classes(m), 4, "classes");
    float x[6] = {1, 3, 2, 0, 2, 9}, y[24] = {0}, dy[24];
    int32_t labels[2] = {3, 1};
    double loss, up, down, off = 0.0;
    size_t correct;
    dml_model_loss_grad(m, x, y, labels, NULL, 2, 2.0, &loss, &correct, dy);
    tap_near(loss, 2.0 * log(4.0), 1e-6, "nothing known: log 4 for each of two samples");
    for (size_t i = 0; i < 24; i++)
        y[i] = sinf((float)(3 * i));
    dml_model_loss_grad(m, x, y, labels, NULL, 2, 2.0, &loss, &correct, dy);
    for (size_t i = 0; i < 24; i++) {
        float here = y[i];
        y[i] = here + 1e-2f;
        dml_model_loss_grad(m, x, y, labels, NULL, 2, 2.0, &up, &correct, NULL);
        y[i] = here - 1e-2f;
        dml_model_loss_grad(m, x, y, labels, NULL, 2, 2.0, &down, &correct, NULL);
        y[i] = here;
        off = fmax(off, fabs((up - down) / 2e-2 / 2.0 - (double)dy[i]));
    }
    tap_ok(off < 1e-5, "its gradient, max difference %.1e", off);
    y[20] = y[22] = y[23] = 0.0f;
    y[21] = 9.0f;
    dml_model_loss_grad(m, x, y, labels, NULL, 2, 2.0, &loss, &correct, NULL);
    size_t last = y[11] > y[10] && y[11] > y[9] && y[11] > y[8];
    tap_int((long long)correct, (long long)(1 + last), "right at the last position");
    dml_model_free(m);
}

/*
 * Each line is two letters drawn at random and then again: what comes third and fourth is only
 * known by who looks back three places. Guessing 8 letters costs log 8 = 2.08 at half of the
 * places; with the line's end always known, (2·2.08 + 0)/5 = 0.83 is the best without learning the
 * text by heart.
 */
static void test_learns(void)
{
    enum { T = 20, N = 400 };
    struct dml_dataset *ds = dml_dataset_new(DML_DATASET_U8, N, T, 1, 1, 10);
    struct ref {
        uint32_t s;
    } g = {7};
    uint8_t *x = ds->x, text[N * T + 1];
    for (size_t i = 0; i <= N * T; i++) {
        g.s = g.s * 1664525u + 1013904223u;
        text[i] = i % 5 == 4 ? 9 : i % 5 < 2 ? (uint8_t)(g.s >> 29) : text[i - 2];
    }
    memcpy(x, text, N * T);
    for (size_t i = 0; i < N; i++)
        ds->labels[i] = text[(i + 1) * T];
    struct dml_model *m =
        parse("name t\ninput 20\ninit normal\nembedding 10 size 32\nposition\nrepeat 2\nresidual\n"
              "layer-norm\nattention 2\nend\nresidual\nlayer-norm\nconv 64 kernel 1\ngelu\n"
              "conv 32 kernel 1\nend\nend\nlayer-norm\nconv 10 kernel 1\nloss next-token\n");
    if (!m)
        return;
    struct dml_train_options o = {0};
    (void)dml_opt_defaults(dml_train_opts, &o);
    o.batch_size = 20;
    o.optimizer = DML_OPTIM_ADAM;
    o.learning_rate = 3e-3;
    const struct dml_trainer_cpu cpu = {.n_threads = 2, .duty = 1.0};
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct dml_trainer_result r;
    struct dml_eval_result e = {0};
    if (tap_int(dml_trainer_new(m, ds, &o, NULL, 1, &cpu, &t, NULL), 0, "a trainer")) {
        dml_model_init(m, dml_trainer_vec(t), 1);
        (void)dml_trainer_fit(t, 0, 15, 15, NULL, &r);
        (void)dml_trainer_evaluate(m, dml_trainer_vec(t), ds, 1, NULL, &e);
        tap_ok(e.loss < 1.0, "it looks back: loss %.3f, the best is 0.83", e.loss);
    }
    dml_model_free(m);
    dml_dataset_free(ds);
}

/*
 * Reads the licence, a small text that is in the tree, with the shipped transformer made narrower:
 * on the part it did not see its loss must be below the entropy of single characters (counted in
 * the part it did see, one added to each), which is the best without any look back.
 */
static void test_reads(void)
{
    const char *top = getenv("top_srcdir");
    struct dml_data_options o = {0};
    struct dml_dataset *train = NULL, *test = NULL;
    struct dml_err err = {0};
    (void)dml_opt_defaults(dml_data_opts, &o);
    free(o.dataset);
    free(o.path);
    o.dataset = strdup("text");
    o.path = dml_mem_printf("%s/COPYING", top ? top : ".");
    if (!tap_int(dml_dataset_load(&o, &train, &test, &err), 0, o.path)) {
        tap_note("%s", err.text);
        dml_opt_done(dml_data_opts, &o);
        return;
    }
    double counts[96], entropy = 0.0;
    const uint8_t *x = train->x, *unseen = test->x;
    size_t n = train->n_samples * 64, n_unseen = test->n_samples * 64;
    for (size_t i = 0; i < 96; i++)
        counts[i] = 1.0;
    for (size_t i = 0; i < n; i++)
        counts[x[i]] += 1.0;
    for (size_t i = 0; i < n_unseen; i++)
        entropy -= log(counts[unseen[i]] / (double)(n + 96)) / (double)n_unseen;
    struct dml_model *m =
        parse("name t\ninput 64\ninit normal\nembedding 96 size 32\nposition\nrepeat 2\nresidual\n"
              "layer-norm\nattention 4\nend\nresidual\nlayer-norm\nconv 128 kernel 1\ngelu\n"
              "conv 32 kernel 1\nend\nend\nlayer-norm\nconv 96 kernel 1\nloss next-token\n");
    struct dml_train_options options = {0};
    (void)dml_opt_defaults(dml_train_opts, &options);
    options.batch_size = 4;
    options.optimizer = DML_OPTIM_ADAM;
    options.learning_rate = 3e-3;
    const struct dml_trainer_cpu cpu = {.n_threads = 2, .duty = 1.0};
    _cleanup_(dml_trainer_freep) struct dml_trainer *t = NULL;
    struct dml_trainer_result r;
    struct dml_eval_result e = {0};
    if (m && tap_int(dml_trainer_new(m, train, &options, NULL, 1, &cpu, &t, NULL), 0, "a trainer")) {
        dml_model_init(m, dml_trainer_vec(t), 1);
        (void)dml_trainer_evaluate(m, dml_trainer_vec(t), test, 1, NULL, &e);
        tap_near(e.loss, log(96.0), 0.1, "before, it knows nothing: log 96");
        (void)dml_trainer_fit(t, 0, 12, 12, NULL, &r);
        (void)dml_trainer_evaluate(m, dml_trainer_vec(t), test, 1, NULL, &e);
        tap_ok(e.loss < entropy - 0.3,
               "it reads: loss %.3f on what it did not see, single characters have %.3f", e.loss,
               entropy);
    }
    dml_model_free(m);
    dml_dataset_free(train);
    dml_dataset_free(test);
    dml_opt_done(dml_train_opts, &options);
    dml_opt_done(dml_data_opts, &o);
}

int main(void)
{
    char dir[] = "/tmp/dml-text-XXXXXX";
    if (!mkdtemp(dir))
        return 1;
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/a.txt", dir);
    test_codes(path);
    (void)unlink(path);
    (void)rmdir(dir);
    test_loss();
    test_learns();
    test_reads();
    return tap_done();
}
