/* What gRPC does not tell about listening: why it failed, and whose a socket file is. */
#pragma once

struct dml_err;

/*
 * Whether one could ask to listen there: address:port, the address a name or IPv4, or IPv6 in
 * brackets, the port 0 (any free one) to 65535. Returns 0 or -EINVAL with a sentence that says so.
 */
int dml_listen_check(const char *address, struct dml_err *err);

/* After listening on `address` failed: the reason as a negative errno and a sentence. */
int dml_listen_explain(const char *address, struct dml_err *err);

/*
 * Before listening on a Unix socket: nobody may be listening there already, and nothing but a
 * socket may lie there. Returns 0, -EADDRINUSE, -EEXIST, -ENAMETOOLONG, … with err filled.
 */
int dml_listen_check_socket(const char *path, struct dml_err *err);

/* Connects and hangs up. Returns 0 or the negative errno of connect(). */
int dml_listen_probe(const char *path);
