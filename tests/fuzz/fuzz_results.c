/* Results as JSON: read any bytes; what was read can be printed, drawn, written, and read again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/plot.h"
#include "report/result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(dml_results_freep) struct dml_results *r = NULL, *back = NULL;
    if (dml_results_from_json((const char *)data, size, "fuzz", &r, NULL) < 0)
        return 0;
    _cleanup_(dml_mem_freep) char *json = NULL, *again = NULL, *csv = NULL;
    if (dml_results_to_json(r, &json) < 0 || dml_results_to_csv(r, &csv) < 0)
        abort();
    FILE *f = fopen("/dev/null", "w");
    if (f) {
        dml_results_print_table(r, true, f);
        (void)fclose(f);
    }
    for (int kind = 0; kind < DML_PLOT_MAX_; kind++) {
        char *svg = NULL;
        if (!dml_plot_draw(r, (enum dml_plot_kind)kind, &svg) &&
            (strstr(svg, "=\"nan") || strstr(svg, "=\"inf") || strstr(svg, "=\"-inf")))
            abort();
        free(svg);
    }
    if (dml_results_from_json(json, strlen(json), "again", &back, NULL) < 0 ||
        dml_results_to_json(back, &again) < 0 || strcmp(json, again))
        abort();
    return 0;
}
