/*
 * Test cases. Besides not crashing: every mistake has a sentence, and every case that was accepted
 * is printed as a text that gives the same case again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "conf/testcase.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CHECKED_MAX 20 /* cases printed; a thousand of them would say no more */

static void check(const struct dml_testcase *tc)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *again = NULL;
    _cleanup_(dml_mem_freep) char *one = NULL, *two = NULL;
    if (dml_testcase_print(tc, &one) < 0)
        return;
    struct dml_err err = {0};
    if (dml_testcase_parse(one, strlen(one), "again", NULL, &again, &err) < 0) {
        fprintf(stderr, "%u: %s\n%s", err.line, err.text, one);
        abort();
    }
    if (again->n_cases != 1 || dml_testcase_print(&again->cases[0], &two) < 0 || strcmp(one, two))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    _cleanup_(dml_testcases_freep) struct dml_testcases *t = NULL;
    struct dml_err err = {0};
    int r = dml_testcase_parse((const char *)data, len, "fuzz", NULL, &t, &err);
    if ((r < 0) != (t == NULL) || (r < 0 && !dml_err_is_set(&err)))
        abort();
    for (size_t i = 0; t && i < t->n_cases && i < CHECKED_MAX; i++)
        check(&t->cases[i]);
    return 0;
}
