/*
 * The other direction: values and tables as text. What is printed here is read back by opt.c to the
 * same bits, which the tests check for every type.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "base/opt_unit.h"
#include "base/text.h"

#define HELP_END   79 /* columns of a terminal, the last one free */
#define KEY_COLUMN 26 /* "key = default" is padded to here */
#define HELP_START 38 /* and the help starts here */

const struct dml_opt_unit dml_opt_unit_time[] = {
    {"h", UINT64_C(3600000000), true},
    {"min", 60000000, true},
    {"s", 1000000, true},
    {"ms", 1000, true},
    {"us", 1, true},
    {"", 1000000, false},
    {"sec", 1000000, false},
    {"d", UINT64_C(86400000000), false},
    {0},
};

const struct dml_opt_unit dml_opt_unit_size[] = {
    {"TiB", UINT64_C(1) << 40, true},
    {"GiB", 1 << 30, true},
    {"MiB", 1 << 20, true},
    {"KiB", 1 << 10, true},
    {"B", 1, true},
    {"", 1, false},
    {"K", 1 << 10, false},
    {"M", 1 << 20, false},
    {"G", 1 << 30, false},
    {"kB", 1000, false},
    {"KB", 1000, false},
    {"MB", 1000000, false},
    {"GB", 1000000000, false},
    {"TB", UINT64_C(1000000000000), false},
    {0},
};

const char *dml_opt_unit_text(const struct dml_opt_unit *units, uint64_t x, char *buf,
                              size_t buf_len)
{
    if (x == 0) {
        (void)snprintf(buf, buf_len, "0");
        return buf;
    }
    while (!units->print || x % units->factor)
        units++;
    (void)snprintf(buf, buf_len, "%" PRIu64 " %s", x / units->factor, units->name);
    return buf;
}

/* One end of a range, in the unit of the type. */
static const char *end_text(const struct dml_opt *opt, double x, char buf[DML_TEXT_REAL_LEN])
{
    if (opt->type == DML_OPT_DURATION)
        return dml_opt_unit_text(dml_opt_unit_time, (uint64_t)(x * 1e6 + 0.5), buf,
                                 DML_TEXT_REAL_LEN);
    if (opt->type == DML_OPT_BYTES)
        return dml_opt_unit_text(dml_opt_unit_size, (uint64_t)x, buf, DML_TEXT_REAL_LEN);
    /* Whole numbers in full: "1000000", not "1e+06". */
    if (x > -1e15 && x < 1e15 && x == (double)(int64_t)x) {
        (void)snprintf(buf, DML_TEXT_REAL_LEN, "%" PRId64, (int64_t)x);
        return buf;
    }
    return dml_text_real(x, buf);
}

const char *dml_opt_unit_range(const struct dml_opt *opt, char *buf, size_t buf_len)
{
    char min[DML_TEXT_REAL_LEN], max[DML_TEXT_REAL_LEN];
    bool own_unit = opt->type == DML_OPT_DURATION || opt->type == DML_OPT_BYTES;
    const char *unit = opt->type == DML_OPT_TEXT ? "bytes long" : own_unit ? "" : opt->unit;
    const char *gap = unit && *unit ? " " : "";
    (void)end_text(opt, opt->min, min);
    if (opt->type == DML_OPT_TEXT && opt->min == 1.0 && opt->max < opt->min)
        (void)snprintf(buf, buf_len, "not empty");
    else if (opt->max < opt->min)
        (void)snprintf(buf, buf_len, "at least %s%s%s", min, gap, unit ? unit : "");
    else
        (void)snprintf(buf, buf_len, "%s to %s%s%s", min, end_text(opt, opt->max, max), gap,
                       unit ? unit : "");
    if (opt->type == DML_OPT_UINT && opt->choices) {
        size_t used = strlen(buf);
        (void)snprintf(buf + used, buf_len - used, ", or %s", opt->choices);
    }
    return buf;
}

const char *dml_opt_choice(const struct dml_opt *opt, int i, char *buf, size_t buf_len)
{
    const char *p = opt->choices ? opt->choices : "";
    buf[0] = '\0';
    for (; i > 0 && *p; i--) {
        p += strcspn(p, " ");
        p += strspn(p, " ");
    }
    if (i == 0)
        (void)snprintf(buf, buf_len, "%.*s", (int)strcspn(p, " "), p);
    return buf;
}

int dml_opt_print_value(const struct dml_opt *opt, const void *target, FILE *f)
{
    const void *at = (const char *)target + opt->offset;
    char buf[128];
    const char *text = buf;
    switch (opt->type) {
    case DML_OPT_BOOL:
        text = *(const bool *)at ? "yes" : "no";
        break;
    case DML_OPT_UINT:
        if (opt->choices && *(const uint64_t *)at == UINT64_MAX)
            text = opt->choices;
        else
            (void)snprintf(buf, sizeof(buf), "%" PRIu64, *(const uint64_t *)at);
        break;
    case DML_OPT_REAL:
        (void)dml_text_real(*(const double *)at, buf);
        break;
    case DML_OPT_TEXT:
        text = *(char *const *)at ? *(char *const *)at : "";
        break;
    case DML_OPT_CHOICE:
        (void)dml_opt_choice(opt, *(const int *)at, buf, sizeof(buf));
        break;
    case DML_OPT_DURATION:
        (void)dml_opt_unit_text(dml_opt_unit_time, *(const uint64_t *)at, buf, sizeof(buf));
        break;
    case DML_OPT_BYTES:
        (void)dml_opt_unit_text(dml_opt_unit_size, *(const uint64_t *)at, buf, sizeof(buf));
        break;
    case DML_OPT_MAX_:
        return -EINVAL;
    }
    return fputs(text, f) < 0 ? -EIO : 0;
}

/* Words of `text` from `column` on, wrapped, later lines indented to HELP_START. */
static int print_wrapped(const char *text, int column, FILE *f)
{
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (column > HELP_START && column + 1 + len > HELP_END) {
            fprintf(f, "\n%*s", HELP_START, "");
            column = HELP_START;
        }
        if (column > HELP_START)
            column += fprintf(f, " ");
        column += fprintf(f, "%.*s", len, text);
        text += len;
        text += strspn(text, " ");
    }
    return column;
}

static void print_row(const struct dml_opt *opt, FILE *f)
{
    int column = fprintf(f, "  %s = %s", opt->name, opt->dflt ? opt->dflt : "");
    column += fprintf(f, "%*s  %s", column < KEY_COLUMN ? KEY_COLUMN - column : 0, "",
                      opt->unit ? opt->unit : "");
    if (column >= HELP_START)
        column = fprintf(f, "\n") - 1;
    column += fprintf(f, "%*s", HELP_START - column, "");
    column = print_wrapped(opt->help ? opt->help : "", column, f);
    char buf[200], note[220];
    if (opt->type == DML_OPT_CHOICE)
        (void)snprintf(note, sizeof(note), "(%s)", opt->choices);
    else if (opt->type != DML_OPT_TEXT && (opt->min != 0.0 || opt->max != 0.0))
        (void)snprintf(note, sizeof(note), "(%s)", dml_opt_unit_range(opt, buf, sizeof(buf)));
    else
        note[0] = '\0';
    (void)print_wrapped(note, column, f);
    fputc('\n', f);
}

void dml_opt_help(const struct dml_opt *table, FILE *f)
{
    for (const struct dml_opt *opt = table; opt->name; opt++) {
        if (opt == table || strcmp(opt->section, opt[-1].section))
            fprintf(f, "%s[%s]\n", opt == table ? "" : "\n", opt->section);
        print_row(opt, f);
    }
}
