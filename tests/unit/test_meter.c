/* How long something is being sent: messages that wait, and bytes that a slow reader leaves in the
 * sockets of this process. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "rpc/meter.h"
#include "rpc/outq.h"
#include "tests/tap.h"

#define PATIENCE_US 60000000 /* of a machine that does other things */

static void test_messages(void)
{
    struct dml_meter *m = dml_meter_new();
    tap_int((long long)dml_meter_us(m), 0, "nothing is sent yet");
    dml_meter_begin(m);
    dml_meter_begin(m);
    dml_clock_sleep_us(2000);
    dml_meter_end(m);
    uint64_t one = dml_meter_us(m);
    tap_ok(one >= 2000, "one of two messages still waits: %llu us", (unsigned long long)one);
    dml_clock_sleep_us(2000);
    dml_meter_end(m);
    tap_ok(dml_meter_us(m) >= one + 2000, "both have gone");
    dml_meter_begin(m);
    (void)dml_meter_unref(m);
    dml_meter_end(m);
    tap_ok(true, "a message may outlive its meter's owner");
    dml_meter_begin(NULL);
    dml_meter_end(NULL);
    tap_ok(dml_meter_unref(NULL) == NULL, "no meter is fine");
}

/* Two ends of a connection over loopback. */
static bool connect_ends(int ret[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 &&
                listen(listener, 1) == 0 &&
                getsockname(listener, (struct sockaddr *)&at, &len) == 0 &&
                connect(ret[0], (struct sockaddr *)&at, sizeof(at)) == 0;
    ret[1] = good ? accept(listener, NULL, NULL) : -1;
    (void)close(listener);
    return good && ret[1] >= 0;
}

/* Fills the connection until it takes no more. */
static size_t stuff(int fd)
{
    static const char block[1 << 16];
    size_t sent = 0;
    ssize_t n;
    while ((n = send(fd, block, sizeof(block), MSG_DONTWAIT)) > 0)
        sent += (size_t)n;
    return sent;
}

static void drain(int fd, size_t n)
{
    static char block[1 << 16];
    while (n > 0) {
        ssize_t got = recv(fd, block, n < sizeof(block) ? n : sizeof(block), 0);
        if (got <= 0)
            return;
        n -= (size_t)got;
    }
}

static bool grows(struct dml_meter *m, uint64_t by_us)
{
    uint64_t before = dml_meter_us(m), until = dml_clock_now_us() + PATIENCE_US;
    while (dml_meter_us(m) < before + by_us && dml_clock_now_us() < until)
        dml_clock_sleep_us(2000);
    return dml_meter_us(m) >= before + by_us;
}

/* Whether at last it stays the same for longer than two looks. */
static bool comes_to_rest(struct dml_meter *m)
{
    for (uint64_t until = dml_clock_now_us() + PATIENCE_US; dml_clock_now_us() < until;) {
        uint64_t before = dml_meter_us(m);
        dml_clock_sleep_us(100000);
        if (dml_meter_us(m) == before)
            return true;
    }
    return false;
}

static void test_sockets(void)
{
    int ends[2];
    struct dml_outq q = {0};
    struct dml_meter *m = dml_meter_new();
    if (!tap_ok(connect_ends(ends), "a connection"))
        return;
    tap_ok(!dml_outq_is_busy(&q, dml_clock_now_us()), "with nothing under way");
    tap_ok(q.n >= 2, "both its ends are found: %u", q.n);
    size_t sent = stuff(ends[0]);
    tap_ok(sent > 0, "%zu bytes that nobody reads", sent);
    tap_ok(dml_outq_is_busy(&q, dml_clock_now_us()), "are under way");
    tap_int((long long)dml_meter_us(m), 0, "without a message nobody looks");
    dml_meter_begin(m);
    dml_meter_end(m);
    tap_ok(grows(m, 20000), "after one the time counts, though no message waits");
    drain(ends[1], sent);
    tap_ok(comes_to_rest(m), "until they were read");
    tap_ok(!dml_outq_is_busy(&q, dml_clock_now_us()), "and nothing is under way");
    sent = stuff(ends[0]);
    dml_meter_begin(m);
    tap_ok(grows(m, 20000), "while both are there");
    uint64_t before = dml_meter_us(m), began = dml_clock_now_us();
    dml_clock_sleep_us(50000);
    uint64_t grown = dml_meter_us(m) - before, passed = dml_clock_now_us() - began;
    tap_ok(grown <= passed + 20000, "they count once: %llu of %llu us", (unsigned long long)grown,
           (unsigned long long)passed);
    dml_meter_end(m);
    (void)dml_meter_unref(m);
    (void)close(ends[0]);
    (void)close(ends[1]);
    tap_ok(!dml_outq_is_busy(&q, dml_clock_now_us()), "sockets that are closed are not busy");
}

int main(void)
{
    test_messages();
    test_sockets();
    return tap_done();
}
