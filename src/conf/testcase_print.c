/*
 * A test case as text: what a worker gets as its order and what is kept beside the results. Every
 * key that means something to the paradigm is written out, so that the text means the same to a dml with other defaults.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "conf/parallel.h"
#include "conf/sections.h"
#include "conf/testcase.h"

static void print_rows(const struct dml_opt *opts, const void *target, int paradigm, FILE *f)
{
    for (const struct dml_opt *o = opts; o->name; o++) {
        if (!dml_parallel_uses(paradigm, o->section, o->name))
            continue;
        fprintf(f, "%s = ", o->name);
        (void)dml_opt_print_value(o, target, f);
        fputc('\n', f);
    }
}

int dml_testcase_print(const struct dml_testcase *tc, char **ret_text)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return -ENOMEM;
    for (const struct dml_section *s = dml_sections; s->opts; s++) {
        bool is_strategy = !strcmp(s->opts->section, "strategy");
        if (is_strategy && !dml_parallel_takes_strategy(tc->parallel.paradigm))
            continue;
        fprintf(f, "[%s]\n", s->opts->section);
        print_rows(s->opts, (const char *)tc + s->offset, tc->parallel.paradigm, f);
        if (is_strategy && tc->strategy_options)
            print_rows(dml_loader_strategy(tc->plugin)->opts, tc->strategy_options,
                       tc->parallel.paradigm, f);
        fputc('\n', f);
    }
    int bad = ferror(f);
    if (fclose(f) != 0 || bad || !text) {
        free(text);
        return -ENOMEM;
    }
    *ret_text = text;
    return 0;
}

void dml_testcase_help(FILE *f)
{
    for (const struct dml_section *s = dml_sections; s->opts; s++) {
        if (s != dml_sections)
            fputc('\n', f);
        dml_opt_help(s->opts, f);
    }
}
