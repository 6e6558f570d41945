/* What commands print. */
#pragma once

#include "report/json.h"

/* The value, indented, and a newline to stdout. NULL: out of memory. Returns an exit code. */
int dml_out_json(const json_t *value);

/* "1.5 MiB" into buf. Returns buf. */
const char *dml_out_bytes(double bytes, char *buf, size_t buf_len);

/* "7 s", "4:05", "2:03:04", "3 d 4 h" into buf; "?" for NAN. Returns buf. */
const char *dml_out_seconds(double seconds, char *buf, size_t buf_len);
