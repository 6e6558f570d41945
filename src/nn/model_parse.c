/*
 * The model language: one statement per line, words separated by blanks, # starts a comment.
 *
 *     name WORD    input C H W | input D    LAYER [VALUE] [KEY VALUE]…    loss WORD
 *
 * Shapes are worked out line by line, so a layer that does not fit is refused at its own line, with
 * the shape it would get and the line that made it. Keys and their ranges are rows of the layer's
 * option table; nothing here knows any family.
 */
#include "nn/model.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/opt.h"
#include "nn/kernel.h"
#include "nn/model_priv.h"

#define WORDS_MAX    12
#define WORD_LEN_MAX 64
#define EDGE_MAX     65536

struct parser {
    const char *file;
    unsigned line;
    struct dml_err *err;
    struct dml_model *m;
    size_t n_room;
    bool has_loss;
    char words[WORDS_MAX][WORD_LEN_MAX];
    size_t n_words;
};

/* Splits a line; what is not printable becomes '?', since it ends up in messages. */
static int split(struct parser *p, const char *s, size_t len)
{
    size_t i = 0;
    p->n_words = 0;
    while (i < len && s[i] != '#') {
        if (isspace((unsigned char)s[i])) {
            i++;
            continue;
        }
        if (p->n_words == WORDS_MAX)
            return dml_err_at(p->err, -EINVAL, p->file, p->line, "more than %d words on a line",
                              WORDS_MAX);
        char *word = p->words[p->n_words++];
        size_t n = 0;
        for (; i < len && s[i] != '#' && !isspace((unsigned char)s[i]); i++) {
            if (n == WORD_LEN_MAX - 1)
                return dml_err_at(p->err, -EINVAL, p->file, p->line,
                                  "a word is longer than %d characters", WORD_LEN_MAX - 1);
            word[n++] = s[i] > ' ' && s[i] <= '~' ? s[i] : '?';
        }
        word[n] = '\0';
    }
    return 0;
}

/* A size in [1, max]. */
static int number(struct parser *p, const char *word, unsigned long max, uint32_t *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(word, &end, 10);
    if (!isdigit((unsigned char)word[0]) || *end || errno || v < 1 || v > max)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: found \"%s\", a number from 1 to %lu is allowed", p->words[0], word,
                          max);
    *ret = (uint32_t)v;
    return 0;
}

static int read_name(struct parser *p)
{
    if (p->m->name)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "name: given twice");
    if (p->n_words != 2)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "name: one word is allowed");
    for (const char *c = p->words[1]; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return dml_err_at(p->err, -EINVAL, p->file, p->line,
                              "name: \"%s\" has other characters than letters, digits, - _ .",
                              p->words[1]);
    p->m->name = strdup(p->words[1]);
    return p->m->name ? 0 : -ENOMEM;
}

static int read_input(struct parser *p)
{
    struct dml_layer_shape *in = &p->m->input;
    if (in->c)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "input: given twice");
    if (p->n_words != 2 && p->n_words != 4)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "input: CHANNELS HEIGHT WIDTH, or one number of inputs, is allowed");
    struct dml_layer_shape s = {.h = 1, .w = 1};
    int r = number(p, p->words[1], p->n_words == 2 ? 1ul << 24 : EDGE_MAX, &s.c);
    if (r == 0 && p->n_words == 4)
        r = number(p, p->words[2], EDGE_MAX, &s.h);
    if (r == 0 && p->n_words == 4)
        r = number(p, p->words[3], EDGE_MAX, &s.w);
    if (r < 0)
        return r;
    if ((uint64_t)s.c * s.h * s.w > DML_MODEL_FLOATS_MAX)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "input: more than %llu numbers",
                          (unsigned long long)DML_MODEL_FLOATS_MAX);
    *in = s;
    return 0;
}

static int read_loss(struct parser *p)
{
    static const char *const words[] = {"cross-entropy", "mse"};
    if (p->has_loss)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "loss: given twice");
    for (size_t i = 0; p->n_words == 2 && i < ARRAY_SIZE(words); i++)
        if (!strcmp(p->words[1], words[i])) {
            p->m->loss = i == 0 ? DML_LOSS_CROSS_ENTROPY : DML_LOSS_MSE;
            p->has_loss = true;
            return 0;
        }
    const char *near = p->n_words > 1 ? dml_opt_nearest(p->words[1], words, 2) : NULL;
    return dml_err_at(p->err, -EINVAL, p->file, p->line,
                      "loss: found \"%s\", cross-entropy or mse is allowed%s%s%s",
                      p->n_words > 1 ? p->words[1] : "", near ? "; did you mean \"" : "",
                      near ? near : "", near ? "\"?" : "");
}

static int unknown_word(struct parser *p)
{
    const char *words[32] = {"name", "input", "loss"};
    size_t n = 3;
    for (size_t i = 0; dml_layer_types()[i]; i++)
        words[n++] = dml_layer_types()[i]->name;
    const char *near = dml_opt_nearest(p->words[0], words, n);
    if (near)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "unknown word \"%s\"; did you mean \"%s\"?", p->words[0], near);
    return dml_err_at(p->err, -EINVAL, p->file, p->line,
                      "unknown word \"%s\"; allowed are name, input, loss and the layers conv, "
                      "linear, relu, tanh, sigmoid, max-pool, avg-pool, flatten, dropout",
                      p->words[0]);
}

/* Says what is wrong with word w, which should be a key of the layer. */
static int wrong_key(struct parser *p, const struct dml_layer_type *type, size_t w, bool twice)
{
    const char *keys[16];
    size_t n = 0;
    for (size_t i = type->n_bare; type->opts[i].name; i++)
        keys[n++] = type->opts[i].name;
    const char *near = n ? dml_opt_nearest(p->words[w], keys, n) : NULL;
    if (twice)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "%s: %s given twice", type->name,
                          p->words[w]);
    if (near && !strcmp(near, p->words[w]))
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "%s: %s has no value", type->name,
                          near);
    if (near)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: unknown word \"%s\"; did you mean \"%s\"?", type->name, p->words[w],
                          near);
    return dml_err_at(p->err, -EINVAL, p->file, p->line, "%s: unknown word \"%s\"; allowed is: %s",
                      type->name, p->words[w], type->usage);
}

static int read_args(struct parser *p, struct dml_layer *l)
{
    const struct dml_layer_type *type = l->type;
    const struct dml_opt *opts = type->opts;
    uint32_t seen = 0;
    int r = 0;
    for (size_t i = 0; opts[i].name && r == 0; i++)
        if (opts[i].dflt)
            r = dml_opt_set(&opts[i], &l->args, opts[i].dflt, p->file, p->line, p->err);
    for (size_t w = 1, n_bare = 0; w < p->n_words && r == 0; w++) {
        size_t i = n_bare;
        if (n_bare < type->n_bare) {
            n_bare++;
        } else {
            for (i = type->n_bare; opts[i].name; i++)
                if (!strcmp(opts[i].name, p->words[w]))
                    break;
            bool twice = opts[i].name && seen & 1u << i;
            if (!opts[i].name || twice || w + 1 == p->n_words)
                return wrong_key(p, type, w, twice);
            w++;
        }
        seen |= 1u << i;
        r = dml_opt_set(&opts[i], &l->args, p->words[w], p->file, p->line, p->err);
    }
    if (r < 0)
        return r;
    for (unsigned i = 0; i < type->n_required; i++)
        if (!(seen & 1u << i))
            return dml_err_at(p->err, -EINVAL, p->file, p->line,
                              "%s: %s is missing; allowed is: %s", type->name, opts[i].name,
                              type->usage);
    return 0;
}

static int add_layer(struct parser *p, const struct dml_layer_type *type)
{
    struct dml_model *m = p->m;
    if (!m->input.c)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: the input line must come before the first layer", type->name);
    if (m->n_layers == DML_MODEL_LAYERS_MAX)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "more than %d layers",
                          DML_MODEL_LAYERS_MAX);
    if (m->n_layers == p->n_room) {
        size_t room = p->n_room ? 2 * p->n_room : 16;
        struct dml_layer *more = realloc(m->layers, room * sizeof(*more));
        if (!more)
            return -ENOMEM;
        m->layers = more;
        p->n_room = room;
    }
    const struct dml_layer *before = m->n_layers ? &m->layers[m->n_layers - 1] : NULL;
    struct dml_layer *l = &m->layers[m->n_layers];
    *l = (struct dml_layer){.type = type, .kernel = dml_kernel_get(), .line = p->line};
    l->in = before ? before->out : m->input;
    for (size_t i = 0, n = 0; i < p->n_words && n < sizeof(l->words); i++)
        n +=
            (size_t)snprintf(l->words + n, sizeof(l->words) - n, "%s%s", i ? " " : "", p->words[i]);
    int r = read_args(p, l);
    if (r < 0)
        return r;
    char why[200] = "";
    r = type->prepare(l, why, sizeof(why));
    if (r < 0)
        return dml_err_at(p->err, r, p->file, p->line,
                          "layer %zu (%s) cannot take %u×%u×%u from %s: %s", m->n_layers + 1,
                          l->words, l->in.c, l->in.h, l->in.w, before ? before->words : "the input",
                          why);
    m->n_layers++;
    return 0;
}

static int statement(struct parser *p)
{
    if (p->n_words == 0)
        return 0;
    if (!strcmp(p->words[0], "name"))
        return read_name(p);
    if (!strcmp(p->words[0], "input"))
        return read_input(p);
    if (!strcmp(p->words[0], "loss"))
        return read_loss(p);
    const struct dml_layer_type *type = dml_layer_find(p->words[0]);
    return type ? add_layer(p, type) : unknown_word(p);
}

/* Places in the flat block, buffers that may be shared, totals against the limits. */
static int finish(struct parser *p)
{
    struct dml_model *m = p->m;
    const char *missing = !m->name ? "name" : !m->input.c ? "input" : !m->n_layers ? "layer" : NULL;
    if (missing)
        return dml_err_at(p->err, -EINVAL, p->file, 0, "the model has no %s line", missing);
    uint64_t n_params = 0, floats = dml_layer_size(m->input), scratch = 0;
    bool kept = true; /* somebody's backward reads what the next layer would overwrite */
    m->widest = dml_layer_size(m->input);
    for (size_t i = 0; i < m->n_layers; i++) {
        struct dml_layer *l = &m->layers[i];
        uint64_t size = (uint64_t)l->out.c * l->out.h * l->out.w;
        l->in_place = i > 0 && l->type->may_work_in_place && (l->type->is_copy || !kept);
        kept = l->type->needs_y || (l->in_place && l->type->is_copy && kept);
        l->params_at = (size_t)n_params;
        n_params += dml_layer_n_params(l);
        floats += (l->in_place ? 0 : size) + l->n_saved;
        scratch = l->n_scratch > scratch ? l->n_scratch : scratch;
        m->macs += l->macs;
        if (n_params > DML_MODEL_PARAMS_MAX)
            return dml_err_at(p->err, -EINVAL, p->file, l->line,
                              "%s: more than %u parameters up to here", l->words,
                              DML_MODEL_PARAMS_MAX);
        if (size > DML_MODEL_FLOATS_MAX || floats > DML_MODEL_FLOATS_MAX ||
            scratch > DML_MODEL_FLOATS_MAX)
            return dml_err_at(p->err, -EINVAL, p->file, l->line,
                              "%s: needs more than 1 GiB of memory for one sample", l->words);
        m->widest = size > m->widest ? (size_t)size : m->widest;
    }
    m->n_params = (size_t)n_params;
    m->scratch = (size_t)scratch;
    const struct dml_layer *last = &m->layers[m->n_layers - 1];
    size_t n_outputs = dml_layer_size(last->out);
    if (m->loss == DML_LOSS_MSE && n_outputs != 1)
        return dml_err_at(p->err, -EINVAL, p->file, last->line,
                          "loss mse needs one output, the last layer (%s) gives %zu", last->words,
                          n_outputs);
    if (m->loss == DML_LOSS_CROSS_ENTROPY && n_outputs < 2)
        return dml_err_at(p->err, -EINVAL, p->file, last->line,
                          "loss cross-entropy needs an output for each of at least two classes, "
                          "the last layer (%s) gives one; for regression write \"loss mse\"",
                          last->words);
    return 0;
}

int dml_model_parse(const char *text, size_t len, const char *file, struct dml_model **ret,
                    struct dml_err *err)
{
    if (len > DML_MODEL_TEXT_MAX)
        return dml_err_at(err, -EINVAL, file, 0, "longer than %d bytes", DML_MODEL_TEXT_MAX);
    if (len && memchr(text, '\0', len))
        return dml_err_at(err, -EINVAL, file, 0, "not a text: it contains a zero byte");
    _cleanup_(dml_model_freep) struct dml_model *m = calloc(1, sizeof(*m));
    if (!m || !(m->text = malloc(len + 1)))
        return -ENOMEM;
    if (len)
        memcpy(m->text, text, len);
    m->text[len] = '\0';

    struct parser p = {.file = file, .err = err, .m = m};
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - (text + at)) : len - at;
        p.line++;
        int r = split(&p, text + at, n);
        if (r == 0)
            r = statement(&p);
        if (r < 0)
            return r;
        at += n + 1;
    }
    int r = finish(&p);
    if (r < 0)
        return r;
    *ret = m;
    m = NULL;
    return 0;
}
