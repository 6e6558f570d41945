/*
 * c and T are the largest of the nodes, because the slowest one sets the pace: a node that computes
 * and one that transfers may be two. A transfer is counted where it is sent, for that is where it
 * is known how long it took; what a node receives is the transfer of another.
 *
 * Source of the law: RingTMP; for a pipeline whose nodes compute c and transfer T per step the step
 * takes c + T when they do one after the other, and max(c, T) when they do both at once.
 */
#include "report/flow.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/result.h"

#define RANKS_MAX 256 /* of a run; a file may say anything */

/* Sums over rounds and runs. */
struct sum {
    bool is_there, is_exposed_known;
    const struct dml_round_worker *last;
    double steps, work_us, sending_us, idle_us, exposed_us, sent, received;
    double n_told, n_throttled; /* rounds in which the firmware's word is known; … */
};

struct sums {
    size_t n_runs;
    double t_us, steps, samples;
    double master_sending_us, master_sent, master_received, unfiltered, filtered;
    struct sum of[RANKS_MAX];
};

static bool passes(const char *paradigm)
{
    static const char *const names[] = {"allreduce", "server", "pipeline", "ring", "hybrid"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(paradigm, names[i]))
            return true;
    return false;
}

static void add_worker(struct sums *s, const struct dml_round_worker *w)
{
    if (w->rank >= RANKS_MAX)
        return;
    struct sum *sum = &s->of[w->rank];
    if (!sum->is_there)
        sum->is_exposed_known = true;
    sum->is_there = true;
    sum->is_exposed_known = sum->is_exposed_known && w->exposed_us != DML_EVENT_UNKNOWN;
    sum->last = w;
    sum->work_us += (double)w->work_us;
    sum->sending_us += (double)w->sending_us;
    sum->idle_us += (double)w->idle_us;
    sum->exposed_us += (double)w->exposed_us;
    sum->sent += (double)w->sent_bytes;
    sum->received += (double)w->received_bytes;
    sum->n_told += w->throttled >= 0;
    sum->n_throttled +=
        w->throttled >= 0 && ((uint32_t)w->throttled & DML_EVENT_THROTTLED_NOW) != 0;
    s->samples += (double)w->n_samples;
}

static void add_round(struct sums *s, const struct dml_round *round)
{
    double steps = 0.0;
    for (unsigned i = 0; round->workers && i < round->n_participants; i++) {
        add_worker(s, &round->workers[i]);
        steps = fmax(steps, (double)round->workers[i].n_steps);
    }
    s->steps += steps;
    s->master_sending_us += (double)round->sending_us;
    s->master_sent += (double)round->sent_bytes;
    s->master_received += (double)round->received_bytes;
    if (round->unfiltered_bytes) {
        s->unfiltered += (double)round->unfiltered_bytes;
        s->filtered += (double)round->sent_bytes + (double)round->received_bytes;
    }
}

static void add_runs(struct sums *s, const struct dml_result_case *c)
{
    for (size_t i = 0; i < c->n_runs; i++) {
        const struct dml_result_run *run = &c->runs[i];
        if (run->failed)
            continue;
        s->n_runs++;
        s->t_us += (double)run->totals.t_us;
        for (size_t k = 0; k < run->n_rounds; k++)
            add_round(s, &run->rounds[k]);
    }
}

/* 0 where there is a transfer means that nothing measured it: threads of one process. */
static double measured(double us, double bytes)
{
    return us > 0.0 || !(bytes > 0.0) ? us / 1e6 : NAN;
}

static void fill_node(const struct sums *s, uint32_t rank, struct dml_flow_node *ret)
{
    const struct sum *sum = &s->of[rank];
    double n = (double)s->n_runs, sending_s = measured(sum->sending_us, sum->sent);
    *ret = (struct dml_flow_node){
        .rank = rank,
        .compute_s = sum->work_us / 1e6 / n,
        .transfer_s = sending_s / n,
        .idle_s = sum->idle_us / 1e6 / n,
        .exposed_s = sum->is_exposed_known ? sum->exposed_us / 1e6 / n : NAN,
        .sent_bytes = sum->sent / n,
        .received_bytes = sum->received / n,
        .throttled = sum->n_told > 0.0 ? sum->n_throttled / sum->n_told : NAN,
    };
    ret->overlap =
        ret->transfer_s > 0.0 ? fmin(1.0, fmax(0.0, 1.0 - ret->exposed_s / ret->transfer_s)) : NAN;
    if (isnan(ret->exposed_s) || isnan(ret->transfer_s))
        ret->exposed_s = ret->overlap = NAN; /* fmin and fmax swallow a NAN */
    memcpy(ret->id, sum->last->id, sizeof(ret->id));
    memcpy(ret->layers, sum->last->layers, sizeof(ret->layers));
}

static void fill_master(const struct sums *s, struct dml_flow_node *ret)
{
    double n = (double)s->n_runs;
    *ret = (struct dml_flow_node){
        .id = "master",
        .compute_s = NAN,
        .transfer_s = measured(s->master_sending_us, s->master_sent) / n,
        .idle_s = NAN,
        .exposed_s = NAN,
        .overlap = NAN,
        .sent_bytes = s->master_sent / n,
        .received_bytes = s->master_received / n,
        .throttled = NAN,
    };
}

static void find_largest(struct dml_flow *flow)
{
    flow->compute_s = flow->transfer_s = NAN; /* fmax takes the other one then */
    for (size_t i = 0; i < flow->n_nodes; i++) {
        flow->compute_s = fmax(flow->compute_s, flow->nodes[i].compute_s);
        flow->transfer_s = fmax(flow->transfer_s, flow->nodes[i].transfer_s);
    }
}

static int fill_nodes(const struct sums *s, bool with_master, struct dml_flow *flow)
{
    size_t n = with_master;
    double sent = 0.0;
    for (uint32_t rank = 0; rank < RANKS_MAX; rank++)
        n += s->of[rank].is_there;
    flow->nodes = calloc(n ? n : 1, sizeof(*flow->nodes));
    if (!flow->nodes)
        return -ENOMEM;
    if (with_master)
        fill_master(s, &flow->nodes[flow->n_nodes++]);
    for (uint32_t rank = 0; rank < RANKS_MAX; rank++) {
        if (!s->of[rank].is_there)
            continue;
        sent += s->of[rank].sent / (double)s->n_runs;
        fill_node(s, rank, &flow->nodes[flow->n_nodes++]);
    }
    if (n > with_master)
        flow->node_bytes = sent / (double)(n - with_master) / flow->n_steps;
    find_largest(flow);
    return 0;
}

int dml_flow_make(const struct dml_result_case *c, struct dml_flow *ret)
{
    _cleanup_(dml_mem_freep) struct sums *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *ret = (struct dml_flow){
        .passes = passes(c->paradigm),
        .t_s = NAN,
        .n_steps = NAN,
        .n_samples = NAN,
        .step_s = NAN,
        .samples_per_s = NAN,
        .node_bytes = NAN,
        .master_bytes = NAN,
        .saved = NAN,
        .compute_s = NAN,
        .transfer_s = NAN,
    };
    add_runs(s, c);
    if (s->n_runs == 0)
        return 0;
    double n = (double)s->n_runs;
    ret->t_s = s->t_us / 1e6 / n;
    ret->n_samples = s->samples / n;
    if (s->t_us > 0.0)
        ret->samples_per_s = ret->n_samples / ret->t_s;
    if (s->steps > 0.0) {
        ret->n_steps = s->steps / n;
        ret->step_s = ret->t_s / ret->n_steps;
    }
    if (!ret->passes)
        return 0;
    ret->master_bytes = (s->master_sent + s->master_received) / s->steps;
    if (!isfinite(ret->master_bytes))
        ret->master_bytes = NAN;
    if (s->unfiltered > 0.0)
        ret->saved = 1.0 - s->filtered / s->unfiltered;
    return fill_nodes(s, !strcmp(c->paradigm, "server"), ret);
}

void dml_flow_done(struct dml_flow *flow)
{
    free(flow->nodes);
    *flow = (struct dml_flow){0};
}
