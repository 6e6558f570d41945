/*
 * Parsing of values. Numbers with a unit are whole numbers first: "90 s" becomes 90 · 10^6 exactly,
 * and only a text with a fraction goes through a double.
 *
 * Ranges are doubles for every type, in the unit a person writes: seconds for durations, bytes,
 * characters. A range whose max is below its min has no upper end.
 */
#include "base/opt.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/opt_unit.h"
#include "base/text.h"

#define SHOWN_MAX 80 /* bytes of somebody's value in a message */

/* What `set` found out about a value, for a message that fits every type. */
struct mistake {
    const char *needed; /* "a whole number" */
    bool range;         /* say the range, too */
};

static void *field(const struct dml_opt *opt, void *target)
{
    return (char *)target + opt->offset;
}

static bool unlimited(const struct dml_opt *opt)
{
    return opt->min == 0.0 && opt->max == 0.0;
}

static bool in_range(const struct dml_opt *opt, double x)
{
    return unlimited(opt) || (x >= opt->min && (opt->max < opt->min || x <= opt->max));
}

static bool parse_bool(const char *value, bool *ret)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (!strcmp(value, words[i])) {
            *ret = i % 2;
            return true;
        }
    }
    return false;
}

/* Number and unit of a duration or a size, as a multiple of the smallest unit. */
static bool parse_quantity(const struct dml_opt_unit *units, const char *value, uint64_t *ret)
{
    char number[64];
    size_t len = strspn(value, "0123456789.");
    const char *name = value + len + strspn(value + len, " \t");
    if (len == 0 || len >= sizeof(number))
        return false;
    memcpy(number, value, len);
    number[len] = '\0';
    while (units->name && strcmp(units->name, name))
        units++;
    if (!units->name)
        return false;
    uint64_t whole;
    double real;
    if (dml_text_to_uint(number, &whole))
        return !__builtin_mul_overflow(whole, units->factor, ret);
    if (!strchr(number, '.') || !dml_text_to_real(number, &real))
        return false;
    real = real * (double)units->factor + 0.5;
    if (real >= 0x1p63)
        return false;
    *ret = (uint64_t)real;
    return true;
}

/* Word number *ret of the choices, or false. */
static bool parse_choice(const char *choices, const char *value, int *ret)
{
    size_t len = strlen(value);
    int i = 0;
    for (const char *p = choices; *p; i++) {
        size_t n = strcspn(p, " ");
        if (n == len && !memcmp(p, value, n)) {
            *ret = i;
            return true;
        }
        p += n;
        p += strspn(p, " ");
    }
    return false;
}

static int set_text(const struct dml_opt *opt, void *target, const char *value)
{
    char **at = field(opt, target);
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*at);
    *at = copy;
    return 0;
}

/* Returns 0, -ENOMEM, or -EINVAL with *ret filled. */
static int set_field(const struct dml_opt *opt, void *target, const char *value,
                     struct mistake *ret)
{
    void *at = field(opt, target);
    uint64_t u;
    double real;
    bool yes;
    *ret = (struct mistake){.range = true};
    switch (opt->type) {
    case DML_OPT_BOOL:
        ret->needed = "yes or no", ret->range = false;
        if (!parse_bool(value, &yes))
            return -EINVAL;
        *(bool *)at = yes;
        return 0;
    case DML_OPT_UINT:
        ret->needed = "a whole number";
        if (opt->choices && !strcmp(value, opt->choices)) {
            *(uint64_t *)at = UINT64_MAX;
            return 0;
        }
        if (!dml_text_to_uint(value, &u) || !in_range(opt, (double)u))
            return -EINVAL;
        *(uint64_t *)at = u;
        return 0;
    case DML_OPT_REAL:
        ret->needed = "a number";
        if (!dml_text_to_real(value, &real) || !in_range(opt, real))
            return -EINVAL;
        *(double *)at = real;
        return 0;
    case DML_OPT_TEXT:
        ret->needed = "a text";
        return in_range(opt, (double)strlen(value)) ? set_text(opt, target, value) : -EINVAL;
    case DML_OPT_CHOICE:
        ret->needed = "one of", ret->range = false;
        return parse_choice(opt->choices, value, at) ? 0 : -EINVAL;
    case DML_OPT_DURATION:
        ret->needed = "a time such as 250 ms, 90 s, 5 min or 2 h";
        if (!parse_quantity(dml_opt_unit_time, value, &u) || !in_range(opt, (double)u / 1e6))
            return -EINVAL;
        *(uint64_t *)at = u;
        return 0;
    case DML_OPT_BYTES:
        ret->needed = "a size such as 4096, 64 MiB or 1 GB";
        if (!parse_quantity(dml_opt_unit_size, value, &u) || !in_range(opt, (double)u))
            return -EINVAL;
        *(uint64_t *)at = u;
        return 0;
    case DML_OPT_MAX_:
        break;
    }
    ret->needed = "of a known type", ret->range = false;
    return -EINVAL;
}

/* ", did you mean adam?" or nothing. */
static void suggest(const char *choices, const char *value, char *buf, size_t buf_len)
{
    buf[0] = '\0';
    _cleanup_(dml_mem_freep) char *copy = strdup(choices);
    const char *words[64];
    size_t n = 0;
    char *save = NULL;
    for (char *w = copy ? strtok_r(copy, " ", &save) : NULL; w && n < ARRAY_SIZE(words);
         w = strtok_r(NULL, " ", &save))
        words[n++] = w;
    const char *near = dml_opt_nearest(value, words, n);
    if (near)
        (void)snprintf(buf, buf_len, "; did you mean %s?", near);
}

int dml_opt_set(const struct dml_opt *opt, void *target, const char *value, const char *file,
                unsigned line, struct dml_err *err)
{
    struct mistake m;
    int r = set_field(opt, target, value, &m);
    if (r != -EINVAL)
        return r;
    char extra[200] = "", near[80] = "";
    if (opt->type == DML_OPT_CHOICE) {
        (void)snprintf(extra, sizeof(extra), " %s", opt->choices);
        suggest(opt->choices, value, near, sizeof(near));
    } else if (m.range && !unlimited(opt)) {
        char range[160];
        (void)snprintf(extra, sizeof(extra), ", %s", dml_opt_unit_range(opt, range, sizeof(range)));
    }
    return dml_err_at(err, r, file ? file : "", line, "%s.%s = %.*s: must be %s%s%s", opt->section,
                      opt->name, SHOWN_MAX, value, m.needed, extra, near);
}

int dml_opt_defaults(const struct dml_opt *table, void *target)
{
    for (const struct dml_opt *opt = table; opt->name; opt++)
        if (opt->type == DML_OPT_TEXT)
            *(char **)field(opt, target) = NULL;
    for (const struct dml_opt *opt = table; opt->name; opt++) {
        struct mistake m;
        int r = set_field(opt, target, opt->dflt ? opt->dflt : "", &m);
        if (r < 0)
            return r;
    }
    return 0;
}

void dml_opt_done(const struct dml_opt *table, void *target)
{
    for (const struct dml_opt *opt = table; opt->name; opt++) {
        if (opt->type != DML_OPT_TEXT)
            continue;
        char **at = field(opt, target);
        free(*at);
        *at = NULL;
    }
}

const struct dml_opt *dml_opt_find(const struct dml_opt *table, const char *section,
                                   const char *name)
{
    for (const struct dml_opt *opt = table; opt->name; opt++)
        if (!strcmp(opt->name, name) && (!section || !strcmp(opt->section, section)))
            return opt;
    return NULL;
}
