/*
 * The flow:
 *
 *     test case → data set → model → plan → paradigm → strategy plugin → comm → event → report
 *
 * Every rank calls dml_run() with the same test case. Rank 0 loads the data, deals it out, leads
 * the paradigm and tells what happens; the other ranks get their shard from it and train. Where
 * the ranks are (threads here, machines elsewhere) is the comm's business alone.
 */
#include "config.h" /* GNU extensions: affinity */

#include "run.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "conf/parallel.h"
#include "nn/checkpoint.h"
#include "paradigm/message.h"
#include "paradigm/plan.h"

void dml_run_env_done(struct dml_run_env *env)
{
    env->train = dml_dataset_free(env->train);
    env->test = dml_dataset_free(env->test);
    free(env->dataset_key);
    env->dataset_key = NULL;
}

/* CPUs this process may run on, ascending. Returns how many. */
static unsigned allowed_cpus(int *cpus, unsigned max)
{
    cpu_set_t set;
    unsigned n = 0;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < max; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[n++] = cpu;
    return n;
}

/*
 * Threads are pinned only where each gets a core to itself: a limited share moves about as the
 * scheduler likes, and workers beyond the last core are better off unpinned than piled up.
 */
static void choose_cpus(const struct dml_run_env *env, const struct dml_plan *plan, unsigned slot,
                        int *cpus, unsigned n_cpus, struct dml_trainer_cpu *ret)
{
    *ret = (struct dml_trainer_cpu){.n_threads = plan->n_threads, .duty = plan->duty};
    uint64_t first = (uint64_t)slot * plan->n_threads;
    if (env->affinity && plan->duty >= 1.0 && first + plan->n_threads <= n_cpus)
        ret->cpus = cpus + first;
}

/* A relative path starts at this node's data_dir. *io_path is replaced by *ret_own where it does.
 */
static int place(const char *data_dir, char **io_path, char **ret_own)
{
    if (!data_dir || !(*io_path)[0] || (*io_path)[0] == '/')
        return 0;
    *ret_own = dml_mem_printf("%s/%s", data_dir, *io_path);
    if (!*ret_own)
        return -ENOMEM;
    *io_path = *ret_own;
    return 0;
}

/* Everything that decides what is in memory after loading. */
static char *key_of(const struct dml_data_options *o)
{
    return dml_mem_printf("%s|%s|%s|%s|%s|%d|%.17g|%llu|%llu|%llu|%d|%llu|%llu|%llu|%.17g",
                          o->dataset, o->path, o->test_path, o->features, o->label, o->task,
                          o->test_fraction, (unsigned long long)o->split_seed,
                          (unsigned long long)o->train_samples, (unsigned long long)o->test_samples,
                          o->normalise, (unsigned long long)o->synth_samples,
                          (unsigned long long)o->synth_features,
                          (unsigned long long)o->synth_classes, o->synth_noise);
}

static int load_data(struct dml_run_env *env, const struct dml_data_options *o, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *key = key_of(o);
    if (!key)
        return -ENOMEM;
    if (env->dataset_key && !strcmp(env->dataset_key, key))
        return 0;
    dml_run_env_done(env);
    int r = dml_dataset_load(o, &env->train, &env->test, err);
    if (r < 0)
        return r;
    env->dataset_key = key;
    key = NULL;
    return 0;
}

/* Bytes of address space and of data this process has; 0 where the kernel does not say. */
static void memory_taken(uint64_t page, uint64_t ret[2])
{
    unsigned long size = 0, data = 0;
    _cleanup_(dml_mem_fclosep) FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%lu %*u %*u %*u %*u %lu", &size, &data) != 2)
        size = data = 0;
    ret[0] = size * page;
    ret[1] = data * page;
}

/* Memory of the machine, or what a limit (ulimit) still leaves this process of it. 0: not known. */
static uint64_t memory_bytes(void)
{
    static const int limits[] = {RLIMIT_AS, RLIMIT_DATA};
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0)
        return 0;
    uint64_t bytes = (uint64_t)pages * (uint64_t)page, taken[2];
    memory_taken((uint64_t)page, taken);
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        struct rlimit limit;
        if (getrlimit(limits[i], &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
            continue;
        uint64_t left = limit.rlim_cur > taken[i] ? limit.rlim_cur - taken[i] : 1;
        bytes = left < bytes ? left : bytes;
    }
    return bytes;
}

static int load_model(const struct dml_run_env *env, const struct dml_run_args *args,
                      struct dml_model **ret, struct dml_err *err)
{
    const char *name = args->tc->model.name;
    if (!args->model_text)
        return dml_model_load(name, env->model_dirs, ret, err);
    return dml_model_parse(args->model_text, strlen(args->model_text), name, ret, err);
}

/* Fills in what the flow knows and the caller did not. */
static void describe_run(struct dml_event_run *event, const struct dml_task *task)
{
    const struct dml_testcase *tc = task->tc;
    const struct dml_paradigm *paradigm = dml_paradigm_get(tc->parallel.paradigm);
    event->nodes = (unsigned)tc->testcase.nodes;
    event->cores = tc->testcase.cores;
    event->paradigm = paradigm->name;
    event->strategy = tc->strategy;
    event->model = dml_model_name(task->model);
    event->dataset = tc->data.dataset;
    event->n_params = dml_model_n_params(task->model);
    event->n_train = task->train->n_samples;
    event->n_test = task->test->n_samples;
    event->n_rounds = tc->train.rounds;
}

static int lead(struct dml_run_env *env, struct dml_run_args *args, struct dml_task *task,
                struct dml_err *err)
{
    const struct dml_testcase *tc = args->tc;
    const struct dml_paradigm *paradigm = dml_paradigm_get(tc->parallel.paradigm);
    if (dml_parallel_takes_strategy(tc->parallel.paradigm) && !tc->plugin)
        return dml_err_set(err, -EINVAL, "strategy %s is not loaded", tc->strategy);
    int r = load_data(env, task->data, err);
    if (r < 0)
        return r;
    const struct dml_dataset *train = env->train;
    r = dml_model_check_data(task->model, train->channels, train->height, train->width,
                             train->n_classes, err);
    _cleanup_(dml_shards_freep) struct dml_shards *shards = NULL;
    if (r == 0)
        r = dml_shard_make(train, &tc->data, tc->data.split_seed, dml_parallel_replicas(tc), &shards,
                           err);
    _cleanup_(dml_mem_freep) float *vec = dml_mem_floats(dml_model_n_vec(task->model));
    if (r == 0 && !vec)
        r = -ENOMEM;
    if (r < 0)
        return r;

    dml_model_init(task->model, vec, tc->train.seed);
    task->train = train;
    task->test = env->test;
    task->shards = shards;
    task->events = env->events;
    task->run = &args->event;
    task->describe = env->describe;
    task->describe_arg = env->describe_arg;
    task->vec = vec;
    describe_run(&args->event, task);
    dml_event_run_started(env->events, &args->event);

    r = paradigm->master(task, err);
    if (r < 0)
        return r;
    dml_event_run_ended(env->events, &args->event, &task->totals);
    if (args->checkpoint_path) {
        /* What was measured stays measured when the disk is full. */
        struct dml_err unsaved = {0};
        int saved =
            dml_checkpoint_save(args->checkpoint_path, task->model, vec, train, tc->data.dataset,
                                tc->testcase.name, tc->train.rounds, &unsaved);
        if (saved < 0)
            dml_event_model_unsaved(env->events, &args->event, saved, &unsaved);
        else
            dml_event_model_saved(env->events, &args->event, args->checkpoint_path);
    }
    return 0;
}

/* A fractional share is the kernel's to hold where it was given the means, else the trainer's. */
static void hold_cores(const struct dml_run_env *env, double cores, struct dml_task *io_task)
{
    if (io_task->cpu.duty >= 1.0)
        return;
    io_task->cores_held = DML_CORES_BY_DUTY;
    if (env->limit_cores && env->limit_cores(env->limit_arg, cores) == 0) {
        io_task->cores_held = DML_CORES_BY_KERNEL;
        io_task->cpu.duty = 1.0;
    }
}

static void release_cores(const struct dml_run_env *env, const struct dml_task *task)
{
    if (task->cores_held == DML_CORES_BY_KERNEL)
        (void)env->limit_cores(env->limit_arg, 0);
}

static int follow(struct dml_run_env *env, const struct dml_plan *plan, struct dml_task *task,
                  struct dml_err *err)
{
    hold_cores(env, plan->cores_per_node, task);
    int r = dml_paradigm_get(task->tc->parallel.paradigm)->worker(task, err);
    release_cores(env, task);
    /* The master hears the reason of everything that it did not cause itself. */
    if (r < 0 && r != -EPIPE && r != -ECANCELED)
        dml_message_send_failed(task->comm, r, err);
    return r;
}

int dml_run(struct dml_run_env *env, struct dml_run_args *args, struct dml_run_totals *ret_totals,
            struct dml_err *err)
{
    int cpus[CPU_SETSIZE];
    unsigned n_cpus = allowed_cpus(cpus, CPU_SETSIZE);
    unsigned cores = env->max_cores && env->max_cores < n_cpus ? env->max_cores : n_cpus;
    bool leads = args->comm->rank == 0;
    _cleanup_(dml_mem_freep) char *own_path = NULL, *own_test_path = NULL;
    struct dml_data_options data = args->tc->data;
    if (place(env->data_dir, &data.path, &own_path) < 0 ||
        place(env->data_dir, &data.test_path, &own_test_path) < 0)
        return -ENOMEM;

    _cleanup_(dml_model_freep) struct dml_model *model = NULL;
    struct dml_plan plan;
    int r = load_model(env, args, &model, err);
    if (r == 0) /* the master does not train: its own cores say nothing about the workers' */
        r = dml_plan_make(args->tc, model, leads ? 0 : cores, &plan, err);
    if (r == 0 && !leads)
        r = dml_plan_check_memory(&plan, model, env->n_sharing ? env->n_sharing : 1,
                                  memory_bytes(), err);

    struct dml_task task = {
        .tc = args->tc,
        .model = model,
        .comm = args->comm,
        .cancel = args->cancel,
        .cache_dir = env->cache_dir,
        .cache_max = env->cache_max,
        .data = &data,
    };
    if (r == 0) {
        choose_cpus(env, &plan, args->slot, cpus, n_cpus, &task.cpu);
        r = leads ? lead(env, args, &task, err) : follow(env, &plan, &task, err);
    } else if (!leads) {
        dml_message_send_failed(args->comm, r, err);
    }
    if (r == -ECANCELED && !dml_err_is_set(err))
        (void)dml_err_set(err, r, "stopped");
    if (r < 0 && leads)
        dml_event_run_failed(env->events, &args->event, r, err);
    if (r == 0 && ret_totals)
        *ret_totals = task.totals;
    return r;
}
