/* Text as windows of codes, in memory. Private to data/. */
#pragma once

#include "data/dataset.h"

#define DML_TEXT_CODES 96 /* a line's end and the printable characters of ASCII */

/*
 * Cuts `len` bytes, any at all, into a training set and a test set of windows of o->text_window
 * codes; see text.c. io_text [len] is overwritten; `file` is for messages.
 * Returns 0, -EINVAL (too short for both sets; err says what is missing) or -ENOMEM.
 */
int dml_text_split(char *io_text, size_t len, const char *file, const struct dml_data_options *o,
                   struct dml_dataset **ret_train, struct dml_dataset **ret_test,
                   struct dml_err *err);
