/* The daemons' settings: defaults, drop-ins, and what is said about a slip. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/daemon.h"
#include "tests/tap.h"

static char dir[] = "/tmp/dml-test-daemon.XXXXXX";

static char *put(const char *name, const char *text)
{
    char *path = dml_mem_printf("%s/%s", dir, name);
    if (!path || dml_fileio_write(path, text, strlen(text), 0644, NULL) < 0)
        tap_ok(false, "cannot write %s", name);
    return path;
}

static void test_defaults(void)
{
    struct dml_master_options m;
    struct dml_worker_options w;
    struct dml_err err = {0};
    tap_int(dml_opt_defaults(dml_master_opts, &m), 0, "a master's defaults fit their rows");
    tap_int(dml_opt_defaults(dml_worker_opts, &w), 0, "a worker's, too");
    tap_str(m.listen, "[::]:7077", "listen");
    tap_str(m.control_socket, DML_RUN_DIR "/control.sock", "control socket");
    tap_str(m.testcase, DML_SYSCONFDIR "/testcase.conf", "test case");
    tap_str(m.results_dir, DML_STATE_DIR "/results", "results");
    tap_int(m.remote, 1, "other machines may look");
    tap_int((long long)m.keep_models, 100, "keep-models");
    tap_int(m.log, DML_LOG_AUTO, "log");
    tap_str(w.master, "localhost", "master");
    tap_int((long long)w.cache_max, 2LL << 30, "cache");
    tap_int((long long)w.heartbeat_us, 5000000, "heartbeat");
    tap_int(w.affinity, 1, "affinity");
    _cleanup_(dml_mem_freep) char *none = dml_mem_printf("%s/none.conf", dir);
    tap_int(dml_daemon_load(dml_worker_opts, &w, none, false, &err), 0, "no file, no mistake");
    tap_ok(!dml_err_is_set(&err), "and no sentence");
    tap_int(dml_daemon_load(dml_worker_opts, &w, none, true, &err), -ENOENT, "unless it must be");
    tap_str(err.file, none, "named");
    dml_opt_done(dml_master_opts, &m);
    dml_opt_done(dml_worker_opts, &w);
}

static void test_load(void)
{
    struct dml_master_options m;
    struct dml_err err = {0};
    (void)dml_opt_defaults(dml_master_opts, &m);
    _cleanup_(dml_mem_freep) char *path =
        put("m.conf", "[master]\nlisten = 127.0.0.1:0\nremote = full\nbeat-timeout = 2 min\n"
                      "log = json\ntestcase =\nkeep-models = 0\nresults-dir = /srv/my results\n");
    _cleanup_(dml_mem_freep) char *dropins = dml_mem_printf("%s.d", path);
    tap_int(dml_daemon_load(dml_master_opts, &m, path, true, &err), 0, "a file");
    tap_str(m.listen, "127.0.0.1:0", "listen");
    tap_int(m.remote, 2, "remote");
    tap_int((long long)m.beat_timeout_us, 120000000, "beat-timeout");
    tap_int(m.log, DML_LOG_JSON, "log");
    tap_int((long long)m.keep_models, 0, "keep-models");
    tap_str(m.testcase, "", "empty means none");
    tap_str(m.results_dir, "/srv/my results", "a path with a blank");
    tap_str(m.log_level, "info", "what is not in the file keeps its default");
    (void)mkdir(dropins, 0755);
    free(put("m.conf.d/10.conf", "[master]\nremote = no\n"));
    tap_int(dml_daemon_load(dml_master_opts, &m, path, true, &err), 0, "with a drop-in");
    tap_int(m.remote, 0, "that replaces");
    (void)unlink(path);
    m.remote = 2;
    tap_int(dml_daemon_load(dml_master_opts, &m, path, false, &err), 0, "drop-ins alone");
    tap_int(m.remote, 0, "are read, too");
    dml_opt_done(dml_master_opts, &m);
}

/* One key in a file of its own; returns what loading it does. */
static int load_one(const struct dml_opt *table, const char *key, const char *value,
                    struct dml_err *err)
{
    union {
        struct dml_master_options m;
        struct dml_worker_options w;
    } target = {0};
    _cleanup_(dml_mem_freep) char *text =
        dml_mem_printf("[%s]\n%s = %s\n", table[0].section, key, value);
    _cleanup_(dml_mem_freep) char *path = put("address.conf", text);
    *err = (struct dml_err){0};
    (void)dml_opt_defaults(table, &target);
    int r = dml_daemon_load(table, &target, path, true, err);
    dml_opt_done(table, &target);
    return r;
}

static void test_addresses(void)
{
    static const char *const ears[] = {"[::]:7077", "[::1]:0", "127.0.0.1:65535", "pi-1.local:7077",
                                       "[fe80::1]:1"};
    static const char *const no_ears[] = {
        "99999", "7077", "[::]:99999", "[::]:65536", "127.0.0.1:", ":7077", "[::]", "::1:7077",
        "[::]:70x", "[::]:-1", "[]:7077", "[::]]:7077", "[a b]:1", "a b:1", "unix:/run/x", "*:7077",
        "[::]:184467440737095516"};
    static const char *const targets[] = {"pi1", "pi1.local:7077", "[::1]:7077", "fe80::1", "10.0.0.1"};
    static const char *const no_targets[] = {"pi1:99999", "pi1:0", "pi1:", "a b", "[::1", "pi1:70x",
                                             "http://pi1"};
    struct dml_err err;
    for (size_t i = 0; i < ARRAY_SIZE(ears); i++) {
        tap_int(load_one(dml_master_opts, "listen", ears[i], &err), 0, ears[i]);
        tap_int(load_one(dml_worker_opts, "peer-listen", ears[i], &err), 0, ears[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(no_ears); i++) {
        tap_int(load_one(dml_master_opts, "listen", no_ears[i], &err), -EINVAL, no_ears[i]);
        tap_int((int)err.line, 2, "with its line");
        tap_has(err.text, "with a port from 0 (any that is free) to 65535", "and what is allowed");
        tap_int(load_one(dml_worker_opts, "peer-listen", no_ears[i], &err), -EINVAL, no_ears[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        tap_int(load_one(dml_worker_opts, "master", targets[i], &err), 0, targets[i]);
        tap_int(load_one(dml_worker_opts, "peer-address", targets[i], &err), 0, targets[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(no_targets); i++) {
        tap_int(load_one(dml_worker_opts, "master", no_targets[i], &err), -EINVAL, no_targets[i]);
        tap_has(err.text, "with a port from 1 to 65535", "with what is allowed");
        tap_int(load_one(dml_worker_opts, "peer-address", no_targets[i], &err), -EINVAL,
                no_targets[i]);
    }
    tap_int(load_one(dml_worker_opts, "peer-listen", "", &err), 0, "to listen nowhere");
    tap_int(load_one(dml_worker_opts, "master", "unix:/run/x", &err), 0, "a master's socket");
    tap_int(load_one(dml_worker_opts, "peer-address", "unix:/run/x", &err), -EINVAL,
            "no worker has one");
}

static void test_mistakes(void)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *words;
    } bad[] = {
        {"[master]\nlsten = x\n", 2, "unknown key \"lsten\" in [master]; did you mean listen?"},
        {"[mister]\nlisten = x\n", 2, "unknown section [mister]; did you mean [master]?"},
        {"[worker]\nmaster = x\n", 2, "unknown section [worker]; known are: master"},
        {"[master]\n\nremote = ful\n", 3,
         "master.remote = ful: must be one of no read-only full; did you mean full?"},
        {"[master]\nbeat-timeout = 0\n", 2, "1 s to 1 h"},
        {"[master]\nresults-dir =\n", 2, "must be a text, not empty"},
        {"[master]\ncolour = red\n", 2, "[master] knows: listen control-socket"},
        {"[master]\nlisten\n", 2, "neither [section] nor key = value"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct dml_master_options m;
        struct dml_err err = {0};
        (void)dml_opt_defaults(dml_master_opts, &m);
        _cleanup_(dml_mem_freep) char *path = put("bad.conf", bad[i].text);
        tap_int(dml_daemon_load(dml_master_opts, &m, path, true, &err), -EINVAL, bad[i].words);
        tap_str(err.file, path, "file");
        tap_int(err.line, bad[i].line, "line");
        tap_has(err.text, bad[i].words, "sentence");
        dml_opt_done(dml_master_opts, &m);
    }
}

int main(void)
{
    if (!mkdtemp(dir))
        return 99;
    test_defaults();
    test_load();
    test_addresses();
    test_mistakes();
    _cleanup_(dml_mem_freep) char *clean = dml_mem_printf("rm -rf %s", dir);
    return system(clean) == 0 ? tap_done() : 99;
}
