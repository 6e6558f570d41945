/* Texts from outside, made fit for people to read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Copies what fits of src, whole UTF-8 characters only; control characters and bytes that are not
 * UTF-8 become '?'. dst_len at least 1. */
void dml_clean_copy(char *dst, size_t dst_len, const char *src);

/* One or more of [A-Za-z0-9._-]. */
bool dml_clean_is_id(const char *s);
