/*
 * Where the facts come from.
 *
 *   board        /proc/device-tree/model on a Pi; elsewhere the first "model name" of /proc/cpuinfo
 *   machine      a hash of /etc/machine-id, which machine-id(5) asks not to show to the network as
 *                it is; the boot id where a system has none. Workers with the same one share cores.
 *   cores        the affinity mask, so that a container or taskset is believed
 *   temperature  thermal zone 0: the SoC on every Pi; millidegrees
 *   throttled    the firmware's word, hexadecimal: bit 0 under-voltage, 1 clock capped, 2
 * throttled, 3 soft temperature limit, the same from bit 16 on for "since boot" Source: Raspberry
 * Pi documentation, vcgencmd get_throttled
 */
#include "config.h"

#include "worker/board.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/mem.h"

#define MACHINE_LEN 32 /* hex digits: 128 bits are as many as a machine-id has */

/* Up to buf_len - 1 bytes of a file of /proc or /sys, whose sizes are not known before.
 * Returns the number of bytes, or -1. buf always ends in NUL. */
static ssize_t read_file(const char *root, const char *path, char *buf, size_t buf_len)
{
    char full[512];
    buf[0] = '\0';
    if ((size_t)snprintf(full, sizeof(full), "%s%s", root, path) >= sizeof(full))
        return -1;
    _cleanup_(dml_mem_closep) int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;

    size_t len = 0;
    while (len < buf_len - 1) {
        ssize_t n = read(fd, buf + len, buf_len - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    buf[len] = '\0';
    return (ssize_t)len;
}

/* A number at the start of a file. */
static bool read_number(const char *root, const char *path, int base, long long *ret)
{
    char buf[64], *end;
    if (read_file(root, path, buf, sizeof(buf)) <= 0)
        return false;
    errno = 0;
    long long v = strtoll(buf, &end, base);
    if (end == buf || errno)
        return false;
    *ret = v;
    return true;
}

/* The first line, without what a terminal or a JSON reader would trip over. */
static void copy_line(char *dst, size_t dst_len, const char *src)
{
    size_t n = 0;
    for (; *src && *src != '\n' && n + 1 < dst_len; src++)
        if ((unsigned char)*src >= ' ' && (unsigned char)*src < 127)
            dst[n++] = *src;
    dst[n] = '\0';
}

static void find_board(const char *root, char *ret, size_t ret_len)
{
    char buf[4096];
    if (read_file(root, "/proc/device-tree/model", buf, sizeof(buf)) > 0) {
        copy_line(ret, ret_len, buf);
        return;
    }
    (void)read_file(root, "/proc/cpuinfo", buf, sizeof(buf));
    const char *name = strstr(buf, "model name");
    if (name)
        name = strchr(name, ':');
    copy_line(ret, ret_len, name ? name + 1 + strspn(name + 1, " \t") : "unknown");
}

static void find_machine(const char *root, char *ret, size_t ret_len)
{
    char text[128], hex[DML_FILEIO_HASH_LEN];
    if (read_file(root, "/etc/machine-id", text, sizeof(text)) < 32 &&
        read_file(root, "/proc/sys/kernel/random/boot_id", text, sizeof(text)) <= 0)
        (void)gethostname(text, sizeof(text) - 1);
    dml_fileio_hash(text, strcspn(text, "\n"), hex);
    snprintf(ret, ret_len, "%.*s", MACHINE_LEN, hex);
}

static uint32_t count_cores(unsigned max_cores)
{
    cpu_set_t set;
    uint32_t n = 1;
    if (!sched_getaffinity(0, sizeof(set), &set))
        n = (uint32_t)CPU_COUNT(&set);
    return max_cores && max_cores < n ? max_cores : n;
}

static bool is_id_letter(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

static int choose_id(const char *id, const char *host, struct dml_hello *io_hello,
                     struct dml_err *err)
{
    if (strlen(id) >= sizeof(io_hello->worker_id))
        return dml_err_set(err, -EINVAL, "The worker's id \"%s\" is longer than %zu letters.", id,
                           sizeof(io_hello->worker_id) - 1);
    for (const char *p = id; *p; p++)
        if (!is_id_letter(*p))
            return dml_err_set(err, -EINVAL,
                               "The worker's id \"%s\" has a '%c'; letters, digits, '.', '_' and "
                               "'-' are allowed.",
                               id, *p);
    snprintf(io_hello->worker_id, sizeof(io_hello->worker_id), "%.*s",
             (int)sizeof(io_hello->worker_id) - 1, id[0] ? id : host);
    for (char *p = io_hello->worker_id; *p; p++)
        if (!is_id_letter(*p))
            *p = '-';
    return 0;
}

int dml_board_hello(const char *root, const char *id, unsigned max_cores, struct dml_hello *ret,
                    struct dml_err *err)
{
    struct dml_hello h = {.protocol = DML_WIRE_PROTOCOL};
    if (gethostname(h.host, sizeof(h.host) - 1) || !h.host[0])
        snprintf(h.host, sizeof(h.host), "localhost");
    int r = choose_id(id, h.host, &h, err);
    if (r)
        return r;

    find_machine(root, h.machine, sizeof(h.machine));
    find_board(root, h.board, sizeof(h.board));
    struct utsname uts;
    if (!uname(&uts))
        copy_line(h.arch, sizeof(h.arch), uts.machine);
    copy_line(h.version, sizeof(h.version), VERSION);
    h.cores = count_cores(max_cores);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        h.memory_bytes = (uint64_t)pages * (uint64_t)page;
    *ret = h;
    return 0;
}

void dml_board_health(const char *root, struct dml_health *ret)
{
    struct dml_health h = {.temperature_c = -1.0, .throttled = -1, .mhz = -1.0, .rss_bytes = -1};
    long long v;
    if (read_number(root, "/sys/class/thermal/thermal_zone0/temp", 10, &v))
        h.temperature_c = (double)v / 1000.0;
    if (read_number(root, "/sys/devices/platform/soc/soc:firmware/get_throttled", 16, &v))
        h.throttled = (int32_t)v;
    if (read_number(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 10, &v))
        h.mhz = (double)v / 1000.0; /* the file is in kHz */
    char statm[128];
    long long size, resident;
    if (read_file(root, "/proc/self/statm", statm, sizeof(statm)) > 0 &&
        sscanf(statm, "%lld %lld", &size, &resident) == 2)
        h.rss_bytes = resident * sysconf(_SC_PAGESIZE);
    *ret = h;
}
