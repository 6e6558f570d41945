/* INI files: what is read, what is refused and where, drop-ins. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/ini.h"
#include "base/mem.h"
#include "tests/tap.h"

static struct dml_err err;

static int parse(struct dml_ini *ini, const char *text, const char *file)
{
    memset(&err, 0, sizeof(err));
    return dml_ini_parse(ini, text, strlen(text), file, &err);
}

static const char *value(const struct dml_ini *ini, const char *section, const char *key)
{
    const struct dml_ini_entry *e = dml_ini_find(ini, section, key);
    return e ? e->value : NULL;
}

static void test_reading(void)
{
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    const char *text = "\xef\xbb\xbf# comment\r\n"
                       "; comment\r\n"
                       "[a]\r\n"
                       "  x  =  1 = 2 # not a comment  \r\n"
                       "empty =\n"
                       "[ b c ]\n"
                       "x=\xc3\xa9\n"
                       "list = one \\  \n"
                       "   two \\\n"
                       "# three \\\n"
                       "   four\n"
                       "[a]\n"
                       "y\t=\tz\n"
                       "open = 7 \\";
    tap_int(parse(ini, text, "t"), 0, "a text with everything in it");
    tap_int((long long)ini->n_entries, 6, "entries");
    tap_str(value(ini, "a", "x"), "1 = 2 # not a comment", "blanks at the ends go, the rest stays");
    tap_str(value(ini, "a", "empty"), "", "an empty value");
    tap_str(value(ini, "b c", "x"), "\xc3\xa9", "the same key in another section");
    tap_str(value(ini, "b c", "list"), "one  two  four", "joined lines, comments between skipped");
    tap_str(value(ini, "a", "y"), "z", "a section goes on");
    tap_str(value(ini, "a", "open"), "7", "a file that ends in a backslash");
    tap_int(dml_ini_find(ini, "b c", "list")->line, 8, "line of a joined line: its first");
    tap_int(dml_ini_find(ini, "a", "y")->line, 13, "line after it");
    tap_str(dml_ini_find(ini, "a", "y")->file, "t", "file");
    tap_str(ini->entries[4].key, "y", "order of appearance");
    tap_ok(!dml_ini_find(ini, "a", "list"), "find looks at the section");

    /* Not ending in NUL, and nothing at all. */
    _cleanup_(dml_ini_freep) struct dml_ini *other = dml_ini_new();
    tap_int(dml_ini_parse(other, "[s]\nk=vXXX", 7, "t", &err), 0, "the length counts");
    tap_str(value(other, "s", "k"), "v", "not what lies behind");
    tap_int(dml_ini_parse(other, "", 0, "t", &err), 0, "an empty file");
    tap_ok(dml_ini_free(NULL) == NULL, "free NULL");
}

static void test_mistakes(void)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *words;
    } bad[] = {
        {"x = 1\n", 1, "\"x\" stands before any [section]"},
        {"[a]\n\nnonsense\n", 3, "\"nonsense\" is neither [section] nor key = value"},
        {"[a]\n= 3\n", 2, "no key before the ="},
        {"[a\n", 1, "is no section"},
        {"[a] b\n", 1, "is no section"},
        {"[]\n", 1, "is no section"},
        {"[ ]\n", 1, "a section's name has 1 to"},
        {"[[a]]\n", 1, "is no section"},
        {"[a]\nx = 1\n\nx = 2\n", 4, "a.x is already set in line 2"},
        {"[a]\nx = 1\n[b]\n[a]\nx = 2\n", 5, "a.x is already set in line 2"},
        {"[a]\nx = \xff\xfe\n", 2, "byte 5 of the line (0xff) is not UTF-8"},
        {"[a]\nx = \xed\xa0\x80\n", 2, "not UTF-8"},
        {"[a]\nx = \x01\n", 2, "control character (0x01)"},
        {"# \x1b[31m\n", 1, "control character (0x1b)"},
        {"[a]\nx = b\\\\\n\n", 2, "a backslash before a blank"},
        {"[a]\nx = b \\ c\n", 2, "\"x\" has a backslash before a blank"},
        {"[a]\n\\\nb\n", 2, "\"b\" is neither"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
        tap_int(parse(ini, bad[i].text, "case.conf"), -EINVAL, bad[i].words);
        tap_str(err.file, "case.conf", "file");
        tap_int(err.line, bad[i].line, "line");
        tap_has(err.text, bad[i].words, "sentence");
    }
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    tap_int(dml_ini_parse(ini, "[a]\nx = \0y\n", 11, "t", &err), -EINVAL, "a NUL byte");
    tap_has(err.text, "control character (0x00)", "is named");
}

static void test_limits(void)
{
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    _cleanup_(dml_mem_freep) char *text = malloc(DML_INI_TEXT_MAX + 1);
    memset(text, '\n', DML_INI_TEXT_MAX + 1);
    tap_int(dml_ini_parse(ini, text, DML_INI_TEXT_MAX + 1, "t", &err), -E2BIG, "too many bytes");
    tap_int(dml_ini_parse(ini, text, DML_INI_TEXT_MAX, "t", &err), 0, "just as many as allowed");
    size_t len = (size_t)sprintf(text, "[a]\n");
    for (int i = 0; i < DML_INI_ENTRIES_MAX; i++)
        len += (size_t)sprintf(text + len, "k%d=%d\n", i, i);
    tap_int(dml_ini_parse(ini, text, len, "t", &err), 0, "as many keys as allowed");
    tap_int(parse(ini, "[a]\none-more = 1\n", "u"), -E2BIG, "one more key");
    tap_int(parse(ini, "[a]\nk0 = new\n", "v"), 0, "replacing one is fine");
    tap_str(value(ini, "a", "k0"), "new", "and works");
    char section[400] = "[";
    memset(section + 1, 'x', 300);
    strcpy(section + 301, "]\n");
    tap_int(parse(ini, section, "w"), -EINVAL, "a section's name has a limit");
}

static void put(const char *dir, const char *name, const char *text)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/%s", dir, name);
    if (dml_fileio_write(path, text, strlen(text), 0644, NULL) < 0)
        tap_ok(false, "cannot write %s", path);
}

static void test_files(const char *dir)
{
    _cleanup_(dml_mem_freep) char *path = dml_mem_printf("%s/m.conf", dir);
    _cleanup_(dml_mem_freep) char *dropins = dml_mem_printf("%s.d", path);
    _cleanup_(dml_ini_freep) struct dml_ini *ini = dml_ini_new();
    tap_int(dml_ini_load(ini, path, &err), -ENOENT, "a missing file");
    tap_str(err.file, path, "is named");
    put(dir, "m.conf", "[a]\nx = main\ny = main\nz = main\n");
    tap_int(dml_ini_load(ini, path, &err), 0, "the file");
    tap_int(dml_ini_load_dropins(ini, path, &err), 0, "no folder of drop-ins is fine");
    (void)mkdir(dropins, 0755);
    put(dropins, "20-b.conf", "[a]\nx = twenty\n\ny = twenty\n");
    put(dropins, "10-a.conf", "[a]\nx = ten\nnew = ten\n");
    put(dropins, "Z.conf", "[b]\nupper = first\n");
    put(dropins, "30.conf~", "[a]\nx = editor's copy\n");
    put(dropins, ".40.conf", "[a]\nx = hidden\n");
    put(dropins, ".conf", "[a]\nx = hidden\n");
    tap_int(dml_ini_load_dropins(ini, path, &err), 0, "drop-ins");
    tap_str(value(ini, "a", "x"), "twenty", "the last in order of name wins");
    tap_str(value(ini, "a", "y"), "twenty", "replaced");
    tap_str(value(ini, "a", "z"), "main", "kept");
    tap_str(value(ini, "a", "new"), "ten", "added");
    const struct dml_ini_entry *e = dml_ini_find(ini, "a", "y");
    tap_has(e->file, "m.conf.d/20-b.conf", "a replaced entry knows its new file");
    tap_int(e->line, 4, "and line");
    tap_str(ini->entries[0].key, "x", "but keeps its place");
    put(dropins, "99.conf", "[a]\nx = 1\nx = 2\n");
    tap_int(dml_ini_load_dropins(ini, path, &err), -EINVAL, "a mistake in a drop-in");
    tap_has(err.file, "m.conf.d/99.conf", "is found where it is");
}

int main(void)
{
    test_reading();
    test_mistakes();
    test_limits();
    char dir[] = "/tmp/dml-test-ini.XXXXXX";
    if (!mkdtemp(dir))
        return 99;
    test_files(dir);
    _cleanup_(dml_mem_freep) char *clean = dml_mem_printf("rm -rf %s", dir);
    return system(clean) == 0 ? tap_done() : 99;
}
