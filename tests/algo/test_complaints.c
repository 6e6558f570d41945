/*
 * Whom the master half of an all-reduce believes: workers complain of each other, some sooner, some
 * later. All workers are played here, and train nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "lab.h"
#include "paradigm/message.h"
#include "paradigm/provision.h"
#include "rpc/comm_local.h"
#include "tests/tap.h"

#define NODES 3

/* What a worker answers to every order of a leg. */
struct complaint {
    uint32_t about;
    bool unreachable;
    unsigned first_ms; /* to the first order so much later */
};

struct actor {
    pthread_t thread;
    struct lab *lab;
    struct dml_comm *comm;
    struct complaint complaint;
};

static void complain(struct actor *a)
{
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
    while (dml_comm_recv(a->comm, 0, DML_CLOCK_NEVER, &msg) == 0 && msg.kind != DML_COMM_LOST) {
        if (msg.kind == DML_MESSAGE_LEG) {
            struct dml_comm_msg stuck = {
                .kind = DML_MESSAGE_STUCK,
                .seq = (uint64_t)msg.meta[DML_LEG_GENERATION],
                .n_meta = DML_STUCK_N_,
                .meta = {[DML_STUCK_RANK] = a->complaint.about,
                         [DML_STUCK_UNREACHABLE] = a->complaint.unreachable},
            };
            dml_clock_sleep_us(a->complaint.first_ms * UINT64_C(1000));
            a->complaint.first_ms = 0;
            (void)dml_comm_send(a->comm, 0, &stuck);
        }
        dml_message_done(&msg);
    }
}

static void *act(void *arg)
{
    struct actor *a = arg;
    const struct dml_testcase *tc = &a->lab->cases->cases[0];
    struct dml_err err = {0};
    struct dml_task task = {.tc = tc, .comm = a->comm, .data = &tc->data};
    _cleanup_(dml_dataset_freep) struct dml_dataset *shard = NULL;
    bool cached;
    if (dml_provision_fetch(&task, &shard, &cached, &err) == 0 &&
        dml_provision_ready(&task, shard, cached) == 0)
        complain(a);
    a->comm = dml_comm_free(a->comm);
    return NULL;
}

static int play(struct lab *lab, const struct complaint complaints[NODES])
{
    struct actor actors[NODES];
    lab_init(lab, "[testcase]\nnodes = 3\ncores = 3\n[parallel]\nparadigm = allreduce\n"
                  "[cluster]\nround-deadline = 30 s\n"); /* ends a run that blames the wrong one */
    struct dml_comm_hub *hub = dml_comm_hub_new(NODES + 1);
    struct dml_comm *comm = dml_comm_hub_get(hub, 0);
    for (uint32_t rank = 1; rank <= NODES; rank++) {
        struct actor *a = &actors[rank - 1];
        *a = (struct actor){.lab = lab,
                            .comm = dml_comm_hub_get(hub, rank),
                            .complaint = complaints[rank - 1]};
        if (!a->comm || pthread_create(&a->thread, NULL, act, a) != 0) {
            printf("Bail out! no worker %u\n", rank);
            exit(1);
        }
    }
    int r = lab_run_rank0(lab, comm);
    dml_comm_free(comm);
    for (size_t i = 0; i < NODES; i++)
        (void)pthread_join(actors[i].thread, NULL);
    dml_comm_hub_free(hub);
    return r;
}

/* 2 does not reach 3, and says so at once. Of the two that wait for the step's deadline, 3 is the
 * later, by more than a worker that cannot be reached is given (2 s). */
static void test_late(void)
{
    static const struct complaint complaints[] = {
        {.about = 3, .first_ms = 500},
        {.about = 3, .unreachable = true},
        {.about = 2, .first_ms = 3000},
    };
    struct lab lab;
    tap_int(play(&lab, complaints), -ENOLINK, "two that do not reach each other");
    tap_has(lab.err.text, "worker 2 and worker 3 both reach the master, but not each other",
            "are named, both");
    tap_str(lab.lost, "", "the one that complains last is not taken for silent");
    lab_done(&lab);
}

int main(void)
{
    (void)alarm(120);
    test_late();
    return tap_done();
}
