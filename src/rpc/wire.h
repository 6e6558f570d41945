/*
 * What is said over the wire, as plain structs; wire.c alone knows the protobuf messages.
 *
 * Every text that comes from outside is cut to the sizes below, every count is checked before it
 * is used, and a message that breaks a limit ends the connection with -EPROTO.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Raised with every incompatible change of dml.proto; both sides refuse another one. */
#define DML_WIRE_PROTOCOL 2

#define DML_WIRE_CHUNK       (1u << 20) /* bytes of body per chunk message: measured optimum */
#define DML_WIRE_MESSAGE_MAX (4u << 20) /* gRPC's receive limit: no single message is larger */
#define DML_WIRE_TEXT_MAX    (1u << 20) /* a test case or a model as text */
#define DML_WIRE_PORT        7077
#define DML_WIRE_ADDRESS_MAX 264 /* room for host:port */
#define DML_WIRE_SECRET_LEN  16

/* The worker's first message. */
struct dml_hello {
    uint32_t protocol;
    char worker_id[64]; /* stable over reboots; [A-Za-z0-9._-] */
    char host[128];
    char machine[64]; /* machine-id hash: workers with the same one share a machine */
    char board[128];  /* "Raspberry Pi 4 Model B Rev 1.4", or the CPU's name */
    char arch[16];    /* "aarch64" */
    char version[32]; /* of dml */
    uint32_t cores;
    uint64_t memory_bytes;
    double gflops;                           /* calibrated, one thread */
    uint16_t peer_port;                      /* where it listens for other workers; 0: nowhere */
    char peer_address[DML_WIRE_ADDRESS_MAX]; /* host[:port] for them; "": as the master sees it */
};

/* Read with every heartbeat. Unknown values are negative. */
struct dml_health {
    double temperature_c;
    int32_t throttled; /* firmware's get_throttled bits; -1 unknown */
    double mhz;        /* current clock of CPU 0 */
    int64_t rss_bytes;
};

/* "Take part in this run." The master's instruction to one worker. */
struct dml_run_order {
    uint64_t run_id;
    uint32_t rank, size;
    uint32_t slot;  /* 0, 1 … among the workers of this run on the same machine */
    char *testcase; /* INI text of one expanded test case; own string */
    char *model;    /* text of the model file; own string */
    /* Filled in by dml_server_comm_attach(): how workers of a run know each other. */
    uint32_t life; /* grows each time that a rank of this run is given to a worker */
    unsigned char secret[DML_WIRE_SECRET_LEN];
};

void dml_run_order_done(struct dml_run_order *order);

enum dml_control_command {
    DML_CONTROL_STATUS = 1,
    DML_CONTROL_WORKERS,
    DML_CONTROL_RUN, /* text: a test case; file: its name for messages; folder: where relative paths
                      * in it begin; models: what it names that is a file of dmlctl's machine */
    DML_CONTROL_STOP,
    DML_CONTROL_WATCH,  /* replies go on until the client leaves or the master stops */
    DML_CONTROL_REPORT, /* text: name of a result, "" = newest */
    DML_CONTROL_MAX_
};

#define DML_CONTROL_MODELS_MAX 64 /* as many as dmlctl may send with a test case */

struct dml_control_model {
    char *name, *text; /* own strings */
};

struct dml_control_request {
    enum dml_control_command command;
    char *text, *file, *folder; /* own strings, may be NULL */
    struct dml_control_model *models;
    size_t n_models;
};

void dml_control_request_done(struct dml_control_request *r);
/* Returns 0 or -ENOMEM. */
int dml_control_request_copy(const struct dml_control_request *r, struct dml_control_request *ret);
