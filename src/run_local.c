/*
 * A cluster inside this process: rank 0 on the calling thread, every worker on one of its own,
 * messages passed by reference. The same test case, the same paradigm, the same bits as over gRPC.
 */
#include <errno.h>
#include <pthread.h>

#include "base/err.h"
#include "rpc/comm_local.h"
#include "run.h"

struct local_worker {
    pthread_t thread;
    bool started;
    struct dml_run_env env;
    struct dml_run_args args;
};

static void *work(void *arg)
{
    struct local_worker *w = arg;
    struct dml_err err = {0}; /* rank 0 hears of it in a message */
    (void)dml_run(&w->env, &w->args, NULL, &err);
    w->args.comm = dml_comm_free(w->args.comm);
    return NULL;
}

static int start(struct local_worker *w, struct dml_comm_hub *hub, uint32_t rank,
                 const struct dml_run_env *env, const struct dml_run_args *args,
                 const atomic_bool *stop)
{
    w->env = (struct dml_run_env){
        .model_dirs = env->model_dirs,
        .plugin_dir = env->plugin_dir,
        .data_dir = env->data_dir,
        .max_cores = env->max_cores,
        .affinity = env->affinity,
        .n_sharing = (unsigned)args->tc->testcase.nodes,
    };
    w->args = (struct dml_run_args){
        .tc = args->tc,
        .model_text = args->model_text,
        .comm = dml_comm_hub_get(hub, rank),
        .slot = rank - 1,
        .cancel = stop,
    };
    if (!w->args.comm)
        return -ENOMEM;
    int r = -pthread_create(&w->thread, NULL, work, w);
    if (r < 0)
        w->args.comm = dml_comm_free(w->args.comm);
    else
        w->started = true;
    return r;
}

int dml_run_local(struct dml_run_env *env, struct dml_run_args *args,
                  struct dml_run_totals *ret_totals, struct dml_err *err)
{
    uint32_t n = (uint32_t)args->tc->testcase.nodes;
    atomic_bool stop = false; /* rank 0 has ended, well or not: nobody need train on */
    struct local_worker *workers = calloc(n, sizeof(*workers));
    struct dml_comm_hub *hub = dml_comm_hub_new(n + 1);
    int r = workers && hub ? 0 : -ENOMEM;
    if (r == 0) {
        args->comm = dml_comm_hub_get(hub, 0);
        r = args->comm ? 0 : -ENOMEM;
    }
    for (uint32_t rank = 1; r == 0 && rank <= n; rank++)
        r = start(&workers[rank - 1], hub, rank, env, args, &stop);
    if (r == 0)
        r = dml_run(env, args, ret_totals, err);

    atomic_store(&stop, true);
    if (hub)
        args->comm = dml_comm_free(args->comm);
    for (uint32_t i = 0; workers && i < n; i++)
        if (workers[i].started)
            (void)pthread_join(workers[i].thread, NULL);
    if (hub)
        dml_comm_hub_free(hub);
    free(workers);
    return r;
}
