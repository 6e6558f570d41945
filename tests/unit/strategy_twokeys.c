/* A strategy for tests of test cases: it has keys of its own, and does nothing with them. */
#include <stdint.h>

#include "strategy/strategy.h"

struct twokeys {
    double mu;
    char *note;
    uint64_t patience_us;
};

static const struct dml_opt opts[] = {
    {"strategy", "mu", DML_OPT_REAL, offsetof(struct twokeys, mu), .min = 0, .max = 10,
     .dflt = "0.01", .help = "A weight"},
    {"strategy", "note", DML_OPT_TEXT, offsetof(struct twokeys, note), .dflt = "none given",
     .flags = DML_OPT_WORDS, .help = "Words"},
    {"strategy", "patience", DML_OPT_DURATION, offsetof(struct twokeys, patience_us), .dflt = "1 s",
     .help = "A time"},
    {0},
};

static int init(const void *options, size_t n_params, size_t n_vec, const float *vec,
                void **ret_state)
{
    (void)options, (void)n_params, (void)n_vec, (void)vec;
    *ret_state = NULL;
    return 0;
}

static void done(void *state)
{
    (void)state;
}

static int begin(void *state, uint64_t round, const float *global)
{
    (void)state, (void)round, (void)global;
    return 0;
}

static int add(void *state, const struct dml_strategy_update *update)
{
    (void)state, (void)update;
    return 0;
}

static int end(void *state, float *io_global)
{
    (void)state, (void)io_global;
    return 0;
}

extern const struct dml_strategy dml_strategy_plugin;
const struct dml_strategy dml_strategy_plugin = {
    .abi = DML_STRATEGY_ABI,
    .size = sizeof(struct dml_strategy),
    .name = "twokeys",
    .summary = "for tests",
    .source = "none",
    .opts = opts,
    .opts_size = sizeof(struct twokeys),
    .init = init,
    .done = done,
    .begin = begin,
    .add = add,
    .end = end,
};
