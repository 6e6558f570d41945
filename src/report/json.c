/*
 * jansson refuses strings that are not UTF-8 and numbers that are not finite; both can reach us (a
 * host name from the network, a loss that diverged), and neither may lose a whole record. Here they
 * are made harmless in one place.
 */
#include "report/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

json_t *dml_json_text(const char *s)
{
    if (!s)
        return json_null();
    json_t *text = json_string(s);
    if (text)
        return text;
    _cleanup_(dml_mem_freep) char *ascii = strdup(s);
    if (!ascii)
        return NULL;
    for (char *p = ascii; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return json_string(ascii);
}

json_t *dml_json_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

int dml_json_set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

double dml_json_get_real(const json_t *object, const char *key, double dflt)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_number(value))
        return json_number_value(value);
    if (!json_is_string(value) || json_string_length(value) == 0)
        return dflt;
    char *end = NULL;
    double x = strtod(json_string_value(value), &end);
    return *end == '\0' && isfinite(x) ? x : dflt;
}

uint64_t dml_json_get_uint(const json_t *object, const char *key, uint64_t max, uint64_t dflt)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value)) {
        json_int_t i = json_integer_value(value);
        return i >= 0 && (uint64_t)i <= max ? (uint64_t)i : dflt;
    }
    /* Exact up to 2^53: as far as JSON's own numbers carry between programs. */
    double x = dml_json_get_real(object, key, -1.0);
    if (!(x >= 0.0 && x <= 9007199254740992.0) || x != floor(x) || x > (double)max)
        return dflt;
    return (uint64_t)x;
}

void dml_json_get_text(const json_t *object, const char *key, char *buf, size_t buf_len)
{
    const char *s = json_string_value(json_object_get(object, key));
    size_t len = s ? strlen(s) : 0;
    if (len >= buf_len) {
        len = buf_len - 1;
        while (len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80)
            len--;
    }
    if (len > 0)
        memcpy(buf, s, len);
    buf[len] = '\0';
}

int dml_json_parse(const char *text, size_t len, const char *file, json_t **ret,
                   struct dml_err *err)
{
    json_error_t e;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!value) {
        if (json_error_code(&e) == json_error_out_of_memory)
            return dml_err_set(err, -ENOMEM, "out of memory while reading JSON");
        return dml_err_at(err, -EBADMSG, file, e.line > 0 ? (unsigned)e.line : 0,
                          "not valid JSON: %s", e.text);
    }
    *ret = value;
    return 0;
}

int dml_json_print(const json_t *value, int indented, char **ret)
{
    size_t flags = JSON_ENCODE_ANY | (indented ? JSON_INDENT(2) : JSON_COMPACT);
    char *text = json_dumps(value, flags);
    if (!text)
        return -ENOMEM;
    *ret = text;
    return 0;
}
