/*
 * dmlctl's questions on the Unix socket and over TCP: who answers, what an error carries, whose the
 * socket and the port are.
 */
#include <sys/un.h>

#include "tests/unit/grpc_cluster.h"

struct heard {
    unsigned n, enough;
    size_t len;
    char last[64];
    struct dml_control *hang_up;
};

static int hear(void *arg, const char *json)
{
    struct heard *h = arg;
    h->n++;
    h->len = strlen(json);
    snprintf(h->last, sizeof(h->last), "%s", json);
    if (h->hang_up)
        dml_control_cancel(h->hang_up);
    return h->enough && h->n >= h->enough ? 42 : 0;
}

static int ask(const char *target, enum dml_control_command command, struct heard *h,
               struct dml_err *err)
{
    char text[] = "nonsense", file[] = "my.conf";
    struct dml_control_request request = {.command = command, .text = text, .file = file};
    struct dml_control *c = NULL;
    *err = (struct dml_err){0};
    int r = dml_control_new(target, &c, err);
    if (r == 0)
        r = dml_control_call(c, &request, 60 * SECOND, hear, h, err);
    (void)dml_control_free(c);
    return r;
}

static void test_control(const char *dir)
{
    struct master m, second;
    struct dml_err err = {0};
    char path[256], local[300], remote[64];
    snprintf(path, sizeof(path), "%s/control.sock", dir);
    snprintf(local, sizeof(local), "unix:%s", path);
    struct heard h = {0};

    tap_int(ask(local, DML_CONTROL_STATUS, &h, &err), -EHOSTDOWN, "no socket, no master");
    tap_has(err.text, "systemctl start dmlmasterd", "the remedy is named");
    if (master_start(&m, "127.0.0.1:0", path, 60 * SECOND, &err) < 0)
        tap_note("%s", err.text);
    snprintf(remote, sizeof(remote), "127.0.0.1:%u", dml_server_port(m.server));
    struct stat st;
    tap_ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0660,
           "the socket is for owner and group");

    tap_int(ask(local, DML_CONTROL_STATUS, &h, &err), 0, "a question on the socket");
    tap_int(h.n, 2, "has two answers");
    tap_str(h.last, "{\"n\":2}", "in order");
    h = (struct heard){.enough = 1};
    tap_int(ask(local, DML_CONTROL_STATUS, &h, &err), 42, "the caller may hang up");
    tap_str(h.last, "{\"local\":true}", "the socket is local");
    tap_int(ask(remote, DML_CONTROL_STATUS, &h, &err), 42, "the same over TCP");
    tap_str(h.last, "{\"local\":false}", "is not");

    h = (struct heard){0};
    tap_int(ask(remote, DML_CONTROL_RUN, &h, &err), -EINVAL, "an error comes through");
    tap_str(err.file, "my.conf", "with its file");
    tap_int(err.line, 7, "and line");
    tap_str(err.text, "\"nonsense\" is no test case.", "and sentence");
    tap_int(ask(local, DML_CONTROL_STOP, &h, &err), -EPERM, "an error without a sentence");
    tap_str(err.text, strerror(EPERM), "gets one");
    tap_int(ask(local, DML_CONTROL_REPORT, &h, &err), 0, "a reply larger than a message");
    tap_int((long long)h.len, 5 << 20, "arrives whole");
    tap_int(ask(local, (enum dml_control_command)99, &h, &err), -EPROTO, "an unknown command");
    tap_has(err.text, "does not know command 99", "is answered");

    struct dml_control *c = NULL;
    struct dml_control_request watch = {.command = DML_CONTROL_WATCH};
    (void)dml_control_new(local, &c, &err);
    h = (struct heard){.hang_up = c};
    tap_int(dml_control_call(c, &watch, 60 * SECOND, hear, &h, &err), -ECANCELED,
            "a watcher that is told to stop stops");
    tap_int(h.n, 1, "after what it saw");
    (void)dml_control_free(c);
    tap_ok(wait_for(&m, &m.n_watched, 1), "the master has the call");
    pthread_mutex_lock(&m.lock);
    struct dml_control_call *call = m.watch;
    pthread_mutex_unlock(&m.lock);
    for (uint64_t until = soon(); !dml_control_is_gone(call) && dml_clock_now_us() < until;)
        dml_clock_sleep_us(1000);
    tap_ok(dml_control_is_gone(call), "the master notices");
    tap_int(dml_control_reply(call, "{}"), -EPIPE, "and finds nobody to talk to");
    dml_control_end(call, 0, NULL);

    tap_int(master_start(&second, remote, "", SECOND, &err), -EADDRINUSE, "one port, one master");
    tap_has(err.text, remote, "the sentence names it");
    tap_int(master_start(&second, "127.0.0.1:0", path, SECOND, &err), -EADDRINUSE,
            "one socket, one master");
    tap_has(err.text, path, "the sentence names it");
    h = (struct heard){0};
    tap_int(ask(local, DML_CONTROL_STATUS, &h, &err), 0, "the first one still answers");
    tap_int(master_start(&second, "nonsense", "", SECOND, &err), -EINVAL, "an address is wanted");
    tap_int(master_start(&second, "127.0.0.1:0", "/proc/nowhere/x.sock", SECOND, &err),
            -EADDRNOTAVAIL, "a directory is wanted");
    master_stop(&m);

    /* A socket that a killed master left behind. */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    (void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s", path);
    (void)unlink(path);
    if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
        tap_note("no stale socket: %s", strerror(errno));
    (void)close(fd);
    h = (struct heard){0};
    tap_int(ask(local, DML_CONTROL_STATUS, &h, &err), -EHOSTDOWN, "a stale socket is no master");
    tap_int(master_start(&m, "127.0.0.1:0", path, SECOND, &err), 0, "and is replaced");
    tap_int(ask(local, DML_CONTROL_STATUS, &h, &err), 0, "by one that answers");
    master_stop(&m);
    (void)unlink(path);

    FILE *f = fopen(path, "w");
    if (f)
        (void)fclose(f);
    tap_int(master_start(&second, "127.0.0.1:0", path, SECOND, &err), -EEXIST,
            "a file that is no socket stays");
    tap_ok(stat(path, &st) == 0 && S_ISREG(st.st_mode), "where it is");
    (void)unlink(path);
    tap_int(ask("[::1", DML_CONTROL_STATUS, &h, &err), -EINVAL, "a target has a form");
}

int main(void)
{
    if (!have_loopback()) {
        tap_skip("no socket on 127.0.0.1: %s", strerror(errno));
        return tap_done();
    }
    char dir[] = "/tmp/dml-control-XXXXXX";
    if (!mkdtemp(dir)) {
        tap_skip("no directory: %s", strerror(errno));
        return tap_done();
    }
    test_control(dir);
    (void)rmdir(dir);
    return tap_done();
}
