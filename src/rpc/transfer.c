/*
 * A body of 100 MB is a hundred messages whose slices point into the buffer that all receivers of a
 * broadcast share; each slice holds a reference, given back when the kernel has taken the bytes (or
 * earlier, when gRPC copied a small one, on whatever thread).
 *
 * The receiver makes the whole buffer when the header announces it, after checking the length, and
 * touches its pages only as bytes arrive: a peer that announces much and sends little costs address
 * space, not memory.
 */
#include "rpc/transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

struct grpc_byte_buffer *dml_transfer_message(unsigned char *data, size_t len)
{
    grpc_slice slice = grpc_slice_new(data, len, free);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return message;
}

static int send_frame(struct dml_stream *s, const struct dml_wire_frame *frame, uint64_t label,
                      struct dml_meter *meter)
{
    unsigned char *data;
    size_t len;
    int r = dml_wire_pack(frame, &data, &len);
    return r < 0 ? r : dml_stream_send(s, dml_transfer_message(data, len), label, meter);
}

int dml_transfer_send_frame(struct dml_stream *s, const struct dml_wire_frame *frame)
{
    return send_frame(s, frame, 0, NULL);
}

static void unref_body(void *body)
{
    dml_loop_get(body);
    (void)dml_buf_unref(body);
}

int dml_transfer_send(struct dml_stream *s, uint64_t run_id, const struct dml_comm_msg *msg,
                      struct dml_meter *meter)
{
    struct dml_wire_frame frame = {.kind = DML_WIRE_HEADER, .run_id = run_id};
    frame.header.msg = *msg;
    frame.header.has_body = msg->body != NULL;
    frame.header.body_len = msg->body ? msg->body->len : 0;
    int r = send_frame(s, &frame, run_id, meter);

    for (uint64_t at = 0; r == 0 && at < frame.header.body_len;) {
        uint64_t left = frame.header.body_len - at;
        size_t len = left < DML_WIRE_CHUNK ? (size_t)left : DML_WIRE_CHUNK;
        unsigned char head[DML_WIRE_CHUNK_HEAD];
        size_t head_len = dml_wire_pack_chunk(run_id, len, head);
        dml_loop_give(msg->body);
        grpc_slice slices[] = {
            grpc_slice_from_copied_buffer((const char *)head, head_len),
            grpc_slice_new_with_user_data(msg->body->data + at, len, unref_body,
                                          dml_buf_ref(msg->body)),
        };
        grpc_byte_buffer *message = grpc_raw_byte_buffer_create(slices, 2);
        grpc_slice_unref(slices[0]);
        grpc_slice_unref(slices[1]);
        r = dml_stream_send(s, message, run_id, meter);
        at += len;
    }
    return r;
}

void dml_transfer_done(struct dml_transfer *t)
{
    if (t->coming)
        (void)dml_buf_unref(t->header.header.msg.body);
    *t = (struct dml_transfer){0};
}

/* Copies from `skip` on at most `max` bytes of the message. Returns how many it had. */
static size_t copy_out(struct grpc_byte_buffer *message, size_t skip, unsigned char *dst,
                       size_t max)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, message))
        return 0;
    size_t done = 0;
    grpc_slice *slice;
    while (done < max && grpc_byte_buffer_reader_peek(&reader, &slice)) {
        const unsigned char *from = GRPC_SLICE_START_PTR(*slice);
        size_t len = GRPC_SLICE_LENGTH(*slice);
        size_t passed = skip < len ? skip : len;
        skip -= passed;
        size_t n = len - passed < max - done ? len - passed : max - done;
        if (n)
            memcpy(dst + done, from + passed, n);
        done += n;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    return done;
}

unsigned char *dml_transfer_bytes(struct grpc_byte_buffer *message, size_t *ret_len)
{
    size_t len = grpc_byte_buffer_length(message);
    unsigned char *data = malloc(len ? len : 1);
    if (data)
        *ret_len = copy_out(message, 0, data, len);
    return data;
}

/* The message is whole: moves it out. */
static int complete(struct dml_transfer *t, struct dml_wire_frame *ret)
{
    bool unwanted = t->unwanted;
    *ret = t->header;
    *t = (struct dml_transfer){0};
    return unwanted ? 0 : 1;
}

static int take_chunk(struct dml_transfer *t, struct grpc_byte_buffer *message, uint64_t run_id,
                      size_t offset, size_t len, struct dml_wire_frame *ret)
{
    if (!t->coming || run_id != t->header.run_id || len == 0 ||
        len > t->header.header.body_len - t->have)
        return -EPROTO;
    if (!t->unwanted &&
        copy_out(message, offset, t->header.header.msg.body->data + t->have, len) != len)
        return -EPROTO;
    t->have += len;
    return t->have == t->header.header.body_len ? complete(t, ret) : 0;
}

static int take_header(struct dml_transfer *t, const struct dml_wire_frame *header,
                       uint64_t (*room)(void *arg, uint64_t run_id), void *arg,
                       struct dml_wire_frame *ret)
{
    dml_transfer_done(t); /* the sender gave up what was coming */
    t->header = *header;
    uint64_t longest = room(arg, header->run_id);
    t->unwanted = longest == 0;
    if (!t->unwanted && header->header.body_len > longest)
        return -EPROTO;
    if (header->header.has_body && !t->unwanted) {
        t->header.header.msg.body = dml_buf_new((size_t)header->header.body_len);
        if (!t->header.header.msg.body)
            return -ENOMEM;
    }
    t->coming = true;
    return header->header.body_len == 0 ? complete(t, ret) : 0;
}

int dml_transfer_receive(struct dml_transfer *t, struct grpc_byte_buffer *message,
                         uint64_t (*room)(void *arg, uint64_t run_id), void *arg,
                         struct dml_wire_frame *ret)
{
    unsigned char head[DML_WIRE_CHUNK_HEAD];
    size_t total = grpc_byte_buffer_length(message), offset = 0;
    uint64_t run_id = 0;
    (void)copy_out(message, 0, head, sizeof(head));
    int r = dml_wire_unpack_chunk(head, total, &run_id, &offset);
    if (r < 0)
        return r;
    if (r > 0)
        return take_chunk(t, message, run_id, offset, total - offset, ret);

    size_t len;
    unsigned char *data = dml_transfer_bytes(message, &len);
    if (!data)
        return -ENOMEM;
    struct dml_wire_frame frame;
    r = dml_wire_unpack(data, len, &frame);
    free(data);
    if (r < 0)
        return r;
    if (frame.kind == DML_WIRE_HEADER)
        return take_header(t, &frame, room, arg, ret);
    *ret = frame;
    return 1;
}
