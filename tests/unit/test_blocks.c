/*
 * Deep models piece by piece: each layer alone, then each block, forward and backward, from the
 * inputs and gradients that a float64 reference has there.
 *
 * The reference is the naive twin, which computes the whole model in double. For MobileNetV2 its
 * every block is first held to PyTorch's float64 (tests/golden/make_golden.py): two float64 agree
 * to 1e-9, so no relu6 can decide differently in them. Then each piece gets what the reference has
 * in front of it and behind it, rounded to float32, and all its numbers are compared.
 *
 * Within a block an activation's input may lie so near to a kink that float32 and float64 take
 * different slopes, and both are right. For each number nearer than KINK the reference's gradients
 * are computed with the other slope too, and the difference is allowed, there and then only.
 *
 * Tolerances are shares of the largest number compared. A layer is a sum of up to 1280 products,
 * or a normalisation; in a block normalisations over as few as 4 numbers follow each other, which
 * enlarges what the first one rounds: the worst block is off by 2e-5, all others by a tenth of that.
 */
#include "tests/unit/golden.h"
#include "tests/unit/nn_ref_back.h"

#define BATCH     4
#define OF_LAYER  1e-5
#define OF_BLOCK  1e-4
#define KINK      2e-5
#define KINKS_MAX 64 /* more within KINK means that something is wrong */

struct whole {
    struct dml_model *m;
    double *vec, *x;
    struct ref_run run;
};

/* What the pieces of one model were off by, at most. */
struct tally {
    double y, dx, dparams;
    size_t n, n_kinks, n_failed;
};

static double *widen(const float *x, size_t n)
{
    double *y = ref_zeros(n);
    for (size_t i = 0; i < n; i++)
        y[i] = (double)x[i];
    return y;
}

static float *narrow(const double *x, size_t n)
{
    float *y = dml_mem_floats(n);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)x[i];
    return y;
}

/* The parameters of `m`'s first layer and so on, from the whole model's from layer `first` on. */
static void gather(const struct dml_model *m, const struct whole *w, size_t first, double *vec)
{
    const struct dml_layer *from = &w->m->layers[first];
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct dml_layer *l = &m->layers[i];
        if (l->type->is_internal)
            continue;
        while (from->type->is_internal)
            from++;
        memcpy(vec + l->params_at, w->vec + from->params_at,
               dml_layer_n_params(l) * sizeof(double));
        from++;
    }
}

/* Adds what the gradients would change by if the kinks nearby were passed on the other side. */
static void allow_kinks(struct ref_run *r, const double *dy, double *dx, double *dparams,
                        size_t *io_n)
{
    size_t n_dx = r->batch * dml_model_n_inputs(r->m), n = dml_model_n_params(r->m), n_kinks = 0;
    double *dx0 = ref_zeros(n_dx), *dparams0 = ref_zeros(n);
    memcpy(dx0, r->dx, n_dx * sizeof(double));
    memcpy(dparams0, r->dparams, n * sizeof(double));
    for (size_t i = 0; i < r->m->n_layers && r->m->n_layers > 1; i++) {
        const struct dml_layer *l = &r->m->layers[i];
        const double *x = l->from < 0 ? r->x : r->y[l->from];
        bool is_relu6 = !strcmp(l->type->name, "relu6");
        if (!is_relu6 && strcmp(l->type->name, "relu") != 0)
            continue;
        for (size_t j = 0; j < r->batch * dml_layer_size(l->in); j++) {
            if (fabs(x[j]) > KINK && !(is_relu6 && fabs(x[j] - 6.0) < KINK))
                continue;
            if (++n_kinks > KINKS_MAX)
                break;
            struct ref_flip flip = {i, j};
            r->flip = &flip;
            ref_run_backward(r, dy);
            r->flip = NULL;
            for (size_t k = 0; k < n_dx; k++)
                dx[k] += fabs(r->dx[k] - dx0[k]);
            for (size_t k = 0; k < n; k++)
                dparams[k] += fabs(r->dparams[k] - dparams0[k]);
        }
    }
    memcpy(r->dx, dx0, n_dx * sizeof(double));
    memcpy(r->dparams, dparams0, n * sizeof(double));
    *io_n += n_kinks;
    if (n_kinks > KINKS_MAX)
        tap_ok(false, "%zu numbers near kinks", n_kinks);
    free(dx0);
    free(dparams0);
}

/* Largest difference beyond what is allowed, as a share of the largest wanted. */
static double off_by(const float *got, const double *want, const double *allowed, size_t n)
{
    double off = 0.0, top = 1e-12;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]) - (allowed ? allowed[i] : 0.0);
        off = d <= off ? off : d; /* a NaN stays */
        top = fmax(top, fabs(want[i]));
    }
    return off / top;
}

/* In planes to the order of the last layer, and back. */
static void from_planes(const struct dml_layer *l, float *y, size_t batch)
{
    size_t c = l->out.c, places = (size_t)l->out.h * l->out.w, n = c * places;
    float *t = dml_mem_floats(n);
    for (size_t b = 0; l->out_order == DML_ORDER_HWC && b < batch; b++, y += n) {
        memcpy(t, y, n * sizeof(float));
        for (size_t i = 0; i < n; i++)
            y[i % places * c + i / places] = t[i];
    }
    free(t);
}

/* Layers first … last of the whole, as a model of their own. */
static void check_piece(const struct whole *w, size_t first, size_t last, struct tally *tally)
{
    char text[2048];
    const struct dml_layer *head = &w->m->layers[first], *tail = &w->m->layers[last];
    bool is_sum = tail->also != DML_LAYER_NONE && last > first;
    int n = snprintf(text, sizeof(text), "name t\ninput %u %u %u\n%s", head->in.c, head->in.h,
                     head->in.w, is_sum ? "residual\n" : "");
    for (size_t i = first; i <= last; i++)
        if (!w->m->layers[i].type->is_internal)
            n += snprintf(text + n, sizeof(text) - (size_t)n, "%s\n", w->m->layers[i].words);
    if (is_sum)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "end\n");
    _cleanup_(dml_model_freep) struct dml_model *m = NULL;
    struct dml_err err = {0};
    tally->n++;
    if (dml_model_parse(text, (size_t)n, "piece", &m, &err) < 0) {
        tap_ok(false, "%s: %s", text, err.text);
        return;
    }
    size_t d = BATCH * dml_model_n_inputs(m), o = BATCH * dml_model_n_outputs(m);
    size_t p = dml_model_n_params(m);
    const struct dml_layer *end = &m->layers[m->n_layers - 1];
    double *vec = ref_zeros(p);
    gather(m, w, first, vec);
    float *x = narrow(head->from < 0 ? w->x : w->run.y[head->from], d), *block, *grad;
    float *dy = narrow(w->run.dy[last], o), *y = dml_mem_floats(o), *dx = dml_mem_floats(d);
    block = dml_mem_floats(dml_model_n_vec(m));
    grad = dml_mem_floats(p);
    float *space = dml_mem_floats(dml_model_workspace(m, BATCH, true));
    double *wide_x = widen(x, d), *wide_dy = widen(dy, o);
    double *dx_room = ref_zeros(d), *dparams_room = ref_zeros(p);
    for (size_t i = 0; i < p; i++)
        block[i] = (float)vec[i];

    struct ref_run run = {.m = m, .batch = BATCH, .vec = vec, .x = wide_x};
    ref_run_forward(&run);
    ref_run_backward(&run, wide_dy);
    allow_kinks(&run, wide_dy, dx_room, dparams_room, &tally->n_kinks);

    const struct dml_model_training training = {.seed = 1};
    dml_model_forward(m, block, block + p, x, BATCH, &training, space, y);
    ref_to_planes(end, y, BATCH);
    from_planes(end, dy, BATCH);
    dml_model_backward(m, block, x, dy, BATCH, &training, space, grad, dx);
    double off_y = off_by(y, run.y[m->n_layers - 1], NULL, o);
    double off_dx = off_by(dx, run.dx, dx_room, d);
    double off_dparams = off_by(grad, run.dparams, dparams_room, p);
    double most = first == last ? OF_LAYER : OF_BLOCK;
    if (!(off_y < most && off_dx < most && off_dparams < most)) {
        tally->n_failed++;
        tap_note("layers %zu to %zu: y %.1e, dx %.1e, dparams %.1e:", first, last, off_y, off_dx,
                 off_dparams);
        for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
            tap_note("    %.*s", (int)strcspn(line, "\n"), line);
    }
    tally->y = fmax(tally->y, off_y);
    tally->dx = fmax(tally->dx, off_dx);
    tally->dparams = fmax(tally->dparams, off_dparams);
    ref_run_done(&run);
    free(vec);
    free(x);
    free(dy);
    free(y);
    free(dx);
    free(block);
    free(grad);
    free(space);
    free(wide_x);
    free(wide_dy);
    free(dx_room);
    free(dparams_room);
}

static void report(const struct tally *t, const char *what)
{
    tap_ok(t->n > 0 && t->n_failed == 0,
           "%zu %s: max difference of y %.1e, dx %.1e, dparams %.1e; %zu numbers near a kink", t->n,
           what, t->y, t->dx, t->dparams, t->n_kinks);
}

static void check_layers(const struct whole *w)
{
    struct tally t = {0};
    for (size_t i = 0; i < w->m->n_layers; i++)
        if (!w->m->layers[i].type->is_internal && dml_layer_size(w->m->layers[i].out) > 1)
            check_piece(w, i, i, &t);
    report(&t, "layers alone");
}

static void check_golden(const char *text, size_t block, const char *what, const double *got,
                         size_t n)
{
    char key[64];
    double picked[SAMPLES], step = n / SAMPLES ? (double)(n / SAMPLES) : 1.0;
    size_t m = 0;
    for (size_t i = 0; i < n && m < SAMPLES; i += (size_t)step)
        picked[m++] = got[i];
    (void)snprintf(key, sizeof(key), "block %zu %s", block, what);
    compare(text, key, picked, m, 1e-9);
}

/* The layers of one block: from behind the last block to a normalisation that no relu6 follows, and
 * the sum behind it. */
static size_t end_of_block(const struct dml_model *m, size_t first)
{
    size_t i = first;
    while (i + 1 < m->n_layers && !(!strcmp(m->layers[i].type->name, "batch-norm") &&
                                    strcmp(m->layers[i + 1].type->name, "relu6") != 0))
        i++;
    return i + 1 < m->n_layers && m->layers[i + 1].also != DML_LAYER_NONE ? i + 1 : i;
}

static void check_blocks(const struct whole *w, const char *text)
{
    struct tally t = {0}, units = {0};
    size_t n_blocks = 0;
    for (size_t first = 0, last; first < w->m->n_layers; first = last + 1, n_blocks++) {
        last = end_of_block(w->m, first);
        size_t at = w->m->layers[first].params_at, o = dml_layer_size(w->m->layers[last].out);
        size_t end = last + 1 < w->m->n_layers ? w->m->layers[last + 1].params_at
                                               : dml_model_n_params(w->m);
        double norm2 = 0.0;
        check_golden(text, n_blocks, "y", w->run.y[last], BATCH * o);
        check_golden(text, n_blocks, "dy", w->run.dy[last], BATCH * o);
        check_golden(text, n_blocks, "dparams", w->run.dparams + at, end - at);
        for (size_t i = at; i < end; i++)
            norm2 += w->run.dparams[i] * w->run.dparams[i];
        norm2 = sqrt(norm2);
        check_golden(text, n_blocks, "dparams-norm", &norm2, 1);
        check_piece(w, first, last, &t);
        for (size_t i = first; i + 2 <= last; i++) /* what may be done at once */
            if (!strcmp(w->m->layers[i].type->name, "conv") &&
                !strcmp(w->m->layers[i + 2].type->name, "relu6"))
                check_piece(w, i, i + 2, &units);
    }
    tap_int((long long)n_blocks, 18, "blocks");
    report(&units, "times conv, batch-norm, relu6");
    report(&t, "blocks");
}

static bool load(const char *name, struct whole *w)
{
    _cleanup_(dml_mem_freep) char *path =
        dml_mem_printf("%s/etc/models/%s.model", top_srcdir(), name);
    _cleanup_(dml_mem_freep) char *lines = NULL;
    struct dml_err err = {0};
    size_t len;
    if (!tap_int(dml_fileio_read(path, 1 << 16, &lines, &len, NULL), 0, path))
        return false;
    char *drop = strstr(lines, "dropout 0.2");
    if (drop)
        memcpy(drop, "dropout 0.0", 11);
    while (len && lines[len - 1] == '\n')
        lines[--len] = '\0';
    _cleanup_(dml_mem_freep) char *text = dml_mem_printf("%s smoothing 0.1\n", lines);
    if (!tap_ok(dml_model_parse(text, strlen(text), name, &w->m, &err) == 0, "%s", name)) {
        tap_note("line %u: %s", err.line, err.text);
        return false;
    }
    return true;
}

static void test_model(const char *name)
{
    struct whole w = {0};
    if (!load(name, &w))
        return;
    size_t d = dml_model_n_inputs(w.m), p = dml_model_n_params(w.m);
    float *vec = dml_mem_floats(dml_model_n_vec(w.m)), *x = dml_mem_floats(BATCH * d);
    fill_golden(w.m, vec);
    ref_fill(x, BATCH * d, 1.0, 7);
    w.vec = widen(vec, p);
    w.x = widen(x, BATCH * d);
    w.run = (struct ref_run){.m = w.m, .batch = BATCH, .vec = w.vec, .x = w.x};
    ref_run_forward(&w.run);
    double dy[BATCH * 10], *y = w.run.y[w.m->n_layers - 1];
    for (size_t b = 0; b < BATCH; b++) { /* cross-entropy, smoothed by 0.1, mean */
        double sum = 0.0;
        for (size_t i = 0; i < 10; i++)
            sum += exp(y[b * 10 + i]);
        for (size_t i = 0; i < 10; i++)
            dy[b * 10 + i] =
                (exp(y[b * 10 + i]) / sum - 0.01 - (i == (b * 7 + 3) % 10 ? 0.9 : 0.0)) / BATCH;
    }
    ref_run_backward(&w.run, dy);
    check_layers(&w);
    if (!strcmp(name, "mobilenetv2")) {
        _cleanup_(dml_mem_freep) char *text = read_golden("mobilenetv2-blocks");
        if (text)
            check_blocks(&w, text);
    }
    ref_run_done(&w.run);
    free(vec);
    free(x);
    free(w.vec);
    free(w.x);
    dml_model_free(w.m);
}

int main(void)
{
    test_model("resnet-8");
    test_model("cifar-cnn");
    test_model("mobilenetv2");
    return tap_done();
}
