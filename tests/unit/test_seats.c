/* Who sits at which rank, and what becomes of a seat when its worker goes. */
#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "master/roster.h"
#include "master/seats.h"
#include "tests/tap.h"
#include "tests/unit/fake_session.h"

/* The server's attach: keeps what it was asked. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    struct dml_session *session;
    struct dml_run_order order;
} given[64];
static unsigned n_given;
static int busy_once;

int dml_server_comm_attach(struct dml_comm *comm, struct dml_session *s,
                           const struct dml_run_order *order)
{
    (void)comm;
    pthread_mutex_lock(&lock);
    int r = busy_once ? -EBUSY : 0;
    busy_once = 0;
    if (!r && n_given < 64) {
        given[n_given].session = s;
        given[n_given++].order = *order;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

/* The order number i (from 0), once it was given: to whom, which rank, which slot. */
static bool gave(unsigned i, const struct dml_session *s, uint32_t rank, uint32_t slot)
{
    for (int tries = 0; tries < 600; tries++) {
        pthread_mutex_lock(&lock);
        bool there = n_given > i;
        bool right = there && given[i].session == s && given[i].order.rank == rank &&
                     given[i].order.slot == slot && given[i].order.size == 3 &&
                     given[i].order.run_id == 7;
        pthread_mutex_unlock(&lock);
        if (there)
            return right;
        dml_clock_sleep_us(100000);
    }
    return false;
}

static void add(struct dml_roster *r, struct dml_session *s)
{
    char refusal[256];
    struct dml_session *replaced = NULL;
    if (dml_roster_add(r, s, &replaced, refusal, sizeof(refusal)))
        tap_ok(false, "%s", refusal);
}

int main(void)
{
    /* a and b share a machine. */
    struct dml_session a = fake_session("a", "m"), b = fake_session("b", "m"),
                       c = fake_session("c", "n"), again = fake_session("a", "m"),
                       third = fake_session("a", "m"), spare = fake_session("d", "o"),
                       other = fake_session("e", "p");
    struct dml_roster *roster = dml_roster_new(3600 * UINT64_C(1000000));
    add(roster, &c);
    add(roster, &b);
    add(roster, &a);
    struct dml_seats *seats = NULL;
    const struct dml_seats_options o = {
        .roster = roster, .run_id = 7, .n_seats = 2, .testcase = "t", .model = "m"};
    tap_int(dml_seats_new(&o, &seats), 0, "two seats for three workers");
    tap_ok(gave(0, &a, 1, 0), "a is rank 1, in the first slot of its machine");
    tap_ok(gave(1, &b, 2, 1), "b is rank 2, in the second");
    tap_int(dml_roster_wait(roster, 3, 1), 1, "c is idle");
    struct dml_round_worker w = {.rank = 2};
    struct dml_health health = {.temperature_c = 44.0, .throttled = 0};
    char warning[128];
    (void)dml_roster_beat(roster, &b, &health, warning, sizeof(warning));
    dml_seats_describe(seats, 2, &w);
    tap_str(w.id, "b", "a rank's name");
    tap_near(w.temperature_c, 44.0, 0, "and health");

    (void)dml_roster_remove(roster, &a);
    tap_ok(gave(2, &c, 1, 0), "a is lost: c takes its seat, alone on its machine");
    add(roster, &again);
    (void)dml_roster_remove(roster, &c);
    tap_ok(gave(3, &again, 1, 0), "c is lost: a, who is back, takes it");

    /* Its part fails: it is idle, but gets no seat until it joins anew. */
    dml_roster_release(roster, &again, true);
    dml_seats_ended(seats, &again, -ENOMEM, "no memory");
    dml_clock_sleep_us(300000);
    pthread_mutex_lock(&lock);
    tap_int(n_given, 4, "who failed is not seated again");
    busy_once = 1;
    pthread_mutex_unlock(&lock);
    (void)dml_roster_remove(roster, &again);
    add(roster, &third);
    tap_ok(gave(4, &third, 1, 0), "who joins anew is, also when the rank was not free at once");

    /* A look goes over the seats in order: rank 2's is filled after rank 1's was considered. */
    dml_seats_ended(seats, &third, 0, "");
    dml_roster_release(roster, &third, false);
    add(roster, &spare);
    add(roster, &other);
    (void)dml_roster_remove(roster, &b);
    tap_ok(gave(5, &spare, 2, 0), "a rank that ended well is not filled again, a lost one is");
    pthread_mutex_lock(&lock);
    tap_int(n_given, 6, "and that is all");
    pthread_mutex_unlock(&lock);

    dml_seats_free(seats);
    tap_int(spare.refs + other.refs + third.refs, 3, "the roster's references are left");
    tap_int(a.refs + b.refs + c.refs + again.refs, 0, "and none to those who left");
    dml_roster_free(roster);
    return tap_done();
}
