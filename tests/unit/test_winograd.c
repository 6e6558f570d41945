/*
 * Convolution 5×5, relu and max-pool 2 by points, for every level this processor can run: what goes
 * to the points and comes back against plain sums in double, over shapes that do not fit the
 * vectors. The products between them are done in double here, so that what differs is the changes'.
 */
#include "nn/kernel_winograd.h"

#include "nn/kernel.h"
#include "tests/tap.h"
#define NUMBERS_SLACK (4 * DML_KERNEL_SLACK)
#include "tests/unit/kernel_help.h"

#define K      DML_WINOGRAD_K
#define POINTS DML_WINOGRAD_POINTS

struct subject {
    struct dml_kernel_winograd_form f;
    size_t rows; /* of the picture */
    float *x, *w, *bias, *wt, *u, *v, *m, *y, *plain;
    int32_t *won, *places;
    struct dml_kernel_winograd_some some;
};

static struct subject make(size_t c, size_t o, size_t h, size_t w, size_t band)
{
    size_t tiles = (w + 1) / 2;
    struct subject s = {.f = {.c = c,
                              .o = o,
                              .h = h,
                              .w = w,
                              .tiles = tiles,
                              .x_row = 4 * tiles + 4,
                              .wp = 2 * w + 5,
                              .half = dml_kernel_round((h + 2) * tiles) + DML_KERNEL_ROW,
                              .u_point = dml_kernel_round(c * K * o) + DML_KERNEL_ROW,
                              .band = band,
                              .m_row = dml_kernel_round(band * tiles)}};
    s.f.v_point = 2 * c * s.f.half + DML_KERNEL_SLACK;
    s.rows = 2 * h + K - 1;
    s.x = numbers(c * s.rows * s.f.x_row, 3);
    s.w = numbers(o * c * K * K, 4);
    s.bias = numbers(o, 5);
    s.wt = numbers(o * c * K * K, 6);
    s.u = numbers(POINTS * s.f.u_point, 7);
    s.v = numbers(POINTS * s.f.v_point, 8);
    s.m = numbers(2 * POINTS * o * s.f.m_row, 9);
    s.y = numbers(o * h * w, 10);
    s.plain = numbers(o * h * w, 11);
    s.won = dml_mem_array(o * h * w, sizeof(int32_t));
    s.places = dml_mem_array(2 * s.f.m_row, sizeof(int32_t));
    s.some = (struct dml_kernel_winograd_some){
        .y = numbers(2 * s.f.m_row, 12),
        .won = dml_mem_array(2 * s.f.m_row + NUMBERS_SLACK, sizeof(int32_t)),
        .places = s.places,
    };
    for (size_t i = 0; i < 2 * band * tiles; i++)
        s.places[i] = (int32_t)(i / 2 / tiles * 2 * s.f.wp + i / 2 % tiles * 4);
    for (size_t i = 0; i < o; i++)
        for (size_t j = 0; j < c * K * K; j++)
            s.wt[j * o + i] = s.w[i * c * K * K + j];
    return s;
}

static void done(struct subject *s)
{
    float *all[] = {s->x, s->w, s->bias, s->wt, s->u, s->v, s->m, s->y, s->plain, s->some.y};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        free(all[i]);
    free(s->won);
    free(s->places);
    free(s->some.won);
}

/* m of a band, from u and v as the header lays them out. */
static void products(const struct subject *s, size_t first, size_t rows)
{
    const struct dml_kernel_winograd_form *f = &s->f;
    for (size_t below = 0; below < 2; below++)
        for (size_t p = 0; p < POINTS; p++)
            for (size_t o = 0; o < f->o; o++)
                for (size_t i = 0; i < rows * f->tiles; i++) {
                    size_t h = 2 * (first + i / f->tiles) + below, t = i % f->tiles;
                    double sum = 0.0;
                    for (size_t c = 0; c < f->c; c++)
                        for (size_t k = 0; k < K; k++)
                            sum += (double)s->u[p * f->u_point + (c * K + k) * f->o + o] *
                                   (double)s->v[p * f->v_point + (2 * c + (h + k) % 2) * f->half +
                                                (h + k) / 2 * f->tiles + t];
                    s->m[((below * POINTS + p) * f->o + o) * f->m_row + i] = (float)sum;
                }
}

/* The convolution at place (h, w) of channel o. */
static double at_place(const struct subject *s, size_t o, size_t h, size_t w)
{
    double sum = (double)s->bias[o];
    for (size_t c = 0; c < s->f.c; c++)
        for (size_t i = 0; i < K; i++)
            for (size_t j = 0; j < K; j++)
                sum += (double)s->w[((o * s->f.c + c) * K + i) * K + j] *
                       (double)s->x[(c * s->rows + h + i) * s->f.x_row + w + j];
    return sum;
}

/* How far y is off; what = 0 when a winner lies outside of its window or is not the greatest but
 * for rounding. */
static bool compare(const struct subject *s)
{
    const struct dml_kernel_winograd_form *f = &s->f;
    bool right = true;
    for (size_t i = 0; i < f->o * f->h * f->w; i++) {
        size_t o = i / (f->h * f->w), h = 2 * (i / f->w % f->h), left = 2 * (i % f->w);
        double best = 0.0;
        for (size_t q = 0; q < 4; q++)
            best = fmax(best, at_place(s, o, h + q / 2, left + q % 2));
        differ((double)s->y[i], best);
        size_t down = (size_t)s->won[i] / f->wp - h, across = (size_t)s->won[i] % f->wp - left;
        right = right && down < 2 && across < 2;
        if (right && s->y[i] > 0.0f)
            right = fabs(at_place(s, o, h + down, left + across) - best) < TOLERANCE;
        right = right && s->plain[i] == s->y[i];
    }
    return right;
}

static void test_shapes(const struct dml_kernel *k)
{
    static const size_t channels[][2] = {{1, 1}, {3, 6}, {6, 16}, {2, 17}, {1, 40}};
    unsigned wrong = 0, n = 0;
    worst = 0.0;
    for (size_t i = 0; i < sizeof(channels) / sizeof(*channels); i++)
        for (size_t w = 1; w <= 36; w = w < 8 ? w + 1 : w + 7)
            for (size_t h = 1; h <= 7; h += 3)
                for (size_t band = 1; band <= h; band += 2, n++) {
                    struct subject s = make(channels[i][0], channels[i][1], h, w, band);
                    const struct dml_kernel_winograd *to = k->winograd;
                    to->weights(&s.f, s.wt, s.u);
                    to->inputs(&s.f, s.x, s.v);
                    for (size_t first = 0; first < h; first += band) {
                        size_t rows = h - first < band ? h - first : band;
                        products(&s, first, rows);
                        to->outputs(&s.f, first, rows, s.m, s.bias, &s.some, s.y, s.won);
                        to->outputs(&s.f, first, rows, s.m, s.bias, &s.some, s.plain, NULL);
                    }
                    wrong += !compare(&s);
                    done(&s);
                }
    tap_ok(worst < TOLERANCE, "%s: %u shapes, max difference %.1e", k->name, n, worst);
    tap_ok(wrong == 0, "%s: winners of windows, and the same without them; wrong for %u", k->name,
           wrong);
}

/* A number that is none must be seen in the output, at least where a plain sum would show it. */
static void test_not_a_number(const struct dml_kernel *k)
{
    struct subject s = make(2, 3, 2, 4, 2);
    unsigned lost = 0;
    s.x[s.f.x_row * 3 + 5] = NAN; /* of the first channel: in the patches of windows 0 to 2 */
    k->winograd->weights(&s.f, s.wt, s.u);
    k->winograd->inputs(&s.f, s.x, s.v);
    products(&s, 0, 2);
    k->winograd->outputs(&s.f, 0, 2, s.m, s.bias, &s.some, s.y, s.won);
    for (size_t o = 0; o < 3; o++)
        for (size_t w = 0; w < 3; w++)
            lost += !isnan(s.y[o * 8 + w]);
    tap_ok(lost == 0, "%s: not a number goes through, lost in %u of 9 windows", k->name, lost);
    done(&s);
}

int main(void)
{
    const struct dml_kernel *k;
    for (size_t i = 0; (k = dml_kernel_nth(i)); i++) {
        test_shapes(k);
        test_not_a_number(k);
    }
    return tap_done();
}
