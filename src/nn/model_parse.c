/*
 * The model language: one statement per line, words separated by blanks, # starts a comment.
 *
 *     name WORD    input C H W | input D    init WORD    loss WORD
 *     LAYER [VALUE] [KEY VALUE]…    repeat N … end    residual … [shortcut …] end
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
#include "nn/model_parser.h"

#define EDGE_MAX 65536

/* Splits a line; what is not printable becomes '?', since it ends up in messages. */
static int split(struct dml_parser *p, const char *s, size_t len)
{
    size_t i = 0;
    p->n_words = 0;
    while (i < len && s[i] != '#') {
        if (isspace((unsigned char)s[i])) {
            i++;
            continue;
        }
        if (p->n_words == DML_PARSER_WORDS_MAX)
            return dml_err_at(p->err, -EINVAL, p->file, p->line, "more than %d words on a line",
                              DML_PARSER_WORDS_MAX);
        char *word = p->words[p->n_words++];
        size_t n = 0;
        for (; i < len && s[i] != '#' && !isspace((unsigned char)s[i]); i++) {
            if (n == DML_PARSER_WORD_LEN_MAX - 1)
                return dml_err_at(p->err, -EINVAL, p->file, p->line,
                                  "a word is longer than %d characters",
                                  DML_PARSER_WORD_LEN_MAX - 1);
            word[n++] = s[i] > ' ' && s[i] <= '~' ? s[i] : '?';
        }
        word[n] = '\0';
    }
    return 0;
}

int dml_parser_number(struct dml_parser *p, size_t i, unsigned long max, uint32_t *ret)
{
    const char *word = p->words[i];
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

static int read_name(struct dml_parser *p)
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

static int read_input(struct dml_parser *p)
{
    struct dml_layer_shape *in = &p->m->input;
    if (in->c)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "input: given twice");
    if (p->n_words != 2 && p->n_words != 4)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "input: CHANNELS HEIGHT WIDTH, or one number of inputs, is allowed");
    struct dml_layer_shape s = {.h = 1, .w = 1};
    int r = dml_parser_number(p, 1, p->n_words == 2 ? 1ul << 24 : EDGE_MAX, &s.c);
    if (r == 0 && p->n_words == 4)
        r = dml_parser_number(p, 2, EDGE_MAX, &s.h);
    if (r == 0 && p->n_words == 4)
        r = dml_parser_number(p, 3, EDGE_MAX, &s.w);
    if (r < 0)
        return r;
    if ((uint64_t)s.c * s.h * s.w > DML_MODEL_FLOATS_MAX)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "input: more than %llu numbers",
                          (unsigned long long)DML_MODEL_FLOATS_MAX);
    *in = s;
    return 0;
}

/* The place of word 1 among `words`, or a sentence that lists what is allowed. */
static int choose(struct dml_parser *p, const char *const *words, size_t n, const char *allowed)
{
    for (size_t i = 0; p->n_words > 1 && i < n; i++)
        if (!strcmp(p->words[1], words[i]))
            return (int)i;
    const char *near = p->n_words > 1 ? dml_opt_nearest(p->words[1], words, n) : NULL;
    return dml_err_at(p->err, -EINVAL, p->file, p->line, "%s: found \"%s\", %s is allowed%s%s%s",
                      p->words[0], p->n_words > 1 ? p->words[1] : "", allowed,
                      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int read_loss(struct dml_parser *p)
{
    static const struct dml_opt smoothing = {"loss",       "smoothing",
                                             DML_OPT_REAL, offsetof(struct dml_model, smoothing),
                                             .min = 0,     .max = 0.999};
    static const char *const words[] = {"cross-entropy", "mse", "next-token"};
    if (p->has_loss)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "loss: given twice");
    int r = choose(p, words, ARRAY_SIZE(words), "cross-entropy, mse or next-token");
    if (r < 0)
        return r;
    p->m->loss = (enum dml_model_loss)r;
    p->has_loss = true;
    if (p->n_words == 2)
        return 0;
    if (r == DML_LOSS_MSE || p->n_words != 4 || strcmp(p->words[2], "smoothing"))
        return dml_err_at(
            p->err, -EINVAL, p->file, p->line,
            "loss: behind cross-entropy or next-token, \"smoothing\" and a number is allowed, "
            "found \"%s\"",
            p->words[2]);
    return dml_opt_set(&smoothing, p->m, p->words[3], p->file, p->line, p->err);
}

static int read_init(struct dml_parser *p)
{
    static const char *const words[] = {"uniform", "kaiming", "normal"};
    if (p->has_init)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "init: given twice");
    if (p->n_words > 2)
        return dml_err_at(p->err, -EINVAL, p->file, p->line, "init: one word is allowed");
    int r = choose(p, words, ARRAY_SIZE(words), "uniform, kaiming or normal");
    if (r < 0)
        return r;
    p->m->init = (enum dml_model_init_kind)r;
    p->has_init = true;
    return 0;
}

static const struct statement {
    const char *word;
    int (*read)(struct dml_parser *p);
    bool inside; /* of a block */
} statements[] = {
    {"name", read_name, false},
    {"input", read_input, false},
    {"init", read_init, false},
    {"loss", read_loss, false},
    {"repeat", dml_parser_repeat, true},
    {"residual", dml_parser_residual, true},
    {"shortcut", dml_parser_shortcut, true},
    {"end", dml_parser_end, true},
};

static int unknown_word(struct dml_parser *p)
{
    const char *words[48];
    char all[400] = "";
    size_t n = 0, used = 0;
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++)
        words[n++] = statements[i].word;
    for (size_t i = 0; dml_layer_types()[i]; i++) {
        words[n++] = dml_layer_types()[i]->name;
        used +=
            (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", words[n - 1]);
    }
    const char *near = dml_opt_nearest(p->words[0], words, n);
    if (near)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "unknown word \"%s\"; did you mean \"%s\"?", p->words[0], near);
    return dml_err_at(p->err, -EINVAL, p->file, p->line,
                      "unknown word \"%s\"; allowed are name, input, init, loss, repeat, residual, "
                      "shortcut, end and the layers %s",
                      p->words[0], all);
}

/* Says what is wrong with word w, which should be a key of the layer. */
static int wrong_key(struct dml_parser *p, const struct dml_layer_type *type, size_t w, bool twice)
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

static int read_args(struct dml_parser *p, struct dml_layer *l)
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

struct dml_layer_shape dml_parser_shape(const struct dml_parser *p, int i)
{
    return i < 0 ? p->m->input : p->m->layers[i].out;
}

enum dml_layer_order dml_parser_order(const struct dml_parser *p, int i)
{
    return i < 0 ? DML_ORDER_CHW : p->m->layers[i].out_order;
}

const char *dml_parser_words(const struct dml_parser *p, int i)
{
    while (i >= 0 && p->m->layers[i].type == &dml_reorder)
        i = p->m->layers[i].from;
    return i < 0 ? "the input" : p->m->layers[i].words;
}

int dml_parser_append(struct dml_parser *p, const struct dml_layer_type *type, int from,
                      struct dml_layer **ret)
{
    struct dml_model *m = p->m;
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
    struct dml_layer *l = &m->layers[m->n_layers];
    *l = (struct dml_layer){.type = type,
                            .kernel = dml_kernel_get(),
                            .line = p->line,
                            .from = from,
                            .also = DML_LAYER_NONE,
                            .prefers_hwc = p->prefers_hwc};
    for (size_t i = 0; i < p->n_blocks; i++)
        l->depth += !p->blocks[i].is_repeat;
    l->in = dml_parser_shape(p, from);
    l->in_order = l->out_order = dml_parser_order(p, from);
    *ret = l;
    return 0;
}

int dml_parser_reorder(struct dml_parser *p, enum dml_layer_order order, int *io_from)
{
    if (dml_parser_order(p, *io_from) == order)
        return 0;
    struct dml_layer *l;
    char why[8];
    int r = dml_parser_append(p, &dml_reorder, *io_from, &l);
    if (r < 0)
        return r;
    (void)l->type->prepare(l, why, sizeof(why));
    *io_from = (int)p->m->n_layers++;
    return 0;
}

static int add_layer(struct dml_parser *p, const struct dml_layer_type *type)
{
    struct dml_model *m = p->m;
    if (!m->input.c)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: the input line must come before the first layer", type->name);
    struct dml_layer *l;
    int before = p->tip, r = dml_parser_append(p, type, before, &l);
    if (r == 0)
        r = read_args(p, l);
    if (r < 0)
        return r;
    enum dml_layer_order order = type->order ? type->order(l) : DML_ORDER_CHW;
    if (order == DML_ORDER_ANY)
        order = l->in_order;
    if (order != l->in_order && l->in.h * l->in.w > 1) {
        struct dml_layer_args args = l->args;
        r = dml_parser_reorder(p, order, &p->tip);
        if (r == 0)
            r = dml_parser_append(p, type, p->tip, &l);
        if (r < 0)
            return r;
        l->args = args;
    }
    l->in_order = l->out_order = order;
    for (size_t i = 0, n = 0; i < p->n_words && n < sizeof(l->words); i++)
        n +=
            (size_t)snprintf(l->words + n, sizeof(l->words) - n, "%s%s", i ? " " : "", p->words[i]);
    char why[200] = "";
    r = type->prepare(l, why, sizeof(why));
    if (r < 0)
        return dml_err_at(p->err, r, p->file, p->line,
                          "layer %zu (%s) cannot take %u×%u×%u from %s: %s", m->n_layers + 1,
                          l->words, l->in.c, l->in.h, l->in.w, dml_parser_words(p, before), why);
    /* Here already: whatever comes after may count its numbers in a size_t of 32 bits. */
    if ((uint64_t)l->out.c * l->out.h * l->out.w > DML_MODEL_FLOATS_MAX)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: needs more than 1 GiB of memory for one sample", l->words);
    p->tip = (int)m->n_layers++;
    return 0;
}

static int statement(struct dml_parser *p)
{
    if (p->n_words == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
        if (strcmp(p->words[0], statements[i].word) != 0)
            continue;
        if (p->n_blocks && !statements[i].inside)
            return dml_err_at(p->err, -EINVAL, p->file, p->line,
                              "%s: not allowed inside a block (the one of line %u is open)",
                              p->words[0], p->blocks[p->n_blocks - 1].line);
        return statements[i].read(p);
    }
    const struct dml_layer_type *type = dml_layer_find(p->words[0]);
    return type ? add_layer(p, type) : unknown_word(p);
}

static bool in_comment(const char *text, const char *at)
{
    while (at > text && at[-1] != '\n')
        if (*--at == '#')
            return true;
    return false;
}

/* Whether a line has a word of a layer that needs channels last: then the others follow. */
static bool mentions_hwc(const char *text)
{
    static const char *const words[] = {"batch-norm", "groups", "embedding"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        size_t len = strlen(words[i]);
        for (const char *at = text; (at = strstr(at, words[i])); at += len)
            if ((at == text || isspace((unsigned char)at[-1])) && !in_comment(text, at) &&
                (!at[len] || isspace((unsigned char)at[len])))
                return true;
    }
    return false;
}

static int finish(struct dml_parser *p)
{
    struct dml_model *m = p->m;
    const char *missing = !m->name ? "name" : !m->input.c ? "input" : !m->n_layers ? "layer" : NULL;
    int r = dml_parser_finish_blocks(p);
    if (r < 0)
        return r;
    if (missing)
        return dml_err_at(p->err, -EINVAL, p->file, 0, "the model has no %s line", missing);
    if (m->loss == DML_LOSS_NEXT_TOKEN &&
        dml_layer_size(m->layers[p->tip].out) > m->layers[p->tip].out.c)
        r = dml_parser_reorder(p, DML_ORDER_HWC, &p->tip);
    return r < 0 ? r : dml_model_plan(m, p->file, p->err);
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
    /* Editors of other systems begin a UTF-8 file with a byte order mark. */
    size_t mark = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;

    struct dml_parser p = {.file = file,
                           .next = mark,
                           .err = err,
                           .m = m,
                           .tip = DML_LAYER_INPUT,
                           .prefers_hwc = mentions_hwc(m->text)};
    while (p.next < len) {
        const char *line = text + p.next, *end = memchr(line, '\n', len - p.next);
        size_t n = end ? (size_t)(end - line) : len - p.next;
        p.line++;
        p.next += n + 1; /* `end` may set it back */
        int r = split(&p, line, n);
        if (r == 0)
            r = statement(&p);
        if (r < 0)
            return r;
    }
    int r = finish(&p);
    if (r < 0)
        return r;
    *ret = m;
    m = NULL;
    return 0;
}
