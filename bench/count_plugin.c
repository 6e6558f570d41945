/*
 * A plugin for qemu-user that counts the instructions a program executes:
 *     qemu-aarch64 -plugin ./count_plugin.so -d plugin PROGRAM …
 * writes "instructions N" when the program ends. For programs whose threads do not work at the same
 * time. Version 1 of the interface (QEMU 4.2 to 8), of which Debian ships no header.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*cb)(qemu_plugin_id_t,
                                                             struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *at,
                                                     uint64_t n);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *),
                                           void *arg);
extern void qemu_plugin_outs(const char *text);

#define ADD_U64 0

int qemu_plugin_version = 1;
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

static uint64_t n_instructions;

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &n_instructions,
                                             qemu_plugin_tb_n_insns(tb));
}

static void end(qemu_plugin_id_t id, void *arg)
{
    char text[64];
    (void)id;
    (void)arg;
    (void)snprintf(text, sizeof(text), "instructions %" PRIu64 "\n", n_instructions);
    qemu_plugin_outs(text);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, end, NULL);
    return 0;
}
