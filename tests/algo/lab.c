#include "lab.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"

#define DATA "[data]\ndataset = synth\nsynth-samples = 120\nsynth-features = 4\nsynth-classes = 3\n"
#define BASE                                                                                       \
    "[testcase]\nname = lab\n"                                                                     \
    "[model]\nname = %s/lab.model\n"

#define MODEL "name lab\ninput 4\nlinear 8\nrelu\nlinear 3\nloss cross-entropy\n"

static void bail(const char *what, const struct dml_err *err, int r)
{
    char text[1200];
    printf("Bail out! %s: %s\n", what, dml_err_format(err, r, text, sizeof(text)));
    exit(1);
}

static void remember(void *arg, enum dml_event_kind kind, const char *json,
                     const struct dml_event_run *run, const struct dml_round *round,
                     const struct dml_run_totals *totals)
{
    (void)json, (void)run, (void)totals;
    struct lab *lab = arg;
    if (kind == DML_EVENT_WORKER_READY)
        lab->n_ready++;
    if (kind == DML_EVENT_WORKER_LOST)
        snprintf(lab->lost, sizeof(lab->lost), "%s", json);
    if (kind == DML_EVENT_MODEL_UNSAVED)
        lab->n_unsaved++;
    if (kind != DML_EVENT_ROUND || lab->n_rounds == LAB_ROUNDS_MAX)
        return;
    for (unsigned i = 0; i < round->n_participants && i < LAB_WORKERS_MAX; i++)
        lab->workers[lab->n_rounds][i] = round->workers[i];
    lab->rounds[lab->n_rounds] = *round;
    lab->rounds[lab->n_rounds++].workers = NULL;
    if (lab->on_round)
        lab->on_round(lab->on_round_arg, round);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) {
        printf("Bail out! cannot write %s\n", path);
        exit(1);
    }
}

/* Once: other labs may be at work. */
static void keep_quiet(void)
{
    dml_log_init(DML_LOG_NONE, "lab", LOG_DEBUG);
}

void lab_init(struct lab *lab, const char *text)
{
    lab_init_model(lab, MODEL, text);
}

void lab_init_model(struct lab *lab, const char *model, const char *text)
{
    *lab = (struct lab){.dir = "/tmp/dml-lab-XXXXXX"};
    if (!mkdtemp(lab->dir))
        bail("mkdtemp", &lab->err, -1);
    write_file(lab->dir, "lab.model", model);

    const char *build = getenv("top_builddir");
    _cleanup_(dml_mem_freep) char *plugins =
        dml_mem_printf("%s/src/plugins/.libs", build ? build : ".");
    bool own_data = strstr(text, "dataset =") != NULL;
    _cleanup_(dml_mem_freep) char *whole =
        dml_mem_printf(BASE "%s%s", lab->dir, own_data ? "" : DATA, text);
    int r = dml_testcase_parse(whole, strlen(whole), "lab.conf", plugins, &lab->cases, &lab->err);
    if (r < 0)
        bail("the test case does not parse", &lab->err, r);
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, keep_quiet);
    lab->events = dml_events_new();
    if (dml_events_listen(lab->events, remember, lab) < 0)
        bail("listen", &lab->err, -1);
    lab->env = (struct dml_run_env){.events = lab->events};
}

void lab_done(struct lab *lab)
{
    static const char *const files[] = {"lab.model", "lab.dmlmodel"};
    dml_checkpoint_free(lab->trained);
    dml_testcases_free(lab->cases);
    dml_events_free(lab->events);
    dml_run_env_done(&lab->env);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", lab->dir, files[i]);
        (void)remove(path);
    }
    (void)rmdir(lab->dir);
}

static int run(struct lab *lab, struct dml_comm *comm)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/lab.dmlmodel", lab->dir);
    struct dml_run_args args = {
        .tc = &lab->cases->cases[0],
        .comm = comm,
        .event = {.testcase = "lab",
                  .label = lab->cases->cases[0].label,
                  .n_cases = 1,
                  .n_repeats = 1},
        .checkpoint_path = path,
    };
    lab->err = (struct dml_err){0};
    lab->n_rounds = 0;
    lab->trained = dml_checkpoint_free(lab->trained);
    int r = comm ? dml_run(&lab->env, &args, &lab->totals, &lab->err)
                 : dml_run_local(&lab->env, &args, &lab->totals, &lab->err);
    if (r == 0 && lab->n_unsaved == 0) {
        r = dml_checkpoint_load(path, &lab->trained, &lab->err);
        if (r < 0)
            bail("the checkpoint does not load", &lab->err, r);
    }
    return r;
}

int lab_run(struct lab *lab)
{
    return run(lab, NULL);
}

int lab_run_rank0(struct lab *lab, struct dml_comm *comm)
{
    return run(lab, comm);
}

struct dml_model *lab_model(struct lab *lab)
{
    struct dml_model *m = NULL;
    int r = dml_model_load(lab->cases->cases[0].model.name, NULL, &m, &lab->err);
    if (r < 0)
        bail("the model does not load", &lab->err, r);
    return m;
}

void lab_data(struct lab *lab, struct dml_dataset **ret_train, struct dml_dataset **ret_test)
{
    int r = dml_dataset_load(&lab->cases->cases[0].data, ret_train, ret_test, &lab->err);
    if (r < 0)
        bail("the data does not load", &lab->err, r);
}

size_t lab_differs(const float *a, const float *b, size_t n)
{
    size_t differs = 0;
    for (size_t i = 0; i < n; i++)
        differs += memcmp(&a[i], &b[i], sizeof(float)) != 0;
    return differs;
}
