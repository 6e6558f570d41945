/* Options of the two daemons: /etc/dml/dmlmasterd.conf and dmlworkerd.conf, section by section. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/opt.h"

struct dml_err;

struct dml_master_options {
    char *listen; /* [master] listen */
    char *control_socket;
    int remote;     /* 0 no, 1 read-only, 2 full: what dmlctl may do over TCP */
    char *testcase; /* path of the test case to run at start; "" = none */
    char *results_dir, *model_dir, *plugin_dir, *data_dir;
    uint64_t keep_models; /* 0 = all */
    uint64_t beat_timeout_us;
    int log;         /* enum dml_log_target */
    char *log_level; /* err warning notice info debug */
};

struct dml_worker_options {
    char *master; /* [worker] master = host[:port] */
    char *id;     /* "" = hostname */
    char *peer_listen, *peer_address;
    char *cache_dir, *model_dir, *plugin_dir, *data_dir;
    uint64_t cache_max; /* bytes of cached shards */
    uint64_t heartbeat_us;
    uint64_t backoff_max_us; /* longest pause between attempts to reach the master */
    int affinity;            /* 0 no, 1 auto */
    uint64_t max_cores;      /* 0 = all */
    int log;
    char *log_level;
};

extern const struct dml_opt dml_master_opts[];
extern const struct dml_opt dml_worker_opts[];

/*
 * dml_opt_set() for a row of these tables, after a look at what is an address: gRPC finds out late
 * or never. Errors as dml_opt_set().
 */
int dml_daemon_set(const struct dml_opt *row, void *target, const char *value, const char *file,
                   unsigned line, struct dml_err *err);

/*
 * Reads FILE and FILE.d / *.conf into a struct already filled with defaults. A missing FILE is an
 * error only when `must_exist`. Returns 0, -EINVAL with file, line and the nearest known key, …
 */
int dml_daemon_load(const struct dml_opt *table, void *target, const char *path, bool must_exist,
                    struct dml_err *err);
