/* What waits in an inbox is counted, or nobody would stop a sender whom nobody reads. */
#include "rpc/inbox.h"
#include "tests/tap.h"

enum { N = 1000, LEN = 1 << 20, KIND = DML_COMM_USER };

/* Reads all there is; returns how many messages that were. */
static unsigned read_all(struct dml_inbox *in)
{
    unsigned n = 0;
    for (struct dml_comm_msg msg; dml_inbox_recv(in, 1, 0, &msg) == 0; n++)
        (void)dml_buf_unref(msg.body);
    return n;
}

static void push(struct dml_inbox *in, unsigned n, struct dml_buf *body)
{
    unsigned done = 0;
    for (uint64_t i = 0; i < n; i++) {
        const struct dml_comm_msg msg = {.from = 1, .kind = KIND, .seq = i, .body = body};
        done += dml_inbox_push(in, &msg) == 0;
    }
    tap_int(done, n, "messages");
}

int main(void)
{
    struct dml_inbox *in = dml_inbox_new(2, 0);
    struct dml_buf *body = dml_buf_new(LEN);
    uint64_t each = sizeof(struct dml_comm_msg);
    tap_int((long long)dml_inbox_unread(in, 1), 0, "an empty inbox");
    tap_int(dml_inbox_join(in, 1), 0, "somebody comes");
    tap_int(read_all(in), 1, "and is announced");
    push(in, N, NULL);
    uint64_t bytes = dml_inbox_unread(in, 1);
    tap_ok(bytes >= N * each, "without a body they take up %llu bytes, at least %llu",
           (unsigned long long)bytes, (unsigned long long)(N * each));
    push(in, 1, body);
    tap_ok(dml_inbox_unread(in, 1) >= bytes + LEN, "a body counts, too");
    tap_int(read_all(in), N + 1, "all are read");
    tap_int((long long)dml_inbox_unread(in, 1), 0, "and take up nothing");

    push(in, N, body);
    dml_inbox_leave(in, 1, true);
    tap_ok(dml_inbox_unread(in, 1) < 2 * LEN, "whoever is lost leaves little behind");
    tap_int(read_all(in), 1, "that it is lost");
    tap_int((long long)dml_inbox_unread(in, 1), 0, "then nothing");
    (void)dml_inbox_free(in);
    tap_ok(dml_buf_is_sole(body), "nor is the body held");
    (void)dml_buf_unref(body);
    return tap_done();
}
