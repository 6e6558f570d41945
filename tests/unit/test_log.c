/* Records: JSON that any bytes survive, one line each also from several threads, and err. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/tap.h"

static const char id[] = "0123456789abcdef0123456789abcdef";

static void unrefp(json_t **o)
{
    json_decref(*o);
}

static const char *str(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void test_json(void)
{
    dml_log_init(DML_LOG_JSON, "testd", LOG_INFO);
    const struct dml_log_field f[] = {
        DML_LOG_FIELD_STR("DML_NAME", "quote \" slash \\ newline \n tab \t bell \a"),
        DML_LOG_FIELD_STR("DML_BYTES", "a\xff"
                                       "b\xc3"),
        DML_LOG_FIELD_STR("DML_NULL", NULL),
        DML_LOG_FIELD_INT("DML_BIG", INT64_MIN),
        DML_LOG_FIELD_REAL("DML_LOSS", 0.1),
        DML_LOG_FIELD_REAL("DML_NAN", NAN),
    };
    _cleanup_(dml_mem_freep) char *text =
        dml_log_json(LOG_WARNING, id, "round \xfe 3", f, ARRAY_SIZE(f));
    tap_ok(text && !strchr(text, '\n'), "one line");
    _cleanup_(unrefp) json_t *o = json_loads(text ? text : "", 0, NULL);
    tap_ok(o != NULL, "that is JSON");
    tap_str(str(o, "MESSAGE"), "round \xef\xbf\xbd 3", "a bad byte in the message is replaced");
    tap_str(str(o, "MESSAGE_ID"), id, "message id");
    tap_str(str(o, "SYSLOG_IDENTIFIER"), "testd", "identifier");
    tap_int(json_integer_value(json_object_get(o, "PRIORITY")), LOG_WARNING, "priority");
    tap_str(str(o, "DML_NAME"), f[0].str, "every escape comes back");
    tap_str(str(o, "DML_BYTES"),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd",
            "bad bytes are replaced, the good ones kept");
    tap_ok(json_is_null(json_object_get(o, "DML_NULL")), "no text is null");
    tap_ok(json_integer_value(json_object_get(o, "DML_BIG")) == INT64_MIN, "the smallest integer");
    tap_near(json_real_value(json_object_get(o, "DML_LOSS")), 0.1, 0.0, "a real keeps every bit");
    tap_ok(json_is_null(json_object_get(o, "DML_NAN")), "what is no number is null");
}

/* Runs fn with stderr in a file; returns what was written. Caller frees. */
static char *captured(void (*fn)(void))
{
    char path[] = "/tmp/dml-test-log.XXXXXX";
    int fd = mkstemp(path), saved = dup(STDERR_FILENO);
    (void)unlink(path);
    (void)dup2(fd, STDERR_FILENO);
    (void)fcntl(STDERR_FILENO, F_SETFL, O_APPEND);
    fn();
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)len + 1);
    if (text && pread(fd, text, (size_t)len, 0) != len)
        text[0] = '\0';
    (void)close(fd);
    return text;
}

static void say_things(void)
{
    dml_log(LOG_ERR, "cannot do %s", "it\nat all");
    dml_log(LOG_DEBUG, "not shown");
    const struct dml_log_field f[] = {DML_LOG_FIELD_INT("DML_ROUND", 3)};
    dml_log_record(LOG_INFO, id, "round 3", f, 1);
}

static void say_long(void)
{
    static char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    dml_log(LOG_INFO, "%s", big);
}

static void *chatter(void *arg)
{
    char text[300];
    memset(text, 'a' + *(int *)arg, sizeof(text));
    for (int i = 0; i < 200; i++)
        dml_log(LOG_INFO, "%.300s", text);
    return NULL;
}

static void say_together(void)
{
    pthread_t t[4];
    int n[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        (void)pthread_create(&t[i], NULL, chatter, &n[i]);
    for (int i = 0; i < 4; i++)
        (void)pthread_join(t[i], NULL);
}

static void as_if_in_journal(void)
{
    struct stat st;
    char stream[80];
    (void)fstat(STDERR_FILENO, &st);
    /* One number off: stderr was redirected after the service manager had set the variable. */
    (void)snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
                   (uintmax_t)st.st_ino + 1);
    (void)setenv("JOURNAL_STREAM", stream, 1);
    dml_log_init(DML_LOG_AUTO, "testd", LOG_INFO);
    dml_log(LOG_INFO, "hello");
    (void)unsetenv("JOURNAL_STREAM");
}

static void test_targets(void)
{
    dml_log_init(DML_LOG_TEXT, "testd", LOG_INFO);
    _cleanup_(dml_mem_freep) char *text = captured(say_things);
    tap_str(text, "error: cannot do it at all\ninfo: round 3\n", "for people: one line each");
    dml_log_init(DML_LOG_NONE, "testd", LOG_DEBUG);
    _cleanup_(dml_mem_freep) char *none = captured(say_things);
    tap_str(none, "", "for nobody");
    _cleanup_(dml_mem_freep) char *automatic = captured(as_if_in_journal);
    tap_has(automatic, "\"MESSAGE\":\"hello\"}\n", "JSON when stderr is not the journal's stream");
    dml_log_init(DML_LOG_TEXT, "testd", LOG_INFO);
    _cleanup_(dml_mem_freep) char *big = captured(say_long);
    tap_int((long long)strlen(big), 6 + 2999 + 1, "a long sentence is whole");

    dml_log_init(DML_LOG_JSON, "testd", LOG_INFO);
    _cleanup_(dml_mem_freep) char *lines = captured(say_together);
    int n = 0, whole = 0;
    char *save = NULL;
    for (char *l = strtok_r(lines, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        _cleanup_(unrefp) json_t *o = json_loads(l, 0, NULL);
        n++;
        whole += o != NULL && json_string_length(json_object_get(o, "MESSAGE")) == 300;
    }
    tap_int(n, 800, "every record of four threads is there");
    tap_int(whole, 800, "and none is mixed with another");
}

static void test_err(void)
{
    struct dml_err err = {0};
    char buf[2000];
    tap_ok(!dml_err_is_set(&err), "nothing set");
    tap_str(dml_err_format(&err, -ENOENT, buf, sizeof(buf)), "No such file or directory",
            "the errno speaks when nothing else does");
    tap_int(dml_err_set(&err, -EINVAL, "%d is odd", 3), -EINVAL, "set returns the code");
    tap_str(dml_err_format(&err, -EINVAL, buf, sizeof(buf)), "3 is odd", "a sentence");
    tap_int(dml_err_at(&err, -EIO, "f", 4, "bad"), -EIO, "at returns the code");
    tap_str(dml_err_format(&err, -EIO, buf, sizeof(buf)), "f:4: bad", "file and line");
    (void)dml_err_at(&err, -EIO, "f", 0, "bad");
    tap_str(dml_err_format(&err, -EIO, buf, sizeof(buf)), "f: bad", "the whole file");
    tap_int(dml_err_at(NULL, -EIO, "f", 4, "bad"), -EIO, "nobody wants to know");
    char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    (void)dml_err_at(&err, -EIO, big, 1, "%s", big);
    tap_ok(strlen(err.file) == sizeof(err.file) - 1 && strlen(err.text) == sizeof(err.text) - 1,
           "long texts are cut");
}

int main(void)
{
    test_json();
    test_targets();
    test_err();
    return tap_done();
}
