/* A whole experiment inside this process: `dmlctl run --local N`. */
#pragma once

#include <stdatomic.h>

#include "ctl/display.h"
#include "report/result.h"

struct dml_local_options {
    const char *file; /* the test case */
    unsigned workers; /* how many there are */
    const char *model_dir, *plugin_dir;
    const char *results_dir; /* NULL: ./results-NAME */
    const char *save;        /* where the model of the last run goes; NULL: beside the results */
    const atomic_bool *cancel;
    struct dml_display *display;
};

/*
 * Returns 0 (runs that failed are in the results), -ECANCELED after *cancel (the results have what
 * was done), or the errno of a mistake that let nothing begin, with err.
 * io_results, io_path: NULL before; set whenever there is something, also on errors. Owner: caller.
 */
int dml_local_run(const struct dml_local_options *o, struct dml_results **io_results,
                  char **io_path, struct dml_err *err);
