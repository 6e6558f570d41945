/* A folder of strategies for tests: those of the build, and the one that is only for tests. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

static char plugin_dir[] = "/tmp/dml-test-strategies.XXXXXX";

__attribute__((unused)) static bool link_plugin(const char *name, const char *built)
{
    const char *top = getenv("top_builddir");
    _cleanup_(dml_mem_freep) char *to = dml_mem_printf("%s/%s", top ? top : ".", built);
    _cleanup_(dml_mem_freep) char *from = dml_mem_printf("%s/%s.so", plugin_dir, name);
    return to && from && access(to, R_OK) == 0 && symlink(to, from) == 0;
}

__attribute__((unused)) static bool make_plugin_dir(void)
{
    return mkdtemp(plugin_dir) &&
           (link_plugin("fedavg", "src/plugins/.libs/fedavg.so") ||
            link_plugin("fedavg", ".libs/fedavg.so")) &&
           link_plugin("twokeys", "tests/unit/.libs/strategy_twokeys.so");
}

__attribute__((unused)) static void drop_plugin_dir(void)
{
    _cleanup_(dml_mem_freep) char *clean = dml_mem_printf("rm -rf %s", plugin_dir);
    if (!clean || system(clean) != 0)
        (void)fprintf(stderr, "%s is left behind\n", plugin_dir);
}
