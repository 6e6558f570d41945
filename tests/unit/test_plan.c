/* Cores over the cluster become threads and duty of a node. */
#include "paradigm/plan.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "paradigm/paradigm.h"
#include "tests/tap.h"

static const char model_text[] = "name m\ninput 4\nlinear 3\n";

static struct dml_testcase case_of(uint64_t nodes, double cores)
{
    struct dml_testcase tc = {0};
    tc.testcase.nodes = nodes;
    tc.testcase.cores = cores;
    tc.parallel.paradigm = DML_PARADIGM_FEDERATED;
    tc.train.batch_size = 8;
    tc.train.rounds = 1;
    return tc;
}

int main(void)
{
    static const struct {
        uint64_t nodes;
        double cores;
        unsigned here, threads;
        double duty;
    } rows[] = {
        {1, 2, 4, 2, 1.0},    {2, 4, 4, 2, 1.0},     {3, 1, 4, 1, 1.0 / 3},
        {3, 4, 4, 2, 2 / 3.}, {3, 5, 4, 2, 5.0 / 6}, {3, 6, 4, 2, 1.0},
        {3, 3, 1, 1, 1.0},    {2, 0, 4, 4, 1.0},     {2, 0, 0, 1, 1.0},
    };
    struct dml_err err = {0};
    struct dml_model *m = NULL;
    if (dml_model_parse(model_text, strlen(model_text), "m", &m, &err) < 0) {
        printf("Bail out! %s\n", err.text);
        return 1;
    }
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct dml_testcase tc = case_of(rows[i].nodes, rows[i].cores);
        struct dml_plan plan = {0};
        tap_int(dml_plan_make(&tc, m, rows[i].here, &plan, &err), 0, "a plan");
        tap_note("%u:%g", (unsigned)rows[i].nodes, rows[i].cores);
        tap_int(plan.size, (long long)rows[i].nodes + 1, "ranks");
        tap_int(plan.n_threads, rows[i].threads, "threads of a node");
        tap_near(plan.duty, rows[i].duty, 1e-12, "duty of a thread"); /* one rounding */
        tap_ok(plan.worker_bytes > 0, "memory is predicted");
    }

    struct dml_plan plan;
    struct dml_testcase tc = case_of(1, 6);
    tap_int(dml_plan_make(&tc, m, 4, &plan, &err), -EINVAL, "more cores than there are");
    tap_has(err.text, "gives each node 6 cores, but this node may use 4", "is refused in words");
    tc = case_of(2, 2);
    tc.parallel.paradigm = DML_PARADIGM_STANDALONE;
    tap_int(dml_plan_make(&tc, m, 4, &plan, &err), -EINVAL, "standalone on two nodes");
    tap_has(err.text, "nodes = 1", "is refused in words");

    tc.parallel.paradigm = DML_PARADIGM_MAX_;
    tap_int(dml_plan_make(&tc, m, 4, &plan, &err), -EINVAL, "a paradigm that is not there");
    tap_has(err.text, "not built in", "is refused in words");

    tc = case_of(2, 2);
    tap_int(dml_plan_make(&tc, m, 4, &plan, &err), 0, "a small plan");
    uint64_t bytes = plan.worker_bytes;
    tap_int(dml_plan_check_memory(&plan, m, 1, bytes, &err), 0, "it fits where there is room");
    tap_int(dml_plan_check_memory(&plan, m, 9, 0, &err), 0, "unknown memory is enough");
    tap_int(dml_plan_check_memory(&plan, m, 1, bytes - 1, &err), -ENOMEM, "a byte too little");
    tap_has(err.text, "MiB, there are", "is refused in words");
    tap_int(dml_plan_check_memory(&plan, m, 2, 2 * bytes - 1, &err), -ENOMEM, "two share it");
    tap_has(err.text, "each of 2 workers", "is refused in words");
    dml_model_free(m);
    return tap_done();
}
