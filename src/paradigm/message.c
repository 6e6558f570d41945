#include "paradigm/message.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "paradigm/paradigm.h"

/* How long a wait may ignore a cancelled run: a person's patience after Ctrl-C. */
#define SLICE_US 200000

int dml_message_send(struct dml_comm *comm, uint32_t to, uint32_t kind, uint64_t seq)
{
    struct dml_comm_msg msg = {.kind = kind, .seq = seq};
    return dml_comm_send(comm, to, &msg);
}

int dml_message_next(struct dml_task *task, uint64_t deadline_us, struct dml_comm_msg *ret)
{
    for (;;) {
        if (task->cancel && atomic_load(task->cancel))
            return -ECANCELED;
        uint64_t now = dml_clock_now_us();
        if (now >= deadline_us)
            return -ETIMEDOUT;
        uint64_t slice = deadline_us - now < SLICE_US ? deadline_us : now + SLICE_US;
        int r = dml_comm_recv(task->comm, DML_COMM_ANY, slice, ret);
        if (r != -ETIMEDOUT)
            return r;
    }
}

void dml_message_done(struct dml_comm_msg *msg)
{
    msg->body = dml_buf_unref(msg->body);
}

void dml_message_send_failed(struct dml_comm *comm, int r, const struct dml_err *err)
{
    char text[1100];
    dml_err_format(err, r, text, sizeof(text));
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_FAILED,
        .body = dml_buf_new_copy(text, strlen(text)),
    };
    (void)dml_comm_send(comm, 0, &msg);
}

const char *dml_message_text(const struct dml_buf *body, char *dst, size_t dst_len)
{
    const char *s = body ? (const char *)body->data : "";
    size_t used = 0, len = body ? body->len : 0;
    for (size_t i = 0; i < len;) {
        unsigned n = dml_text_utf8(s + i, len - i);
        bool bad = n == 0 || (unsigned char)s[i] < 0x20 || s[i] == 0x7f;
        size_t take = bad ? 1 : n;
        if (used + take >= dst_len)
            break;
        if (bad)
            dst[used] = '?';
        else
            memcpy(dst + used, s + i, n);
        used += take;
        i += take;
    }
    dst[used] = '\0';
    return dst;
}
