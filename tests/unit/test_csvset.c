/* CSV to data sets: split, class ids, a second file, statistics that never see test rows. */
#include <errno.h>

#include "tests/unit/data_files.h"

#define ROWS 100

/* Row i: id i, its square, class by i mod 3. `turned`: the same rows from the last to the first. */
static void write_table(const char *name, bool turned)
{
    static const char *const classes[] = {"STAR", "GALAXY", "QSO"};
    char text[ROWS * 32], *p = text;
    p += sprintf(p, "id,square,class\n");
    for (int k = 0; k < ROWS; k++) {
        int i = turned ? ROWS - 1 - k : k;
        p += sprintf(p, "%d,%d,%s\n", i, i * i, classes[i % 3]);
    }
    data_write(name, text, strlen(text));
}

static void test_split(struct dml_data_options *o)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *a = NULL, *b = NULL, *c = NULL, *d = NULL,
                                                    *e = NULL, *f = NULL;
    write_table("t.csv", false);
    tap_int(dml_dataset_load(o, &a, &b, NULL), 0, "a split");
    tap_int((long long)a->n_samples, 80, "four fifths");
    tap_int((long long)b->n_samples, 20, "one fifth");
    tap_str(a->class_names[0], "GALAXY", "names are sorted");
    tap_str(b->class_names[2], "STAR", "in both sets");
    unsigned seen[ROWS] = {0}, wrong = 0, ascending = 0;
    for (size_t i = 0; i < ROWS; i++) {
        const struct dml_dataset *s = i < 80 ? a : b;
        size_t k = i < 80 ? i : i - 80;
        const float *x = (const float *)s->x + 2 * k;
        static const int want[] = {2, 0, 1};
        seen[(int)x[0]]++;
        wrong += x[1] != x[0] * x[0] || s->labels[k] != want[(int)x[0] % 3];
        ascending += k && x[0] > x[-2];
    }
    unsigned once = 0;
    for (int i = 0; i < ROWS; i++)
        once += seen[i] == 1;
    tap_int(once, ROWS, "every row in exactly one set");
    tap_int(wrong, 0, "rows keep their values and labels");
    tap_ok(ascending > 20 && ascending < 78, "the order of the file is gone (%u ascend)",
           ascending);

    tap_int(dml_dataset_load(o, &c, &d, NULL), 0, "again");
    tap_ok(!memcmp(a->x, c->x, 80 * 2 * sizeof(float)), "the same seed, the same split");
    data_set(o, "split-seed", "2");
    tap_int(dml_dataset_load(o, &e, &f, NULL), 0, "another seed");
    tap_ok(memcmp(b->x, f->x, 20 * 2 * sizeof(float)), "another split");
    data_set(o, "split-seed", "1");
}

static void test_order(struct dml_data_options *o)
{
    /* A file that begins with another class gives the same ids. */
    _cleanup_(dml_dataset_freep) struct dml_dataset *a = NULL, *b = NULL;
    write_table("t.csv", true);
    tap_int(dml_dataset_load(o, &a, &b, NULL), 0, "rows in another order");
    unsigned wrong = 0;
    for (size_t i = 0; i < a->n_samples; i++) {
        static const int want[] = {2, 0, 1};
        wrong += a->labels[i] != want[(int)((float *)a->x)[2 * i] % 3];
    }
    tap_int(wrong, 0, "class ids do not depend on the order of rows");
    write_table("t.csv", false);
}

static void test_statistics(struct dml_data_options *o)
{
    const char *train = "x,y,class\n1,5,a\n3,5,b\n", *test = "x,y,class\n1000,7,b\n2000,9,a\n";
    data_write("t.csv", train, strlen(train));
    data_write("u.csv", test, strlen(test));
    data_set(o, "test-path", data_path("u.csv"));
    _cleanup_(dml_dataset_freep) struct dml_dataset *a = NULL, *b = NULL;
    tap_int(dml_dataset_load(o, &a, &b, NULL), 0, "a second file");
    tap_int((long long)a->n_samples, 2, "all of the first trains");
    tap_int((long long)b->n_samples, 2, "all of the second tests");
    tap_near((double)a->mean[0], 2, 0, "mean of the training rows alone");
    tap_near((double)a->scale[0], 1, 0, "their deviation, over N");
    tap_near((double)a->mean[1], 5, 0, "mean of a constant column");
    tap_near((double)a->scale[1], 1, 0, "which is left alone");
    tap_ok(!memcmp(a->mean, b->mean, 8) && !memcmp(a->scale, b->scale, 8),
           "the test set is normalised with the training set's");

    const char *turned = "y,x,class\n7,1,b\n";
    data_write("u.csv", turned, strlen(turned));
    data_refused(o, -EBADMSG, "name the columns", "columns in another order");
    data_set(o, "features", "x y");
    (void)dml_dataset_free(a);
    (void)dml_dataset_free(b);
    a = b = NULL;
    tap_int(dml_dataset_load(o, &a, &b, NULL), 0, "which is fine when they are named");
    tap_near((double)((float *)b->x)[0], 1, 0, "x first");
    data_set(o, "features", "");
    data_set(o, "test-path", "");
}

static void test_bad(struct dml_data_options *o)
{
    data_write("t.csv", "x,class\n1,a\n", 12);
    data_refused(o, -EBADMSG, "one row cannot be split", "one row");
    data_write("t.csv", "x,class\n1,a\n,b\n", 15);
    data_refused(o, -EBADMSG, "t.csv:3: ", "a mistake with file and line");
    write_table("t.csv", false);
    data_set(o, "train-samples", "81");
    data_refused(o, -EINVAL, "train-samples = 81, but the training set has 80",
                 "more than there is");
    data_set(o, "train-samples", "80");
    data_set(o, "test-samples", "5");
    _cleanup_(dml_dataset_freep) struct dml_dataset *a = NULL, *b = NULL;
    tap_int(dml_dataset_load(o, &a, &b, NULL), 0, "as many as there are");
    tap_int((long long)b->n_samples, 5, "test-samples");
    data_set(o, "normalise", "half");
    data_refused(o, -EINVAL, "half is for pixels", "half for a table");
    data_set(o, "normalise", "standard");
    data_set(o, "augment", "flip");
    data_refused(o, -EINVAL, "augment is for images", "flipping a table");
    data_set(o, "augment", "none");
    data_set(o, "path", data_path("nowhere.csv"));
    data_refused(o, -ENOENT, "nowhere.csv", "a missing file");
    data_set(o, "path", "");
    data_refused(o, -EINVAL, "csv needs a path", "no path");
}

int main(void)
{
    data_folder_make();
    struct dml_data_options o = data_options("csv");
    data_set(&o, "path", data_path("t.csv"));
    test_split(&o);
    test_order(&o);
    test_statistics(&o);
    test_bad(&o);
    data_options_done(&o);
    data_folder_remove();
    return tap_done();
}
