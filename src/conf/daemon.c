/*
 * The daemons' settings. Everything here belongs to a machine, not to an experiment: two masters on
 * one machine differ here, two experiments on one master do not.
 *
 * Defaults. A worker beats every 5 s and is given up after six beats, so a Wi-Fi that pauses for
 * some seconds loses nobody. Reconnecting backs off to a minute: a cluster that is switched on in
 * any order is together a minute after the last board. A hundred models are 25 MB of the CNN and
 * 900 MB of MobileNetV2, which the smallest card still holds.
 */
#include "conf/daemon.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/ini.h"
#include "base/mem.h"
#include "conf/known.h"
#include "rpc/channel.h"
#include "rpc/listen.h"

#define LOG_TARGETS "auto journal json text none" /* enum dml_log_target */
#define LOG_HELP    "Where records go; auto: the journal if stderr is it, else JSON lines"
#define LEVEL_HELP  "Least important records to keep: err, warning, notice, info or debug"

#define MASTER(key, type_, field, ...)                                                             \
    {                                                                                              \
        .section = "master", .name = key, .type = type_,                                           \
        .offset = offsetof(struct dml_master_options, field), __VA_ARGS__                          \
    }
#define WORKER(key, type_, field, ...)                                                             \
    {                                                                                              \
        .section = "worker", .name = key, .type = type_,                                           \
        .offset = offsetof(struct dml_worker_options, field), __VA_ARGS__                          \
    }

const struct dml_opt dml_master_opts[] = {
    MASTER("listen", DML_OPT_TEXT, listen, .min = 1, .max = 255, .dflt = "[::]:7077",
           .help = "Address and port where workers join"),
    MASTER("control-socket", DML_OPT_TEXT, control_socket, .dflt = DML_RUN_DIR "/control.sock",
           .max = 107, .flags = DML_OPT_WORDS,
           .help = "Unix socket for dmlctl on this machine; empty: none"),
    MASTER("remote", DML_OPT_CHOICE, remote, .dflt = "read-only", .choices = "no read-only full",
           .help = "What dmlctl may do from other machines"),
    MASTER("testcase", DML_OPT_TEXT, testcase, .dflt = DML_SYSCONFDIR "/testcase.conf",
           .flags = DML_OPT_WORDS, .help = "Test case to run at the start; empty: none"),
    MASTER("results-dir", DML_OPT_TEXT, results_dir, .min = 1, .max = -1,
           .dflt = DML_STATE_DIR "/results", .flags = DML_OPT_WORDS,
           .help = "Where results and trained models are kept"),
    MASTER("keep-models", DML_OPT_UINT, keep_models, .max = 1000000, .dflt = "100",
           .unit = "models",
           .help = "The oldest trained models go when there are more; 0: keep all"),
    MASTER("model-dir", DML_OPT_TEXT, model_dir, .dflt = DML_MODEL_DIR, .flags = DML_OPT_WORDS,
           .help = "Where models are looked up by name"),
    MASTER("plugin-dir", DML_OPT_TEXT, plugin_dir, .dflt = DML_PLUGIN_DIR, .flags = DML_OPT_WORDS,
           .help = "Where strategies are"),
    MASTER("data-dir", DML_OPT_TEXT, data_dir, .dflt = "", .flags = DML_OPT_WORDS,
           .help = "Folder that relative paths of data sets start from; empty: the working folder"),
    MASTER("beat-timeout", DML_OPT_DURATION, beat_timeout_us, .min = 1, .max = 3600, .dflt = "30 s",
           .help = "A worker silent for so long is given up"),
    MASTER("log", DML_OPT_CHOICE, log, .dflt = "auto", .choices = LOG_TARGETS, .help = LOG_HELP),
    MASTER("log-level", DML_OPT_TEXT, log_level, .min = 1, .max = 16, .dflt = "info",
           .help = LEVEL_HELP),
    {0},
};

const struct dml_opt dml_worker_opts[] = {
    WORKER("master", DML_OPT_TEXT, master, .min = 1, .max = 255, .dflt = "localhost",
           .help = "The master's name or address, with :port if not 7077"),
    WORKER("id", DML_OPT_TEXT, id, .dflt = "", .max = 64,
           .help = "Name of this worker, its own in the cluster; empty: the host's name"),
    WORKER("peer-listen", DML_OPT_TEXT, peer_listen, .max = 255, .dflt = "[::]:0",
           .flags = DML_OPT_WORDS,
           .help = "Where other workers send to; port 0: any free one; empty: nowhere"),
    WORKER("peer-address", DML_OPT_TEXT, peer_address, .max = 255, .dflt = "",
           .help =
               "How other workers reach this one, host or host:port; empty: as the master does"),
    WORKER("cache-dir", DML_OPT_TEXT, cache_dir, .dflt = DML_STATE_DIR "/cache",
           .flags = DML_OPT_WORDS, .help = "Keeps shares of data sets; empty: keep nothing"),
    WORKER("cache-max", DML_OPT_BYTES, cache_max, .max = 0x1p50, .dflt = "2 GiB",
           .help = "The oldest shares go when the cache is larger"),
    WORKER("model-dir", DML_OPT_TEXT, model_dir, .dflt = DML_MODEL_DIR, .flags = DML_OPT_WORDS,
           .help = "Where models are looked up by name"),
    WORKER("plugin-dir", DML_OPT_TEXT, plugin_dir, .dflt = DML_PLUGIN_DIR, .flags = DML_OPT_WORDS,
           .help = "Where strategies are"),
    WORKER("data-dir", DML_OPT_TEXT, data_dir, .dflt = "", .flags = DML_OPT_WORDS,
           .help = "Folder that relative paths of data sets start from; empty: the working folder"),
    WORKER("heartbeat", DML_OPT_DURATION, heartbeat_us, .min = 0.1, .max = 600, .dflt = "5 s",
           .help = "Pause between two signs of life"),
    WORKER("backoff-max", DML_OPT_DURATION, backoff_max_us, .min = 0.1, .max = 3600,
           .dflt = "1 min", .help = "Longest pause between two attempts to reach the master"),
    WORKER("affinity", DML_OPT_CHOICE, affinity, .dflt = "auto", .choices = "no auto",
           .help = "auto: keep each compute thread on one core"),
    WORKER("max-cores", DML_OPT_UINT, max_cores, .max = 4096, .dflt = "0", .unit = "cores",
           .help = "Use no more than so many; 0: all"),
    WORKER("log", DML_OPT_CHOICE, log, .dflt = "auto", .choices = LOG_TARGETS, .help = LOG_HELP),
    WORKER("log-level", DML_OPT_TEXT, log_level, .min = 1, .max = 16, .dflt = "info",
           .help = LEVEL_HELP),
    {0},
};

/* How others reach this worker; they have their own Unix sockets. */
static int check_peer_address(const char *address, struct dml_err *err)
{
    char target[DML_CHANNEL_TARGET_MAX];
    if (!strncmp(address, "unix:", 5) || dml_channel_target(address, target, NULL) < 0)
        return dml_err_set(err, -EINVAL,
                           "\"%.200s\" is no address for other workers: wanted host, host:port or "
                           "[address]:port, with a port from 1 to 65535.",
                           address);
    return 0;
}

static int check_master(const char *address, struct dml_err *err)
{
    char target[DML_CHANNEL_TARGET_MAX];
    return dml_channel_target(address, target, err);
}

int dml_daemon_set(const struct dml_opt *row, void *target, const char *value, const char *file,
                   unsigned line, struct dml_err *err)
{
    static const struct {
        const char *name;
        int (*check)(const char *address, struct dml_err *err);
    } addresses[] = {
        {"listen", dml_listen_check},
        {"peer-listen", dml_listen_check},
        {"peer-address", check_peer_address},
        {"master", check_master},
    };
    struct dml_err why = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(addresses); i++)
        if (value && value[0] && !strcmp(row->name, addresses[i].name))
            r = addresses[i].check(value, &why);
    if (r < 0)
        return dml_err_at(err, r, file, line, "%s.%s: %s", row->section, row->name, why.text);
    return dml_opt_set(row, target, value, file, line, err);
}

int dml_daemon_load(const struct dml_opt *table, void *target, const char *path, bool must_exist,
                    struct dml_err *err)
{
    const struct dml_opt *const tables[] = {table, NULL};
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    if (!ini)
        return -ENOMEM;
    bool is_there = must_exist || access(path, F_OK) == 0 || errno != ENOENT;
    int r = is_there ? dml_ini_load(ini, path, err) : 0;
    if (r == 0)
        r = dml_ini_load_dropins(ini, path, err);
    for (size_t i = 0; r == 0 && i < ini->n_entries; i++) {
        const struct dml_ini_entry *e = &ini->entries[i];
        const struct dml_opt *row = NULL;
        r = dml_known_find(tables, e, &row, err);
        if (r == 0)
            r = dml_daemon_set(row, target, e->value, e->file, e->line, err);
    }
    return r;
}
