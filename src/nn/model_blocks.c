/*
 * Blocks of the model language.
 *
 *     repeat N … end                        its lines N times
 *     residual … end                        what comes out plus what went in
 *     residual … shortcut … end             the sum of what two branches make of what went in
 *
 * repeat goes back to the line behind it, as a loop of a program does. Each turn must add a layer,
 * so the limit on layers is one on turns too, and no file keeps the parser busy for long.
 */
#include <errno.h>

#include "base/err.h"
#include "nn/model_parser.h"

static struct dml_parser_block *innermost(struct dml_parser *p)
{
    return p->n_blocks ? &p->blocks[p->n_blocks - 1] : NULL;
}

static int open_block(struct dml_parser *p, struct dml_parser_block **ret)
{
    if (!p->m->input.c)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: the input line must come before the first block", p->words[0]);
    if (p->n_blocks == DML_MODEL_DEPTH_MAX)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: more than %d blocks inside each other", p->words[0],
                          DML_MODEL_DEPTH_MAX);
    struct dml_parser_block *b = &p->blocks[p->n_blocks++];
    *b = (struct dml_parser_block){
        .line = p->line, .n_layers = p->m->n_layers, .fork = p->tip, .main_end = DML_LAYER_NONE};
    *ret = b;
    return 0;
}

static int alone(struct dml_parser *p)
{
    if (p->n_words > 1)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "%s: stands alone on its line, found "
                          "\"%s\" behind it",
                          p->words[0], p->words[1]);
    return 0;
}

int dml_parser_repeat(struct dml_parser *p)
{
    uint32_t n;
    struct dml_parser_block *b;
    if (p->n_words != 2)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "repeat: one number is allowed, how often");
    int r = dml_parser_number(p, 1, DML_MODEL_LAYERS_MAX, &n);
    if (r == 0)
        r = open_block(p, &b);
    if (r < 0)
        return r;
    b->is_repeat = true;
    b->left = n - 1;
    b->body_at = p->next;
    b->body_line = p->line;
    return 0;
}

int dml_parser_residual(struct dml_parser *p)
{
    struct dml_parser_block *b;
    int r = alone(p);
    return r < 0 ? r : open_block(p, &b);
}

int dml_parser_shortcut(struct dml_parser *p)
{
    struct dml_parser_block *b = innermost(p);
    int r = alone(p);
    if (r < 0)
        return r;
    if (!b || b->is_repeat)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "shortcut: only directly inside a residual block is it allowed");
    if (b->has_shortcut)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "shortcut: the residual block of line %u has one already", b->line);
    if (p->tip == b->fork)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "shortcut: no layer between it and the residual of line %u", b->line);
    b->has_shortcut = true;
    b->main_end = p->tip;
    p->tip = b->fork;
    return 0;
}

static int end_repeat(struct dml_parser *p, struct dml_parser_block *b)
{
    if (p->m->n_layers == b->n_layers)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "end: no layer between it and the repeat of line %u", b->line);
    if (b->left == 0) {
        p->n_blocks--;
        return 0;
    }
    b->left--;
    b->n_layers = p->m->n_layers;
    p->next = b->body_at;
    p->line = b->body_line;
    return 0;
}

static int end_residual(struct dml_parser *p, struct dml_parser_block *b)
{
    if (p->tip == b->fork)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "end: no layer between it and the %s of line %u",
                          b->has_shortcut ? "shortcut of the residual block" : "residual", b->line);
    int from = b->has_shortcut ? b->main_end : p->tip, also = b->has_shortcut ? p->tip : b->fork;
    struct dml_layer_shape x = dml_parser_shape(p, from), y = dml_parser_shape(p, also);
    if (x.c != y.c || x.h != y.h || x.w != y.w)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "the residual block of line %u gives %u×%u×%u (%s), but %s %u×%u×%u "
                          "(%s): both must have the same shape%s",
                          b->line, x.c, x.h, x.w, dml_parser_words(p, from),
                          b->has_shortcut ? "its shortcut gives" : "what goes into it is", y.c, y.h,
                          y.w, dml_parser_words(p, also),
                          b->has_shortcut ? "" : "; a shortcut branch can bring it there");
    if (x.h * x.w > 1) {
        int r = dml_parser_reorder(p, dml_parser_order(p, from), &also);
        if (r < 0)
            return r;
    }
    struct dml_layer *l;
    unsigned line = b->line;
    p->n_blocks--;
    int r = dml_parser_append(p, &dml_add, from, &l);
    if (r < 0)
        return r;
    snprintf(l->words, sizeof(l->words), "sum of the residual block of line %u", line);
    l->also = also;
    char why[8];
    (void)l->type->prepare(l, why, sizeof(why));
    p->tip = (int)p->m->n_layers++;
    return 0;
}

int dml_parser_end(struct dml_parser *p)
{
    struct dml_parser_block *b = innermost(p);
    int r = alone(p);
    if (r < 0)
        return r;
    if (!b)
        return dml_err_at(p->err, -EINVAL, p->file, p->line,
                          "end: there is no repeat or residual that it could end");
    return b->is_repeat ? end_repeat(p, b) : end_residual(p, b);
}

int dml_parser_finish_blocks(struct dml_parser *p)
{
    const struct dml_parser_block *b = innermost(p);
    if (!b)
        return 0;
    return dml_err_at(p->err, -EINVAL, p->file, b->line, "%s: there is no end to it",
                      b->is_repeat ? "repeat" : "residual");
}
