/* Private to the parser of model files: what its two halves share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nn/model_priv.h"

struct dml_err;

#define DML_PARSER_WORDS_MAX    12
#define DML_PARSER_WORD_LEN_MAX 64

struct dml_parser_block {
    bool is_repeat, has_shortcut;
    unsigned line;
    /* repeat */
    uint32_t left;
    size_t body_at; /* where its first line begins */
    unsigned body_line;
    size_t n_layers; /* at the beginning of this turn */
    /* residual: layers whose output is the block's input, and its main branch's */
    int fork, main_end;
};

struct dml_parser {
    const char *file;
    unsigned line;
    size_t next; /* where the next line begins */
    struct dml_err *err;
    struct dml_model *m;
    size_t n_room;
    int tip; /* the layer whose output the next one reads */
    bool has_loss, has_init, prefers_hwc;
    char words[DML_PARSER_WORDS_MAX][DML_PARSER_WORD_LEN_MAX];
    size_t n_words;
    struct dml_parser_block blocks[DML_MODEL_DEPTH_MAX];
    size_t n_blocks;
};

/* A number in [1, max] as word i of the line. */
int dml_parser_number(struct dml_parser *p, size_t i, unsigned long max, uint32_t *ret);

/* Appends a layer that reads `from`, with the shape and order of it; prepares nothing. NULL: err.
 */
int dml_parser_append(struct dml_parser *p, const struct dml_layer_type *type, int from,
                      struct dml_layer **ret);

/* *io_from becomes a layer with the same numbers in that order; a new one, where it must be. */
int dml_parser_reorder(struct dml_parser *p, enum dml_layer_order order, int *io_from);

/* What a layer gives, and its words; DML_LAYER_INPUT is allowed. */
struct dml_layer_shape dml_parser_shape(const struct dml_parser *p, int i);
enum dml_layer_order dml_parser_order(const struct dml_parser *p, int i);
const char *dml_parser_words(const struct dml_parser *p, int i);

/* repeat, residual, shortcut, end; what is open when the text ends. */
int dml_parser_repeat(struct dml_parser *p);
int dml_parser_residual(struct dml_parser *p);
int dml_parser_shortcut(struct dml_parser *p);
int dml_parser_end(struct dml_parser *p);
int dml_parser_finish_blocks(struct dml_parser *p);
