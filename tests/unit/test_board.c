/* Facts about a board, read from a folder that stands for a Pi's /. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"
#include "base/mem.h"
#include "tests/tap.h"
#include "worker/board.h"

static char root[] = "/tmp/dml-board-XXXXXX";

static void put(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof(path), "%s%s", root, folder);
    if (dml_fileio_mkdirs(path, 0755, NULL))
        tap_ok(false, "cannot make %s", path);
    snprintf(path, sizeof(path), "%s%s/%s", root, folder, name);
    if (dml_fileio_write(path, text, strlen(text), 0644, NULL))
        tap_ok(false, "cannot write %s", path);
}

static void remove_root(void)
{
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", root);
    tap_ok(system(command) == 0, "the folder is gone again");
}

static void test_pi(void)
{
    put("/proc/device-tree", "model", "Raspberry Pi 4 Model B Rev 1.4");
    put("/etc", "machine-id", "0123456789abcdef0123456789abcdef\n");
    put("/sys/class/thermal/thermal_zone0", "temp", "61829\n");
    put("/sys/devices/platform/soc/soc:firmware", "get_throttled", "50005\n");
    put("/sys/devices/system/cpu/cpu0/cpufreq", "scaling_cur_freq", "1500000\n");
    put("/proc/self", "statm", "5000 1000 300 10 0 400 0\n");

    struct dml_hello h;
    struct dml_err err = {0};
    tap_int(dml_board_hello(root, "pi-3", 0, &h, &err), 0, "a Pi says hello");
    tap_str(h.worker_id, "pi-3", "with the id it was given");
    tap_str(h.board, "Raspberry Pi 4 Model B Rev 1.4", "and its board");
    tap_int((long long)strlen(h.machine), 32, "the machine is 32 digits");
    tap_ok(!strstr("0123456789abcdef0123456789abcdef", h.machine),
           "that are not the machine-id itself");
    tap_ok(h.cores >= 1 && h.memory_bytes > 0 && h.arch[0] && h.version[0],
           "cores %u, memory %llu, arch %s, version %s", h.cores,
           (unsigned long long)h.memory_bytes, h.arch, h.version);

    struct dml_hello one, other;
    (void)dml_board_hello(root, "", 1, &one, NULL);
    tap_int(one.cores, 1, "max-cores is believed");
    tap_ok(one.worker_id[0] != '\0', "no id: the host's name, %s", one.worker_id);
    tap_str(one.machine, h.machine, "two workers of one machine know it");
    put("/etc", "machine-id", "fedcba9876543210fedcba9876543210\n");
    (void)dml_board_hello(root, "pi-3", 0, &other, NULL);
    tap_ok(strcmp(other.machine, h.machine) != 0, "another machine is another");

    struct dml_health health;
    dml_board_health(root, &health);
    tap_near(health.temperature_c, 61.829, 1e-9, "millidegrees become degrees");
    tap_int(health.throttled, 0x50005, "the firmware's word is hexadecimal");
    tap_near(health.mhz, 1500.0, 1e-9, "kHz become MHz");
    tap_int(health.rss_bytes, 1000 * sysconf(_SC_PAGESIZE), "pages become bytes");
}

static void test_elsewhere(void)
{
    struct dml_hello h;
    struct dml_health health;
    put("/x/proc", "cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2.0\x1bGHz\nflags\t: a\n");
    put("/x/proc/sys/kernel/random", "boot_id", "8f0a\n");
    char x[64];
    snprintf(x, sizeof(x), "%s/x", root);
    (void)dml_board_hello(x, "a", 0, &h, NULL);
    tap_str(h.board, "Some CPU @ 2.0GHz", "no device tree: the CPU's name, printable letters only");
    tap_int((long long)strlen(h.machine), 32, "no machine-id: the boot id");
    dml_board_health(x, &health);
    tap_ok(health.temperature_c < 0 && health.throttled == -1 && health.mhz < 0 &&
               health.rss_bytes < 0,
           "what cannot be read is negative");
    put("/x/sys/class/thermal/thermal_zone0", "temp", "hot\n");
    dml_board_health(x, &health);
    tap_ok(health.temperature_c < 0, "nor is nonsense believed");
}

static void test_ids(void)
{
    struct dml_hello h;
    struct dml_err err = {0};
    char longest[66];
    memset(longest, 'a', 65);
    longest[65] = '\0';
    tap_int(dml_board_hello(root, longest + 1, 0, &h, &err), -EINVAL, "64 letters are too many");
    tap_has(err.text, "63", "says how many are allowed");
    tap_int(dml_board_hello(root, longest + 2, 0, &h, &err), 0, "63 are not");
    tap_int(dml_board_hello(root, "my pi", 0, &h, &err), -EINVAL, "a blank is refused");
    tap_has(err.text, "' '", "and named");
}

int main(void)
{
    if (!mkdtemp(root))
        return 99;
    test_pi();
    test_elsewhere();
    test_ids();
    remove_root();
    return tap_done();
}
