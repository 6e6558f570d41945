/*
 * The C library's converters skip blanks, take signs and know hexadecimal and "nan"; a
 * configuration file should mean the same to its reader and to us, so what they may see is narrowed
 * here first. Programs never call setlocale(), hence a point is the decimal point.
 */
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_tail(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

unsigned dml_text_utf8(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    if (len == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2) /* a tail, or an overlong form of ASCII */
        return 0;
    if (s[0] < 0xe0)
        return len >= 2 && is_tail(s[1]) ? 2 : 0;
    if (s[0] < 0xf0) {
        if (len < 3 || !is_tail(s[1]) || !is_tail(s[2]))
            return 0;
        bool overlong = s[0] == 0xe0 && s[1] < 0xa0;
        bool surrogate = s[0] == 0xed && s[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (s[0] > 0xf4 || len < 4 || !is_tail(s[1]) || !is_tail(s[2]) || !is_tail(s[3]))
        return 0;
    bool overlong = s[0] == 0xf0 && s[1] < 0x90;
    bool beyond = s[0] == 0xf4 && s[1] >= 0x90;
    return overlong || beyond ? 0 : 4;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

void dml_text_trim(const char **io_s, size_t *io_len)
{
    while (*io_len && is_blank((*io_s)[*io_len - 1]))
        --*io_len;
    while (*io_len && is_blank(**io_s)) {
        ++*io_s;
        --*io_len;
    }
}

const char *dml_text_real(double x, char buf[DML_TEXT_REAL_LEN])
{
    /* 17 significant digits tell all doubles apart (IEEE 754); most need fewer. */
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(buf, DML_TEXT_REAL_LEN, "%.*g", digits, x);
        if (strtod(buf, NULL) == x)
            break;
    }
    return buf;
}

bool dml_text_to_uint(const char *s, uint64_t *ret)
{
    if (!*s || s[strspn(s, "0123456789")])
        return false;
    errno = 0;
    unsigned long long x = strtoull(s, NULL, 10);
    if (errno)
        return false;
    *ret = x;
    return true;
}

bool dml_text_to_real(const char *s, double *ret)
{
    if (!*s || s[strspn(s, "0123456789+-.eE")])
        return false;
    char *end;
    double x = strtod(s, &end);
    if (end == s || *end || !isfinite(x))
        return false;
    *ret = x;
    return true;
}
