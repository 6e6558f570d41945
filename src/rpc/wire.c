/*
 * protobuf-c copies every field once on packing and once on unpacking. That is right for everything
 * here; chunks of bodies, which are what the network is busy with, are taken apart by hand
 * (wire_chunk.c).
 *
 * Errors are negative errnos. Linux has the same numbers on every architecture that dml runs on.
 */
#include "rpc/wire_pack.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/dml.pb-c.h"
#include "rpc/clean.h"

static_assert(DML_WIRE_PROTOCOL == 2, "look at every frame below, then raise this as well");

enum {
    ERRNO_MAX = 4095,    /* the kernel's limit for error numbers in pointers */
    FILE_NAME_MAX = 256, /* as in struct dml_err */
};

/* A text with lines in it, taken over whole. Moves the string, leaves NULL. */
static int take_text(char **io_src, char **ret)
{
    if (strlen(*io_src) > DML_WIRE_TEXT_MAX)
        return -EPROTO;
    /* An empty string of protobuf-c's is not on the heap. */
    if (*io_src == protobuf_c_empty_string) {
        *ret = strdup("");
        return *ret ? 0 : -ENOMEM;
    }
    *ret = *io_src;
    *io_src = NULL;
    return 0;
}

static int error_from_wire(int32_t e)
{
    return e == 0 ? 0 : e < 0 && e >= -ERRNO_MAX ? e : -EPROTO;
}

void dml_run_order_done(struct dml_run_order *order)
{
    free(order->testcase);
    free(order->model);
    order->testcase = order->model = NULL;
}

void dml_wire_frame_done(struct dml_wire_frame *f)
{
    if (f->kind == DML_WIRE_ORDER)
        dml_run_order_done(&f->order);
    f->kind = 0;
}

static int pack(const ProtobufCMessage *m, unsigned char **ret, size_t *ret_len)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    if (len > DML_WIRE_MESSAGE_MAX)
        return -EMSGSIZE;
    unsigned char *data = malloc(len ? len : 1);
    if (!data)
        return -ENOMEM;
    (void)protobuf_c_message_pack(m, data);
    *ret = data;
    *ret_len = len;
    return 0;
}

static bool too_long(const char *text)
{
    return text && strlen(text) > DML_WIRE_TEXT_MAX;
}

/* Strings that a message merely points to while it is packed. */
static char *lent(const char *s)
{
    return (char *)(uintptr_t)(s ? s : protobuf_c_empty_string);
}

static ProtobufCBinaryData secret_of(const unsigned char *secret)
{
    return (ProtobufCBinaryData){.len = DML_WIRE_SECRET_LEN, .data = (uint8_t *)(uintptr_t)secret};
}

static int take_secret(const ProtobufCBinaryData *src, unsigned char *ret)
{
    if (src->len != DML_WIRE_SECRET_LEN)
        return -EPROTO;
    memcpy(ret, src->data, DML_WIRE_SECRET_LEN);
    return 0;
}

int dml_wire_pack(const struct dml_wire_frame *f, unsigned char **ret, size_t *ret_len)
{
    Dml__Frame m = DML__FRAME__INIT;
    Dml__Hello hello = DML__HELLO__INIT;
    Dml__Welcome welcome = DML__WELCOME__INIT;
    Dml__Order order = DML__ORDER__INIT;
    Dml__Ended ended = DML__ENDED__INIT;
    Dml__Beat beat = DML__BEAT__INIT;
    Dml__Header header = DML__HEADER__INIT;
    Dml__PeerNews peer = DML__PEER_NEWS__INIT;
    Dml__PeerHello peer_hello = DML__PEER_HELLO__INIT;

    m.run_id = f->run_id;
    switch (f->kind) {
    case DML_WIRE_HELLO:
        hello.protocol = f->hello.protocol;
        hello.worker_id = lent(f->hello.worker_id);
        hello.host = lent(f->hello.host);
        hello.machine = lent(f->hello.machine);
        hello.board = lent(f->hello.board);
        hello.arch = lent(f->hello.arch);
        hello.version = lent(f->hello.version);
        hello.cores = f->hello.cores;
        hello.memory_bytes = f->hello.memory_bytes;
        hello.gflops = f->hello.gflops;
        hello.peer_port = f->hello.peer_port;
        hello.peer_address = lent(f->hello.peer_address);
        m.what_case = DML__FRAME__WHAT_HELLO;
        m.hello = &hello;
        break;
    case DML_WIRE_WELCOME:
        welcome.protocol = f->welcome.protocol;
        welcome.session = f->welcome.session;
        m.what_case = DML__FRAME__WHAT_WELCOME;
        m.welcome = &welcome;
        break;
    case DML_WIRE_REFUSED:
        m.what_case = DML__FRAME__WHAT_REFUSED;
        m.refused = lent(f->ended.text);
        break;
    case DML_WIRE_ORDER:
        if (too_long(f->order.testcase) || too_long(f->order.model))
            return -EMSGSIZE;
        order.rank = f->order.rank;
        order.size = f->order.size;
        order.slot = f->order.slot;
        order.testcase = lent(f->order.testcase);
        order.model = lent(f->order.model);
        order.life = f->order.life;
        order.secret = secret_of(f->order.secret);
        m.what_case = DML__FRAME__WHAT_ORDER;
        m.order = &order;
        break;
    case DML_WIRE_STOP:
        m.what_case = DML__FRAME__WHAT_STOP;
        m.stop = true;
        break;
    case DML_WIRE_ENDED:
        ended.error = f->ended.r;
        ended.text = lent(f->ended.text);
        m.what_case = DML__FRAME__WHAT_ENDED;
        m.ended = &ended;
        break;
    case DML_WIRE_BEAT:
        beat.session = f->beat.session;
        beat.temperature_c = f->beat.health.temperature_c;
        beat.throttled = f->beat.health.throttled;
        beat.mhz = f->beat.health.mhz;
        beat.rss_bytes = f->beat.health.rss_bytes;
        m.what_case = DML__FRAME__WHAT_BEAT;
        m.beat = &beat;
        break;
    case DML_WIRE_HEADER:
        assert(f->header.msg.n_meta <= DML_COMM_META_MAX);
        header.kind = f->header.msg.kind;
        header.seq = f->header.msg.seq;
        header.n_meta = f->header.msg.n_meta;
        header.meta = (double *)(uintptr_t)f->header.msg.meta;
        header.has_body = f->header.has_body;
        header.body_length = f->header.body_len;
        m.what_case = DML__FRAME__WHAT_HEADER;
        m.header = &header;
        break;
    case DML_WIRE_PEER:
        peer.rank = f->peer.rank;
        peer.life = f->peer.life;
        peer.state = f->peer.state;
        peer.address = lent(f->peer.address);
        m.what_case = DML__FRAME__WHAT_PEER;
        m.peer = &peer;
        break;
    case DML_WIRE_PEER_HELLO:
        peer_hello.protocol = f->peer_hello.protocol;
        peer_hello.from = f->peer_hello.from;
        peer_hello.from_life = f->peer_hello.from_life;
        peer_hello.to = f->peer_hello.to;
        peer_hello.to_life = f->peer_hello.to_life;
        peer_hello.attempt = f->peer_hello.attempt;
        peer_hello.secret = secret_of(f->peer_hello.secret);
        m.what_case = DML__FRAME__WHAT_PEER_HELLO;
        m.peer_hello = &peer_hello;
        break;
    default:
        assert(!"no such frame");
    }
    return pack(&m.base, ret, ret_len);
}

static int unpack_hello(const Dml__Hello *m, struct dml_hello *ret)
{
    *ret = (struct dml_hello){.protocol = m->protocol};
    if (m->protocol != DML_WIRE_PROTOCOL) {
        dml_clean_copy(ret->version, sizeof(ret->version), m->version);
        dml_clean_copy(ret->worker_id, sizeof(ret->worker_id), m->worker_id);
        return 0;
    }
    if (!dml_clean_is_id(m->worker_id) || strlen(m->worker_id) >= sizeof(ret->worker_id) ||
        m->cores == 0 || m->peer_port > UINT16_MAX ||
        strlen(m->peer_address) >= sizeof(ret->peer_address))
        return -EPROTO;
    dml_clean_copy(ret->worker_id, sizeof(ret->worker_id), m->worker_id);
    dml_clean_copy(ret->host, sizeof(ret->host), m->host);
    dml_clean_copy(ret->machine, sizeof(ret->machine), m->machine);
    dml_clean_copy(ret->board, sizeof(ret->board), m->board);
    dml_clean_copy(ret->arch, sizeof(ret->arch), m->arch);
    dml_clean_copy(ret->version, sizeof(ret->version), m->version);
    ret->cores = m->cores;
    ret->memory_bytes = m->memory_bytes;
    ret->gflops = isfinite(m->gflops) && m->gflops > 0 ? m->gflops : 0;
    ret->peer_port = (uint16_t)m->peer_port;
    dml_clean_copy(ret->peer_address, sizeof(ret->peer_address), m->peer_address);
    return 0;
}

static int unpack_order(Dml__Frame *m, struct dml_run_order *ret)
{
    Dml__Order *o = m->order;
    if (o->size < 2 || o->size > DML_COMM_RANKS_MAX || o->rank == 0 || o->rank >= o->size ||
        o->slot >= DML_COMM_RANKS_MAX)
        return -EPROTO;
    *ret = (struct dml_run_order){
        .run_id = m->run_id, .rank = o->rank, .size = o->size, .slot = o->slot, .life = o->life};
    int r = take_secret(&o->secret, ret->secret);
    if (r == 0)
        r = take_text(&o->testcase, &ret->testcase);
    if (r == 0)
        r = take_text(&o->model, &ret->model);
    if (r < 0)
        dml_run_order_done(ret);
    return r;
}

static int unpack_header(const Dml__Header *m, struct dml_wire_frame *ret)
{
    if (m->kind < DML_COMM_USER || m->n_meta > DML_COMM_META_MAX ||
        m->body_length > DML_COMM_BODY_MAX || (!m->has_body && m->body_length))
        return -EPROTO;
    ret->header.msg =
        (struct dml_comm_msg){.kind = m->kind, .seq = m->seq, .n_meta = (uint32_t)m->n_meta};
    for (size_t i = 0; i < m->n_meta; i++)
        ret->header.msg.meta[i] = m->meta[i];
    ret->header.has_body = m->has_body;
    ret->header.body_len = m->body_length;
    return 0;
}

static double known(double x)
{
    return isfinite(x) && x >= 0 ? x : -1;
}

static void unpack_beat(const Dml__Beat *m, struct dml_wire_frame *ret)
{
    ret->beat.session = m->session;
    ret->beat.health = (struct dml_health){
        /* A board outside in winter is below zero; -273 is what nobody reads. */
        .temperature_c = isfinite(m->temperature_c) ? m->temperature_c : -1,
        .throttled = m->throttled >= 0 ? m->throttled : -1,
        .mhz = known(m->mhz),
        .rss_bytes = m->rss_bytes >= 0 ? m->rss_bytes : -1,
    };
}

static int unpack_peer(const Dml__PeerNews *m, struct dml_wire_peer *ret)
{
    if (m->rank == 0 || m->rank >= DML_COMM_RANKS_MAX || m->life == 0 || m->state == 0 ||
        m->state >= DML_WIRE_PEER_MAX_ || strlen(m->address) >= sizeof(ret->address))
        return -EPROTO;
    *ret = (struct dml_wire_peer){
        .rank = m->rank, .life = m->life, .state = (enum dml_wire_peer_state)m->state};
    dml_clean_copy(ret->address, sizeof(ret->address), m->address);
    return 0;
}

static int unpack_peer_hello(const Dml__PeerHello *m, struct dml_wire_peer_hello *ret)
{
    *ret = (struct dml_wire_peer_hello){.protocol = m->protocol};
    if (m->protocol != DML_WIRE_PROTOCOL)
        return 0;
    if (m->from == 0 || m->from >= DML_COMM_RANKS_MAX || m->to == 0 ||
        m->to >= DML_COMM_RANKS_MAX || m->from == m->to || m->from_life == 0 || m->to_life == 0)
        return -EPROTO;
    ret->from = m->from;
    ret->from_life = m->from_life;
    ret->to = m->to;
    ret->to_life = m->to_life;
    ret->attempt = m->attempt;
    return take_secret(&m->secret, ret->secret);
}

static int unpack_frame(Dml__Frame *m, struct dml_wire_frame *ret)
{
    ret->run_id = m->run_id;
    switch (m->what_case) {
    case DML__FRAME__WHAT_HELLO:
        ret->kind = DML_WIRE_HELLO;
        return unpack_hello(m->hello, &ret->hello);
    case DML__FRAME__WHAT_WELCOME:
        ret->kind = DML_WIRE_WELCOME;
        ret->welcome.protocol = m->welcome->protocol;
        ret->welcome.session = m->welcome->session;
        return 0;
    case DML__FRAME__WHAT_REFUSED:
        ret->kind = DML_WIRE_REFUSED;
        dml_clean_copy(ret->ended.text, sizeof(ret->ended.text), m->refused);
        return 0;
    case DML__FRAME__WHAT_ORDER:
        ret->kind = DML_WIRE_ORDER;
        return unpack_order(m, &ret->order);
    case DML__FRAME__WHAT_STOP:
        ret->kind = DML_WIRE_STOP;
        return 0;
    case DML__FRAME__WHAT_ENDED:
        ret->kind = DML_WIRE_ENDED;
        ret->ended.r = error_from_wire(m->ended->error);
        dml_clean_copy(ret->ended.text, sizeof(ret->ended.text), m->ended->text);
        return 0;
    case DML__FRAME__WHAT_BEAT:
        ret->kind = DML_WIRE_BEAT;
        unpack_beat(m->beat, ret);
        return 0;
    case DML__FRAME__WHAT_HEADER:
        ret->kind = DML_WIRE_HEADER;
        return unpack_header(m->header, ret);
    case DML__FRAME__WHAT_PEER:
        ret->kind = DML_WIRE_PEER;
        return unpack_peer(m->peer, &ret->peer);
    case DML__FRAME__WHAT_PEER_HELLO:
        ret->kind = DML_WIRE_PEER_HELLO;
        return unpack_peer_hello(m->peer_hello, &ret->peer_hello);
    default: /* a chunk in a form that only another program would send, or nothing */
        return -EPROTO;
    }
}

int dml_wire_unpack(const unsigned char *data, size_t len, struct dml_wire_frame *ret)
{
    Dml__Frame *m = dml__frame__unpack(NULL, len, data);
    if (!m)
        return -EPROTO;
    struct dml_wire_frame f = {0};
    int r = unpack_frame(m, &f);
    dml__frame__free_unpacked(m, NULL);
    if (r == 0)
        *ret = f;
    return r;
}

int dml_wire_pack_request(const struct dml_control_request *req, unsigned char **ret,
                          size_t *ret_len)
{
    Dml__ControlModel models[DML_CONTROL_MODELS_MAX], *list[DML_CONTROL_MODELS_MAX];
    if (too_long(req->text) || too_long(req->file) || req->n_models > DML_CONTROL_MODELS_MAX)
        return -EMSGSIZE;
    Dml__ControlRequest m = DML__CONTROL_REQUEST__INIT;
    m.protocol = DML_WIRE_PROTOCOL;
    m.command = req->command;
    m.text = lent(req->text);
    m.file = lent(req->file);
    m.folder = lent(req->folder);
    m.n_models = req->n_models;
    m.models = list;
    for (size_t i = 0; i < req->n_models; i++) {
        list[i] = &models[i];
        dml__control_model__init(list[i]);
        list[i]->name = lent(req->models[i].name);
        list[i]->text = lent(req->models[i].text);
    }
    return pack(&m.base, ret, ret_len);
}

/* How much of it a message can hold is bounded by DML_WIRE_MESSAGE_MAX. */
static int take_models(Dml__ControlRequest *m, struct dml_control_request *io_req,
                       struct dml_err *err)
{
    if (m->n_models > DML_CONTROL_MODELS_MAX)
        return dml_err_set(err, -EPROTO, "More than %d models came with the test case.",
                           DML_CONTROL_MODELS_MAX);
    io_req->models = calloc(m->n_models + 1, sizeof(*io_req->models));
    int r = io_req->models ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < m->n_models; i++) {
        io_req->n_models++;
        r = take_text(&m->models[i]->name, &io_req->models[i].name);
        if (r == 0)
            r = take_text(&m->models[i]->text, &io_req->models[i].text);
    }
    return r;
}

int dml_wire_unpack_request(const unsigned char *data, size_t len, struct dml_control_request *ret,
                            struct dml_err *err)
{
    Dml__ControlRequest *m = dml__control_request__unpack(NULL, len, data);
    if (!m)
        return dml_err_set(err, -EPROTO, "The request is not one of dml's.");
    struct dml_control_request req = {.command = (enum dml_control_command)m->command};
    int r = 0;
    if (m->protocol != DML_WIRE_PROTOCOL)
        r = dml_err_set(err, -EPROTO,
                        "dmlctl speaks protocol %u, the master %u: install the same version of dml "
                        "on both.",
                        m->protocol, DML_WIRE_PROTOCOL);
    else if (m->command == 0 || m->command >= DML_CONTROL_MAX_)
        r = dml_err_set(err, -EPROTO, "The master does not know command %u.", m->command);
    else if (too_long(m->text))
        r = dml_err_set(err, -EPROTO, "The text is longer than %u bytes.", DML_WIRE_TEXT_MAX);
    else
        r = take_text(&m->text, &req.text);
    if (r == 0)
        r = take_text(&m->folder, &req.folder);
    if (r == 0)
        r = take_models(m, &req, err);
    if (r == 0) {
        req.file = malloc(FILE_NAME_MAX);
        if (req.file)
            dml_clean_copy(req.file, FILE_NAME_MAX, m->file);
        else
            r = -ENOMEM;
    }
    dml__control_request__free_unpacked(m, NULL);
    if (r < 0) {
        dml_control_request_done(&req);
        return r;
    }
    *ret = req;
    return 0;
}

int dml_wire_pack_reply(const struct dml_wire_reply *reply, unsigned char **ret, size_t *ret_len)
{
    Dml__ControlReply m;
    Dml__ControlEnd end = DML__CONTROL_END__INIT;
    dml__control_reply__init(&m);
    if (reply->json) {
        m.what_case = DML__CONTROL_REPLY__WHAT_JSON;
        m.json.data = (uint8_t *)reply->json;
        m.json.len = reply->json_len;
        m.more = reply->more;
    } else {
        end.error = reply->r;
        end.text = lent(reply->err.text);
        end.file = lent(reply->err.file);
        end.line = reply->err.line;
        m.what_case = DML__CONTROL_REPLY__WHAT_END;
        m.end = &end;
    }
    return pack(&m.base, ret, ret_len);
}

int dml_wire_unpack_reply(const unsigned char *data, size_t len, struct dml_wire_reply *ret)
{
    Dml__ControlReply *m = dml__control_reply__unpack(NULL, len, data);
    if (!m)
        return -EPROTO;
    int r = 0;
    struct dml_wire_reply reply = {.more = m->more};
    if (m->what_case == DML__CONTROL_REPLY__WHAT_JSON) {
        reply.json = malloc(m->json.len + 1);
        if (reply.json) {
            if (m->json.len)
                memcpy(reply.json, m->json.data, m->json.len);
            reply.json[m->json.len] = '\0';
            reply.json_len = m->json.len;
        } else {
            r = -ENOMEM;
        }
    } else if (m->what_case == DML__CONTROL_REPLY__WHAT_END) {
        reply.r = error_from_wire(m->end->error);
        reply.err.line = m->end->line;
        dml_clean_copy(reply.err.file, sizeof(reply.err.file), m->end->file);
        dml_clean_copy(reply.err.text, sizeof(reply.err.text), m->end->text);
    } else {
        r = -EPROTO;
    }
    dml__control_reply__free_unpacked(m, NULL);
    if (r == 0)
        *ret = reply;
    return r;
}
