/* A request of dmlctl as an object: its copy and its end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/wire.h"

void dml_control_request_done(struct dml_control_request *r)
{
    for (size_t i = 0; i < r->n_models; i++) {
        free(r->models[i].name);
        free(r->models[i].text);
    }
    free(r->models);
    free(r->text);
    free(r->file);
    free(r->folder);
    *r = (struct dml_control_request){0};
}

static int copy(const char *s, char **ret)
{
    *ret = s ? strdup(s) : NULL;
    return s && !*ret ? -ENOMEM : 0;
}

int dml_control_request_copy(const struct dml_control_request *r, struct dml_control_request *ret)
{
    struct dml_control_request q = {.command = r->command};
    int e = copy(r->text, &q.text);
    if (e == 0)
        e = copy(r->file, &q.file);
    if (e == 0)
        e = copy(r->folder, &q.folder);
    if (e == 0) {
        q.models = calloc(r->n_models + 1, sizeof(*q.models));
        e = q.models ? 0 : -ENOMEM;
    }
    for (size_t i = 0; e == 0 && i < r->n_models; i++) {
        q.n_models++;
        e = copy(r->models[i].name, &q.models[i].name);
        if (e == 0)
            e = copy(r->models[i].text, &q.models[i].text);
    }
    if (e < 0) {
        dml_control_request_done(&q);
        return e;
    }
    *ret = q;
    return 0;
}
