/*
 * INI files. Besides not crashing: whatever was accepted, printed and read again gives the same
 * entries, and every mistake has a sentence.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new(), *again = dml_ini_new();
    struct dml_err err = {0};
    if (dml_ini_parse(ini, (const char *)data, len, "fuzz", &err) < 0) {
        if (!dml_err_is_set(&err))
            abort();
        return 0;
    }
    char *text = NULL;
    size_t text_len;
    FILE *f = open_memstream(&text, &text_len);
    for (size_t i = 0; i < ini->n_entries; i++)
        fprintf(f, "[%s]\n%s = %s\n", ini->entries[i].section, ini->entries[i].key,
                ini->entries[i].value);
    (void)fclose(f);
    /* A section's name repeated for each key may take the text beyond the limit. */
    int r = dml_ini_parse(again, text, text_len, "again", &err);
    if (text_len <= DML_INI_TEXT_MAX && (r < 0 || again->n_entries != ini->n_entries))
        abort();
    for (size_t i = 0; r == 0 && i < ini->n_entries; i++)
        if (strcmp(ini->entries[i].section, again->entries[i].section) ||
            strcmp(ini->entries[i].key, again->entries[i].key) ||
            strcmp(ini->entries[i].value, again->entries[i].value))
            abort();
    free(text);
    return 0;
}
