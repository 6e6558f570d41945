/* Who is there, who is busy, who is taken first, who is refused. */
#include <errno.h>

#include "base/clock.h"
#include "master/roster.h"
#include "tests/tap.h"
#include "tests/unit/fake_session.h"

#define SECOND UINT64_C(1000000)

static int add(struct dml_roster *r, struct dml_session *s, char *refusal)
{
    struct dml_session *replaced = NULL;
    int ret = dml_roster_add(r, s, &replaced, refusal, 256);
    if (!ret && replaced)
        ret = 1;
    dml_session_unref(replaced);
    return ret;
}

static bool skip_one(void *arg, const struct dml_session *s)
{
    return s == arg;
}

static void test_pick(struct dml_roster *r, struct dml_session *a, struct dml_session *b,
                      struct dml_session *c)
{
    struct dml_roster_pick pick;
    char warning[128];
    tap_int(dml_roster_wait(r, 3, 60 * SECOND), 3, "three are idle");
    tap_ok(dml_roster_pick(r, NULL, NULL, NULL, &pick), "one is picked");
    tap_str(pick.id, "a", "in order of id, whoever came first");
    tap_str(pick.machine, "m-a", "with its machine");
    dml_session_unref(pick.session);
    tap_int(dml_roster_wait(r, 3, 1), 2, "it is busy now");
    tap_ok(dml_roster_pick(r, "c", NULL, NULL, &pick) && pick.session == c, "a wanted one");
    dml_session_unref(pick.session);
    tap_ok(!dml_roster_pick(r, NULL, skip_one, b, &pick), "nobody left but the one to skip");
    dml_roster_release(r, a, true);
    dml_roster_release(r, c, false);

    struct dml_health hot = {.temperature_c = 85.0, .throttled = -1};
    tap_ok(dml_roster_beat(r, b, &hot, warning, sizeof(warning)), "a hot board is told");
    tap_has(warning, "85.0", "with its temperature");
    tap_ok(!dml_roster_beat(r, b, &hot, warning, sizeof(warning)), "once");
    struct dml_health weak = {.temperature_c = 50.0, .throttled = 0x50005};
    (void)dml_roster_beat(r, b, &(struct dml_health){.temperature_c = 50.0, .throttled = 0x50000},
                          warning, sizeof(warning));
    tap_ok(dml_roster_beat(r, b, &weak, warning, sizeof(warning)), "again after it was well");
    tap_has(warning, "under-voltage", "the power supply");

    tap_ok(dml_roster_pick(r, NULL, NULL, NULL, &pick) && pick.session == c, "a sound board first");
    dml_session_unref(pick.session);
    tap_ok(dml_roster_pick(r, NULL, NULL, NULL, &pick) && pick.session == b,
           "then one in trouble, then one that failed");
    dml_session_unref(pick.session);
    dml_roster_release(r, b, false);
    dml_roster_release(r, c, false);
}

static void test_status(struct dml_roster *r)
{
    struct dml_status_worker *workers = NULL;
    size_t n = 0;
    tap_int(dml_roster_status(r, &workers, &n), 0, "the status");
    tap_int((long long)n, 3, "of three");
    if (n == 3) {
        tap_str(workers[0].id, "a", "in order of id");
        tap_int(workers[1].throttled, 0x50005, "with the last health");
        tap_str(workers[2].peer, "192.0.2.1:4711", "and the peer");
        tap_int(workers[2].state, DML_STATUS_WORKER_IDLE, "idle");
    }
    free(workers);
}

/* What dmlctl workers calls silent, and whose name another worker may take. Seconds. */
static void test_silence(void)
{
    static const struct {
        uint64_t timeout, pause, want;
        const char *why;
    } rows[] = {
        {30, 5, 15, "the defaults: half the timeout"},
        {30, 1, 15, "however often it beats"},
        {30, 10, 20, "two beats, when that is longer"},
        {5, 1, 2, "half of a short timeout"},
        {5, 5, 5, "a worker that beats as rarely as it is given up is never silent before"},
        {5, 600, 5, "nor is one that beats more rarely"},
        {0, 5, 0, "without patience everybody is silent"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        tap_int(
            (long long)(dml_roster_silence_us(rows[i].timeout * SECOND, rows[i].pause * SECOND) /
                        SECOND),
            (long long)rows[i].want, rows[i].why);
    tap_int((long long)dml_roster_silence_us(UINT64_C(3600) * SECOND, UINT64_MAX),
            3600LL * (long long)SECOND, "an absurd pause");

    /* The status has it from there. */
    struct dml_session s = fake_session("s", "m-s");
    struct dml_roster *impatient = dml_roster_new(0);
    struct dml_status_worker *workers = NULL;
    char refusal[256];
    size_t n = 0;
    (void)add(impatient, &s, refusal);
    tap_int(dml_roster_status(impatient, &workers, &n), 0, "the status");
    tap_int(n == 1 ? (long long)workers[0].state : -1, DML_STATUS_WORKER_SILENT, "of a silent one");
    free(workers);
    dml_roster_free(impatient);
}

static void test_ids(struct dml_roster *r, struct dml_session *b)
{
    char refusal[256] = "";
    struct dml_session other = fake_session("b", "m-x");
    tap_int(add(r, &other, refusal), -EEXIST, "a second b is refused while the first is alive");
    tap_has(refusal, "named b", "by name");
    tap_has(refusal, "192.0.2.1", "and where the first one is");
    tap_int(other.refs, 0, "and not kept");

    /* With no timeout at all, everybody has been silent for too long. */
    struct dml_roster *impatient = dml_roster_new(0);
    (void)add(impatient, b, refusal);
    tap_int(add(impatient, &other, refusal), 1, "a silent one gives its place up");
    tap_int(dml_roster_count(impatient), 1, "to the new one");
    tap_ok(!dml_roster_remove(impatient, b), "whose end is not that of the old one");
    tap_ok(dml_roster_has(impatient, &other), "which is there");
    dml_roster_free(impatient);
    tap_int(other.refs, 0, "no reference is left");
}

int main(void)
{
    char refusal[256];
    struct dml_session a = fake_session("a", "m-a"), b = fake_session("b", "m-b"),
                       c = fake_session("c", "m-c");
    struct dml_roster *r = dml_roster_new(3600 * SECOND);
    (void)add(r, &c, refusal);
    (void)add(r, &a, refusal);
    (void)add(r, &b, refusal);
    test_pick(r, &a, &b, &c);
    test_status(r);
    test_silence();
    test_ids(r, &b);
    tap_ok(dml_roster_remove(r, &b), "b leaves");
    tap_int(dml_roster_count(r), 2, "two stay");
    dml_roster_free(r);
    tap_int(a.refs + b.refs + c.refs, 0, "no reference is left");
    return tap_done();
}
