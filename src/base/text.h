/* Text from outside and text for people: UTF-8, blanks, numbers that survive being printed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of the UTF-8 character at `s` (1 to 4), 0 when the first of `len` bytes starts none.
 * Source: RFC 3629, which forbids overlong forms, surrogates and anything above U+10FFFF.
 */
unsigned dml_text_utf8(const char *s, size_t len);

/* Moves *io_s and *io_len past blanks, tabs and carriage returns at both ends. */
void dml_text_trim(const char **io_s, size_t *io_len);

#define DML_TEXT_REAL_LEN 32

/* The shortest decimal form that strtod() reads back as exactly `x`. Returns buf. */
const char *dml_text_real(double x, char buf[DML_TEXT_REAL_LEN]);

/* The whole text is a number without sign, base 10, that fits. */
bool dml_text_to_uint(const char *s, uint64_t *ret);

/* The whole text is a finite decimal number ("-1.5e3"); not "inf", "nan" or hexadecimal. */
bool dml_text_to_real(const char *s, double *ret);
