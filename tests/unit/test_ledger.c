/*
 * The parameter server's ledger, alone: two to three ranks, four parameters, plain SGD at rate 1,
 * so that every value can be worked out in the head.
 */
#include "paradigm/ledger.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/testcase.h"
#include "paradigm/sparse.h"
#include "tests/tap.h"

#define P 4

struct fixture {
    struct dml_train_options train;
    size_t n_samples[3];
    float vec[P];
    struct dml_ledger *l;
};

/* Shards of 4, 4 and 2 samples, minibatches of 2: two steps an epoch. */
static void setup(struct fixture *f, uint32_t n_ranks, uint64_t staleness, double significance)
{
    *f = (struct fixture){
        .train = {.batch_size = 2, .learning_rate = 1.0, .schedule = DML_SCHEDULE_CONSTANT},
        .n_samples = {4, 4, 2},
        .vec = {10.0f, 20.0f, 30.0f, 40.0f},
    };
    struct dml_ledger_options o = {
        .n_ranks = n_ranks,
        .n_params = P,
        .train = &f->train,
        .n_samples = f->n_samples,
        .vec = f->vec,
        .steps_per_epoch = 2,
        .n_epochs = 5,
        .staleness = staleness,
        .significance = significance,
    };
    if (dml_ledger_new(&o, &f->l) < 0) {
        printf("Bail out! no memory\n");
        exit(1);
    }
    for (uint32_t rank = 1; rank <= n_ranks; rank++)
        if (dml_ledger_admit(f->l, rank) < 0)
            exit(1);
}

static void teardown(struct fixture *f)
{
    dml_ledger_free(f->l);
}

static struct dml_buf *pack(float g0, float g1)
{
    float g[P] = {g0, g1, 0.0f, 0.0f};
    uint64_t mask = 3;
    struct dml_buf *b = dml_buf_new(dml_sparse_room(P));
    if (!b)
        exit(1);
    b->len = dml_sparse_pack(g, &mask, P, b->data);
    return b;
}

/* A gradient of the minibatch's sum / 2 with the first two numbers as given. */
static int push(struct fixture *f, uint32_t rank, uint64_t step, float g0, float g1)
{
    struct dml_buf *b = pack(g0, g1);
    int r = dml_ledger_push(f->l, rank, step, b);
    (void)dml_buf_unref(b);
    return r;
}

/* Answers `rank`; what it would now have in place 0 if it had 0 everywhere. */
static float answer(struct fixture *f, uint32_t rank, size_t *ret_count)
{
    struct dml_buf *b = NULL;
    float x[P] = {0};
    if (dml_ledger_answer(f->l, rank, &b) < 0)
        exit(1);
    tap_int(dml_sparse_check(b->data, b->len, P), 0, "an answer is sound");
    dml_sparse_set(b->data, P, x);
    *ret_count = dml_sparse_count(b->data);
    (void)dml_buf_unref(b);
    return x[0];
}

static void test_synchronous(void)
{
    struct fixture f;
    size_t count;
    setup(&f, 3, 0, 0.0);
    tap_int((long long)dml_ledger_grant(f.l), 0, "staleness 0: the first step may begin, no other");
    tap_int(push(&f, 1, 0, 1.0f, 3.0f), 0, "rank 1 hands in step 0");
    tap_int(push(&f, 3, 0, 2.0f, 0.0f), 0, "so does rank 3");
    tap_ok(!dml_ledger_settle(f.l, 1), "a step waits for all its members");
    tap_int(dml_ledger_answerable(f.l), 0, "and so do those who have handed in");
    tap_near(f.vec[0], 10.0, 0.0, "nothing was applied");
    tap_int(push(&f, 1, 0, 1.0f, 3.0f), -EPROTO, "nobody hands in a step twice");
    tap_int(push(&f, 1, 1, 1.0f, 3.0f), -EPROTO, "or one ahead");
    tap_int(push(&f, 2, 0, 3.0f, 0.0f), 0, "rank 2 hands in step 0");
    tap_ok(!dml_ledger_settle(f.l, 4), "too few members: nothing is complete");
    tap_ok(dml_ledger_settle(f.l, 3), "the step is complete");
    /* Sums of 2, 4 and 6 over 6 samples. */
    tap_near(f.vec[0], 8.0, 1e-6, "one step with the mean over all samples");
    tap_near(f.vec[1], 19.0, 1e-6, "in every parameter");
    for (uint32_t rank = 1; rank <= 3; rank++) {
        tap_int(dml_ledger_answerable(f.l), rank, "all are answered, in order");
        tap_near(answer(&f, rank, &count), 8.0, 1e-6, "with the new parameters");
        tap_int((long long)count, P, "all of them");
    }
    tap_int(dml_ledger_answerable(f.l), 0, "once");
    tap_int((long long)dml_ledger_grant(f.l), 1, "the next step may begin");
    tap_int((long long)dml_ledger_batch(f.l, 3, 1), 0, "rank 3 has no samples left in the epoch");
    (void)push(&f, 1, 1, 2.0f, 0.0f);
    (void)push(&f, 2, 1, 0.0f, 0.0f);
    (void)push(&f, 3, 1, 0.0f, 0.0f);
    tap_ok(dml_ledger_settle(f.l, 3), "a member without samples takes part");
    tap_near(f.vec[0], 7.0, 1e-6, "and does not count in the mean");
    teardown(&f);
}

static void test_loss_of_a_member(void)
{
    struct fixture f;
    setup(&f, 2, 0, 0.0);
    (void)push(&f, 1, 0, 4.0f, 0.0f);
    (void)push(&f, 2, 0, 0.0f, 0.0f);
    (void)dml_ledger_settle(f.l, 1);
    tap_near(f.vec[0], 8.0, 1e-6, "a step of two");
    (void)push(&f, 2, 1, 8.0f, 0.0f);
    dml_ledger_drop(f.l, 2);
    (void)push(&f, 1, 1, 1.0f, 0.0f);
    tap_ok(dml_ledger_settle(f.l, 1), "a lost member is not waited for");
    tap_near(f.vec[0], 7.0, 1e-6, "and what it had handed in for the step is forgotten");
    tap_int(push(&f, 2, 1, 1.0f, 0.0f), -EPROTO, "it cannot hand in any more");
    tap_int(dml_ledger_admit(f.l, 2), 0, "it comes back");
    tap_int((long long)dml_ledger_clock(f.l, 2), 2, "to the step the others are at");
    dml_ledger_drop(f.l, 1);
    dml_ledger_drop(f.l, 2);
    tap_ok(!dml_ledger_settle(f.l, 0), "nobody there: nothing happens");
    tap_int(dml_ledger_admit(f.l, 1), 0, "one is back");
    tap_int((long long)dml_ledger_clock(f.l, 1), 2, "where training had been");
    teardown(&f);
}

static void test_bounded_delay(void)
{
    struct fixture f;
    size_t count;
    setup(&f, 2, 2, 0.0);
    tap_int((long long)dml_ledger_grant(f.l), 2, "staleness 2: two steps ahead of the slowest");
    /* Half of the step's samples: half of the rate. */
    (void)push(&f, 1, 0, 2.0f, 0.0f);
    tap_near(f.vec[0], 9.0, 1e-6, "a gradient is applied as it comes, by its share");
    tap_int(dml_ledger_answerable(f.l), 1, "and answered");
    tap_near(answer(&f, 1, &count), 9.0, 1e-6, "with the parameters of this moment");
    (void)push(&f, 1, 1, 0.0f, 0.0f);
    (void)answer(&f, 1, &count);
    (void)push(&f, 1, 2, 0.0f, 0.0f);
    tap_int(dml_ledger_answerable(f.l), 0, "three steps ahead is too far: no answer");
    (void)push(&f, 2, 0, 2.0f, 0.0f);
    tap_int((long long)dml_ledger_grant(f.l), 3, "the slowest has moved");
    tap_int(dml_ledger_answerable(f.l), 1, "so rank 1 may go on");
    (void)answer(&f, 1, &count);
    tap_int(dml_ledger_answerable(f.l), 2, "and so may rank 2");
    tap_near(f.vec[0], 8.0, 1e-6, "two gradients amount to one synchronous step");
    dml_ledger_drop(f.l, 2);
    tap_int((long long)dml_ledger_grant(f.l), 5, "a lost member holds nobody back");
    teardown(&f);
}

static void test_unbounded(void)
{
    struct fixture f;
    size_t count;
    setup(&f, 2, DML_STALENESS_UNBOUNDED, 0.0);
    for (uint64_t step = 0; step < 9; step++) {
        (void)push(&f, 1, step, 0.0f, 0.0f);
        if (dml_ledger_answerable(f.l) != 1)
            break;
        (void)answer(&f, 1, &count);
    }
    tap_int((long long)dml_ledger_clock(f.l, 1), 9, "unbounded: nobody waits for anybody");
    (void)push(&f, 1, 9, 0.0f, 0.0f);
    tap_int(dml_ledger_answerable(f.l), 0, "the last step needs no answer");
    tap_int(push(&f, 1, 10, 0.0f, 0.0f), -EPROTO, "and there is none beyond it");
    teardown(&f);
}

static void test_filter(void)
{
    struct fixture f;
    size_t count;
    setup(&f, 1, 0, 0.1); /* a tenth of the value */
    (void)push(&f, 1, 0, 2.0f, 1.0f);
    (void)dml_ledger_settle(f.l, 1);
    tap_near(answer(&f, 1, &count), 8.0, 1e-6, "2 of 10 is significant");
    tap_int((long long)count, 1, "1 of 20 is not: it does not travel");
    (void)push(&f, 1, 1, 0.0f, 1.0f);
    (void)dml_ledger_settle(f.l, 1);
    (void)answer(&f, 1, &count);
    tap_int((long long)count, 1, "2 of 20 in two steps is: nothing is lost, only late");
    /* Two places of four are cheapest as a dense vector, one as a list: 8 bytes instead of 16. */
    tap_int((long long)dml_ledger_saved(f.l), 2 * 8, "two answers saved something");
    teardown(&f);
}

static void test_unsound(void)
{
    struct fixture f;
    setup(&f, 1, 0, 0.0);
    struct dml_buf *b = pack(1.0f, 1.0f);
    b->len--;
    tap_int(dml_ledger_push(f.l, 1, 0, b), -EPROTO, "unsound bytes are refused");
    tap_int(dml_ledger_push(f.l, 1, 0, NULL), -EPROTO, "and so is nothing");
    (void)dml_buf_unref(b);
    tap_int(push(&f, 1, 0, 1.0f, 1.0f), 0, "they changed nothing");
    teardown(&f);
}

static void test_limit(void)
{
    struct fixture f;
    setup(&f, 2, 3, 0.0);
    dml_ledger_limit(f.l, 2);
    tap_int((long long)dml_ledger_grant(f.l), 1, "a grant ends before the limit");
    tap_int(push(&f, 1, 0, 1, 0), 0, "step 0 of rank 1");
    tap_int(dml_ledger_answerable(f.l), 1, "is answered: step 1 may begin");
    size_t count;
    (void)answer(&f, 1, &count);
    tap_int(push(&f, 1, 1, 1, 0), 0, "so is its step 1");
    tap_int(dml_ledger_answerable(f.l), 0, "no answer to the last step before the limit");
    tap_int(push(&f, 2, 0, 1, 0), 0, "step 0 of rank 2");
    tap_int(dml_ledger_answerable(f.l), 2, "whoever is not there yet goes on");
    (void)answer(&f, 2, &count);
    tap_int(push(&f, 2, 1, 1, 0), 0, "as far as the limit");
    tap_int(dml_ledger_answerable(f.l), 0, "where all wait");
    dml_ledger_limit(f.l, 4);
    tap_int((long long)dml_ledger_grant(f.l), 3, "raised, it lets them go on");
    tap_int(dml_ledger_answerable(f.l), 1, "all of them");
    teardown(&f);
}

int main(void)
{
    test_limit();
    test_synchronous();
    test_loss_of_a_member();
    test_bounded_delay();
    test_unbounded();
    test_filter();
    test_unsound();
    return tap_done();
}
