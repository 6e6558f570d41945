/*
 * Models travel as texts, since they are small and lie in somebody's home folder. Data sets are
 * large, so the master reads them where they are; whether it can is known before any worker is
 * asked, and said once instead of once for each run.
 */
#include "master/sent.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static int hand_models(const struct dml_control_request *q, struct dml_testcases *io)
{
    io->models = calloc(q->n_models + 1, sizeof(*io->models));
    if (!io->models)
        return -ENOMEM;
    for (size_t i = 0; i < q->n_models; i++) {
        struct dml_testcase_model *m = &io->models[io->n_models++];
        m->name = strdup(q->models[i].name);
        m->text = strdup(q->models[i].text);
        if (!m->name || !m->text)
            return -ENOMEM;
        for (size_t k = 0; k < io->n_cases; k++)
            if (!strcmp(io->cases[k].model.name, m->name))
                io->cases[k].model_text = m->text;
    }
    return 0;
}

/* "dml", or "user 998" for one without a name. */
static const char *own_name(char *buf, size_t buf_len)
{
    struct passwd entry, *found = NULL;
    char names[1024];
    if (getpwuid_r(geteuid(), &entry, names, sizeof(names), &found) == 0 && found)
        (void)snprintf(buf, buf_len, "%.64s", found->pw_name);
    else
        (void)snprintf(buf, buf_len, "number %u", (unsigned)geteuid());
    return buf;
}

static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    return !strncmp(path, folder, len) && path[len] == '/';
}

static int check_readable(const char *path, const char *key, struct dml_err *err)
{
    struct stat st;
    char user[80];
    int r = stat(path, &st) < 0 || access(path, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK) < 0
                ? -errno
                : 0;
    if (r == -EACCES)
        return dml_err_set(err, r,
                           "%s = %.200s: the master runs as user %s, who may not read it; put it "
                           "where everybody may, in a folder below /srv for example",
                           key, path, own_name(user, sizeof(user)));
    if (r == -ENOENT && (is_below(path, "/tmp") || is_below(path, "/var/tmp")))
        return dml_err_set(err, r,
                           "%s = %.200s: the master finds nothing there; as a service it has a /tmp "
                           "of its own, so put it elsewhere, in a folder below /srv for example",
                           key, path);
    if (r < 0)
        return dml_err_set(err, r, "%s = %.200s: the master cannot read it: %s", key, path,
                           strerror(-r));
    return 0;
}

/* One key of [data] that is a path. */
static int settle(const struct dml_sent *s, bool placed_local, const char *key, char **io_path,
                  struct dml_err *err)
{
    const char *folder = s->request->folder;
    if (!(*io_path)[0] || placed_local)
        return 0;
    if ((*io_path)[0] != '/') {
        if (s->data_dir[0])
            folder = s->data_dir;
        else if (!s->is_local || !folder || folder[0] != '/')
            return dml_err_set(err, -EINVAL,
                               "%s = %.200s is relative, and the master, which reads it, runs on "
                               "another machine: write the path there, from / on",
                               key, *io_path);
        char *path = dml_mem_printf("%s/%s", folder, *io_path);
        if (!path)
            return -ENOMEM;
        free(*io_path);
        *io_path = path;
    }
    return check_readable(*io_path, key, err);
}

int dml_sent_unpack(const struct dml_sent *s, struct dml_testcases *io_cases, struct dml_err *err)
{
    int r = hand_models(s->request, io_cases);
    for (size_t i = 0; r == 0 && i < io_cases->n_cases; i++) {
        struct dml_data_options *data = &io_cases->cases[i].data;
        bool placed_local = data->placement == DML_PLACEMENT_LOCAL;
        r = settle(s, placed_local, "path", &data->path, err);
        if (r == 0)
            r = settle(s, placed_local, "test-path", &data->test_path, err);
    }
    return r;
}
