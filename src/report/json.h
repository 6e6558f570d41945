/*
 * Small helpers over jansson for the files of report/ and the programs: numbers that may be
 * missing, strings that may hold any bytes.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct dml_err;

static inline void dml_json_unrefp(json_t **p)
{
    json_decref(*p);
}

/* Text of any bytes: what is not UTF-8 becomes '?'. NULL gives JSON null. NULL: out of memory. */
json_t *dml_json_text(const char *s);

/* A real; NAN and infinities give JSON null, which JSON has no numbers for. */
json_t *dml_json_real(double x);

/* Sets key; takes ownership of value (NULL: out of memory earlier). Returns 0 or -ENOMEM. */
int dml_json_set(json_t *object, const char *key, json_t *value);

/* The number under key, or dflt when there is none. A text that is wholly a number counts: the
 * journal knows only texts. */
double dml_json_get_real(const json_t *object, const char *key, double dflt);

/* The same within [0, max]: anything else, fractions too, gives dflt. */
uint64_t dml_json_get_uint(const json_t *object, const char *key, uint64_t max, uint64_t dflt);

/* The text under key cut to the buffer at a character's boundary; "" when there is none. */
void dml_json_get_text(const json_t *object, const char *key, char *buf, size_t buf_len);

/*
 * Parses one JSON text. Returns 0, -EBADMSG (err: `file`, line, what is wrong), -ENOMEM.
 * Owner: caller, json_decref().
 */
int dml_json_parse(const char *text, size_t len, const char *file, json_t **ret,
                   struct dml_err *err);

/* One line of text, or indented by two blanks. Returns 0 or -ENOMEM; free(*ret). */
int dml_json_print(const json_t *value, int indented, char **ret);
