#include "paradigm/sparse.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/tap.h"

#define N_MAX 1000

struct vectors {
    float x[N_MAX], set[N_MAX], add[N_MAX], zeroed[N_MAX];
    uint64_t mask[N_MAX / 64 + 1], chosen[N_MAX / 64 + 1];
    _Alignas(8) unsigned char bytes[16 + N_MAX * sizeof(float)];
};

static bool is_in(const uint64_t *mask, size_t i)
{
    return mask[i / 64] >> i % 64 & 1;
}

/* Packs about `share` of n places and looks at what comes out at the other end. */
static void round_trip(struct vectors *v, size_t n, double share, uint64_t seed)
{
    struct dml_rng rng;
    dml_rng_init(&rng, seed, 0, 0, 0);
    memset(v->mask, 0, sizeof(v->mask));
    size_t n_chosen = 0;
    for (size_t i = 0; i < n; i++) {
        v->x[i] = (float)i + 0.5f;
        v->set[i] = -1.0f;
        v->add[i] = 100.0f;
        v->zeroed[i] = 7.0f;
        if (dml_rng_uniform(&rng) < share) {
            v->mask[i / 64] |= UINT64_C(1) << i % 64;
            n_chosen++;
        }
    }
    memcpy(v->chosen, v->mask, sizeof(v->mask));
    size_t len = dml_sparse_pack(v->x, v->mask, n, v->bytes);
    bool all = len == dml_sparse_room(n);
    int r = dml_sparse_check(v->bytes, len, n);
    tap_ok(r == 0 && len <= dml_sparse_room(n), "n = %zu, %zu chosen: %zu bytes are sound", n,
           n_chosen, len);
    if (r < 0)
        return;
    dml_sparse_set(v->bytes, n, v->set);
    dml_sparse_add(v->bytes, n, v->add);
    dml_sparse_clear(v->zeroed, v->mask, n);
    size_t wrong = dml_sparse_count(v->bytes) != (all ? n : n_chosen);
    for (size_t i = 0; i < n; i++) {
        bool in = all || is_in(v->chosen, i);
        wrong += is_in(v->mask, i) != in;
        wrong += v->set[i] != (in ? v->x[i] : -1.0f);
        wrong += v->add[i] != (in ? 100.0f + v->x[i] : 100.0f);
        wrong += v->zeroed[i] != (in ? 0.0f : 7.0f);
    }
    tap_int((long long)wrong, 0, "what was chosen arrives, and nothing else");
}

static void test_round_trips(struct vectors *v)
{
    const size_t sizes[] = {1, 2, 63, 64, 65, 200, N_MAX};
    const double shares[] = {0.0, 0.01, 0.1, 0.5, 0.97, 1.0};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t j = 0; j < sizeof(shares) / sizeof(shares[0]); j++)
            round_trip(v, sizes[i], shares[j], i * 100 + j);
}

static size_t packed_len(struct vectors *v, size_t n, size_t n_chosen)
{
    memset(v->mask, 0, sizeof(v->mask));
    for (size_t i = 0; i < n_chosen; i++)
        v->mask[i / 64] |= UINT64_C(1) << i % 64;
    return dml_sparse_pack(v->x, v->mask, n, v->bytes);
}

/* A mask costs n/8 bytes and 4 for each place, a list 8 for each place. */
static void test_shortest(struct vectors *v)
{
    tap_int((long long)packed_len(v, 640, 0), 16, "nothing chosen: the header alone");
    tap_int((long long)packed_len(v, 640, 10), 16 + 80, "few: a list");
    tap_int((long long)packed_len(v, 640, 100), 16 + 80 + 400, "more: a mask");
    tap_int((long long)packed_len(v, 640, 620), 16 + 640 * 4, "nearly all: all");
}

static void test_choose(struct vectors *v)
{
    const float change[] = {0.0f, 0.1f, -0.1f, 0.001f, 1.0f, 0.02f},
                value[] = {1.0f, 1.0f, 2.0f, 0.0f, -100.0f, 1.0f};
    uint64_t mask;
    tap_int((long long)dml_sparse_choose(change, value, 6, 1.0, 0.0, &mask), 5,
            "threshold 0: all that changed");
    tap_int((long long)mask, 0x3e, "which are these");
    tap_int((long long)dml_sparse_choose(change, value, 6, 1.0, 0.03, &mask), 3,
            "threshold 3 %: what changed by more than that");
    tap_int((long long)mask, 0xe, "0.1 of 1, -0.1 of 2, and anything of 0");
    tap_int((long long)dml_sparse_choose(change, value, 6, 0.1, 0.03, &mask), 1,
            "the factor is a learning rate: changes count for a tenth");
    (void)v;
}

static void refuse(struct vectors *v, size_t len, size_t n, const char *what)
{
    tap_int(dml_sparse_check(v->bytes, len, n), -EPROTO, what);
}

static void test_unsound(struct vectors *v)
{
    size_t len = packed_len(v, 640, 10);
    refuse(v, 0, 640, "no bytes");
    refuse(v, 15, 640, "half a header");
    refuse(v, len - 1, 640, "a byte too few");
    refuse(v, len + 1, 640, "a byte too many");
    refuse(v, len, 9, "more places than the vector has");
    v->bytes[0] = 3;
    refuse(v, len, 640, "an unknown form");
    len = packed_len(v, 640, 10);
    v->bytes[4] = 1;
    refuse(v, len, 640, "a header with something in its gap");
    len = packed_len(v, 640, 10);
    memset(v->bytes + 16, 0, 40);
    refuse(v, len, 640, "the same place twice");
    len = packed_len(v, 640, 10);
    v->bytes[16 + 9 * 4 + 1] = 3;
    refuse(v, len, 640, "a place beyond the end");
    len = packed_len(v, 600, 100);
    v->bytes[16 + 9 * 8 + 7] = 0x80;
    refuse(v, len, 600, "a bit beyond the end");
    len = packed_len(v, 640, 100);
    v->bytes[16] ^= 1;
    refuse(v, len, 640, "fewer bits than values");
    len = packed_len(v, 640, 640);
    v->bytes[8] = 1;
    refuse(v, len, 640, "a dense form with another count");
}

int main(void)
{
    _cleanup_(dml_mem_freep) struct vectors *v = calloc(1, sizeof(*v));
    if (!v)
        return 1;
    test_round_trips(v);
    test_shortest(v);
    test_choose(v);
    test_unsound(v);
    return tap_done();
}
