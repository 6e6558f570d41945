/* Who keeps the others waiting. */
#include "paradigm/blame.h"

#include "tests/tap.h"

static struct dml_blame b;
static const uint32_t ranks[4] = {1, 2, 3, 4};
static bool answered[6];

static void judge(unsigned n, enum dml_blame_verdict want, uint32_t want_a, const char *what)
{
    uint32_t a = 0, other = 0;
    tap_int(dml_blame_judge(&b, ranks, n, answered, &a, &other), want, what);
    if (want_a)
        tap_int(a, want_a, "the right one");
}

static void test_silent(void)
{
    /* A ring of four in which 2 has stopped: 3 waits for 2, 4 for 3, 1 for 4. */
    dml_blame_leg(&b);
    dml_blame_add(&b, 1, 4, false);
    tap_ok(!dml_blame_is_ripe(&b, ranks, 4, answered), "one complaint of four says little");
    dml_blame_add(&b, 4, 3, false);
    dml_blame_add(&b, 3, 2, false);
    tap_ok(!dml_blame_is_ripe(&b, ranks, 4, answered), "the last one may be about to speak");
    judge(4, DML_BLAME_SILENT, 2, "the one that does not say for whom it waits");

    /* Before all have spoken, the one that is named last is blamed. */
    dml_blame_leg(&b);
    dml_blame_add(&b, 1, 4, false);
    judge(4, DML_BLAME_SILENT, 4, "the one named");

    /* Two nodes. */
    dml_blame_leg(&b);
    dml_blame_add(&b, 1, 2, false);
    judge(2, DML_BLAME_SILENT, 2, "the other one");

    /* One that has done its part is not silent. */
    answered[2] = true;
    dml_blame_leg(&b);
    dml_blame_add(&b, 1, 2, false);
    judge(2, DML_BLAME_AGAIN, 0, "whoever has answered is not to blame");
    answered[2] = false;
}

static void test_pair(void)
{
    dml_blame_leg(&b);
    for (int i = 0; i < DML_BLAME_TRIES; i++) {
        dml_blame_again(&b);
        dml_blame_add(&b, 3, 1, true);
        tap_ok(!dml_blame_is_ripe(&b, ranks, 3, answered), "it may turn out to be gone");
        judge(3, i + 1 < DML_BLAME_TRIES ? DML_BLAME_AGAIN : DML_BLAME_PAIR, 0, "unreachable");
    }
    /* Each of them hears nothing of the other, in turns. */
    dml_blame_leg(&b);
    for (int i = 0; i < DML_BLAME_TRIES; i++) {
        dml_blame_again(&b);
        dml_blame_add(&b, 1, 2, false);
        dml_blame_add(&b, 2, 1, false);
        tap_ok(dml_blame_is_ripe(&b, ranks, 2, answered), "both have spoken");
        judge(2, i + 1 < DML_BLAME_TRIES ? DML_BLAME_AGAIN : DML_BLAME_PAIR, i < 2 ? 0 : 1,
              "silent to each other");
    }
    /* Another pair each time is bad luck. */
    dml_blame_leg(&b);
    for (uint32_t rank = 2; rank <= 4; rank++) {
        dml_blame_again(&b);
        dml_blame_add(&b, 1, rank, true);
        judge(4, DML_BLAME_AGAIN, 0, "once each");
    }
    /* A new leg forgets. */
    dml_blame_leg(&b);
    for (int i = 0; i < 2 * DML_BLAME_TRIES; i++) {
        dml_blame_leg(&b);
        dml_blame_add(&b, 3, 1, true);
        judge(3, DML_BLAME_AGAIN, 0, "once in every leg");
    }
}

static void test_knot(void)
{
    dml_blame_leg(&b);
    for (int i = 0; i < DML_BLAME_TRIES; i++) {
        dml_blame_again(&b);
        dml_blame_add(&b, 1, 2, false);
        dml_blame_add(&b, 2, 3, false);
        dml_blame_add(&b, 3, 1, false);
        judge(3, i + 1 < DML_BLAME_TRIES ? DML_BLAME_AGAIN : DML_BLAME_KNOT, 0, "in a circle");
    }
}

int main(void)
{
    tap_int(dml_blame_init(&b, 5), 0, "a book for four workers");
    test_silent();
    test_pair();
    test_knot();
    dml_blame_done(&b);
    return tap_done();
}
