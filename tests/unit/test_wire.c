/*
 * Every frame there and back, held against protobuf's own bytes where they are written by hand, and
 * everything that a hostile peer might put into one.
 */
#include "rpc/wire_pack.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/dml.pb-c.h"
#include "rpc/clean.h"
#include "tests/tap.h"

/* Packs, unpacks into *ret, returns what unpacking said. */
static int there_and_back(const struct dml_wire_frame *f, struct dml_wire_frame *ret)
{
    _cleanup_(dml_mem_freep) unsigned char *data = NULL;
    size_t len;
    int r = dml_wire_pack(f, &data, &len);
    return r < 0 ? r : dml_wire_unpack(data, len, ret);
}

/* What the unpacker says to a frame that protobuf itself has packed. */
static int judge(const Dml__Frame *m)
{
    size_t len = dml__frame__get_packed_size(m);
    _cleanup_(dml_mem_freep) unsigned char *data = malloc(len + 1);
    (void)dml__frame__pack(m, data);
    struct dml_wire_frame f;
    int r = dml_wire_unpack(data, len, &f);
    if (r == 0)
        dml_wire_frame_done(&f);
    return r;
}

static void test_frames(void)
{
    struct dml_wire_frame f = {.kind = DML_WIRE_HELLO}, g;
    f.hello = (struct dml_hello){.protocol = DML_WIRE_PROTOCOL,
                                 .worker_id = "pi-1.lan_A",
                                 .host = "pi",
                                 .machine = "abc",
                                 .board = "Raspberry Pi 4 Modèle B",
                                 .arch = "aarch64",
                                 .version = "0.1.0",
                                 .cores = 4,
                                 .memory_bytes = UINT64_C(1) << 33,
                                 .gflops = 3.5,
                                 .peer_port = 65535,
                                 .peer_address = "pi-1.lan:4000"};
    tap_int(there_and_back(&f, &g), 0, "hello");
    tap_ok(g.kind == DML_WIRE_HELLO && !memcmp(&g.hello, &f.hello, sizeof(g.hello)),
           "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_WELCOME};
    f.welcome.protocol = 1;
    f.welcome.session = UINT64_MAX;
    tap_int(there_and_back(&f, &g), 0, "welcome");
    tap_ok(g.kind == DML_WIRE_WELCOME && g.welcome.protocol == 1 && g.welcome.session == UINT64_MAX,
           "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_REFUSED};
    snprintf(f.ended.text, sizeof(f.ended.text), "No.");
    tap_int(there_and_back(&f, &g), 0, "refused");
    tap_str(g.ended.text, "No.", "arrives as it was");

    char testcase[] = "[testcase]\n", model[] = "";
    f = (struct dml_wire_frame){.kind = DML_WIRE_ORDER,
                                .run_id = 9,
                                .order = {.run_id = 9,
                                          .rank = 2,
                                          .size = 3,
                                          .slot = 1,
                                          .testcase = testcase,
                                          .model = model,
                                          .life = 7,
                                          .secret = "fifteen letters"}};
    tap_int(there_and_back(&f, &g), 0, "order");
    tap_ok(g.kind == DML_WIRE_ORDER && g.order.run_id == 9 && g.order.rank == 2 &&
               g.order.size == 3 && g.order.slot == 1 && g.order.life == 7 &&
               !memcmp(g.order.secret, "fifteen letters", DML_WIRE_SECRET_LEN) &&
               !strcmp(g.order.testcase, testcase) && !strcmp(g.order.model, ""),
           "arrives as it was");
    dml_wire_frame_done(&g);

    f = (struct dml_wire_frame){.kind = DML_WIRE_STOP, .run_id = 10};
    tap_int(there_and_back(&f, &g), 0, "stop");
    tap_ok(g.kind == DML_WIRE_STOP && g.run_id == 10, "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_ENDED, .run_id = 11};
    f.ended.r = -ENOMEM;
    snprintf(f.ended.text, sizeof(f.ended.text), "too big");
    tap_int(there_and_back(&f, &g), 0, "ended");
    tap_ok(g.run_id == 11 && g.ended.r == -ENOMEM && !strcmp(g.ended.text, "too big"),
           "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_BEAT};
    f.beat.session = 3;
    f.beat.health = (struct dml_health){
        .temperature_c = -12.5, .throttled = 0x50005, .mhz = 1500, .rss_bytes = INT64_MAX};
    tap_int(there_and_back(&f, &g), 0, "beat");
    tap_ok(g.beat.session == 3 &&
               !memcmp(&g.beat.health, &f.beat.health, sizeof(struct dml_health)),
           "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_HEADER, .run_id = UINT64_MAX};
    f.header.msg = (struct dml_comm_msg){
        .kind = UINT32_MAX, .seq = UINT64_MAX, .n_meta = DML_COMM_META_MAX, .meta = {-0.0, 1e-310}};
    f.header.has_body = true;
    f.header.body_len = DML_COMM_BODY_MAX;
    tap_int(there_and_back(&f, &g), 0, "header");
    tap_ok(g.run_id == UINT64_MAX && g.header.msg.kind == UINT32_MAX &&
               g.header.msg.seq == UINT64_MAX && g.header.msg.n_meta == DML_COMM_META_MAX &&
               !memcmp(g.header.msg.meta, f.header.msg.meta, sizeof(f.header.msg.meta)) &&
               g.header.has_body && g.header.body_len == DML_COMM_BODY_MAX && !g.header.msg.body,
           "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_PEER, .run_id = 12};
    f.peer = (struct dml_wire_peer){.rank = 255, .life = 3, .state = DML_WIRE_PEER_LEFT};
    snprintf(f.peer.address, sizeof(f.peer.address), "[fe80::1]:40001");
    tap_int(there_and_back(&f, &g), 0, "peer");
    tap_ok(g.kind == DML_WIRE_PEER && g.run_id == 12 && !memcmp(&g.peer, &f.peer, sizeof(g.peer)),
           "arrives as it was");

    f = (struct dml_wire_frame){.kind = DML_WIRE_PEER_HELLO, .run_id = 13};
    f.peer_hello = (struct dml_wire_peer_hello){.protocol = DML_WIRE_PROTOCOL,
                                                .from = 1,
                                                .from_life = UINT32_MAX,
                                                .to = 2,
                                                .to_life = 1,
                                                .attempt = UINT64_MAX,
                                                .secret = "fifteen letters"};
    tap_int(there_and_back(&f, &g), 0, "peer's hello");
    tap_ok(g.kind == DML_WIRE_PEER_HELLO && g.run_id == 13 &&
               !memcmp(&g.peer_hello, &f.peer_hello, sizeof(g.peer_hello)),
           "arrives as it was");
}

static void test_hostile_frames(void)
{
    Dml__Frame m = DML__FRAME__INIT;
    tap_int(judge(&m), -EPROTO, "an empty frame is refused");
    struct dml_wire_frame f;
    tap_int(dml_wire_unpack((const unsigned char *)"\xff\xff\xff", 3, &f), -EPROTO, "noise too");

    char id[] = "worker", bad[] = "a b", long_id[80];
    memset(long_id, 'x', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = '\0';
    Dml__Hello hello = DML__HELLO__INIT;
    m.what_case = DML__FRAME__WHAT_HELLO;
    m.hello = &hello;
    hello.protocol = DML_WIRE_PROTOCOL;
    hello.cores = 1;
    tap_int(judge(&m), -EPROTO, "a hello without id");
    hello.worker_id = bad;
    tap_int(judge(&m), -EPROTO, "an id with a space");
    hello.worker_id = long_id;
    tap_int(judge(&m), -EPROTO, "an id that is too long");
    hello.worker_id = id;
    tap_int(judge(&m), 0, "a good one");
    hello.cores = 0;
    tap_int(judge(&m), -EPROTO, "no core");
    hello.cores = 1;
    hello.peer_port = 65536;
    tap_int(judge(&m), -EPROTO, "a port beyond the last");
    hello.peer_port = 65535;
    char long_address[DML_WIRE_ADDRESS_MAX + 1];
    memset(long_address, 'x', sizeof(long_address) - 1);
    long_address[sizeof(long_address) - 1] = '\0';
    hello.peer_address = long_address;
    tap_int(judge(&m), -EPROTO, "an address that is too long");
    hello.peer_address = long_address + 1;
    tap_int(judge(&m), 0, "one letter less is fine");
    hello.protocol = 99;
    hello.worker_id = bad;
    tap_int(judge(&m), 0, "another protocol is for the caller to refuse, whatever else it says");

    Dml__Order order = DML__ORDER__INIT;
    char *huge = malloc(DML_WIRE_TEXT_MAX + 2);
    memset(huge, 'x', DML_WIRE_TEXT_MAX + 1);
    huge[DML_WIRE_TEXT_MAX + 1] = '\0';
    m.what_case = DML__FRAME__WHAT_ORDER;
    m.order = &order;
    order.size = 2;
    order.rank = 1;
    uint8_t secret[DML_WIRE_SECRET_LEN + 1] = "";
    order.secret = (ProtobufCBinaryData){.len = DML_WIRE_SECRET_LEN, .data = secret};
    tap_int(judge(&m), 0, "an order");
    order.secret.len++;
    tap_int(judge(&m), -EPROTO, "a secret that is too long");
    order.secret.len = 0;
    tap_int(judge(&m), -EPROTO, "none");
    order.secret.len = DML_WIRE_SECRET_LEN;
    order.rank = 0;
    tap_int(judge(&m), -EPROTO, "rank 0 is the master's");
    order.rank = 2;
    tap_int(judge(&m), -EPROTO, "a rank beyond the size");
    order.size = UINT32_MAX;
    tap_int(judge(&m), -EPROTO, "a size beyond the limit");
    order.size = 3;
    order.slot = 1000;
    tap_int(judge(&m), -EPROTO, "a slot beyond it");
    order.slot = 0;
    order.model = huge;
    tap_int(judge(&m), -EPROTO, "a model that is too long");
    order.model = huge + 1;
    tap_int(judge(&m), 0, "one byte less is fine");
    struct dml_wire_frame out = {.kind = DML_WIRE_ORDER};
    out.order.testcase = huge;
    unsigned char *data;
    size_t len;
    tap_int(dml_wire_pack(&out, &data, &len), -EMSGSIZE, "nor is it sent");
    free(huge);

    Dml__PeerNews peer = DML__PEER_NEWS__INIT;
    m.what_case = DML__FRAME__WHAT_PEER;
    m.peer = &peer;
    peer.rank = peer.life = peer.state = 1;
    peer.address = long_address + 1;
    tap_int(judge(&m), 0, "news of a peer");
    peer.address = long_address;
    tap_int(judge(&m), -EPROTO, "with an address that is too long");
    peer.address = long_address + 1;
    peer.rank = 0;
    tap_int(judge(&m), -EPROTO, "of the master");
    peer.rank = DML_COMM_RANKS_MAX;
    tap_int(judge(&m), -EPROTO, "of a rank beyond the limit");
    peer.rank = 1;
    peer.life = 0;
    tap_int(judge(&m), -EPROTO, "that never lived");
    peer.life = 1;
    peer.state = DML_WIRE_PEER_MAX_;
    tap_int(judge(&m), -EPROTO, "in a state that does not exist");

    Dml__PeerHello ph = DML__PEER_HELLO__INIT;
    m.what_case = DML__FRAME__WHAT_PEER_HELLO;
    m.peer_hello = &ph;
    ph.protocol = DML_WIRE_PROTOCOL;
    ph.from = ph.from_life = ph.to_life = 1;
    ph.to = 2;
    ph.secret = order.secret;
    tap_int(judge(&m), 0, "a peer's hello");
    ph.secret.len--;
    tap_int(judge(&m), -EPROTO, "with a short secret");
    ph.secret.len = 0;
    ph.secret.data = NULL;
    tap_int(judge(&m), -EPROTO, "with none");
    ph.secret = order.secret;
    ph.from = 2;
    tap_int(judge(&m), -EPROTO, "to itself");
    ph.from = 0;
    tap_int(judge(&m), -EPROTO, "from the master");
    ph.from = UINT32_MAX;
    tap_int(judge(&m), -EPROTO, "from nobody");
    ph.protocol++;
    tap_int(judge(&m), 0, "another protocol is for the caller to refuse");

    Dml__Header header = DML__HEADER__INIT;
    double meta[DML_COMM_META_MAX + 1] = {0};
    m.what_case = DML__FRAME__WHAT_HEADER;
    m.header = &header;
    header.kind = DML_COMM_USER;
    tap_int(judge(&m), 0, "a header");
    header.kind = DML_COMM_JOINED;
    tap_int(judge(&m), -EPROTO, "that would announce a worker");
    header.kind = DML_COMM_USER;
    header.body_length = 1;
    tap_int(judge(&m), -EPROTO, "bytes without a body");
    header.has_body = true;
    tap_int(judge(&m), 0, "with one");
    header.body_length = DML_COMM_BODY_MAX + 1;
    tap_int(judge(&m), -EPROTO, "more than the limit");
    header.body_length = 0;
    header.meta = meta;
    header.n_meta = ARRAY_SIZE(meta);
    tap_int(judge(&m), -EPROTO, "more numbers than the limit");

    Dml__Ended ended = DML__ENDED__INIT;
    m.what_case = DML__FRAME__WHAT_ENDED;
    m.ended = &ended;
    ended.error = 5;
    struct dml_wire_frame g;
    unsigned char small[64];
    len = dml__frame__pack(&m, small);
    tap_int(dml_wire_unpack(small, len, &g), 0, "an error that is none of the system's");
    tap_int(g.ended.r, -EPROTO, "becomes one");
}

static void test_chunks(void)
{
    static const uint64_t ids[] = {0, 1, 127, 128, UINT64_MAX};
    static const size_t lens[] = {1, 127, 128, 16384, DML_WIRE_CHUNK};
    unsigned char *bytes = calloc(1, DML_WIRE_CHUNK), *want = malloc(DML_WIRE_CHUNK + 64);
    unsigned same = 0, back = 0;
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(lens); k++) {
            Dml__Frame m = DML__FRAME__INIT;
            m.run_id = ids[i];
            m.what_case = DML__FRAME__WHAT_CHUNK;
            m.chunk.data = bytes;
            m.chunk.len = lens[k];
            size_t total = dml__frame__pack(&m, want), offset = 0;
            unsigned char head[DML_WIRE_CHUNK_HEAD];
            size_t n = dml_wire_pack_chunk(ids[i], lens[k], head);
            same += n + lens[k] == total && !memcmp(head, want, n);
            uint64_t id = 12345;
            back += dml_wire_unpack_chunk(want, total, &id, &offset) == 1 && id == ids[i] &&
                    offset == n;
        }
    }
    tap_int(same, 25, "a chunk's head is what protobuf writes");
    tap_int(back, 25, "and is read back");

    uint64_t id;
    size_t offset;
    unsigned char head[DML_WIRE_CHUNK_HEAD] = {0x08, 0x01, 0x52, 0x05};
    tap_int(dml_wire_unpack_chunk(head, 9, &id, &offset), 1, "five bytes");
    tap_int(dml_wire_unpack_chunk(head, 10, &id, &offset), -EPROTO, "and one too many");
    tap_int(dml_wire_unpack_chunk(head, 8, &id, &offset), -EPROTO, "and one too few");
    tap_int(dml_wire_unpack_chunk(head, 3, &id, &offset), -EPROTO, "cut after the tag");
    tap_int(dml_wire_unpack_chunk(head, 2, &id, &offset), 0, "cut before it: no chunk");
    tap_int(dml_wire_unpack_chunk(head, 0, &id, &offset), 0, "nothing: no chunk");
    memset(head, 0xff, sizeof(head));
    head[0] = 0x52;
    tap_int(dml_wire_unpack_chunk(head, SIZE_MAX, &id, &offset), -EPROTO, "a length without end");
    head[0] = 0x08;
    tap_int(dml_wire_unpack_chunk(head, SIZE_MAX, &id, &offset), 0, "a run without end");
    unsigned char large[DML_WIRE_CHUNK_HEAD] = {0x52, 0x81, 0x80, 0x40};
    tap_int(dml_wire_unpack_chunk(large, DML_WIRE_CHUNK + 5, &id, &offset), -EPROTO,
            "more than a chunk may have");
    free(bytes);
    free(want);
}

static void test_control(void)
{
    unsigned char *data = NULL;
    size_t len;
    struct dml_err err = {0};
    char text[] = "[testcase]\n", file[] = "a\033[31m.conf";
    char folder[] = "/home/me", name[] = "./a.model", model[] = "name a\n";
    struct dml_control_model models[DML_CONTROL_MODELS_MAX + 1] = {{name, model}, {model, name}};
    struct dml_control_request out = {.command = DML_CONTROL_RUN, .text = text, .file = file,
                                      .folder = folder, .models = models, .n_models = 2}, in;
    tap_int(dml_wire_pack_request(&out, &data, &len), 0, "a request");
    tap_int(dml_wire_unpack_request(data, len, &in, &err), 0, "is read back");
    tap_int(in.command, DML_CONTROL_RUN, "with its command");
    tap_str(in.text, text, "and text");
    tap_str(in.file, "a?[31m.conf", "and a file name that is fit to print");
    tap_str(in.folder, folder, "and a folder");
    tap_int(in.n_models, 2, "and models");
    tap_str(in.models[0].name, name, "each with a name");
    tap_str(in.models[1].text, name, "and a text");
    dml_control_request_done(&in);
    out.n_models = DML_CONTROL_MODELS_MAX + 1;
    unsigned char *none = NULL;
    size_t none_len;
    tap_int(dml_wire_pack_request(&out, &none, &none_len), -EMSGSIZE, "too many models");
    tap_int(dml_wire_unpack_request(data, len - 1, &in, &err), -EPROTO, "but not when cut");
    tap_ok(dml_err_is_set(&err), "and says so");
    free(data);

    Dml__ControlRequest m = DML__CONTROL_REQUEST__INIT;
    unsigned char small[64];
    m.protocol = DML_WIRE_PROTOCOL + 1;
    m.command = 1;
    len = dml__control_request__pack(&m, small);
    tap_int(dml_wire_unpack_request(small, len, &in, &err), -EPROTO, "another protocol");
    char want[64];
    snprintf(want, sizeof(want), "dmlctl speaks protocol %d, the master %d", DML_WIRE_PROTOCOL + 1,
             DML_WIRE_PROTOCOL);
    tap_has(err.text, want, "is refused with a sentence");

    char json[] = "{\"a\":1}";
    struct dml_wire_reply reply = {.json = json, .json_len = 4, .more = true}, got;
    tap_int(dml_wire_pack_reply(&reply, &data, &len), 0, "a piece of a reply");
    tap_int(dml_wire_unpack_reply(data, len, &got), 0, "is read back");
    tap_str(got.json, "{\"a\"", "as a string");
    tap_ok(got.json_len == 4 && got.more, "that goes on");
    free(got.json);
    free(data);
    reply = (struct dml_wire_reply){.r = -EINVAL};
    (void)dml_err_at(&reply.err, 0, "a.conf", 3, "No.");
    tap_int(dml_wire_pack_reply(&reply, &data, &len), 0, "an end");
    tap_int(dml_wire_unpack_reply(data, len, &got), 0, "is read back");
    tap_ok(!got.json && got.r == -EINVAL && got.err.line == 3, "with error and line");
    tap_str(got.err.file, "a.conf", "and file");
    tap_str(got.err.text, "No.", "and sentence");
    free(data);
    tap_int(dml_wire_unpack_reply(NULL, 0, &got), -EPROTO, "nothing is no reply");
}

static void test_clean(void)
{
    char buf[8];
    dml_clean_copy(buf, sizeof(buf), "a\nb\x7f\x1b");
    tap_str(buf, "a?b??", "control characters go");
    dml_clean_copy(buf, sizeof(buf), "12345\xc3\xa9x");
    tap_str(buf, "12345\xc3\xa9", "a whole character that fits stays");
    dml_clean_copy(buf, sizeof(buf), "123456\xc3\xa9");
    tap_str(buf, "123456", "half a character does not");
    dml_clean_copy(buf, sizeof(buf), "\xff\xc0\x80\xed\xa0\x80");
    tap_str(buf, "??????", "what is no UTF-8 goes");
    dml_clean_copy(buf, sizeof(buf), "\xe2\x82");
    tap_str(buf, "??", "a text may end in the middle of a character");
    dml_clean_copy(buf, sizeof(buf),
                   "\xc2\x9b"
                   "1m");
    tap_str(buf, "?1m", "so do the control characters beyond ASCII");
    tap_ok(dml_clean_is_id("a.b-c_9") && !dml_clean_is_id("") && !dml_clean_is_id("\xc3\xa9"),
           "ids are plain");
}

int main(void)
{
    test_frames();
    test_hostile_frames();
    test_chunks();
    test_control();
    test_clean();
    return tap_done();
}
