/*
 * Results as CSV for spreadsheets and data frames: RFC 4180 (comma, CRLF, quotes doubled), a
 * header, times in microseconds as they were measured. One row per run and round, long format:
 * whatever belongs to the run is repeated in each of its rows.
 *
 * A text cell that starts with =, +, - or @ would be run as a formula by a spreadsheet; texts here
 * come from host and file names, so such a cell gets a quote mark in front.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/flow.h"
#include "report/result.h"

static void put_text(FILE *f, const char *s)
{
    const char *guard = s[0] && strchr("=+-@", s[0]) ? "'" : "";
    if (!s[strcspn(s, ",\"\r\n")]) {
        (void)fprintf(f, "%s%s", guard, s);
        return;
    }
    (void)fprintf(f, "\"%s", guard);
    for (; *s; s++) {
        if (*s == '"')
            (void)fputc('"', f);
        (void)fputc(*s, f);
    }
    (void)fputc('"', f);
}

/* Nothing where there is no number. */
static void put_real(FILE *f, double x)
{
    (void)fputc(',', f);
    if (isfinite(x))
        (void)fprintf(f, "%.17g", x);
}

static void put_uint(FILE *f, uint64_t x)
{
    (void)fprintf(f, ",%llu", (unsigned long long)x);
}

static void put_int(FILE *f, int64_t x)
{
    (void)fprintf(f, ",%lld", (long long)x);
}

static const char header[] =
    "name,label,nodes,cores,paradigm,strategy,model,dataset,repeat,failed,error,"
    "run_t_us,run_w_us,run_o_us,run_setup_us,run_lost,run_loss,run_accuracy,"
    "round,participants,expected,t_us,w_us,o_us,sent_bytes,received_bytes,train_loss,"
    "eval_loss,accuracy,eval_us,throttled,temperature_c\r\n";

static void put_run(FILE *f, const struct dml_results *r, const struct dml_result_case *c,
                    const struct dml_result_run *run)
{
    put_text(f, r->name);
    (void)fputc(',', f);
    put_text(f, c->label);
    put_uint(f, c->nodes);
    put_real(f, c->cores);
    const char *const texts[] = {c->paradigm, c->strategy, c->model, c->dataset};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        (void)fputc(',', f);
        put_text(f, texts[i]);
    }
    put_uint(f, (uint64_t)run->repeat + 1);
    (void)fprintf(f, ",%d,", run->failed);
    put_text(f, run->error ? run->error : "");
    put_uint(f, run->totals.t_us);
    put_uint(f, run->totals.work_us);
    put_int(f, run->totals.overhead_us);
    put_uint(f, run->totals.setup_us);
    put_uint(f, run->totals.n_lost);
    put_real(f, run->totals.loss);
    put_real(f, run->totals.accuracy);
}

static void put_round(FILE *f, const struct dml_round *round)
{
    put_uint(f, round->round);
    put_uint(f, round->n_participants);
    put_uint(f, round->n_expected);
    put_uint(f, round->t_us);
    put_uint(f, round->work_us);
    put_int(f, round->overhead_us);
    put_uint(f, round->sent_bytes);
    put_uint(f, round->received_bytes);
    put_real(f, round->loss);
    put_real(f, round->evaluated ? round->eval_loss : NAN);
    put_real(f, round->evaluated ? round->accuracy : NAN);
    if (round->evaluated)
        put_uint(f, round->eval_us);
    else
        (void)fputc(',', f);
    double temperature_c;
    int throttled = dml_results_throttled(round, &temperature_c);
    put_real(f, throttled >= 0 ? throttled : NAN);
    put_real(f, temperature_c >= 0.0 ? temperature_c : NAN);
}

/* Closes f, which writes to *io_text. */
static int finish(FILE *f, char **io_text, char **ret_csv)
{
    int failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        free(*io_text);
        return -ENOMEM;
    }
    *ret_csv = *io_text;
    return 0;
}

int dml_results_to_csv(const struct dml_results *r, char **ret_csv)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    (void)fputs(header, f);
    for (size_t i = 0; i < r->n_cases; i++) {
        const struct dml_result_case *c = &r->cases[i];
        for (size_t k = 0; k < c->n_runs; k++) {
            const struct dml_result_run *run = &c->runs[k];
            for (size_t n = 0; n < run->n_rounds; n++) {
                put_run(f, r, c, run);
                put_round(f, &run->rounds[n]);
                (void)fputs("\r\n", f);
            }
            if (run->n_rounds == 0) {
                put_run(f, r, c, run);
                (void)fputs(",,,,,,,,,,,,,,\r\n", f);
            }
        }
    }
    return finish(f, &text, ret_csv);
}

static const char nodes_header[] =
    "name,label,nodes,cores,paradigm,rank,node,layers,"
    "compute_s,transfer_s,idle_s,exposed_s,overlap,sent_bytes,received_bytes,run_t_s,throttled\r\n";

static void put_node(FILE *f, const struct dml_results *r, const struct dml_result_case *c,
                     const struct dml_flow *flow, const struct dml_flow_node *node)
{
    put_text(f, r->name);
    (void)fputc(',', f);
    put_text(f, c->label);
    put_uint(f, c->nodes);
    put_real(f, c->cores);
    (void)fputc(',', f);
    put_text(f, c->paradigm);
    put_uint(f, node->rank);
    (void)fputc(',', f);
    put_text(f, node->id);
    (void)fputc(',', f);
    put_text(f, node->layers);
    put_real(f, node->compute_s);
    put_real(f, node->transfer_s);
    put_real(f, node->idle_s);
    put_real(f, node->exposed_s);
    put_real(f, node->overlap);
    put_real(f, node->sent_bytes);
    put_real(f, node->received_bytes);
    put_real(f, flow->t_s);
    put_real(f, node->throttled);
    (void)fputs("\r\n", f);
}

int dml_results_nodes_csv(const struct dml_results *r, char **ret_csv)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    int e = f ? 0 : -ENOMEM;
    size_t n_rows = 0;
    if (e == 0)
        (void)fputs(nodes_header, f);
    for (size_t i = 0; e == 0 && i < r->n_cases; i++) {
        struct dml_flow flow;
        e = dml_flow_make(&r->cases[i], &flow);
        for (size_t k = 0; e == 0 && k < flow.n_nodes; k++, n_rows++)
            put_node(f, r, &r->cases[i], &flow, &flow.nodes[k]);
        if (e == 0)
            dml_flow_done(&flow);
    }
    if (e == 0 && n_rows == 0)
        e = -ENODATA;
    if (e == 0)
        return finish(f, &text, ret_csv);
    if (f)
        (void)fclose(f);
    free(text);
    return e;
}
