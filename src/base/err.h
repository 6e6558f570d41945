/*
 * A mistake of the user's, told once: where it is, what was found, what is allowed.
 *
 * Functions that read what a person wrote (configuration, data, plugins) take a trailing
 * `struct dml_err *err` and return a negative errno; whoever finds the mistake fills the struct,
 * everyone above forwards the int unchanged. Programs print it at the top, once.
 */
#pragma once

#include <stddef.h>

struct dml_err {
    char file[256]; /* "" when the mistake is not in a file */
    unsigned line;  /* 1-based; 0 when no line applies */
    char text[768]; /* one sentence, no newline */
};

/* Fills `err` (NULL is fine) with a sentence that belongs to no file. Returns `r`. */
int dml_err_set(struct dml_err *err, int r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for line `line` of `file` (line 0: the whole file). Returns `r`. */
int dml_err_at(struct dml_err *err, int r, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* True when something was filled in since the struct was zeroed. */
int dml_err_is_set(const struct dml_err *err);

/*
 * Writes "file:line: text", or "text" alone, or strerror(-r) when nothing was filled in.
 * Returns `buf`.
 */
const char *dml_err_format(const struct dml_err *err, int r, char *buf, size_t buf_len);
