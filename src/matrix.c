#include "matrix.h"

int dml_matrix_walk(const struct dml_testcases *t, dml_matrix_fn fn, void *arg)
{
    for (size_t i_case = 0; i_case < t->n_cases; i_case++) {
        const struct dml_testcase *tc = &t->cases[i_case];
        for (uint64_t i_repeat = 0; i_repeat < tc->testcase.repeats; i_repeat++) {
            /* Borrows every text of tc; only numbers differ. */
            struct dml_testcase one = *tc;
            one.train.seed += i_repeat;
            one.testcase.repeats = 1;
            struct dml_event_run event = {
                .testcase = tc->testcase.name,
                .label = tc->label,
                .i_case = (unsigned)i_case,
                .n_cases = (unsigned)t->n_cases,
                .i_repeat = (unsigned)i_repeat,
                .n_repeats = (unsigned)tc->testcase.repeats,
                .nodes = (unsigned)tc->testcase.nodes,
                .cores = tc->testcase.cores,
            };
            int r = fn(arg, &one, &event);
            if (r != 0)
                return r;
        }
    }
    return 0;
}
