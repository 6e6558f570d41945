/*
 * One pass over the bytes. A physical line is trimmed; a line that ends in a backslash is joined
 * with the next one that is not a comment, by one blank, as systemd does it (so one line of a long
 * value can be commented out). Blanks behind the backslash do not count, because nobody sees them.
 *
 * No word of a value ends in a backslash: as the last one it could not be written back.
 *
 * Each entry owns one block that holds section, key and value; names of files are kept once, and
 * the address of a name also tells whether two entries come from the same file.
 */
#include "base/ini.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/mem.h"
#include "base/text.h"

#define SHOWN_MAX 60 /* bytes of somebody's text in a message */

struct ini {
    struct dml_ini public;
    size_t n_room;
    char **files;
    size_t n_files;
};

struct reader {
    const char *at, *end;
    const char *file;
    unsigned line; /* of the physical line read last */
    char section[256];
    char *joined; /* the logical line; room for the whole text */
    size_t joined_len;
};

struct dml_ini *dml_ini_new(void)
{
    struct ini *ini = calloc(1, sizeof(*ini));
    return ini ? &ini->public : NULL;
}

static struct ini *inside(struct dml_ini *ini)
{
    return (struct ini *)(void *)((char *)ini - offsetof(struct ini, public));
}

static void free_entry(struct dml_ini_entry *e)
{
    free((void *)e->section);
}

struct dml_ini *dml_ini_free(struct dml_ini *ini)
{
    if (!ini)
        return NULL;
    struct ini *in = inside(ini);
    for (size_t i = 0; i < ini->n_entries; i++)
        free_entry(&ini->entries[i]);
    free(ini->entries);
    for (size_t i = 0; i < in->n_files; i++)
        free(in->files[i]);
    free(in->files);
    free(in);
    return NULL;
}

static const char *keep_file(struct ini *in, const char *file)
{
    char **grown = realloc(in->files, (in->n_files + 1) * sizeof(*grown));
    if (!grown)
        return NULL;
    in->files = grown;
    char *name = strdup(file);
    if (name)
        in->files[in->n_files++] = name;
    return name;
}

const struct dml_ini_entry *dml_ini_find(const struct dml_ini *ini, const char *section,
                                         const char *key)
{
    for (size_t i = 0; i < ini->n_entries; i++)
        if (!strcmp(ini->entries[i].key, key) && !strcmp(ini->entries[i].section, section))
            return &ini->entries[i];
    return NULL;
}

static int shown(size_t len)
{
    return (int)(len < SHOWN_MAX ? len : SHOWN_MAX);
}

/* Every byte of a line is text: no NUL, no control character but tab, valid UTF-8. */
static int check_text(const char *s, size_t len, const struct reader *r, struct dml_err *err)
{
    for (size_t i = 0; i < len;) {
        unsigned n = dml_text_utf8(s + i, len - i);
        unsigned char c = (unsigned char)s[i];
        if (n == 0)
            return dml_err_at(err, -EINVAL, r->file, r->line,
                              "byte %zu of the line (0x%02x) is not UTF-8", i + 1, c);
        if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7f)
            return dml_err_at(err, -EINVAL, r->file, r->line,
                              "byte %zu of the line is a control character (0x%02x)", i + 1, c);
        i += n;
    }
    return 0;
}

/* The next physical line, trimmed. Returns 1, or 0 at the end, or -EINVAL. */
static int next_physical(struct reader *r, const char **ret_s, size_t *ret_len, struct dml_err *err)
{
    if (r->at == r->end)
        return 0;
    const char *s = r->at;
    const char *newline = memchr(s, '\n', (size_t)(r->end - s));
    size_t len = (size_t)((newline ? newline : r->end) - s);
    r->at = newline ? newline + 1 : r->end;
    r->line++;
    int ret = check_text(s, len, r, err);
    if (ret < 0)
        return ret;
    dml_text_trim(&s, &len);
    *ret_s = s;
    *ret_len = len;
    return 1;
}

static bool is_comment(const char *s, size_t len)
{
    return len && (s[0] == '#' || s[0] == ';');
}

/* Fills r->joined with the next logical line. Returns 1, or 0 at the end, or -EINVAL. */
static int next_logical(struct reader *r, unsigned *ret_line, struct dml_err *err)
{
    const char *s;
    size_t len;
    bool more = false;
    r->joined_len = 0;
    for (;;) {
        int ret = next_physical(r, &s, &len, err);
        if (ret < 0)
            return ret;
        if (ret == 0)
            return more;
        if (is_comment(s, len))
            continue;
        if (!more)
            *ret_line = r->line;
        else if (r->joined_len)
            r->joined[r->joined_len++] = ' ';
        more = len && s[len - 1] == '\\';
        len -= more;
        memcpy(r->joined + r->joined_len, s, len);
        r->joined_len += len;
        if (!more)
            return 1;
    }
}

static int append(struct ini *in, const struct dml_ini_entry *e)
{
    struct dml_ini *ini = &in->public;
    if (ini->n_entries == in->n_room) {
        size_t n_room = in->n_room ? 2 * in->n_room : 32;
        struct dml_ini_entry *grown = realloc(ini->entries, n_room * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        ini->entries = grown;
        in->n_room = n_room;
    }
    ini->entries[ini->n_entries++] = *e;
    return 0;
}

/* Adds or replaces an entry; key and value need not end in NUL. */
static int put(struct ini *in, const struct reader *r, unsigned line, const char *key,
               size_t key_len, const char *value, size_t value_len, struct dml_err *err)
{
    size_t section_len = strlen(r->section);
    char *block = malloc(section_len + key_len + value_len + 3);
    if (!block)
        return -ENOMEM;
    char *own_key = block + section_len + 1, *own_value = own_key + key_len + 1;
    memcpy(block, r->section, section_len + 1);
    memcpy(own_key, key, key_len);
    own_key[key_len] = '\0';
    memcpy(own_value, value, value_len);
    own_value[value_len] = '\0';
    struct dml_ini_entry e = {block, own_key, own_value, r->file, line};

    struct dml_ini_entry *old = (struct dml_ini_entry *)dml_ini_find(&in->public, block, own_key);
    int ret = 0;
    if (old && old->file == r->file) {
        ret = dml_err_at(err, -EINVAL, r->file, line, "%.*s.%.*s is already set in line %u",
                         shown(section_len), block, shown(key_len), own_key, old->line);
    } else if (old) {
        free_entry(old);
        *old = e;
        return 0;
    } else if (in->public.n_entries == DML_INI_ENTRIES_MAX) {
        ret = dml_err_at(err, -E2BIG, r->file, line, "more than %d keys", DML_INI_ENTRIES_MAX);
    } else {
        ret = append(in, &e);
    }
    if (ret < 0)
        free(block);
    return ret;
}

static int parse_section(struct reader *r, unsigned line, const char *s, size_t len,
                         struct dml_err *err)
{
    if (len < 3 || s[len - 1] != ']' || memchr(s + 1, '[', len - 1) || memchr(s, ']', len - 1))
        return dml_err_at(err, -EINVAL, r->file, line,
                          "\"%.*s\" is no section: it must read [name]", shown(len), s);
    s++, len -= 2;
    dml_text_trim(&s, &len);
    if (len == 0 || len >= sizeof(r->section))
        return dml_err_at(err, -EINVAL, r->file, line, "a section's name has 1 to %zu bytes",
                          sizeof(r->section) - 1);
    memcpy(r->section, s, len);
    r->section[len] = '\0';
    return 0;
}

static bool has_stray_backslash(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (value[i] == '\\' && (i + 1 == len || strchr(" \t\r", value[i + 1])))
            return true;
    return false;
}

static int parse_line(struct ini *in, struct reader *r, unsigned line, struct dml_err *err)
{
    const char *s = r->joined;
    size_t len = r->joined_len;
    dml_text_trim(&s, &len);
    if (len == 0)
        return 0;
    if (s[0] == '[')
        return parse_section(r, line, s, len, err);
    const char *equals = memchr(s, '=', len);
    if (!equals)
        return dml_err_at(err, -EINVAL, r->file, line,
                          "\"%.*s\" is neither [section] nor key = value", shown(len), s);
    const char *key = s, *value = equals + 1;
    size_t key_len = (size_t)(equals - s), value_len = (size_t)(s + len - value);
    dml_text_trim(&key, &key_len);
    dml_text_trim(&value, &value_len);
    if (key_len == 0)
        return dml_err_at(err, -EINVAL, r->file, line, "no key before the = in \"%.*s\"",
                          shown(len), s);
    if (!r->section[0])
        return dml_err_at(err, -EINVAL, r->file, line, "\"%.*s\" stands before any [section]",
                          shown(key_len), key);
    if (has_stray_backslash(value, value_len))
        return dml_err_at(
            err, -EINVAL, r->file, line,
            "the value of \"%.*s\" has a backslash before a blank; it joins lines only "
            "at the end of one",
            shown(key_len), key);
    return put(in, r, line, key, key_len, value, value_len, err);
}

int dml_ini_parse(struct dml_ini *ini, const char *text, size_t len, const char *file,
                  struct dml_err *err)
{
    struct ini *in = inside(ini);
    struct reader r = {.at = text, .end = text + len};
    if (len > DML_INI_TEXT_MAX)
        return dml_err_at(err, -E2BIG, file, 0, "larger than the limit of %u bytes",
                          DML_INI_TEXT_MAX);
    /* The byte-order mark some editors put before UTF-8. */
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        r.at += 3;
    r.file = keep_file(in, file);
    /* Joining adds at most one blank for each newline it removes. */
    _cleanup_(dml_mem_freep) char *joined = malloc(len + 1);
    if (!r.file || !joined)
        return -ENOMEM;
    r.joined = joined;
    for (;;) {
        unsigned line = 0;
        int ret = next_logical(&r, &line, err);
        if (ret <= 0)
            return ret;
        ret = parse_line(in, &r, line, err);
        if (ret < 0)
            return ret;
    }
}

int dml_ini_load(struct dml_ini *ini, const char *path, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *text = NULL;
    size_t len;
    int r = dml_fileio_read(path, DML_INI_TEXT_MAX, &text, &len, err);
    return r < 0 ? r : dml_ini_parse(ini, text, len, path, err);
}

static int is_dropin(const struct dirent *d)
{
    size_t len = strlen(d->d_name);
    return d->d_name[0] != '.' && len > 5 && !strcmp(d->d_name + len - 5, ".conf");
}

/* By bytes: the order must not depend on the language of whoever starts the program. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int dml_ini_load_dropins(struct dml_ini *ini, const char *path, struct dml_err *err)
{
    _cleanup_(dml_mem_freep) char *dir = dml_mem_printf("%s.d", path);
    struct dirent **list = NULL;
    if (!dir)
        return -ENOMEM;
    int n = scandir(dir, &list, is_dropin, by_name);
    if (n < 0)
        return errno == ENOENT ? 0 : dml_err_at(err, -errno, dir, 0, "%s", strerror(errno));
    int r = 0;
    for (int i = 0; i < n; i++) {
        _cleanup_(dml_mem_freep) char *file = dml_mem_printf("%s/%s", dir, list[i]->d_name);
        if (r == 0)
            r = file ? dml_ini_load(ini, file, err) : -ENOMEM;
        free(list[i]);
    }
    free(list);
    return r;
}
