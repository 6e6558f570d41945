/*
 * What makes the figures of a case doubtful though its runs did not fail: workers that were lost or
 * late, and boards that were slowed down by heat or a weak power supply.
 *
 * The firmware's word counts as it was at the end of a round; what happened before, since boot, may
 * be older than the run. Source: Raspberry Pi documentation, vcgencmd get_throttled.
 */
#include <stdlib.h>
#include <string.h>

#include "report/result.h"
#include "report/table.h"

#define WIDTH         80
#define WORKERS_MAX   256 /* told apart; a file may say anything */
#define WORKERS_NAMED 12  /* of a case */

/* A worker in all runs of a case. */
struct board {
    const struct dml_round_worker *who;
    size_t n_rounds, n_throttled, n_under_voltage; /* of which the firmware's word is known; … */
};

static bool is_throttled(const struct dml_round_worker *w)
{
    return w->throttled >= 0 && ((uint32_t)w->throttled & DML_EVENT_THROTTLED_NOW) != 0;
}

/* Rounds of a run with fewer workers than it should have had. */
static size_t short_rounds(const struct dml_result_run *run)
{
    size_t n = 0;
    for (size_t i = 0; i < run->n_rounds; i++)
        n += run->rounds[i].n_participants < run->rounds[i].n_expected;
    return n;
}

int dml_results_throttled(const struct dml_round *round, double *ret_temperature_c)
{
    int n = -1;
    *ret_temperature_c = -1.0;
    for (unsigned i = 0; round->workers && i < round->n_participants; i++) {
        const struct dml_round_worker *w = &round->workers[i];
        if (w->throttled >= 0)
            n = (n < 0 ? 0 : n) + is_throttled(w);
        if (w->temperature_c > *ret_temperature_c)
            *ret_temperature_c = w->temperature_c;
    }
    return n;
}

bool dml_results_has_notes(const struct dml_result_case *c)
{
    double ignored;
    for (size_t k = 0; k < c->n_runs; k++) {
        const struct dml_result_run *run = &c->runs[k];
        if (run->failed)
            continue;
        if (run->totals.n_lost > 0 || short_rounds(run) > 0)
            return true;
        for (size_t i = 0; i < run->n_rounds; i++)
            if (dml_results_throttled(&run->rounds[i], &ignored) > 0)
                return true;
    }
    return false;
}

static void print(char *text, FILE *f)
{
    if (text)
        dml_table_wrap(text, WIDTH, 0, 4, f);
    free(text);
}

static void print_workers(const struct dml_result_case *c, const struct dml_result_run *run,
                          FILE *f)
{
    unsigned lost = run->totals.n_lost;
    size_t n_short = short_rounds(run);
    if (lost == 0 && n_short == 0)
        return;
    char what[64] = "", gap[96] = "";
    if (lost > 0)
        (void)snprintf(what, sizeof(what), "%u worker%s lost", lost, lost == 1 ? " was" : "s were");
    if (n_short > 0)
        (void)snprintf(gap, sizeof(gap), "%s%zu of %zu rounds had fewer than %u workers",
                       lost > 0 ? ", and " : "", n_short, run->n_rounds, c->nodes);
    print(dml_mem_printf("! %s, run %u: %s%s", c->label, run->repeat + 1, what, gap), f);
}

/* The board of a worker; a new one at its first round. NULL: too many. */
static struct board *board_of(struct board *boards, size_t *io_n, size_t likely,
                              const struct dml_round_worker *w)
{
    for (size_t i = 0; i < *io_n; i++) {
        struct board *b = &boards[(likely + i) % *io_n];
        if (b->who->rank == w->rank && !strcmp(b->who->id, w->id))
            return b;
    }
    if (*io_n == WORKERS_MAX)
        return NULL;
    boards[*io_n].who = w;
    return &boards[(*io_n)++];
}

static size_t collect(const struct dml_result_case *c, struct board *boards)
{
    size_t n = 0;
    for (size_t k = 0; k < c->n_runs; k++)
        for (size_t i = 0; !c->runs[k].failed && i < c->runs[k].n_rounds; i++) {
            const struct dml_round *round = &c->runs[k].rounds[i];
            for (unsigned j = 0; round->workers && j < round->n_participants; j++) {
                const struct dml_round_worker *w = &round->workers[j];
                struct board *b = w->throttled >= 0 ? board_of(boards, &n, j, w) : NULL;
                if (!b)
                    continue;
                b->n_rounds++;
                b->n_throttled += is_throttled(w);
                b->n_under_voltage += ((uint32_t)w->throttled & DML_EVENT_UNDER_VOLTAGE) != 0;
            }
        }
    return n;
}

static void print_boards(const struct dml_result_case *c, FILE *f)
{
    _cleanup_(dml_mem_freep) struct board *boards = calloc(WORKERS_MAX, sizeof(*boards));
    char *text = NULL;
    size_t n = boards ? collect(c, boards) : 0, len = 0, n_slowed = 0;
    FILE *out = n > 0 ? open_memstream(&text, &len) : NULL;
    if (!out)
        return;
    (void)fprintf(out, "! %s: ", c->label);
    for (size_t i = 0; i < n; i++) {
        const struct board *b = &boards[i];
        if (b->n_throttled == 0 || ++n_slowed > WORKERS_NAMED)
            continue;
        (void)fputs(n_slowed > 1 ? "; " : "", out);
        if (b->who->id[0])
            (void)fputs(b->who->id, out);
        else
            (void)fprintf(out, "worker %u", b->who->rank);
        (void)fprintf(out, "%s throttled in %zu of %zu rounds", n_slowed > 1 ? "" : " was",
                      b->n_throttled, b->n_rounds);
        if (b->n_under_voltage > 0)
            (void)fprintf(out, " (%zu with too little voltage)", b->n_under_voltage);
    }
    if (n_slowed > WORKERS_NAMED)
        (void)fprintf(out, "; and %zu more workers", n_slowed - WORKERS_NAMED);
    if (fclose(out) == 0 && n_slowed > 0) {
        print(text, f);
        return;
    }
    free(text);
}

void dml_results_print_notes(const struct dml_results *r, FILE *f)
{
    bool any = false;
    for (size_t i = 0; i < r->n_cases; i++) {
        const struct dml_result_case *c = &r->cases[i];
        any = any || dml_results_has_notes(c);
        for (size_t k = 0; k < c->n_runs; k++)
            if (!c->runs[k].failed)
                print_workers(c, &c->runs[k], f);
        print_boards(c, f);
    }
    if (any)
        (void)fputc('\n', f);
}
