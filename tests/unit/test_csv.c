/* CSV: records as RFC 4180 has them, columns by name, and every mistake with its line. */
#include <errno.h>

#include "data/csv.h"
#include "data/csvrow.h"
#include "tests/unit/data_files.h"

/* All fields of all records, "[a|b][c]"; or the sentence of the mistake. */
static const char *rows(const char *text)
{
    static char out[1024];
    char copy[256];
    struct dml_csvrow row;
    struct dml_err err = {0};
    size_t used = 0;
    (void)snprintf(copy, sizeof(copy), "%s", text);
    dml_csvrow_init(&row, copy, strlen(copy), "f");
    int r;
    out[0] = '\0';
    while ((r = dml_csvrow_next(&row, &err)) > 0) {
        for (size_t i = 0; i < row.n_fields; i++)
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%s%s", i ? "|" : "[",
                                     row.fields[i]);
        used += (size_t)snprintf(out + used, sizeof(out) - used, "]%u", row.line);
    }
    dml_csvrow_done(&row);
    return r < 0 ? dml_err_format(&err, r, out, sizeof(out)) : out;
}

static void test_rows(void)
{
    tap_str(rows("a,b\nc,d\n"), "[a|b]1[c|d]2", "plain");
    tap_str(rows("a,b\r\nc,d"), "[a|b]1[c|d]2", "CR LF, and no line end at the end");
    tap_str(rows("a,b\r\nc,d\r"), "[a|b]1[c|d]2", "half a line end at the end");
    tap_str(rows(",\n,,\n"), "[|]1[||]2", "empty fields");
    tap_str(rows("\xef\xbb\xbfu,v\n"), "[u|v]1", "a byte order mark");
    tap_str(rows("\n\na\r\n\r\n\nb\n\n"), "[a]3[b]6", "empty lines are counted, not read");
    tap_str(rows("\"a,b\",\"c\"\"d\"\"\",\"\"\n"), "[a,b|c\"d\"|]1", "quotes");
    tap_str(rows("\"a\nb\",c\nd,e"), "[a\nb|c]1[d|e]3", "a line end within quotes");
    tap_str(rows("\"a\""), "[a]1", "a quote ends the file");
    tap_str(rows(""), "", "nothing");
    tap_has(rows("a\n\"b"), "f:2: a quote is opened", "a quote left open");
    tap_has(rows("a\n\"b\nc\"\"\n"), "f:2: a quote is opened", "or doubled at the end");
    tap_has(rows("a,\"b\"c\n"), "f:1: found \"c\" behind", "text behind a quote");
    tap_has(rows("a,b\"c\"\n"), "f:1: a quote within", "a quote within a field");
    tap_has(rows("a\rb\n"), "f:1: a carriage return", "a lone carriage return");

    char nul[] = "a,b\0c\n";
    struct dml_csvrow row;
    struct dml_err err = {0};
    dml_csvrow_init(&row, nul, sizeof(nul) - 1, "f");
    tap_int(dml_csvrow_next(&row, &err), -EBADMSG, "a NUL byte");
    dml_csvrow_done(&row);
}

static int parse(const char *text, const struct dml_data_options *o, struct dml_csv **ret,
                 char *copy, size_t copy_len, struct dml_err *err)
{
    (void)snprintf(copy, copy_len, "%s", text);
    return dml_csv_parse(copy, strlen(copy), "f.csv", o, ret, err);
}

static void refuse(const char *text, const struct dml_data_options *o, unsigned line,
                   const char *part, const char *what)
{
    struct dml_csv *csv = NULL;
    struct dml_err err = {0};
    char copy[4096];
    tap_ok(parse(text, o, &csv, copy, sizeof(copy), &err) < 0, "%s", what);
    tap_has(err.text, part, "and why");
    tap_int(err.line, line, "and the line");
    (void)dml_csv_free(csv);
}

static void test_columns(void)
{
    struct dml_data_options o = data_options("csv");
    char copy[4096];
    _cleanup_(dml_csv_freep) struct dml_csv *csv = NULL;
    const char *text = "u, g ,class,src\n1,2,STAR,a\n-3.5e1, 4 ,\"QSO\",b\n";
    data_set(&o, "features", "g u");
    tap_int(parse(text, &o, &csv, copy, sizeof(copy), NULL), 0, "columns by name");
    tap_int((long long)csv->n_rows, 2, "rows");
    tap_ok(csv->x[0] == 2 && csv->x[1] == 1 && csv->x[2] == 4 && csv->x[3] == -35,
           "features in the order they are asked for");
    tap_str(csv->labels[1], "QSO", "label");
    tap_str(csv->features, "g\nu\n", "names");

    refuse("", &o, 0, "empty", "an empty file");
    refuse("u,g,class\n", &o, 1, "no rows", "a header alone");
    refuse("u,i,class\n1,2,a\n", &o, 1, "no column is called \"g\"", "a missing feature");
    refuse("u,g,clas\n1,2,a\n", &o, 1, "did you mean \"clas\"", "a missing label");
    refuse("u,g,g,class\n1,2,3,a\n", &o, 1, "(2 and 3)", "a name twice in the header");
    refuse("u,g,class\n1,2,a\n1,2\n", &o, 3, "2 fields where the header names 3",
           "a row too short");
    refuse("u,g,class\n1,2,a,\n", &o, 2, "4 fields", "a row too long");
    refuse("u,g,class\n1,2,a\n\n,2,a\n", &o, 4, "\"u\" has no value", "an empty value");
    refuse("u,g,class\n1,NaN,a\n", &o, 2, "\"g\" has no value (\"NaN\")", "not a number");
    refuse("u,g,class\n1,x,a\n", &o, 2, "holds \"x\"", "a word");
    refuse("u,g,class\n1,1 2,a\n", &o, 2, "holds \"1 2\"", "two numbers");
    refuse("u,g,class\n1,0x10,a\n", &o, 2, "holds \"0x10\"", "a number in hexadecimal");
    refuse("u,g,class\n1,inf,a\n", &o, 2, "finite", "infinity");
    refuse("u,g,class\n1,1e39,a\n", &o, 2, "finite", "more than a float holds");
    refuse("u,g,class\n1,2, \n", &o, 2, "\"class\" has no value", "an empty label");
    refuse("u,g,class\n1,2,\"a\nb\"\n", &o, 2, "\"a?b\" has a control character",
           "a line end in a class");
    refuse("u,g,class\n1,\"2\n3\",a\n", &o, 2, "holds \"2?3\"", "a line end in a number");
    char longer[256] = "u,g,class\n1,2,";
    memset(longer + strlen(longer), 'a', DML_DATASET_NAME_MAX);
    refuse(longer, &o, 2, "128 bytes", "a class with a long name");
    data_set(&o, "features", "u u");
    refuse(text, &o, 1, "\"u\" twice", "a feature twice");
    data_set(&o, "features", "u class");
    refuse(text, &o, 1, "cannot be a feature", "the label as a feature");

    data_set(&o, "features", "");
    refuse(text, &o, 2, "\"src\" holds \"a\"", "all columns, one of them words");
    refuse("class\na\n", &o, 1, "only column", "nothing but the label");
    refuse("a,a,class\n1,2,x\n", &o, 1, "two columns are called \"a\" (1 and 2)",
           "all columns, two of one name");
    refuse("c,b,a,b,class\n1,2,3,4,x\n", &o, 1, "called \"b\" (2 and 4)", "not side by side");
    refuse("a,class,class\n1,x,y\n", &o, 1, "called \"class\" (2 and 3)", "the label twice");
    data_set(&o, "features", "b");
    csv = dml_csv_free(csv);
    tap_int(parse("a,a,b,class\n1,2,3,x\n", &o, &csv, copy, sizeof(copy), NULL), 0,
            "columns of one name that nobody asks for");
    tap_ok(csv && csv->n_features == 1 && csv->x[0] == 3, "are in nobody's way");
    data_set(&o, "features", "");
    data_set(&o, "task", "regression");
    data_set(&o, "label", "g");
    (void)dml_csv_free(csv);
    csv = NULL;
    tap_int(parse("u,g\n1,2\n3,-4\n", &o, &csv, copy, sizeof(copy), NULL), 0, "regression");
    tap_ok(csv->targets && !csv->labels && csv->targets[1] == -4, "targets are numbers");
    tap_int(csv->n_features, 1, "all but the label");
    refuse("u,g\n1,2\n3,\n", &o, 3, "\"g\" has no value", "a missing target");
    data_options_done(&o);
}

int main(void)
{
    test_rows();
    test_columns();
    return tap_done();
}
