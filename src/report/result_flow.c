/*
 * The tables below the source paper's: what a step costs in time and bytes, and what each node did,
 * next to the law of the ring paper. They are for paradigms whose nodes hand each other data in
 * every step; the federated ones have said all with T, W and O.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/flow.h"
#include "report/label.h"
#include "report/result.h"
#include "report/table.h"

#define WIDTH 80

/* More rows of nodes than that are shown only to whoever asks for them. */
#define NODES_SHOWN 24

/* All cases; those without anything to show have n_nodes 0 and passes false. */
struct flows {
    const struct dml_results *r;
    struct dml_labels labels;
    struct dml_flow *of; /* [n_cases] */
    size_t n_made;
};

static void flows_done(struct flows *f)
{
    for (size_t i = 0; i < f->n_made; i++)
        dml_flow_done(&f->of[i]);
    free(f->of);
    dml_labels_done(&f->labels);
}

static int flows_init(struct flows *f, const struct dml_results *r)
{
    *f = (struct flows){.r = r};
    f->of = calloc(r->n_cases ? r->n_cases : 1, sizeof(*f->of));
    int e = f->of ? dml_labels_init(&f->labels, r) : -ENOMEM;
    for (size_t i = 0; e == 0 && i < r->n_cases; i++) {
        e = dml_flow_make(&r->cases[i], &f->of[i]);
        f->n_made += e == 0;
    }
    return e;
}

/* A column of figures: how many decimals its largest one leaves room for. */
struct format {
    double factor, largest;
};

static void look(struct format *io, double x)
{
    if (isfinite(x))
        io->largest = fmax(io->largest, fabs(io->factor * x));
}

static void put(struct dml_table *t, const struct format *format, double x)
{
    double most = format->largest;
    if (isfinite(x))
        dml_table_add(t, "%.*f",
                      most >= 1000.0  ? 0
                      : most >= 100.0 ? 1
                      : most >= 1.0   ? 2
                                      : 3,
                      format->factor * x);
    else
        dml_table_add(t, "–");
}

static void put_share(struct dml_table *t, double x)
{
    if (isfinite(x))
        dml_table_add(t, "%.1f", 100.0 * x);
    else
        dml_table_add(t, "–");
}

/* Megabytes, or kilobytes where there is none. */
static struct format bytes_format(double largest)
{
    return (struct format){.factor = largest >= 1e5 ? 1e-6 : 1e-3};
}

static const char *bytes_name(const struct format *format)
{
    return format->factor > 1e-5 ? "kB" : "MB";
}

static void print(struct dml_table *t, FILE *f)
{
    (void)dml_table_print(t, dml_table_width(t, 2) <= WIDTH ? 2 : 1, f);
    (void)fputc('\n', f);
}

/* ---- per step ----------------------------------------------------------------------------- */

static void add_nodes(struct dml_table *t, const struct dml_result_case *c)
{
    if (c->cores > 0.0 && c->nodes > 0)
        dml_table_add(t, "%u×%.3g", c->nodes, c->cores / c->nodes);
    else
        dml_table_add(t, "%u", c->nodes);
}

static void print_steps(const struct flows *x, FILE *f)
{
    struct format step = {.factor = 1e3}, rate = {.factor = 1.0};
    double most = 0.0;
    bool filter = false, nodes = !x->labels.nodes;
    for (size_t i = 0; i < x->r->n_cases; i++) {
        const struct dml_flow *flow = &x->of[i];
        look(&step, flow->step_s);
        look(&rate, flow->samples_per_s);
        most = fmax(most, fmax(flow->node_bytes, flow->master_bytes));
        filter = filter || !isnan(flow->saved);
    }
    struct format bytes = bytes_format(most);
    for (size_t i = 0; i < x->r->n_cases; i++) {
        look(&bytes, x->of[i].node_bytes);
        look(&bytes, x->of[i].master_bytes);
    }
    _cleanup_(dml_table_freep) struct dml_table *t =
        dml_table_new(x->labels.n_columns + nodes + 4 + filter);
    if (!t)
        return;
    dml_labels_add_header(&x->labels, t);
    if (nodes)
        dml_table_add(t, "nodes");
    dml_table_add(t, "step [ms]");
    dml_table_add(t, "samples/s");
    dml_table_add(t, "sent [%s]", bytes_name(&bytes));
    dml_table_add(t, "master [%s]", bytes_name(&bytes));
    if (filter)
        dml_table_add(t, "saved%%");
    for (size_t i = 0; i < x->r->n_cases; i++) {
        const struct dml_flow *flow = &x->of[i];
        dml_labels_add_row(&x->labels, i, t);
        if (nodes)
            add_nodes(t, &x->r->cases[i]);
        put(t, &step, flow->step_s);
        put(t, &rate, flow->samples_per_s);
        put(t, &bytes, flow->node_bytes);
        put(t, &bytes, flow->master_bytes);
        if (filter)
            put_share(t, flow->saved);
    }
    print(t, f);
    dml_table_wrap("Per step: T / steps; what a node sends on average, what the master sends and "
                   "receives.",
                   WIDTH, 0, 0, f);
    if (filter)
        dml_table_wrap("saved: share of the master's bytes that the filter (significance) kept "
                       "back.",
                       WIDTH, 0, 0, f);
}

/* ---- per node ----------------------------------------------------------------------------- */

struct node_formats {
    struct format time, bytes;
    bool layers, throttled;
};

static struct node_formats node_formats(const struct flows *x)
{
    struct node_formats ret = {.time = {.factor = 1.0}};
    double most = 0.0;
    for (size_t i = 0; i < x->r->n_cases; i++) {
        for (size_t k = 0; k < x->of[i].n_nodes; k++) {
            const struct dml_flow_node *n = &x->of[i].nodes[k];
            look(&ret.time, n->compute_s);
            look(&ret.time, n->transfer_s);
            look(&ret.time, n->idle_s);
            most = fmax(most, n->sent_bytes);
            ret.layers = ret.layers || n->layers[0];
            ret.throttled = ret.throttled || n->throttled > 0.0;
        }
        look(&ret.time, x->of[i].n_nodes ? x->of[i].t_s : NAN);
    }
    ret.bytes = bytes_format(most);
    look(&ret.bytes, most);
    return ret;
}

static void add_node(struct dml_table *t, const struct node_formats *format,
                     const struct dml_flow_node *n)
{
    if (n->id[0])
        dml_table_add(t, "%s", n->id);
    else
        dml_table_add(t, "%u", n->rank);
    if (format->layers)
        dml_table_add(t, "%s", n->layers[0] ? n->layers : "–");
    put(t, &format->time, n->compute_s);
    put(t, &format->time, n->transfer_s);
    put(t, &format->time, n->idle_s);
    put_share(t, n->overlap);
    put(t, &format->bytes, n->sent_bytes);
    if (format->throttled)
        put_share(t, n->throttled);
}

static void print_nodes(const struct flows *x, FILE *f)
{
    const struct node_formats format = node_formats(x);
    _cleanup_(dml_table_freep) struct dml_table *t =
        dml_table_new(6 + format.layers + format.throttled);
    if (!t)
        return;
    dml_table_left(t, 0);
    dml_table_add(t, "node");
    if (format.layers) {
        dml_table_left(t, 1);
        dml_table_add(t, "layers");
    }
    dml_table_add(t, "compute [s]");
    dml_table_add(t, "transfer [s]");
    dml_table_add(t, "idle [s]");
    dml_table_add(t, "overlap%%");
    dml_table_add(t, "sent [%s]", bytes_name(&format.bytes));
    if (format.throttled)
        dml_table_add(t, "throttled%%");
    for (size_t i = 0; i < x->r->n_cases; i++) {
        if (x->of[i].n_nodes > 0 && x->r->n_cases > 1)
            dml_table_span(t, x->r->cases[i].label);
        for (size_t k = 0; k < x->of[i].n_nodes; k++)
            add_node(t, &format, &x->of[i].nodes[k]);
    }
    print(t, f);
}

static void print_law(const struct flows *x, FILE *f)
{
    const struct node_formats format = node_formats(x);
    _cleanup_(dml_table_freep) struct dml_table *t = dml_table_new(x->labels.n_columns + 5);
    bool any = false;
    if (!t)
        return;
    dml_labels_add_header(&x->labels, t);
    static const char *const titles[] = {"c [s]", "T [s]", "max(c, T)", "c + T", "measured"};
    for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
        dml_table_add(t, "%s", titles[i]);
    for (size_t i = 0; i < x->r->n_cases; i++) {
        const struct dml_flow *flow = &x->of[i];
        if (flow->n_nodes == 0)
            continue;
        double c = flow->compute_s, transfer = flow->transfer_s;
        any = any || isfinite(transfer);
        dml_labels_add_row(&x->labels, i, t);
        put(t, &format.time, c);
        put(t, &format.time, transfer);
        put(t, &format.time, isfinite(transfer) ? fmax(c, transfer) : NAN);
        put(t, &format.time, c + transfer);
        put(t, &format.time, flow->t_s);
    }
    if (!any) {
        dml_table_wrap("Transfers between threads of one process take no time that could be "
                       "measured.",
                       WIDTH, 0, 0, f);
        return;
    }
    print(t, f);
    dml_table_wrap("The law: time → max(c, T); c the largest compute of a node, T here its largest "
                   "transfer. overlap: share of the transfer during which the node was not idle.",
                   WIDTH, 0, 0, f);
}

void dml_results_print_flow(const struct dml_results *r, bool all_nodes, FILE *f)
{
    _cleanup_(flows_done) struct flows x;
    bool steps = false;
    size_t n_nodes = 0;
    if (flows_init(&x, r) < 0)
        return;
    for (size_t i = 0; i < r->n_cases; i++) {
        steps = steps || (x.of[i].passes && isfinite(x.of[i].step_s));
        n_nodes += x.of[i].n_nodes;
    }
    if (steps) {
        (void)fputc('\n', f);
        print_steps(&x, f);
    }
    if (n_nodes == 0) {
        if (all_nodes)
            dml_table_wrap("No node has figures of its own: they are kept where nodes hand each "
                           "other data in every step.",
                           WIDTH, 0, 0, f);
        return;
    }
    if (n_nodes > NODES_SHOWN && !all_nodes) {
        (void)fputs("What each node did: dmlctl report --nodes.\n", f);
        return;
    }
    (void)fputc('\n', f);
    print_nodes(&x, f);
    print_law(&x, f);
}
